"""A training that was stopped ends with the bytes of one that was not, wherever it was stopped."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from taskdiv_assets.language_model.tuning import Base, Example, Keeper, tune
from taskdiv_assets.language_model.tuning.checkpoints import METADATA
from taskdiv_assets.pools.lab import pool_items
from taskdiv_assets.tuning_settings import Tuning

SETTINGS = Tuning(learning_rate=2e-3, epochs=2, rank=4, alpha=8, dropout=0.1, scheduler="cosine", weight_decay=0.01)
STEPS_N = 8


class KilledError(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture
def bench(tmp_path, miniature_folder):
    """Trains with checkpoints at every step, and stops after a given one."""
    items = pool_items(9, ["copy", "first", "last", "max", "upper", "compare"], 40, 12)[:64]
    examples = [Example(item.item_id, item.prompt, item.response) for item in items]
    file = tmp_path / "last.safetensors"
    said: list[str] = []

    def run(name, *, stop_after=None, keeps=True, settings=SETTINGS, base=miniature_folder):
        out = tmp_path / name
        out.mkdir()
        keeper = Keeper(lambda: file if file.exists() else None, lambda path: path.replace(file), 0.0, said.append)

        def on_step(done, total, loss, tokens_n):
            if done == stop_after:
                raise KilledError

        base = Base(base, "float32", "sdpa")
        result = tune(
            base,
            examples,
            settings,
            seed=3,
            out=out,
            on_step=on_step,
            keeper=keeper if keeps else None,
            log=said.append,
        )
        return result, {path.name: path.read_bytes() for path in sorted(out.iterdir())}

    run.file, run.said = file, said
    return run


@pytest.mark.parametrize("stops", [(1,), (STEPS_N - 1,), (2, 3, 6), (STEPS_N,)], ids=str)
def test_the_same_bytes_after_any_number_of_stops(bench, stops):
    undisturbed, files = bench("undisturbed", keeps=False)
    for stop in stops:
        with pytest.raises(KilledError):
            bench(f"stopped{stop}", stop_after=stop)
    result, others = bench("ended")
    # The step that was stopped after had no checkpoint yet, and is done again.
    resumed = [line for line in bench.said if line.startswith("going on")]
    expected = [max(stop - 1, 0) for stop in stops if stop > 1]
    assert resumed[-len(expected) :] == [f"going on after step {n} of {STEPS_N}" for n in expected] or not expected
    assert others == files
    assert result.losses == undisturbed.losses
    assert result.trained_tokens_n == undisturbed.trained_tokens_n


def test_a_whole_model_goes_on_too(bench):
    settings = SETTINGS.model_copy(update={"method": "full"})
    _, files = bench("undisturbed", keeps=False, settings=settings)
    with pytest.raises(KilledError):
        bench("stopped", stop_after=5, settings=settings)
    assert bench("ended", settings=settings)[1] == files


class TestCheckpointsThatCannotBeUsed:
    """Training starts anew and says why; it never fails for a bad checkpoint of its own."""

    def stopped(self, bench):
        with pytest.raises(KilledError):
            bench("stopped", stop_after=5)
        return bench.file

    def test_half_a_file(self, bench):
        file = self.stopped(bench)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        _, others = bench("ended")
        assert any(line.startswith("the checkpoint cannot be read and is left out: ") for line in bench.said)
        file.unlink()
        assert others == bench("undisturbed")[1]

    def test_of_another_version(self, bench):
        file = self.stopped(bench)
        save_file(load_file(file), file, metadata={METADATA: json.dumps({"version": 0})})
        bench("ended")
        assert "last.safetensors is no checkpoint of version 1" in "".join(bench.said)

    def test_of_more_steps(self, bench):
        file = self.stopped(bench)
        kept = file.with_suffix(".kept")
        shutil.copyfile(file, kept)
        shorter = SETTINGS.model_copy(update={"epochs": 1})
        result, _ = bench("ended", settings=shorter)
        assert f"the checkpoint is of {STEPS_N // 2} steps, not of {STEPS_N // 2}, and is left out" in bench.said
        assert len(result.losses) == STEPS_N // 2

    def test_of_another_model(self, bench, tmp_path):
        file = self.stopped(bench)
        tensors = load_file(file)
        removed = next(name for name in tensors if name.startswith("model/"))
        from safetensors import safe_open

        with safe_open(file, "pt") as opened:
            metadata = opened.metadata()
        save_file({name: value for name, value in tensors.items() if name != removed}, file, metadata=metadata)
        with pytest.raises(ValueError, match="of other parameters than those that are trained"):
            bench("ended")
