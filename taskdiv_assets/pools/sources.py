"""Files and hub data sets as columns of text: where they are, and whether they are what their name says.

In: paths (a file, a folder, a glob, a list of them; local or any fsspec URL) of JSON lines, CSV or Parquet,
each optionally gzipped, or the name of a data set on the Hugging Face hub. Out: `Source`, columns of Python
text. What the columns mean is the readers' business, and what makes a pool of them is `frame`'s.
"""

import difflib
import gzip
import io
import json
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.core import has_magic

from taskdiv_assets import remote
from taskdiv_assets.selection.streams import keyed_hash

SUFFIXES = {".jsonl": "JSON lines", ".ndjson": "JSON lines", ".csv": "CSV", ".parquet": "Parquet"}
_KNOWN = ".jsonl, .csv or .parquet, with or without .gz"
_CSV_BLOCK_BYTES_MAX = 2**30  # pyarrow counts a block in 32 bits; a quoted text must not pass one block

Choice = Callable[
    [tuple[str, ...], str], Sequence[str]
]  # (columns that are there, name of the source) -> those to read


class Source(NamedTuple):
    """Rows of one file or data set, as columns of equal length; None where a row has nothing."""

    name: str  # what error messages call it
    columns: dict[str, list[str | None]]
    rows_n: int


def expand(path: str | Sequence[str]) -> list[str]:
    """Files that a path, folder, glob or list of them names, sorted within each; ValueError if one names none."""
    if not isinstance(path, str):
        return [file for part in path for file in expand(part)]
    filesystem, root = remote.filesystem(path)
    with remote.explained(path):
        return _expand(filesystem, root, path)


def _expand(filesystem: AbstractFileSystem, root: str, path: str) -> list[str]:
    if filesystem.isfile(root):
        found = [root]
    elif filesystem.isdir(root):
        found = sorted(str(file) for file in filesystem.ls(root, detail=False) if _format(str(file)))
        if not found:
            raise ValueError(f"folder {path} holds no pool file; expected {_KNOWN}.")
    elif has_magic(root):
        found = sorted(map(str, filesystem.glob(root)))
        if not found:
            raise ValueError(f"no file matches {path}; check the pattern and the folder.")
    else:
        raise ValueError(f"there is no file {path}.{_neighbours(filesystem, root)} Check `path` of the pool.")
    is_local = "file" in filesystem.protocol
    return found if is_local else [filesystem.unstrip_protocol(file) for file in found]


def read_file(path: str, choose: Choice, numbers: Collection[str] = ()) -> Source:
    """The columns of one file that `choose` asks for; ValueError names the file and what is wrong with it.

    Of the columns named in `numbers`, values that are numbers are taken too, as text that gives the same number.
    """
    kind = _format(path)
    if kind is None:
        raise ValueError(f"{path}: unknown kind of file {PurePosixPath(path).name!r}; expected a name in {_KNOWN}.")
    if kind == "Parquet":
        return _read_parquet(path, choose, numbers)
    data = _unpacked(path)
    text = _decoded(data, path, kind)
    source = _read_json_lines(text, path, choose, numbers) if kind == "JSON lines" else _read_csv(data, path, choose)
    return _with_rows(source)


def read_hub(name: str, revision: str | None, split: str, choose: Choice, sample: int | None = None) -> Source:
    """The columns of one split of a data set on the hub, at an exact revision; no code of the data set is run.

    With `sample`, only that many rows are taken into memory, chosen by a hash of their place in the data set.
    """
    if not revision:
        raise ValueError(
            f"data set {name} has no revision; give the commit of the data set, so that the pool stays the same."
        )
    import datasets  # takes a second to import

    dataset = datasets.load_dataset(name, revision=revision, split=split)
    return from_dataset(dataset, f"{name}@{revision}", choose, sample)


def from_dataset(dataset: object, name: str, choose: Choice, sample: int | None = None) -> Source:
    """The columns of a loaded `datasets.Dataset` (one split), of all rows or of a sample."""
    import datasets

    if not isinstance(dataset, datasets.Dataset):
        raise ValueError(f"{name}: expected one split of a data set, found {type(dataset).__name__}; name a split.")
    chosen = list(dict.fromkeys(choose(tuple(dataset.column_names), name)))
    if sample is not None and sample < len(dataset):
        places = keyed_hash(0, "pool/hub_sample", np.arange(len(dataset), dtype=np.uint64))
        dataset = dataset.select(np.sort(np.argpartition(places, sample)[:sample]))
    return _with_rows(_from_arrow(cast(Any, dataset).select_columns(chosen).with_format("arrow")[:], name))


def require(names: Sequence[str], wanted: Iterable[str], place: str) -> None:
    """ValueError if a wanted column is not there: which, what there is, and the closest name."""
    for column in wanted:
        if column not in names:
            close = difflib.get_close_matches(column, names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{place} has no column {column!r}; its columns are {', '.join(map(repr, names))}.{hint}")


def first_of(names: Sequence[str], candidates: Sequence[str], what: str, place: str) -> str:
    """The first candidate that is a column of `place`; ValueError if none is."""
    for column in candidates:
        if column in names:
            return column
    raise ValueError(
        f"{place} has no column for the {what}: looked for {', '.join(map(repr, candidates))}, "
        f"its columns are {', '.join(map(repr, names))}. Name it under `columns: {{{what}: …}}`."
    )


def _format(path: str) -> str | None:
    name = PurePosixPath(path.lower()).name.removesuffix(".gz")
    return SUFFIXES.get(PurePosixPath(name).suffix)


def _neighbours(filesystem: AbstractFileSystem, root: str) -> str:
    """A hint at a file of nearly the same name in the same folder."""
    folder, _, name = root.rpartition("/")
    if not filesystem.isdir(folder):
        return ""
    there = [PurePosixPath(str(file)).name for file in filesystem.ls(folder, detail=False)]
    close = difflib.get_close_matches(name, there, n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _with_rows(source: Source) -> Source:
    if source.rows_n == 0:
        raise ValueError(f"{source.name} holds no rows; expected at least one prompt.")
    return source


def _unpacked(path: str) -> bytes:
    """A whole file, gunzipped where its name says so; ValueError where content and name differ."""
    with remote.fetched(path) as local:
        data = local.read_bytes()
    is_gzip, should_be = data[:2] == b"\x1f\x8b", path.lower().endswith(".gz")
    if is_gzip != should_be:
        raise ValueError(
            f"{path} is {'a' if is_gzip else 'no'} gzip file, though its name {'lacks' if is_gzip else 'ends in'} .gz; "
            "rename it to what it is."
        )
    if not should_be:
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged or cut gzip file ({error}); fetch it again.") from error


def _decoded(data: bytes, path: str, kind: str) -> str:
    if data[:4] == b"PAR1":
        raise ValueError(f"{path} is a Parquet file, though its name says {kind}; rename it to end in .parquet.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8 text; save the file as UTF-8."
        ) from error


def _read_json_lines(text: str, path: str, choose: Choice, numbers: Collection[str]) -> Source:
    rows: list[dict[str, object]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number} is not JSON ({error.msg} at column {error.colno}); "
                "expected one JSON object a line."
            ) from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number} is a JSON {type(row).__name__}; expected one JSON object a line.")
        rows.append(row)
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    chosen = choose(names, path) if rows else ()
    columns = {
        name: [
            _text(_number_as_text(row.get(name)) if name in numbers else row.get(name), path, i, name)
            for i, row in enumerate(rows)
        ]
        for name in chosen
    }
    return Source(path, columns, len(rows))


def _read_csv(data: bytes, path: str, choose: Choice) -> Source:
    """By pyarrow, every chosen column as text: nothing is guessed to be a number or a date."""
    block = pacsv.ReadOptions(use_threads=False, block_size=max(2**20, min(len(data), _CSV_BLOCK_BYTES_MAX)))
    parse = pacsv.ParseOptions(newlines_in_values=True)
    try:
        names = pacsv.read_csv(io.BytesIO(data.partition(b"\n")[0] + b"\n"), parse_options=parse).column_names
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{path} has no CSV header in its first line ({error}); expected column names there."
        ) from error
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path} has two columns named {twice!r}; give every column a name of its own.")
    chosen = list(dict.fromkeys(choose(tuple(names), path)))
    types = pacsv.ConvertOptions(
        include_columns=chosen, column_types=dict.fromkeys(chosen, pa.string()), strings_can_be_null=False
    )
    try:
        table = pacsv.read_csv(io.BytesIO(data), read_options=block, parse_options=parse, convert_options=types)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no whole CSV file: {error}; check quotes and separators there.") from error
    return _from_arrow(table, path)


def _read_parquet(path: str, choose: Choice, numbers: Collection[str]) -> Source:
    """Only the chosen columns are read from a Parquet file that is not gzipped as a whole."""
    with remote.fetched(path) as local, local.open("rb") as opened:
        file = io.BytesIO(_unpacked(path)) if path.lower().endswith(".gz") else opened
        try:
            names = pq.read_schema(file).names
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{path} is no Parquet file, though its name says so; is it cut, or a web page that was saved?"
            ) from error
        chosen = list(dict.fromkeys(choose(tuple(names), path)))
        file.seek(0)
        try:
            table = pq.read_table(file, columns=chosen)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} is a damaged Parquet file ({error}); fetch it again.") from error
    for column in set(numbers) & set(table.column_names):
        texts = pa.array([_number_as_text(value) for value in table[column].to_pylist()])
        if texts.type == pa.string():
            table = table.set_column(table.column_names.index(column), column, texts)
    return _with_rows(_from_arrow(table, path))


def _from_arrow(table: pa.Table, name: str) -> Source:
    columns = {}
    for column in table.column_names:
        values = table.column(column).to_pylist()
        is_text = pa.types.is_string(table.schema.field(column).type)
        columns[column] = values if is_text else [_text(v, name, i, column) for i, v in enumerate(values)]
    return Source(name, columns, table.num_rows)


def _number_as_text(value: object) -> object:
    """A number as text; anything else as it is."""
    return repr(value) if isinstance(value, float) else str(value) if isinstance(value, Decimal) else value


def _text(value: object, place: str, row: int, column: str) -> str | None:
    """A value as text: text and whole numbers are taken, anything else is refused rather than guessed at."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(
            f"{place}, row {row + 1}: column {column!r} holds {value!r:.60} ({type(value).__name__}); expected text."
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{place}, row {row + 1}: column {column!r} holds half of a surrogate pair, which is no UTF-8 text; "
            "write the character whole."
        ) from error
    return value
