"""Readers of files and hub data sets as columns of text (`Source`). The readers of pools know the meaning of the columns.

`expand` finds the files of a path. `read_file` reads JSON lines, JSON, CSV, Parquet, XLSX, ODS and Arrow files.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.core import has_magic

from taskdiv_assets.pools.csv_files import read_csv
from taskdiv_assets.pools.json_files import json_lines, json_rows, read_json
from taskdiv_assets.pools.saved_folders import arrow_files, is_saved, read_arrow
from taskdiv_assets.pools.sheets import read_workbook
from taskdiv_assets.pools.text_files import decoded, unpacked
from taskdiv_assets.pools.values import Choice, Options, Source, chosen_columns, from_arrow
from taskdiv_assets.selection.streams import keyed_hash
from taskdiv_assets.storage import remote

SUFFIXES = {
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "CSV",
    ".parquet": "Parquet",
    ".xlsx": "XLSX",
    ".ods": "ODS",
    ".arrow": "Arrow",
}
_KNOWN = ".csv, .tsv, .jsonl, .json or .parquet (also with .gz), or .xlsx, .ods or .arrow"
_NO_OPTIONS = Options()


def expand(path: str | Sequence[str], split: str = "train") -> list[str]:
    """Return the files of a path or glob pattern, or of a list of these; raise ValueError if a file is missing or occurs twice.

    Files of a folder or a pattern are sorted. A folder of `datasets.save_to_disk` gives the files of `split` as it lists them.
    """
    if not isinstance(path, str):
        files = [file for part in path for file in expand(part, split)]
        if len(set(files)) < len(files):
            twice = next(file for file in files if files.count(file) > 1)
            raise ValueError(f"{twice} is named twice by `path` of the pool; name every file once.")
        return files
    filesystem, root = remote.filesystem(path)
    with remote.explained(path):
        return _expand(filesystem, root, path, split)


def _expand(filesystem: AbstractFileSystem, root: str, path: str, split: str) -> list[str]:
    if filesystem.isfile(root):
        found = [root]
    elif filesystem.isdir(root):
        found = (
            arrow_files(filesystem, root, split) if is_saved(filesystem, root) else _files_of_folder(filesystem, root)
        )
        if not found:
            raise ValueError(f"folder {path} holds no pool file; expected {_KNOWN}.")
    elif has_magic(root):
        found = sorted(str(file) for file in filesystem.glob(root) if filesystem.isfile(str(file)))
        if not found:
            raise ValueError(f"no file matches {path}; check the pattern and the folder.")
    else:
        raise ValueError(f"there is no file {path}.{_neighbours(filesystem, root)} Check `path` of the pool.")
    is_local = "file" in filesystem.protocol
    return found if is_local else [filesystem.unstrip_protocol(file) for file in found]


def read_file(path: str, choose: Choice, options: Options = _NO_OPTIONS) -> Source:
    """Return the columns that `choose` selects from one file. Raise ValueError for an unusable file, such as one without rows."""
    kind = kind_of(path)
    if kind is None:
        raise ValueError(f"{path}: unknown kind of file {PurePosixPath(path).name!r}; expected a name in {_KNOWN}.")
    if kind not in _PARSERS:
        return _with_rows(_READERS[kind](path, choose, options))
    text = decoded(unpacked(path), path, kind, options.encoding, has_settings=options.is_pool)
    return _with_rows(_PARSERS[kind](text, path, choose, options))


def read_hub(
    name: str,
    revision: str | None,
    split: str,
    choose: Choice,
    sample: int | None = None,
    options: Options = _NO_OPTIONS,
) -> Source:
    """Return the columns that `choose` selects from one split of a hub data set. No code of the data set is executed.

    If `sample` is a number, at most this many rows are loaded into memory, chosen by a hash of their row number. Errors of
    `datasets.load_dataset`, such as those of the network, are raised unchanged.

    Raises:
        ValueError: `revision` is missing, or `from_dataset` rejects the data set.
    """
    if not revision:
        raise ValueError(f"data set {name} has no revision; set it to a commit, so that the pool stays the same.")
    import datasets  # takes a second to import

    dataset = datasets.load_dataset(name, revision=revision, split=split)
    return from_dataset(dataset, f"{name}@{revision}", choose, sample, options)


def from_dataset(
    dataset: object, name: str, choose: Choice, sample: int | None = None, options: Options = _NO_OPTIONS
) -> Source:
    """Return the columns that `choose` selects from a loaded `datasets.Dataset`, for all rows or for `sample` rows.

    Raises:
        ValueError: `dataset` is not one split, has no rows or two columns of the same name, or has a value that cannot become
            text (see `from_arrow`); or `choose` rejects its columns.
    """
    import datasets

    if not isinstance(dataset, datasets.Dataset):
        raise ValueError(f"{name}: expected one split of a data set, found {type(dataset).__name__}; name a split.")
    chosen = chosen_columns(choose, dataset.column_names, name)
    if sample is not None and sample < len(dataset):
        places = keyed_hash(0, "pool/hub_sample", np.arange(len(dataset), dtype=np.uint64))
        dataset = dataset.select(np.sort(np.argpartition(places, sample)[:sample]))
    return _with_rows(from_arrow(cast(Any, dataset).select_columns(chosen).with_format("arrow")[:], name, options))


def kind_of(path: str) -> str | None:
    """Return the format of a file from its name, as a value of `SUFFIXES`; None for an unknown name."""
    name = PurePosixPath(path.lower()).name
    suffix = PurePosixPath(name.removesuffix(".gz")).suffix
    return None if name.endswith(".gz") and suffix in (".xlsx", ".ods", ".arrow") else SUFFIXES.get(suffix)


def _files_of_folder(filesystem: AbstractFileSystem, root: str) -> list[str]:
    """Return the JSON lines, CSV and Parquet files of a folder, or its other pool files if there are none of these."""
    paths = sorted(str(file) for file in filesystem.ls(root, detail=False))
    # "~$" starts the name of an office program's lock file.
    kinds = {path: kind_of(path) for path in paths if not PurePosixPath(path).name.startswith((".", "~$"))}
    found = [path for path, kind in kinds.items() if kind and filesystem.isfile(path)]
    return [path for path in found if kinds[path] in ("JSON lines", "CSV", "Parquet")] or found


def _neighbours(filesystem: AbstractFileSystem, root: str) -> str:
    """Return a hint at the reason why a path is not a file, such as a file with a similar name; "" if no reason is found."""
    folder, _, name = root.rpartition("/")
    if not filesystem.isdir(folder):
        return ""
    there = [PurePosixPath(str(file)).name for file in filesystem.ls(folder, detail=False)]
    if name in there:
        return " Something else has this name, such as a pipe, or a broken or circular link."
    close = difflib.get_close_matches(name, there, n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _with_rows(source: Source) -> Source:
    if source.rows_n == 0:
        raise ValueError(f"{source.name} holds no rows; expected at least one prompt.")
    return source


def _read_parquet(path: str, choose: Choice, options: Options) -> Source:
    with remote.fetched(path) as local, local.open("rb") as opened:
        file = io.BytesIO(unpacked(path)) if path.lower().endswith(".gz") else opened
        try:
            names = pq.read_schema(file).names
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ValueError(f"{path} is not a Parquet file, despite its name; is it cut, or a web page?") from error
        chosen = chosen_columns(choose, names, path)
        file.seek(0)
        try:
            table = pq.read_table(file, columns=chosen)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise ValueError(f"{path} is a damaged Parquet file ({error}); fetch it again.") from error
    return from_arrow(table, path, options)


_READERS = {"Parquet": _read_parquet, "XLSX": read_workbook, "ODS": read_workbook, "Arrow": read_arrow}
_PARSERS: dict[str, Callable[[str, str, Choice, Options], Source]] = {
    "JSON lines": partial(read_json, parse=json_lines),
    "JSON": partial(read_json, parse=json_rows),
    "CSV": read_csv,
}
