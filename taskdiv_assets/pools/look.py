"""A quick look at a user's file: its format, and what its columns hold.

For `taskdiv init`, which proposes settings from it. A look is bounded: of a large file only the beginning is read, and the
result says so. It guesses; the readers of `sources` never do: what was found here is written into the experiment file.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal

import pyarrow.parquet as pq

from taskdiv_assets import remote

ROWS_MAX = 200_000
BYTES_MAX = 200 * 2**20
SAMPLES_N = 3
SAMPLE_CHARACTERS_N = 200
SEPARATORS = (",", ";", "\t", "|")
Kind = Literal["text", "number", "chat", "other"]


@dataclass(frozen=True)
class ColumnLook:
    """What one column holds, as far as it was read.

    Attributes:
        name: of the column.
        kind: text; number where every value is one; chat for lists of turns (`messages`, `conversations`); other for the rest.
        filled_n: rows with a visible value.
        distinct_n: different values among them.
        median_length: of the filled values, in characters; 0 where there is none.
        samples: up to 3 different values, each cut at 200 characters, white space made single blanks.
    """

    name: str
    kind: Kind
    filled_n: int
    distinct_n: int
    median_length: int
    samples: tuple[str, ...]

    @property
    def repeated_n(self) -> int:
        """Rows whose value an earlier row has."""
        return self.filled_n - self.distinct_n


@dataclass(frozen=True)
class FileLook:
    """What a file is, and what its columns hold.

    Attributes:
        path: as it was given.
        format: "CSV", "JSON lines", "JSON", "Parquet", "XLSX", "ODS" or "data set" (a folder of `datasets.save_to_disk`).
        encoding: the value for `encoding:`; None where the default (UTF-8) is right, or where the format has no encoding.
        separator: of a CSV file, else None. A comma, semicolon or tab is found by the reader too and need not be written down.
        escape: a backslash where quotes inside quotes are written so, else None.
        sheets: names of the sheets of a workbook, the first of which was read; else empty.
        splits: names of the splits of a data set folder, the first of which was read; else empty.
        columns: in the order of the file.
        rows_n: rows that were read.
        is_whole: False where the file goes on after what was read.
    """

    path: str
    format: str
    encoding: str | None
    separator: str | None
    columns: tuple[ColumnLook, ...]
    rows_n: int
    is_whole: bool
    escape: str | None = None
    sheets: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()

    def column(self, name: str) -> ColumnLook:
        """The column of that name.

        Raises:
            KeyError: there is none.
        """
        return {column.name: column for column in self.columns}[name]


def look(path: str) -> FileLook:
    """Look at a file without settings.

    Args:
        path: a local file or an fsspec URL. At most the first 200,000 rows or 200 MB are read.

    Raises:
        ValueError: it cannot be read as a pool; one sentence with the next step.
        OSError: there is no such file, or it may not be read.
    """
    with remote.fetched(path) as local:
        if local.is_dir() or not local.exists():
            raise ValueError(f"{path} is not a file; expected a table such as questions.csv.")
        if not local.is_file():
            raise ValueError(f"{path} is a pipe or a device; expected a file such as questions.csv.")
        if PurePosixPath(path.lower()).suffix == ".parquet":
            return _look_at_parquet(path, local)
        data, is_whole = _beginning(local)
    encoding = _encoding(data)
    text = _text(data, encoding, is_whole)
    if not text.strip():
        raise ValueError(f"{path} is empty; expected a table with a header or rows of JSON.")
    if text.lstrip()[:1] == "{":
        return _summary(path, "JSON lines", encoding, None, _json_lines(text, path, is_whole), is_whole)
    if text.lstrip()[:1] == "[" and PurePosixPath(path.lower().removesuffix(".gz")).suffix == ".json":
        return _summary(path, "JSON", encoding, None, _json_rows(text, path, is_whole), is_whole)
    separator = _separator(text)
    return _summary(path, "CSV", encoding, separator, _csv_rows(text, separator), is_whole)


def _beginning(local: Path) -> tuple[bytes, bool]:
    with local.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = gzip.GzipFile(fileobj=raw) if is_gzip else raw
        data = file.read(BYTES_MAX)
        return data, not file.read(1)


def _encoding(data: bytes) -> str | None:
    """What the first bytes are in; None for UTF-8. Windows-1252 is what is left where UTF-8 and UTF-16 are not possible."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    start = data[:4096]
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = start[offset::2].count(0)
        if len(start) > 3 and zeros > 0.4 * len(start) / 2:
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return "cp1252"
    return None


def _text(data: bytes, encoding: str | None, is_whole: bool) -> str:
    decoder = codecs.getincrementaldecoder(encoding or "utf-8-sig")("replace")
    return decoder.decode(data, final=is_whole).removeprefix("\ufeff")


def _separator(text: str) -> str:
    """The one that makes most columns of the header; a comma where none makes two."""
    counts = {one: len(next(csv.reader(io.StringIO(text, newline=""), delimiter=one), [])) for one in SEPARATORS}
    return max(SEPARATORS, key=lambda one: counts[one])


def _csv_rows(text: str, separator: str) -> Iterator[Mapping[str, object]]:
    csv.field_size_limit(2**31 - 1)
    return csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)


def _json_lines(text: str, path: str, is_whole: bool) -> Iterator[Mapping[str, object]]:
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            if not is_whole and number == len(lines):
                return
            raise ValueError(f"{path}, line {number} is not JSON ({error}); expected one JSON object a line.") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number} is a JSON {type(row).__name__}; expected one JSON object a line.")
        yield row


def _json_rows(text: str, path: str, is_whole: bool) -> Iterable[Mapping[str, object]]:
    if not is_whole:
        raise ValueError(f"{path} is larger than {BYTES_MAX // 2**20} MB; write it as JSON lines, one object a line.")
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); expected a list of objects.") from None
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} holds a list of other things than objects; expected one object a row.")
    return list(rows)


def _look_at_parquet(path: str, local: Path) -> FileLook:
    try:
        file = pq.ParquetFile(local)
        batches = file.iter_batches(batch_size=10_000)
        rows = list(islice((row for batch in batches for row in batch.to_pylist()), ROWS_MAX))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no whole Parquet file ({error}); fetch it again.") from None
    is_whole = len(rows) == file.metadata.num_rows
    return _summary(path, "Parquet", None, None, rows, is_whole)


def _summary(
    path: str,
    format_: str,
    encoding: str | None,
    separator: str | None,
    rows: Iterable[Mapping[str, object]],
    is_whole: bool,
) -> FileLook:
    iterator = iter(rows)
    taken = list(islice(iterator, ROWS_MAX))
    if not taken:
        raise ValueError(f"{path} holds no rows; expected at least one.")
    is_whole = is_whole and next(iterator, None) is None
    names = [str(name) for name in dict.fromkeys(name for row in taken for name in row) if name is not None]
    columns = tuple(_column(name, [row.get(name) for row in taken]) for name in names)
    return FileLook(path, format_, encoding, separator, columns, len(taken), is_whole)


def _column(name: str, values: Sequence[object]) -> ColumnLook:
    filled = [value for value in values if value is not None and str(value).strip()]
    texts = [value if isinstance(value, str) else json.dumps(value, default=str) for value in filled]
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
