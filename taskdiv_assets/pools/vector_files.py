"""Reader of the user's own embeddings (`view: {file: …}`): a Parquet file with an id and a list of numbers in each row.

Only Parquet is read. A row names its prompt, so the order of the rows has no effect. The sizes are known before the numbers are
read, and the file cannot contain code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taskdiv_assets.pools.order_files import ID_COLUMNS, places_of
from taskdiv_assets.storage import remote

COLUMN = "embedding"
DIMENSIONS_MAX = 16_384
BATCH_N = 4_096  # rows that are read at once
SUFFIX = ".parquet"


def read_vectors(
    path: str,
    pool: pa.Table,  # raw_pool: prompt_id, source_id
    own_id: str | None = None,  # name of the column that source_id was read from
) -> np.ndarray[Any, np.dtype[np.float16]]:  # (n, d), row i belongs to row i of the pool
    """Return the vectors of a pool from a file, scaled to length 1. Rows of the file whose ids are not in the pool are ignored.

    Raises:
        ValueError: the file cannot be used, an id is missing or occurs twice, a prompt has no vector, vectors have different
            lengths, or a number is missing or not finite.
    """
    if not path.endswith(SUFFIX):
        raise ValueError(
            f"{path} is not a Parquet file by its name; expected {SUFFIX} with a column of ids and a column {COLUMN!r} of lists"
        )
    try:
        with remote.fetched(path) as local, pq.ParquetFile(_file(local, path)) as file:
            return _read(path, file, pool, own_id)
    except pa.ArrowException as error:
        raise ValueError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]:.200}") from None


def _file(local: Path, path: str) -> Path:
    if not local.is_file():
        raise ValueError(f"there is no file {path}; check `view: {{file: …}}` in the experiment file")
    return local


def _read(path: str, file: pq.ParquetFile, pool: pa.Table, own_id: str | None) -> np.ndarray[Any, np.dtype[np.float16]]:
    id_column = _id_column(path, file.schema_arrow, own_id)
    dimensions_n = _dimensions(path, file)
    rows = _rows(path, file, id_column, pool)  # (rows of the file,) row of the pool, or -1
    found = np.full((pool.num_rows, dimensions_n), np.nan, np.float16)
    start = 0
    for batch in file.iter_batches(BATCH_N, columns=[COLUMN]):
        numbers = _numbers(path, batch.column(0), dimensions_n, start)
        targets = rows[start : start + len(numbers)]
        found[targets[targets >= 0]] = numbers[targets >= 0]
        start += len(numbers)
    without = np.isnan(found[:, 0])
    if without.any():
        first = pool["prompt_id"][int(np.flatnonzero(without)[0])]
        raise ValueError(
            f"{path} has no vector of {int(without.sum()):,} of {pool.num_rows:,} prompts, the first is {first}; add their rows"
        )
    return found


def _id_column(path: str, schema: pa.Schema, own_id: str | None) -> str:
    looked_for = list(dict.fromkeys([ID_COLUMNS[0], *([own_id] if own_id else []), *ID_COLUMNS[1:]]))
    found = next((name for name in looked_for if name in schema.names), None)
    if found is None or schema.names.count(COLUMN) != 1:
        raise ValueError(
            f"{path} has the columns {', '.join(map(repr, schema.names))[:200]}; expected {COLUMN!r} and one of "
            f"{', '.join(map(repr, looked_for))}"
        )
    kind = schema.field(COLUMN).type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not (is_list and pa.types.is_floating(kind.value_type)):
        raise ValueError(f"{path}: column {COLUMN!r} is {kind}; expected lists of floating-point numbers")
    return found


def _dimensions(path: str, file: pq.ParquetFile) -> int:
    """Return the length of the vectors. The file's metadata show their total length, so no numbers are read."""
    metadata = file.metadata
    leaf = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path.split(".")[0] == COLUMN)
    numbers_n = sum(metadata.row_group(i).column(leaf).num_values for i in range(metadata.num_row_groups))
    dimensions_n, left_n = divmod(numbers_n, metadata.num_rows) if metadata.num_rows else (0, 0)
    if left_n or not 1 <= dimensions_n <= DIMENSIONS_MAX:
        raise ValueError(
            f"{path} has {metadata.num_rows:,} vectors with {numbers_n:,} numbers in all; expected vectors of one length, from 1 "
            f"to {DIMENSIONS_MAX:,}"
        )
    return dimensions_n


def _rows(path: str, file: pq.ParquetFile, column: str, pool: pa.Table) -> Any:  # (rows,) int64
    ids = file.read([column]).column(0).cast(pa.string())
    if ids.null_count:
        raise ValueError(f"{path}: {ids.null_count:,} of {len(ids):,} rows have no {column}; expected one in every row")
    keys: Sequence[str] = [key.strip() for key in ids.to_pylist()]
    twice = next((key for key, count in Counter(keys).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{path}: {twice!r:.80} occurs twice in column {column!r}; expected one row a prompt")
    place = places_of(keys, pool)
    if not any(key in place for key in keys):
        raise ValueError(
            f"{path}: no id in column {column!r} is in the pool, the first is {keys[0]!r:.80}; expected prompt ids, or the "
            "pool's own ids (`id` of `pool.columns`)"
        )
    return np.array([place.get(key, -1) for key in keys], np.int64)


def _numbers(path: str, column: pa.Array, dimensions_n: int, start: int) -> Any:  # (rows, d) float64 of length 1
    flat = column.flatten()
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(~(lengths == dimensions_n))
    if len(wrong) or flat.null_count:
        row = start + (int(wrong[0]) if len(wrong) else int(flat.is_null().index(True).as_py()) // dimensions_n) + 1
        raise ValueError(
            f"{path}, row {row:,}: expected a list of {dimensions_n:,} numbers, as on average in this file"
        )
    numbers = flat.to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, dimensions_n)
    lengths = np.linalg.norm(numbers, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        row = start + int(np.flatnonzero(~np.isfinite(lengths[:, 0]))[0]) + 1
        raise ValueError(f"{path}, row {row:,}: a number is not finite; expected numbers such as 0.25")
    return np.divide(numbers, lengths, out=np.zeros_like(numbers), where=lengths > 0)
