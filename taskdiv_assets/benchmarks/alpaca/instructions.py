"""Read AlpacaEval's instructions, each with the output of the reference that a model is compared with.

The source is the hub's data set tatsu-lab/alpaca_eval (alpaca_eval.json: 805 instructions, reference text_davinci_003), or a file
with the same columns. No script of the data set is executed.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from taskdiv_assets.benchmarks.alpaca.rows import read_bytes, read_rows, require_columns
from taskdiv_assets.experiment.benchmark_settings import HUB

HUB_REPOSITORY = "tatsu-lab/alpaca_eval"
HUB_FILE = "alpaca_eval.json"
WHAT = "AlpacaEval source"
PUBLISHED_N = 805  # number of instructions in the hub's file
NO_DATASET = "unknown"
NO_GENERATOR = "reference"


class Instruction(NamedTuple):
    """One instruction and the output of the reference."""

    text: str
    dataset: str  # origin of the instruction, such as koala; `unknown` if the file does not name it
    reference_output: str  # may be blank: two of the 805 published ones are
    reference_generator: str  # `reference` if the file does not name it


def read_instructions(source: str) -> tuple[Instruction, ...]:
    """Read the instructions of `hub`, or of a file on any fsspec storage.

    The file's name ends in .json, .jsonl, .json.gz, .jsonl.gz or .parquet.

    Raises:
        ValueError: the source cannot be read, a row is invalid, or an instruction is blank or occurs twice.
    """
    rows = read_rows(_hub_file() if source == HUB else source, WHAT)
    found = tuple(_instruction(row, f"{WHAT} {source!r}, row {number}") for number, row in enumerate(rows))
    first: dict[str, int] = {}
    for number, instruction in enumerate(found):
        earlier = first.setdefault(instruction.text, number)
        if earlier != number:
            raise ValueError(
                f"{WHAT} {source!r}: rows {earlier} and {number} hold the same instruction "
                f"({instruction.text[:60]!r}); expected each once, so remove one of them"
            )
    return found


def source_sha256(source: str) -> str:
    """Return the SHA-256 of a source's bytes, or the word `hub` for the hub; raise ValueError if a file cannot be read."""
    return HUB if source == HUB else hashlib.sha256(read_bytes(source, WHAT)).hexdigest()


def _instruction(row: dict[str, Any], place: str) -> Instruction:
    require_columns(row, ("instruction", "output"), place)
    text, output = row["instruction"], row["output"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{place}: instruction is {text!r}; expected text that is not blank")
    if not isinstance(output, str):
        raise ValueError(f"{place}: output is {output!r}; expected the reference's text, which may be empty")
    return Instruction(text, str(row.get("dataset") or NO_DATASET), output, str(row.get("generator") or NO_GENERATOR))


def _hub_file() -> str:
    from huggingface_hub import hf_hub_download

    try:
        return str(hf_hub_download(HUB_REPOSITORY, HUB_FILE, repo_type="dataset"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{HUB_FILE} of the data set {HUB_REPOSITORY} could not be fetched from the Hugging Face hub "
            f"({type(error).__name__}); check the connection, or name a local copy as the benchmark's `source`"
        ) from None
