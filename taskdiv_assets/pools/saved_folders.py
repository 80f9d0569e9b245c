"""Reader of folders written by `datasets.save_to_disk`. `state.json` lists Arrow files, `dataset_dict.json` lists splits.

pyarrow reads the files, without the `datasets` library. So no code of a data set is executed, and no pickle is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
from fsspec import AbstractFileSystem

from taskdiv_assets.pools.values import Choice, Options, Source, chosen_columns, from_arrow
from taskdiv_assets.storage import remote

STATE, SPLITS = "state.json", "dataset_dict.json"
_NOTHING = pa.record_batch({})


def is_saved(filesystem: AbstractFileSystem, root: str) -> bool:
    """Return True if the folder `root` has a list of files or splits that `save_to_disk` wrote."""
    return any(filesystem.isfile(f"{root}/{name}") for name in (STATE, SPLITS))


def splits(filesystem: AbstractFileSystem, root: str) -> list[str]:
    """Return the names of the splits of a saved folder; [] for a data set without splits; raise ValueError for a bad list."""
    if not filesystem.isfile(f"{root}/{SPLITS}"):
        return []
    found = _json(filesystem, f"{root}/{SPLITS}").get("splits")
    if not isinstance(found, list) or not found or not all(_is_name(name) for name in found):
        raise ValueError(f"{root}/{SPLITS} lists no splits; expected the file that `save_to_disk` wrote.")
    return [str(name) for name in found]


def arrow_files(filesystem: AbstractFileSystem, root: str, split: str) -> list[str]:
    """Return the Arrow files of one split in the order of `state.json`; raise ValueError if the split or this file is missing."""
    names = splits(filesystem, root)
    if names:
        if split not in names:
            raise ValueError(f"{root} has no split {split!r}; its splits are {', '.join(names)}. Set `split:`.")
        root = f"{root}/{split}"
    if not filesystem.isfile(f"{root}/{STATE}"):
        raise ValueError(f"{root} has no {STATE}; expected a complete folder of `save_to_disk`.")
    files = _json(filesystem, f"{root}/{STATE}").get("_data_files")
    entries = files if isinstance(files, list) else []
    listed = [entry.get("filename") if isinstance(entry, dict) else None for entry in entries]
    if not listed or not all(_is_name(name) for name in listed):
        raise ValueError(f"{root}/{STATE} lists no data files; expected the file that `save_to_disk` wrote.")
    return [f"{root}/{name}" for name in listed]


def read_arrow(path: str, choose: Choice, options: Options) -> Source:
    """Return the chosen columns of an Arrow file in the streaming format or in the file format (`ARROW1`)."""
    with opened(path) as batches:
        found = list(batches)
        names = found[0].schema.names if found else []
        chosen = chosen_columns(choose, names, path) if found else []
        return from_arrow(pa.Table.from_batches([batch.select(chosen) for batch in found] or [_NOTHING]), path, options)


@contextmanager
def opened(path: str) -> Iterator[Iterator[pa.RecordBatch]]:
    """Open an Arrow file and yield an iterator over its batches of rows, which raises ValueError if the file is damaged."""
    with remote.fetched(path) as local:
        if not local.is_file():
            raise ValueError(f"{path} is missing; expected an Arrow file.")
        with pa.memory_map(str(local)) as file:
            yield _batches(file, path)


def _batches(file: pa.MemoryMappedFile, path: str) -> Iterator[pa.RecordBatch]:
    try:
        is_stream = file.read(6) != b"ARROW1"
        file.seek(0)
        if is_stream:
            yield from pa.ipc.open_stream(file)
        else:
            whole = pa.ipc.open_file(file)
            yield from (whole.get_batch(i) for i in range(whole.num_record_batches))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is a damaged or cut Arrow file ({error}); write the folder again.") from None


def _json(filesystem: AbstractFileSystem, path: str) -> dict[str, Any]:
    try:
        found = json.loads(filesystem.cat_file(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); expected the file that `save_to_disk` wrote.") from None
    return found if isinstance(found, dict) else {}


def _is_name(name: object) -> bool:
    is_plain = isinstance(name, str) and name not in ("", ".", "..") and "\\" not in name
    return is_plain and PurePosixPath(str(name)).name == name
