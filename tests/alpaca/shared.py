"""The published AlpacaEval files, and temporary files made of rows."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MODELS = ("alpaca-7b", "gpt4", "text_davinci_001")


def instructions_file(data: Path) -> str:
    return str(data / "alpaca_eval" / "alpaca_eval.jsonl.gz")


def annotation_file(data: Path, model: str) -> str:
    return str(data / "alpaca_eval" / "annotations" / "alpaca_eval_gpt4" / f"{model}.jsonl.gz")


def annotation_rows(data: Path, model: str) -> list[dict[str, Any]]:
    with gzip.open(annotation_file(data, model), "rt") as file:
        return [json.loads(line) for line in file]


def outputs_bytes(data: Path, model: str) -> bytes:
    return gzip.decompress((data / "alpaca_eval" / "model_outputs" / f"{model}.json.gz").read_bytes())


def leaderboard(data: Path) -> dict[str, dict[str, str]]:
    with (data / "alpaca_eval" / "leaderboards" / "alpaca_eval_gpt4_leaderboard.csv").open() as file:
        return {row[""]: row for row in csv.DictReader(file)}


def written(path: Path, rows: Sequence[Mapping[str, Any]] | Any) -> str:
    """Write rows to a file in the format of its ending, and return the path."""
    name = path.name
    if name.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        return str(path)
    lines = ".jsonl" in name
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows) if lines else json.dumps(rows)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)
