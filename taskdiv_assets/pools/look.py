"""Guesses of the format of a user's file and of the content of its columns.

`taskdiv init` proposes settings from these guesses. The readers of `sources` do not guess; they use the settings.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import statistics
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from taskdiv_assets.pools import saved_folders
from taskdiv_assets.pools.csv_files import (
    BACKSLASH,
    DOUBLED,
    find_dialect,
    has_escaped_quotes,
    widest_separator,
    without_backslashes,
    without_excel_line,
)
from taskdiv_assets.pools.json_files import json_lines, json_rows
from taskdiv_assets.pools.sheets import read_sheet
from taskdiv_assets.pools.sources import expand, kind_of
from taskdiv_assets.pools.text_files import unpacked, utf16
from taskdiv_assets.pools.visible import is_blank
from taskdiv_assets.storage import remote

ROWS_MAX = 200_000
BYTES_MAX = 200 * 2**20
SAMPLES_N = 3
SAMPLE_CHARACTERS_N = 200
BATCH_N = 1_000  # rows of a Parquet or Arrow file that are converted to Python at once
Kind = Literal["text", "number", "chat", "other"]


@dataclass(frozen=True)
class ColumnLook:
    """The content of one column in the rows that were read."""

    name: str
    kind: Kind  # "number" if every value is a number, "chat" for lists of messages
    filled_n: int  # rows with a visible value
    distinct_n: int  # distinct visible values
    median_length: int  # of the visible values, in characters; 0 if there are none
    samples: tuple[str, ...]  # up to 3 distinct values, cut at 200 characters, with single blanks for white space

    @property
    def repeated_n(self) -> int:
        return self.filled_n - self.distinct_n


@dataclass(frozen=True)
class FileLook:
    """The format of a file and the content of its columns."""

    path: str  # as passed to `look`
    format: str  # a value of `sources.SUFFIXES`; "data set" for an Arrow file or a folder of `datasets.save_to_disk`
    encoding: str | None  # for the setting `encoding`; None for UTF-8 and for formats without an encoding
    separator: str | None  # of a CSV file
    columns: tuple[ColumnLook, ...]  # in file order
    rows_n: int  # rows that were read
    is_whole: bool  # False if the file has more rows than were read
    escape: str | None = None  # a backslash if it escapes quotes inside quotes; otherwise None
    sheets: tuple[str, ...] = ()  # names of the sheets of a workbook; the first sheet was read
    splits: tuple[str, ...] = ()  # names of the splits of a data set folder; the first split was read
    has_clear_separator: bool = True  # False for a CSV file with several possible separators

    def column(self, name: str) -> ColumnLook:
        return {column.name: column for column in self.columns}[name]


def look(path: str) -> FileLook:
    """Return the format and the columns of a file (path or fsspec URL) or of a folder of `datasets.save_to_disk`.

    At most 200,000 rows are used. Of a text file, at most 200 MiB are read (after decompression).

    Raises:
        ValueError: the file does not exist or cannot be read as a pool, or `path` is a folder of other files or a glob pattern
            (the reader of pools accepts a pattern).
        OSError: access is denied, or a remote file cannot be copied to the disk cache.
    """
    filesystem, root = remote.filesystem(path)
    with remote.explained(path):
        if filesystem.isdir(root):
            return _look_at_folder(path, filesystem, root)
        if not filesystem.isfile(root):
            raise ValueError(_not_one_file(path, expand(path)))  # `expand` raises the error for a missing file
    with remote.fetched(path) as local:
        kind = kind_of(path)
        if kind == "Parquet":
            return _look_at_parquet(path, local)
        if kind in ("XLSX", "ODS"):
            return _look_at_workbook(path, local, kind)
        if kind == "Arrow":
            return _look_at_arrow(path, [path], ())
        if kind not in ("CSV", "JSON", "JSON lines"):
            raise ValueError(
                f"{path}: unknown kind of file; expected a name such as questions.csv, .jsonl, .json, .xlsx or .ods."
            )
        data, is_whole = _beginning(local, path)
    return _look_at_text(path, kind, data, is_whole)


def _not_one_file(pattern: str, files: Sequence[str]) -> str:
    """Return the error message for a glob pattern."""
    return (
        f"{pattern} is a pattern that matches {len(files):,} file(s); expected one file. Name one, such as {files[0]}, and "
        "write the pattern into `path` of the experiment file afterwards."
    )


def _look_at_text(path: str, kind: str, data: bytes, is_whole: bool) -> FileLook:
    encoding = utf16(data)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)  # the last character may be cut
    except UnicodeDecodeError:
        encoding = encoding or "cp1252"
    decoder = codecs.getincrementaldecoder(encoding or "utf-8-sig")("replace")
    text = decoder.decode(data, final=is_whole).removeprefix("\ufeff")
    if not text.strip():
        raise ValueError(f"{path} is empty; expected a table with column names, or rows of JSON.")
    if not is_whole:
        text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text  # the last line is cut
    if kind == "CSV":
        found = _look_at_csv(path, text, is_whole)
    elif kind == "JSON" and not is_whole and text.lstrip()[:1] == "[":
        found = _summary(path, kind, _cut_array(text), is_whole)
    else:
        found = _summary(path, kind, json_rows(text, path) if kind == "JSON" else json_lines(text, path), is_whole)
    return replace(found, encoding=encoding)


def _look_at_csv(path: str, text: str, is_whole: bool) -> FileLook:
    text, named = without_excel_line(text)
    is_clear = True
    try:
        separator = named or find_dialect(text, path).separator
    except ValueError:
        separator, is_clear = widest_separator(text, path), False
    escape = BACKSLASH if has_escaped_quotes(text, separator) else None
    plain = without_backslashes(text, separator, path, escape or DOUBLED)
    found = _summary(path, "CSV", _csv_rows(plain, separator), is_whole)
    return replace(found, separator=separator, has_clear_separator=is_clear, escape=escape)


def _look_at_workbook(path: str, local: Path, kind: str) -> FileLook:
    sheet = read_sheet(local, path, None)
    rows = ({name: cell for name, cell in zip(sheet.names, row, strict=True) if name} for row in sheet.rows)
    return replace(_summary(path, kind, rows, is_whole=True), sheets=tuple(sheet.sheets))


def _look_at_parquet(path: str, local: Path) -> FileLook:
    try:
        file = pq.ParquetFile(pa.BufferReader(unpacked(path)) if path.lower().endswith(".gz") else local)
        batches = file.iter_batches(batch_size=BATCH_N)
        rows = list(islice((row for batch in batches for row in batch.to_pylist()), ROWS_MAX))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a whole Parquet file ({error}); fetch it again.") from None
    return _summary(path, "Parquet", rows, len(rows) == file.metadata.num_rows)


def _look_at_folder(path: str, filesystem: AbstractFileSystem, root: str) -> FileLook:
    if not saved_folders.is_saved(filesystem, root):
        files = expand(path)
        raise ValueError(f"{path} is a folder of {len(files)} file(s); look at one of them, such as {files[0]}.")
    names = tuple(saved_folders.splits(filesystem, root))
    return _look_at_arrow(path, expand(path, names[0] if names else "train"), names)


def _look_at_arrow(path: str, files: Sequence[str], splits: tuple[str, ...]) -> FileLook:
    def rows() -> Iterator[Mapping[str, object]]:
        for file in files:
            with saved_folders.opened(file) as batches:
                for batch in batches:
                    for start in range(0, batch.num_rows, BATCH_N):
                        yield from batch.slice(start, BATCH_N).to_pylist()

    return replace(_summary(path, "data set", rows(), is_whole=True), splits=splits)


def _beginning(local: Path, path: str) -> tuple[bytes, bool]:
    """Return the first `BYTES_MAX` bytes of a file, after decompression, and True if the file has no more bytes."""
    with local.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = gzip.GzipFile(fileobj=raw) if is_gzip else raw
        try:
            data = file.read(BYTES_MAX)
            return data, not file.read(1)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged or cut gzip file ({error}); fetch it again.") from None


def _csv_rows(text: str, separator: str) -> Iterator[Mapping[str, object]]:
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield from csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    finally:
        csv.field_size_limit(limit)


def _cut_array(text: str) -> Iterator[Mapping[str, object]]:
    """Yield the objects of a JSON array whose end is missing."""
    decoder, place = json.JSONDecoder(), text.index("[") + 1
    while True:
        place += len(text[place : place + 4096]) - len(text[place : place + 4096].lstrip(", \t\r\n"))
        try:
            row, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return
        if isinstance(row, dict):
            yield row


def _summary(path: str, kind: str, rows: Iterable[Mapping[str, object]], is_whole: bool) -> FileLook:
    iterator = iter(rows)
    taken = list(islice(iterator, ROWS_MAX))
    if not taken:
        raise ValueError(f"{path} holds no rows; expected at least one.")
    is_whole = is_whole and next(iterator, None) is None
    names = [str(name) for name in dict.fromkeys(name for row in taken for name in row) if name]
    columns = tuple(_column(name, [row.get(name) for row in taken]) for name in names)
    return FileLook(path, kind, None, None, columns, len(taken), is_whole)


def _column(name: str, values: Sequence[object]) -> ColumnLook:
    filled = [value for value in values if value is not None and not is_blank(str(value))]
    texts = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False, default=str) for one in filled]
    different = Counter(texts)
    samples = tuple(" ".join(text.split())[:SAMPLE_CHARACTERS_N] for text in islice(different, SAMPLES_N))
    median = int(statistics.median(map(len, texts))) if texts else 0
    return ColumnLook(name, _kind(filled), len(filled), len(different), median, samples)


def _kind(values: Sequence[object]) -> Kind:
    if values and all(isinstance(value, list) and value and _is_turn(value[0]) for value in values):
        return "chat"
    if values and all(_is_number(value) for value in values):
        return "number"
    return "text" if all(isinstance(value, str | int | float) for value in values) else "other"


def _is_turn(value: object) -> bool:
    return isinstance(value, dict) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys())


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return not isinstance(value, bool)
