"""Helpers for local sources of benchmarks: files on any fsspec storage, rows of tasks, and hashes of rows.

A local row has the keys of the hub's row in the same order. So lm-eval's hash is the same for both rows.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from taskdiv_assets.experiment.benchmark_settings import HUB
from taskdiv_assets.storage import remote


class TaskRows(NamedTuple):
    """Rows of one task, in the order of the source."""

    documents: list[dict[str, Any]]  # rows of the questions
    ids: list[str] | None = None  # the ids in the source, if it has any
    dev: Sequence[dict[str, Any]] = ()  # worked examples, if the benchmark's prompts take them from its data


def chosen(kind: str, names: Sequence[str] | None, known: Collection[str]) -> tuple[str, ...]:
    """Return `names`, or all known names if `names` is None; raise ValueError if a name is unknown or occurs twice."""
    if names is None:
        return tuple(known)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected some of {', '.join(known)}"
            raise ValueError(f"unknown {kind} {name!r}; {hint}")
    if twice := first_twice(names):
        raise ValueError(f"{kind} {twice!r} occurs twice in `tasks`; name each once")
    return tuple(names)


def first_twice(names: Sequence[str]) -> str | None:
    """Return a name that occurs more than once, or None.

    >>> first_twice(["a", "b", "a"]), first_twice(["a", "b"])
    ('a', None)
    """
    (name, times_n), *_ = Counter(names).most_common(1) or [("", 0)]
    return name if times_n > 1 else None


def is_folder(benchmark: str, source: str, expected: str) -> bool:
    """Return True for a folder and False for a file; raise ValueError if `source` does not exist."""
    file_system, path = remote.filesystem(source)
    if not file_system.exists(path):
        raise ValueError(f"benchmark `{benchmark}` has no source at {source!r}; expected `hub`, {expected}")
    return bool(file_system.isdir(path))


def file_bytes(source: str) -> bytes:
    """Return the content of a file. The largest known file has 2 MB."""
    with remote.fetched(source) as local:
        return local.read_bytes()


def parquet_table(label: str, source: str, columns: Sequence[str], *, otherwise: str) -> pa.Table:
    """Return the named columns of a Parquet file, and the column `id` if it exists and has no nulls.

    Raise ValueError if the file is not Parquet or lacks a column. The message also names `otherwise`, the other accepted format.
    """
    try:
        table = pq.read_table(io.BytesIO(file_bytes(source)))
    except (pa.ArrowInvalid, OSError):  # OSError: a damaged page, found while it is unpacked
        raise ValueError(f"{label} {source!r} is not a Parquet file, nor {otherwise}") from None
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise ValueError(
            f"{label} {source!r} has no column {', '.join(missing)}; it has {', '.join(table.column_names)}"
        )
    has_ids = "id" in table.column_names and table["id"].null_count == 0
    return table.select([*columns, "id"] if has_ids else list(columns))


def check_ids(label: str, source: str, tasks: Mapping[str, TaskRows]) -> None:
    for name, rows in tasks.items():
        if rows.ids is not None and (twice := first_twice(rows.ids)):
            raise ValueError(f"{label} {source!r}, task {name!r}: id {twice!r} occurs twice; expected unique ids")


def sizes_of(rows: Mapping[str, TaskRows] | None, published: Mapping[str, int]) -> dict[str, int]:
    """Return the number of items of each task. If `rows` is None (the hub), return the published numbers."""
    return dict(published) if rows is None else {name: len(one.documents) for name, one in rows.items()}


def content_sha256(tasks: Mapping[str, TaskRows] | None) -> str:
    """Return one hash over the rows that are used, independent of the file format. Return `hub` for the hub."""
    if tasks is None:
        return HUB
    content = json.dumps(sorted((name, list(rows)) for name, rows in tasks.items()))
    return hashlib.sha256(content.encode()).hexdigest()
