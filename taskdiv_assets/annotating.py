"""The way to the annotators and back: export a batch, import the answers.

An export is one immutable file in the ledger, `exports/<time>-<sha256>.json`; what stands there is not sent out twice. An
import is one immutable file, `annotations/<sha256>.parquet`; nothing is stored unless every row is well.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

import data_contracts
from taskdiv_assets.answers import newest_annotations
from taskdiv_assets.cells import Cell
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.lineage import Lineage
from taskdiv_assets.store import Store
from taskdiv_assets.units import Unit

EXPORTED = ("prompt_id", "task", "rank", "prompt", "instructions", "response")
SHOWN_PROBLEMS_N = 10


class Export(NamedTuple):
    """What went out."""

    rows: list[dict[str, Any]]
    already_sent_n: int
    batch: str


class Import(NamedTuple):
    """What came back."""

    rows_n: int
    batch: str
    is_new: bool


def export(
    experiment: Experiment, store: Store, cell: Cell, seed: int | None, write: Callable[[list[dict[str, Any]]], None]
) -> Export:
    """Write the prompts of one cell that need an answer and were not sent out yet, and note them in the ledger.

    `write` puts the rows where they go out from. Only when it returns are they noted: a file that could not be written was
    not sent out. It is not called when there is nothing to send.

    Raises:
        ValueError: a study without a seed, or a seed that the cell does not have.
        StaleInputError: the cell's batch is missing or out of date.
    """
    lineage = Lineage(experiment, store)
    lineage.fresh(Unit("annotation_batch", cell.key))
    seeds = lineage.cell_selection_seeds(cell)
    if seed is None and len(seeds) > 1:
        raise ValueError(
            f"{experiment.name} is a study with one list per seed; choose one of them with --seed "
            f"({', '.join(map(str, seeds))}). A campaign has one list"
        )
    chosen = seeds[0] if seed is None else seed
    if chosen not in seeds:
        raise ValueError(f"{cell.key} has no list for seed {chosen}; expected one of {', '.join(map(str, seeds))}")
    sent = sent_prompt_ids(store)
    batch = store.read_table("annotation_batch", cell.key).table.to_pylist()
    of_seed = [row for row in batch if row["selection_seed"] == chosen]
    rows = [
        {**{name: row[name] for name in EXPORTED if name in row},
         "instructions": experiment.annotation.instructions, "response": ""}
        for row in of_seed if row["prompt_id"] not in sent
    ]  # fmt: skip
    ids = [row["prompt_id"] for row in rows]
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    name = f"{time}-{hashlib.sha256(','.join(ids).encode()).hexdigest()[:16]}"
    if ids:
        write(rows)
        note = {"cell": cell.key, "selection_seed": chosen, "exported_at": time, "prompt_ids": ids}
        store.put(json.dumps(note, indent=1).encode(), "exports", f"{name}.json")
    return Export(rows, len(of_seed) - len(rows), name)


def sent_prompt_ids(store: Store) -> set[str]:
    """Every prompt that the ledger says was sent out."""
    notes = [
        json.loads(store.get("exports", name) or b"{}") for name in store.names("exports") if name.endswith(".json")
    ]
    return {prompt_id for note in notes for prompt_id in note["prompt_ids"]}


def render(rows: Sequence[dict[str, Any]], file_format: str) -> bytes:
    """Rows to annotate as JSON lines or CSV."""
    if file_format == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, EXPORTED, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def read_answers(path: Path) -> list[dict[str, str]]:
    """Rows of an annotators' file: JSON lines or CSV with at least prompt_id and response.

    Raises:
        ValueError: not UTF-8, not what its name says, or without the two columns.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; expected annotators' answers as .jsonl or .csv") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8 and import again") from None
    if path.suffix == ".csv":
        csv.field_size_limit(2**31 - 1)  # answers may be long
        rows: list[Any] = list(csv.DictReader(io.StringIO(text, newline="")))
    elif path.suffix == ".jsonl":
        rows = [_json_line(path, number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    else:
        raise ValueError(f"{path} ends in {path.suffix or 'nothing'}; expected .jsonl or .csv")
    for number, row in enumerate(rows, start=1):
        lacking = [name for name in ("prompt_id", "response") if not isinstance(row.get(name), str)]
        if lacking:
            raise ValueError(
                f"row {number} of {path} has no text in {' and '.join(lacking)}; expected both in every row"
            )
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("annotator"), str | None):
            raise ValueError(f"row {number} of {path}: annotator is {row['annotator']!r}; expected a name as text")
    return rows


def import_answers(
    experiment: Experiment, store: Store, rows: Sequence[dict[str, str]], annotator: str | None
) -> Import:
    """Store annotators' answers as one immutable file; the same file twice is stored once.

    Raises:
        ValueError: unknown ids, an id twice with different answers, empty answers: the first rows and how many.
    """
    Lineage(experiment, store).fresh(Unit("raw_pool"))
    known = set(store.read_table("raw_pool").table["prompt_id"].to_pylist())
    problems = list(_problems(rows, known))
    if problems:
        more = "" if len(problems) <= SHOWN_PROBLEMS_N else f"\n  … and {len(problems) - SHOWN_PROBLEMS_N} more"
        shown = "".join(f"\n  {problem}" for problem in problems[:SHOWN_PROBLEMS_N])
        raise ValueError(f"nothing was imported; {len(problems)} row(s) cannot be used:{shown}{more}")
    content = json.dumps([[row["prompt_id"], row["response"], row.get("annotator")] for row in rows]).encode()
    batch = hashlib.sha256(content).hexdigest()
    now = datetime.now(UTC)
    if store.get("annotations", f"{batch}.parquet") is not None:
        newest = {row["prompt_id"]: row["response"] for row in newest_annotations(store)}
        if all(newest[row["prompt_id"]] == row["response"] for row in rows):
            return Import(len(rows), batch, is_new=False)
        # The same answers again, after others came in between: they are the newest now.
        batch = hashlib.sha256(content + now.isoformat().encode()).hexdigest()
    records = [
        {"prompt_id": row["prompt_id"], "response": row["response"], "annotator": row.get("annotator") or annotator,
         "imported_at": now, "batch": batch, "row": number}
        for number, row in enumerate(rows)
    ]  # fmt: skip
    buffer = io.BytesIO()
    schema = data_contracts.load("annotations").arrow_schema
    pq.write_table(pa.Table.from_pylist(records, schema=schema), buffer)
    store.put(buffer.getvalue(), "annotations", f"{batch}.parquet")
    return Import(len(rows), batch, is_new=True)


def _problems(rows: Sequence[dict[str, str]], known: set[str]) -> list[str]:
    seen: dict[str, tuple[int, str]] = {}
    problems = []
    for number, row in enumerate(rows, start=1):
        prompt_id, response = row["prompt_id"], row["response"]
        if prompt_id not in known:
            problems.append(f"row {number}: prompt_id {prompt_id!r} is not in the pool of this experiment")
        elif not response.strip():
            problems.append(f"row {number}: the answer to {prompt_id} is empty")
        elif prompt_id in seen and seen[prompt_id][1] != response:
            problems.append(f"row {number}: {prompt_id} has another answer in row {seen[prompt_id][0]}")
        seen.setdefault(prompt_id, (number, response))
    return problems


def _json_line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} of {path} is not JSON ({error.msg}); expected one object a line") from None
    if not isinstance(row, dict):
        raise ValueError(f"line {number} of {path} is not a JSON object")
    return row
