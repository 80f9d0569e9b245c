"""Tuning of whole models, and of adapters over a base in 4 bits. bitsandbytes computes 4 bits on a CPU too."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from taskdiv_assets.language_model.loading import load
from taskdiv_assets.language_model.tuning import CONFIG, IGNORED, WEIGHTS, Base, Example, encode, tune
from taskdiv_assets.language_model.tuning import held_out as held_out_module
from taskdiv_assets.language_model.tuning.held_out import validation_loss
from taskdiv_assets.language_model.tuning.saving import weights_sha256
from taskdiv_assets.pools.lab import held_out_items, pool_items
from taskdiv_assets.tuning_settings import Tuning

TASKS = ["copy", "first", "last", "max", "upper", "compare"]
FULL = Tuning(method="full", learning_rate=2e-3, epochs=4)
ROOT = Path(__file__).resolve().parents[2]


def as_examples(items) -> list[Example]:
    return [Example(item.item_id, item.prompt, item.response) for item in items]


@pytest.fixture(scope="module")
def examples():
    return as_examples(pool_items(9, TASKS, 40, 12)[:96])


@pytest.fixture(scope="module")
def held_out():
    return as_examples(held_out_items("validation", 1, TASKS))


class TestWholeModels:
    def test_it_learns_and_loads_as_any_model_does(self, tmp_path, miniature_folder, examples, held_out):
        base = Base(miniature_folder, "float32", "sdpa")
        result = tune(base, examples, FULL, seed=0, out=tmp_path)
        assert np.mean(result.losses[-4:]) < np.mean(result.losses[:4]) - 0.1
        names = {path.name for path in tmp_path.iterdir()}
        assert {"model.safetensors", "config.json", "tokenizer.json"} <= names and WEIGHTS not in names
        lm = load(tmp_path, dtype="float32", attention="sdpa")
        assert lm.tokenizer("copy: abcd>")["input_ids"]
        before = validation_loss(base, None, held_out, 64)
        assert validation_loss(base, tmp_path, held_out, 64) < before - 0.05
        for path in tmp_path.iterdir():
            assert str(miniature_folder).encode() not in path.read_bytes(), path.name

    def test_same_seed_same_bytes(self, tmp_path, miniature_folder, examples):
        folders = [tmp_path / "one", tmp_path / "two"]
        for folder in folders:
            folder.mkdir()
            tune(Base(miniature_folder, "float32", "sdpa"), examples[:32], FULL, seed=0, out=folder)
        one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
        assert one == two

    def test_it_is_stored_in_the_bases_number_format(self, tmp_path, miniature_folder, examples):
        from safetensors.torch import load_file

        tune(Base(miniature_folder, "bfloat16", "sdpa"), examples[:16], FULL, seed=0, out=tmp_path)
        assert {str(value.dtype) for value in load_file(tmp_path / "model.safetensors").values()} == {"torch.bfloat16"}


@pytest.mark.full
@pytest.mark.parametrize("pass_logits_n", [held_out_module.PASS_LOGITS_N, 20_000, 1])
def test_a_validation_loss_is_that_of_one_example_after_the_other(
    miniature, miniature_folder, held_out, monkeypatch, pass_logits_n
):
    import torch

    total = tokens_n = 0
    for row in (encode(miniature, example, 64) for example in held_out):
        with torch.inference_mode():
            logits = miniature.model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1].double()
        labels = torch.tensor(row.labels[1:])
        total += float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum"))
        tokens_n += int((labels != IGNORED).sum())
    monkeypatch.setattr(held_out_module, "PASS_LOGITS_N", pass_logits_n)
    steps = []
    found = validation_loss(
        Base(miniature_folder, "float32", "sdpa"), None, held_out, 64, lambda *step: steps.append(step)
    )
    assert found == pytest.approx(total / tokens_n, rel=1e-6)
    assert steps[-1] == (len(held_out), len(held_out)) and (len(steps) == len(held_out)) == (pass_logits_n == 1)


@pytest.mark.full
class TestFourBits:
    """Runs in a separate process, because PEFT looks only once whether bitsandbytes is installed."""

    @pytest.fixture(scope="class")
    def found(self, tmp_path_factory):
        folder = ROOT / ".venv" / "bitsandbytes"
        if importlib.util.find_spec("bitsandbytes") is None and not folder.is_dir():
            pytest.skip("no bitsandbytes: `make test` puts it into .venv/bitsandbytes")
        return json.loads(
            subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "tests.language_model.four_bits", str(tmp_path_factory.mktemp("4"))],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])},
                check=True, capture_output=True, text=True, cwd=ROOT,
            ).stdout
        )  # fmt: skip

    def test_an_adapter_over_4_bits_helps_the_base_as_it_is(self, found):
        assert set(found["files"]) == {WEIGHTS, CONFIG}
        assert np.mean(found["losses"][-4:]) < np.mean(found["losses"][:4]) - 0.1
        assert found["dtypes"] == ["torch.float32"]  # TRL alone would make it bfloat16
        assert found["tuned"] < found["base"] - 0.05  # nats a token on held-out prompts

    def test_the_base_is_in_4_bits_while_it_trains(self, found):
        """The first loss is that of the quantised base: not the base's own, and not far from it."""
        assert 1e-4 < abs(found["first_quantised"] - found["first"]) < 0.3

    def test_without_bitsandbytes(self, tmp_path, miniature_folder, examples, monkeypatch):
        from taskdiv_assets.language_model import loading

        monkeypatch.setattr(loading, "find_spec", lambda name: None)
        settings = Tuning(learning_rate=1e-2, epochs=1, quantization="nf4")
        with pytest.raises(ValueError, match=r"`tuning.quantization: nf4` needs bitsandbytes; .*\[qlora\]"):
            tune(Base(miniature_folder, "float32", "sdpa"), examples, settings, seed=0, out=tmp_path)

    def test_a_whole_model_in_4_bits_is_refused(self):
        with pytest.raises(ValueError, match="a 4-bit base cannot be trained itself"):
            Tuning(method="full", quantization="nf4", learning_rate=1e-3, epochs=1)


def test_one_hash_for_one_file_and_for_many():
    assert weights_sha256({"adapter_model.safetensors": "ab", "adapter_config.json": "cd"}) == "ab"
    many = {"model-2.safetensors": "cd", "model-1.safetensors": "ab", "config.json": "ef"}
    expected = hashlib.sha256(b"model-1.safetensors ab\nmodel-2.safetensors cd\n").hexdigest()
    assert weights_sha256(many) == expected
