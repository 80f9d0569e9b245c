"""A training that is interrupted at any step ends with the same bytes as an uninterrupted one."""

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
    """Error that simulates a kill."""


@pytest.fixture
def bench(tmp_path, miniature_folder):
    """Return a function that trains with checkpoints at every step, and stops after a given step."""
    items = pool_items(9, ["copy", "first", "last", "max", "upper", "compare"], 40, 12)[:64]
    examples = [Example(item.item_id, item.prompt, item.response) for item in items]
    file = tmp_path / "last.safetensors"
    said: list[str] = []

    def run(name, *, stop_after=None, keeps=True, settings=SETTINGS, base=miniature_folder, of=""):
        out = tmp_path / name
        out.mkdir()
        keeper = Keeper(lambda: file if file.exists() else None, lambda path: path.replace(file), 0.0, of, said.append)

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


@pytest.mark.parametrize(
    "stops",
    [(2, 3, 6), *(pytest.param((n,), marks=pytest.mark.full) for n in (1, STEPS_N - 1, STEPS_N))],
    ids=str,
)
def test_the_same_bytes_after_any_number_of_stops(bench, stops):
    undisturbed, files = bench("undisturbed", keeps=False)
    for stop in stops:
        with pytest.raises(KilledError):
            bench(f"stopped{stop}", stop_after=stop)
    result, others = bench("ended")
    # The step that was stopped after had no checkpoint yet, and is done again.
    resumed = [line for line in bench.said if line.startswith("continuing")]
    expected = [max(stop - 1, 0) for stop in stops if stop > 1]
    assert resumed[-len(expected) :] == [f"continuing after step {n} of {STEPS_N}" for n in expected] or not expected
    assert others == files
    assert result.losses == undisturbed.losses
    assert result.trained_tokens_n == undisturbed.trained_tokens_n


@pytest.mark.full
def test_a_whole_model_goes_on_too(bench):
    settings = SETTINGS.model_copy(update={"method": "full"})
    _, files = bench("undisturbed", keeps=False, settings=settings)
    with pytest.raises(KilledError):
        bench("stopped", stop_after=5, settings=settings)
    assert bench("ended", settings=settings)[1] == files


class TestCheckpointsThatCannotBeUsed:
    """Training starts again from the first step and says why. A bad checkpoint of its own never makes it fail."""

    def stopped(self, bench):
        with pytest.raises(KilledError):
            bench("stopped", stop_after=5)
        return bench.file

    def test_half_a_file(self, bench):
        file = self.stopped(bench)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        _, others = bench("ended")
        assert any(line.startswith("the checkpoint cannot be read and is ignored: ") for line in bench.said)
        file.unlink()
        assert others == bench("undisturbed")[1]

    def test_of_another_version(self, bench):
        file = self.stopped(bench)
        save_file(load_file(file), file, metadata={METADATA: json.dumps({"version": 0})})
        bench("ended")
        assert "last.safetensors is not a checkpoint of version 1" in "".join(bench.said)

    @pytest.mark.full
    def test_of_more_steps(self, bench):
        file = self.stopped(bench)
        kept = file.with_suffix(".kept")
        shutil.copyfile(file, kept)
        shorter = SETTINGS.model_copy(update={"epochs": 1})
        result, _ = bench("ended", settings=shorter)
        assert f"the checkpoint is of {STEPS_N // 2} steps, not of {STEPS_N // 2}, and is ignored" in bench.said
        assert len(result.losses) == STEPS_N // 2

    @pytest.mark.full
    def test_of_another_model(self, bench):
        self.stopped(bench)
        other = SETTINGS.model_copy(update={"rank": 8})
        result, _ = bench("ended", settings=other)
        assert "the checkpoint is of other parameters than those that are trained, and is ignored" in bench.said
        assert len(result.losses) == STEPS_N

    @pytest.mark.full
    def test_of_another_training(self, bench):
        self.stopped(bench)
        _, others = bench("ended", of="another")
        assert "the checkpoint is of another training (unnamed), and is ignored" in bench.said
        bench.file.unlink()
        assert others == bench("undisturbed")[1]


@pytest.mark.full
def test_dropout_of_a_base_is_off_and_what_was_stopped_ends_the_same(bench, tmp_path, miniature_folder):
    """GPT-2 drops out a tenth by its own configuration: neither named in the experiment nor drawn from its streams."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tmp_path / "gpt2"
    tokenizer = AutoTokenizer.from_pretrained(miniature_folder)
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for method in ("full", "lora"):
        settings = SETTINGS.model_copy(update={"method": method, "dropout": 0.0})
        bench.file.unlink(missing_ok=True)
        _, files = bench(f"undisturbed {method}", keeps=False, settings=settings, base=folder)
        with pytest.raises(KilledError):
            bench(f"stopped {method}", stop_after=5, settings=settings, base=folder)
        assert bench(f"ended {method}", settings=settings, base=folder)[1] == files


@pytest.mark.full
def test_the_model_of_a_training_is_gone_when_the_next_one_loads(bench, monkeypatch):
    import weakref

    from taskdiv_assets.language_model import tuning

    models, alive = [], []
    load = tuning.load

    def watched(*args, **more):
        alive.append(sum(model() is not None for model in models))
        lm = load(*args, **more)
        models.append(weakref.ref(lm.model))
        return lm

    monkeypatch.setattr(tuning, "load", watched)
    for name in "abc":
        bench(name, keeps=False)
    assert alive == [0, 0, 0]
