"""Read the rows of a JSON, JSON-lines or Parquet file on any fsspec storage. JSON and JSON lines may be gzipped."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taskdiv_assets.storage import remote

FORMATS = ".json, .jsonl, .json.gz, .jsonl.gz or .parquet"


def read_bytes(source: str, what: str) -> bytes:
    """Return the content of a file; raise ValueError if the file cannot be read. Error texts name the file's purpose `what`."""
    try:
        with remote.fetched(source) as local:
            return local.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{what} {source!r} cannot be read ({type(error).__name__}); expected a file {FORMATS} at that place"
        ) from None


def read_rows(source: str, what: str) -> list[dict[str, Any]]:
    """Return the rows of a file in their order. The ending of the file's name decides the format.

    Raises:
        ValueError: the file cannot be read, does not have the format of its ending, or has no rows.
    """
    data, name = read_bytes(source, what), source.lower()
    if not name.removesuffix(".gz").endswith((".json", ".jsonl")) and not name.endswith(".parquet"):
        raise ValueError(f"{what} {source!r} has an unknown ending; expected a file {FORMATS}")
    rows = (_from_parquet if name.endswith(".parquet") else _from_json)(data, source, what)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{what} {source!r} holds no rows; expected a list of objects, one for each instruction")
    return rows


def require_columns(row: dict[str, Any], columns: tuple[str, ...], place: str) -> None:
    missing = [column for column in columns if column not in row]
    if missing:
        raise ValueError(f"{place} has no column {', '.join(missing)}; it has {', '.join(row) or 'none'}")


def _from_json(data: bytes, source: str, what: str) -> Any:
    name = source.lower()
    try:
        text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
        if name.removesuffix(".gz").endswith(".json"):
            return json.loads(text)
        # Not splitlines(): a JSON string may contain a line separator such as U+2028.
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{what} {source!r} is not what its ending says ({error}); expected a file {FORMATS}"
        ) from None


def _from_parquet(data: bytes, source: str, what: str) -> Any:
    try:
        return pq.read_table(io.BytesIO(data)).to_pylist()
    except (pa.ArrowInvalid, OSError):  # OSError: a damaged page, found while it is unpacked
        raise ValueError(
            f"{what} {source!r} is not a Parquet file, as its ending says; expected a file {FORMATS}"
        ) from None
