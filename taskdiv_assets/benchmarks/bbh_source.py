"""Rows of BIG-Bench Hard from local files: one Parquet file of all tasks, or a folder of the original JSON files.

Both may lie on any fsspec storage. Every way in which a source can be wrong ends here, in one sentence.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import fsspec

# Items a task as published (suzgunmirac/BIG-Bench-Hard at 9ee07bd), 6,511 in all.
SIZES = {
    "boolean_expressions": 250,
    "causal_judgement": 187,
    "date_understanding": 250,
    "disambiguation_qa": 250,
    "dyck_languages": 250,
    "formal_fallacies": 250,
    "geometric_shapes": 250,
    "hyperbaton": 250,
    "logical_deduction_five_objects": 250,
    "logical_deduction_seven_objects": 250,
    "logical_deduction_three_objects": 250,
    "movie_recommendation": 250,
    "multistep_arithmetic_two": 250,
    "navigate": 250,
    "object_counting": 250,
    "penguins_in_a_table": 146,
    "reasoning_about_colored_objects": 250,
    "ruin_names": 250,
    "salient_translation_error_detection": 250,
    "snarks": 178,
    "sports_understanding": 250,
    "temporal_sequences": 250,
    "tracking_shuffled_objects_five_objects": 250,
    "tracking_shuffled_objects_seven_objects": 250,
    "tracking_shuffled_objects_three_objects": 250,
    "web_of_lies": 250,
    "word_sorting": 250,
}
COLUMNS = ("task", "input", "target")


class TaskRows(NamedTuple):
    """Rows of one task, in the order of the source."""

    documents: list[dict[str, str]]  # input, target: what the hub's data set holds too
    ids: list[str] | None  # the source's own, where it has any


def read_rows(source: str, names: Sequence[str]) -> dict[str, TaskRows]:
    """Rows of the named tasks.

    Raises:
        ValueError: no such source, not what its name says, a missing column or task, an empty cell, an id twice.
    """
    rows = _from_folder(source, names) if _is_folder(source) else _from_parquet(source, names)
    for name, (documents, ids) in rows.items():
        for row, document in enumerate(documents):
            if not all(isinstance(text, str) and text.strip() for text in document.values()):
                raise ValueError(f"BBH source {source!r}, task {name!r}, row {row}: expected text in input and target")
        if ids is not None and len(set(ids)) < len(ids):
            twice, _ = Counter(ids).most_common(1)[0]
            raise ValueError(f"BBH source {source!r}, task {name!r}: id {twice!r} stands twice; expected unique ids")
    return rows


def task_sizes(source: str, names: Sequence[str]) -> dict[str, int]:
    """Items a task."""
    return {name: len(rows.documents) for name, rows in read_rows(source, names).items()}


def source_files(source: str, names: Sequence[str]) -> Iterator[bytes]:
    """Contents of the files that `read_rows` reads, in the order of the task names."""
    if _is_folder(source):
        for name in sorted(names):
            yield _json_bytes(source, name)
    else:
        yield _bytes(source)


def _is_folder(source: str) -> bool:
    """A folder of JSON files, or a file.

    Raises:
        ValueError: there is nothing at that place.
    """
    file_system, path = fsspec.core.url_to_fs(source)
    if not file_system.exists(path):
        raise ValueError(
            f"benchmark `bbh` has no source at {source!r}; expected `hub`, a Parquet file with the columns "
            f"{', '.join(COLUMNS)}, or a folder of the original JSON files"
        )
    return bool(file_system.isdir(path))


def _bytes(source: str) -> bytes:
    """A whole file; the largest known is 0.3 MB."""
    file_system, path = fsspec.core.url_to_fs(source)
    data: bytes = file_system.cat_file(path)
    return data


def _json_bytes(folder: str, name: str) -> bytes:
    """The original file of one task."""
    try:
        return _bytes(f"{folder.rstrip('/')}/{name}.json")
    except FileNotFoundError:
        raise ValueError(f"BBH folder {folder!r} has no file {name}.json; name the `tasks` that it holds") from None


def _from_folder(folder: str, names: Sequence[str]) -> dict[str, TaskRows]:
    """Rows from files such as boolean_expressions.json: {"examples": [{"input": …, "target": …}, …]}."""
    return {name: TaskRows(_examples(folder, name), None) for name in names}


def _examples(folder: str, name: str) -> list[dict[str, str]]:
    """The examples of one original JSON file."""
    try:
        content: Any = json.loads(_json_bytes(folder, name))
        return [{"input": example["input"], "target": example["target"]} for example in content["examples"]]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise ValueError(
            f"BBH file {name}.json in {folder!r} is not as expected: JSON with a list `examples` of objects "
            "with `input` and `target`"
        ) from None


def _from_parquet(source: str, names: Sequence[str]) -> dict[str, TaskRows]:
    """Rows from one file with the columns task, input, target, and id where it has one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(_bytes(source)))
    except pa.ArrowInvalid:
        raise ValueError(f"BBH source {source!r} is not a Parquet file, nor a folder of JSON files") from None
    missing = [column for column in COLUMNS if column not in table.column_names]
    if missing:
        raise ValueError(
            f"BBH source {source!r} has no column {', '.join(missing)}; it has {', '.join(table.column_names)}"
        )
    has_ids = "id" in table.column_names and table["id"].null_count == 0
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for row in table.select([*COLUMNS, "id"] if has_ids else list(COLUMNS)).to_pylist():
        if row["task"] in found:
            found[row["task"]].append(row)
    empty = [name for name, rows in found.items() if not rows]
    if empty:
        raise ValueError(
            f"BBH source {source!r} has no rows of task {', '.join(empty)}; name the `tasks` that it holds"
        )
    return {
        name: TaskRows(
            [{"input": row["input"], "target": row["target"]} for row in rows],
            [str(row["id"]) for row in rows] if has_ids else None,
        )
        for name, rows in found.items()
    }
