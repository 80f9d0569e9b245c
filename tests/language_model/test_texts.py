"""Tokens that a tokenizer adds to a text by itself, what scoring does about them, and the identities that change with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from data_contracts.footer import Footer
from taskdiv_assets.commands import preflight
from taskdiv_assets.experiment.experiment_file import parse
from taskdiv_assets.graph.models import Models
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.language_model.loading import load
from taskdiv_assets.language_model.texts import PINNED, read_tokenizer, without_start
from taskdiv_assets.language_model.tuning import Example, encode
from tests.home import MINIATURE


@pytest.fixture
def ended(miniature_folder: Path, tmp_path: Path) -> Path:
    """Return the folder of a miniature model whose tokenizer puts its end token after every text."""
    folder = Path(shutil.copytree(miniature_folder, tmp_path / "model"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    names = json.loads((folder / "tokenizer_config.json").read_text())
    end = names["eos_token"] if isinstance(names["eos_token"], str) else names["eos_token"]["content"]
    tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_an_end_token_never_follows_a_prompt(ended: Path, miniature_folder: Path) -> None:
    from transformers import AutoTokenizer

    raw = AutoTokenizer.from_pretrained(ended)
    assert raw("copy: ab>")["input_ids"][-1] == raw.eos_token_id, "the fixture is what it says"
    reading = read_tokenizer(ended)
    assert reading.ended_texts and not read_tokenizer(miniature_folder).ended_texts
    as_it_was = read_tokenizer(miniature_folder).tokenizer
    assert reading.tokenizer("copy: ab>")["input_ids"] == as_it_was("copy: ab>")["input_ids"]


def test_what_is_trained_has_its_end_token_once_and_last(ended: Path) -> None:
    lm = load(ended, dtype="float32", attention="sdpa")
    row = encode(lm, Example("a", "copy: ab>", "ab"), 64)
    assert row.input_ids.count(lm.tokenizer.eos_token_id) == 1 and row.labels[-1] == lm.tokenizer.eos_token_id


def test_a_start_token_in_the_template_is_left_out_where_the_tokenizer_adds_it(shared_data: Path) -> None:
    reading = read_tokenizer(shared_data / "models" / "stories260K")
    assert reading.start == "<s>"
    for template in ("<s>Q: {prompt}", "Q: {prompt}"):
        tokens = reading.tokenizer(without_start(template, reading.start))["input_ids"]
        assert tokens.count(reading.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize(
    ("reading", "changes", "expected"),
    [
        ({}, {}, ["Q: {prompt}", False]),  # a base that an earlier version stored
        ({"start": "<s>", "ended_texts": False, "reads_clock": True}, {}, ["Q: {prompt}", False]),
        ({"start": "<s>"}, {"prompt_template": "<s>Q: {prompt}"}, ["Q: {prompt}", False]),
        ({"ended_texts": True}, {}, ["Q: {prompt}", False, "no end token after a text"]),
        ({"reads_clock": True}, {"chat_template": True}, ["Q: {prompt}", True, f"dates of {PINNED:%Y-%m-%d}"]),
    ],
)
def test_identities_tell_what_is_done_otherwise_and_change_for_no_other_model(
    reading: dict[str, object], changes: dict[str, object], expected: list[object]
) -> None:
    experiment = parse(MINIATURE.read_text(), str(MINIATURE)).model_copy(
        update={"prompt_template": "Q: {prompt}", **changes}
    )
    notes = {"reading": reading} if reading else {}
    footer = Footer("base_model", None, "0" * 32, {}, 1, None, "", "", 0.0, notes=notes)
    models = Models(experiment, lambda unit: footer if unit == Unit("base_model") else None, lambda unit: footer)
    assert models.template == expected


def test_plan_says_that_a_start_token_is_written_once(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taskdiv_assets.commands.wanted import Filter
    from taskdiv_assets.storage.store import Store

    monkeypatch.setenv("TASKDIV_HOME", str(tmp_path / "home"))
    (tmp_path / "p.csv").write_text("question,kind\na,x\nb,y\n")
    for template, is_said in (("<s>Q: {prompt}", True), ("Q: <s>{prompt}", False), ("{prompt}", False)):
        text = (
            f"name: own\npool: {{reader: table, path: {tmp_path}/p.csv, columns: {{prompt: question, task: kind}}}}\n"
            f"base_model: {{path: {shared_data}/models/stories260K}}\nstrategies: [min_margin]\nbudgets: [1]\n"
            f"prompt_template: '{template}'\n"
        )
        looked = preflight.look(parse(text, "own.yaml"), Store("own"), Filter())
        assert looked.errors == []
        assert any("begins with '<s>'" in line and "once" in line for line in looked.warnings) == is_said
