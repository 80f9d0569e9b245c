"""Write and read a model's outputs in the format `model_outputs.json`, which AlpacaEval's package and leaderboard read.

Source of the format: results/*/model_outputs.json of tatsu-lab/alpaca_eval at cd543a1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from taskdiv_assets.benchmarks.alpaca.instructions import NO_DATASET, Instruction
from taskdiv_assets.benchmarks.alpaca.rows import require_columns

FILE_NAME = "model_outputs.json"


class ModelOutput(NamedTuple):
    """The output of a model for one instruction."""

    dataset: str
    instruction: str
    output: str
    generator: str


def model_outputs(instructions: Sequence[Instruction], outputs: Sequence[str], generator: str) -> bytes:
    """Return the content of a file FILE_NAME, one object per instruction. `generator` names the model in AlpacaEval's tables."""
    if len(instructions) != len(outputs):
        raise ValueError(
            f"{len(outputs)} outputs for {len(instructions)} instructions; expected one for each, in the same order"
        )
    if not generator.strip():
        raise ValueError(f"generator is {generator!r}; expected the model's name, which AlpacaEval's tables show")
    pairs = zip(instructions, outputs, strict=True)
    rows = [ModelOutput(one.dataset, one.text, output, generator)._asdict() for one, output in pairs]
    return json.dumps(rows, indent=1).encode()


def read_model_outputs(data: bytes) -> tuple[ModelOutput, ...]:
    """Read the outputs from the content of a file (of this project or of the leaderboard), in the file's order.

    Raises:
        ValueError: the content is not a JSON list, an entry is not an object with the text of an instruction, an output and a
            generator, or an instruction occurs twice.
    """
    try:
        rows: Any = json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{FILE_NAME} is not JSON ({error}); expected a list of objects") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{FILE_NAME} is not a list of objects; expected one object for each instruction")
    found = tuple(_model_output(row, f"{FILE_NAME}, row {number}") for number, row in enumerate(rows))
    if len({output.instruction for output in found}) < len(found):
        raise ValueError(f"{FILE_NAME} holds an instruction twice; expected each once, so remove one of them")
    return found


def _model_output(row: dict[str, Any], place: str) -> ModelOutput:
    """Return one checked row. Some of the leaderboard's files lack the dataset."""
    columns = ("instruction", "output", "generator")
    require_columns(row, columns, place)
    for column in columns:
        if not isinstance(row[column], str):
            raise ValueError(f"{place}: {column} is {row[column]!r}; expected text")
    return ModelOutput(str(row.get("dataset") or NO_DATASET), row["instruction"], row["output"], row["generator"])
