"""Outputs in AlpacaEval's format: as pandas reads them for alpaca-eval, and as the leaderboard stores them."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taskdiv_assets.benchmarks.alpaca.instructions import Instruction, read_instructions
from taskdiv_assets.benchmarks.alpaca.outputs import ModelOutput, model_outputs, read_model_outputs
from tests.alpaca.shared import MODELS, instructions_file, outputs_bytes

INSTRUCTIONS = (Instruction("Count.", "koala", "1 2", "r"), Instruction("Größe?", "oasst", "", "r"))
OUTPUTS = ('1\n"2"\t\\n', "µ 😀 \u2028")


def test_what_is_written_is_read() -> None:
    found = read_model_outputs(model_outputs(INSTRUCTIONS, OUTPUTS, "ours"))
    assert [output.output for output in found] == list(OUTPUTS)
    assert found[1] == ModelOutput("oasst", "Größe?", OUTPUTS[1], "ours")


def test_pandas_reads_it_as_alpaca_eval_does() -> None:
    frame = pd.read_json(io.BytesIO(model_outputs(INSTRUCTIONS, OUTPUTS, "ours")))
    assert list(frame.columns) == ["dataset", "instruction", "output", "generator"]
    assert frame["output"].tolist() == list(OUTPUTS)


@pytest.mark.parametrize("model", MODELS)
def test_the_leaderboard_s_files_are_read(shared_data: Path, model: str) -> None:
    found = read_model_outputs(outputs_bytes(shared_data, model))
    known = {instruction.text for instruction in read_instructions(instructions_file(shared_data))}
    assert len(found) == (803 if model == "text_davinci_001" else 805)
    assert {output.generator for output in found} == {model}
    assert {output.instruction for output in found} <= known


def test_the_leaderboard_s_rows_are_written_as_they_were(shared_data: Path) -> None:
    theirs = json.loads(outputs_bytes(shared_data, "gpt4"))
    instructions = [Instruction(row["instruction"], row["dataset"], "", "") for row in theirs]
    assert json.loads(model_outputs(instructions, [row["output"] for row in theirs], "gpt4")) == theirs


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", "not JSON"),
        ({"a": 1}, "list of objects"),
        ([1], "list of objects"),
        ([{"instruction": "a", "output": "b"}], "row 0 has no column generator"),
        ([{"instruction": "a", "output": None, "generator": "c"}], "row 0: output is None"),
        ([{"instruction": "a", "output": "b", "generator": "c"}] * 2, "an instruction twice"),
    ],
)
def test_other_files_are_refused(content: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_model_outputs(content.encode() if isinstance(content, str) else json.dumps(content).encode())


def test_one_output_each_and_a_name() -> None:
    with pytest.raises(ValueError, match="1 outputs for 2 instructions"):
        model_outputs(INSTRUCTIONS, OUTPUTS[:1], "ours")
    with pytest.raises(ValueError, match="generator"):
        model_outputs(INSTRUCTIONS, OUTPUTS, " ")
