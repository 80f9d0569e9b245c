"""`taskdiv export` with the miniature: TRL reads the same tokens that our own training learns from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.assets.adapter import examples_of
from taskdiv_assets.cli import app
from taskdiv_assets.commands import trainer_files
from taskdiv_assets.commands.trainer_files import TRAINERS, BaseFiles, TrainingRow, TrainingSet
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.language_model.loading import load
from taskdiv_assets.language_model.tuning.training_examples import IGNORED, Example, encode
from taskdiv_assets.storage.store import Store
from taskdiv_assets.tuning_settings import Tuning
from tests.home import MINIATURE, Home

pytestmark = pytest.mark.xdist_group("adapters")
CELL = ("--budget", "12", "--strategy", "random")
TUNING = Tuning(learning_rate=1e-3, epochs=2, batch_size=4, quantization="nf4")


@pytest.fixture
def home(miniature: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Home:
    for name, value in miniature.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return miniature


def export(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["export", "miniature", *arguments])


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def trained_on(seed: int) -> list[Example]:
    """Return the examples of the stored cell, as its training reads them."""
    lineage = REGISTRY.look(experiment_file.load(str(MINIATURE)), Store("miniature"))
    unit = Unit("adapter", "12|random")
    work = Work(lineage.experiment, lineage.store, lineage, unit, lineage.expect(unit), print)
    (plan,) = (plan for plan in lineage.adapter_plans(Cell(12, "random")) if plan.training_seed == seed)
    return examples_of(work, plan.prompt_ids.to_pylist())


@pytest.mark.full
def test_trl_makes_the_tokens_of_our_own_training(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser, get_dataset
    from trl import get_peft_config as peft_config

    result = export(*CELL, "--seed", "1", "--to", "trl", "-o", "out")
    assert result.exit_code == 0, result.output
    monkeypatch.chdir(tmp_path / "out")
    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig))  # as in `trl sft`
    _, arguments, model, mixture = parser.parse_args_and_config(["--config", "train.yaml"], fail_with_unknown_args=True)
    arguments.use_cpu = True
    trainer = SFTTrainer(
        model.model_name_or_path, arguments, train_dataset=get_dataset(mixture)["train"], peft_config=peft_config(model)
    )
    lm = load(Path(model.model_name_or_path), dtype="float32", attention="sdpa")
    ours = [encode(lm, example, arguments.max_length) for example in trained_on(1)]
    theirs = [(list(row["input_ids"]), list(row["labels"])) for row in trainer.train_dataset]
    assert theirs == [(one.input_ids, one.labels) for one in ours] and len(ours) == 12
    lora = trainer.model.peft_config["default"]
    assert (lora.r, lora.lora_alpha, lora.lora_dropout) == (4, 8, 0.0)
    assert (arguments.learning_rate, arguments.num_train_epochs, arguments.seed) == (2e-3, 1, 1)
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps == 8


@pytest.mark.parametrize("trainer", TRAINERS)
def test_each_layout_has_the_rows_a_configuration_and_the_data_card(home: Home, tmp_path: Path, trainer: str) -> None:
    from datasets import load_dataset

    result = export(*CELL, "--seed", "0", "--to", trainer)
    assert result.exit_code == 0, result.output
    folder = tmp_path / f"miniature-random-12-seed0-{trainer}"
    names = {"train.jsonl", "README.md", "tuning.yaml" if trainer == "jsonl" else "train.yaml"}
    assert {path.name for path in folder.iterdir()} == names | (
        {"dataset_info.json"} if trainer == "llama-factory" else set()
    )
    assert len(load_dataset("json", data_files=str(folder / "train.jsonl"))["train"]) == 12
    (config,) = (yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml"))
    assert config["seed"] == 0
    card = (folder / "README.md").read_text()
    assert (
        "# 12 prompts chosen by random" in card
        and "| 0 | 12 | 12 | 0 |" in card
        and "## This folder" in card
        and "12 examples of training seed 0" in card
    )
    if trainer == "jsonl":
        assert [row["response"] for row in rows(folder)] == [example.response for example in trained_on(0)]
        return
    lm = load(Path(config.get("model_name_or_path") or config["base_model"]), dtype="float32", attention="sdpa")
    ours = [encode(lm, example, TUNING.max_length) for example in trained_on(0)]
    assert [tokens(lm.tokenizer, row, trainer) for row in rows(folder)] == [(o.input_ids, o.labels) for o in ours]


def tokens(tokenizer: Any, row: dict[str, Any], trainer: str) -> tuple[list[int], list[int]]:
    """Return tokens and labels of a row as the trainers' sources make them: TRL from the whole text, the others from two parts."""
    if trainer == "trl":
        both = tokenizer(row["prompt"] + row["completion"])["input_ids"]
        before = tokenizer(row["prompt"])["input_ids"]
        return both, [IGNORED] * len(before) + both[len(before) :]
    texts = [one["text"] for one in row["segments"]] if trainer == "axolotl" else [row["instruction"], row["output"]]
    before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
    return before + after, [IGNORED] * len(before) + after


def test_settings_that_a_trainer_names_in_another_way() -> None:
    rows = (TrainingRow("a", "t", "p", "<u>p<a>", "r"),) * 10
    found = TrainingSet(rows, TUNING, 3, "", BaseFiles("own/base", "c0ffee", "bfloat16", "<s>", "</s>"))
    trl, axolotl, factory = (
        yaml.safe_load(trainer_files.files(found, name)["train.yaml"]) for name in ("trl", "axolotl", "llama-factory")
    )
    assert trl["model_revision"] == axolotl["revision_of_model"] == factory["model_revision"] == "c0ffee"
    assert trl["load_in_4bit"] and axolotl["adapter"] == "qlora" and factory["quantization_bit"] == 4
    assert (trl["num_train_epochs"], axolotl["num_epochs"], factory["num_train_epochs"]) == (2, 2, 2)
    first = json.loads(trainer_files.files(found, "axolotl")["train.jsonl"].splitlines()[0])
    assert [part["text"] for part in first["segments"]] == ["<s><u>p<a>", "r</s>"]
    floor = found._replace(tuning=TUNING.model_copy(update={"min_steps": 50, "method": "full", "quantization": None}))
    trl = yaml.safe_load(trainer_files.files(floor, "trl")["train.yaml"])
    assert (
        trl["max_steps"] == 50 and "num_train_epochs" not in trl and "use_peft" not in trl and trl["dtype"] == "float32"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((*CELL, "--to", "trl"), "each training seed has its own prompts; expected --seed 0, 1"),
        ((*CELL, "--to", "trl", "--seed", "7"), "7 is not a training seed of 12|random; expected --seed 0, 1"),
        (("--budget", "13", "--strategy", "random", "--to", "trl"), "13|random is not a cell of miniature"),
        ((*CELL, "--to", "unsloth"), "--to 'unsloth' is not a trainer; expected one of trl, axolotl"),
        ((*CELL, "--to", "trl", "--seed", "0", "-o", "there"), "already exists, and nothing is overwritten"),
    ],
)
def test_an_export_that_cannot_be_is_one_sentence(
    home: Home, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "there").mkdir()
    result = export(*options)
    assert result.exit_code == 2 and said in result.stderr, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
