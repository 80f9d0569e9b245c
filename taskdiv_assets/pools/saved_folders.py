"""Folders written by `datasets.save_to_disk`: Arrow files, named by `state.json`; of several splits by `dataset_dict.json`.

They are read as what they are, Arrow streams, without the library: no code of a data set is run, and nothing is unpickled.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
from fsspec import AbstractFileSystem

from taskdiv_assets import remote
from taskdiv_assets.pools.values import Choice, Options, Source, from_arrow

STATE, SPLITS = "state.json", "dataset_dict.json"


def is_saved(filesystem: AbstractFileSystem, root: str) -> bool:
    """Return True for a folder that `save_to_disk` wrote."""
    return any(filesystem.isfile(f"{root}/{name}") for name in (STATE, SPLITS))


def splits(filesystem: AbstractFileSystem, root: str) -> list[str]:
    """Return the names of the splits of a saved folder; none for a single data set."""
    if not filesystem.isfile(f"{root}/{SPLITS}"):
        return []
    found = _json(filesystem, f"{root}/{SPLITS}").get("splits")
    if not isinstance(found, list) or not found or not all(_is_name(name) for name in found):
        raise ValueError(f"{root}/{SPLITS} names no splits; expected the file that `save_to_disk` wrote.")
    return [str(name) for name in found]


def arrow_files(filesystem: AbstractFileSystem, root: str, split: str) -> list[str]:
    """Return the Arrow files of one split of a saved folder, in order.

    Raises:
        ValueError: there is no such split, or the folder is not whole.
    """
    names = splits(filesystem, root)
    if names:
        if split not in names:
            raise ValueError(f"{root} has no split {split!r}; its splits are {', '.join(names)}. Name one by `split:`.")
        root = f"{root}/{split}"
    if not filesystem.isfile(f"{root}/{STATE}"):
        raise ValueError(f"{root} has no {STATE}; expected a folder that `save_to_disk` wrote, whole.")
    files = _json(filesystem, f"{root}/{STATE}").get("_data_files")
    listed = (
        [file.get("filename") if isinstance(file, dict) else None for file in files] if isinstance(files, list) else []
    )
    if not listed or not all(_is_name(name) for name in listed):
        raise ValueError(f"{root}/{STATE} names no data files; expected the file that `save_to_disk` wrote.")
    return [f"{root}/{name}" for name in listed]


def read_arrow(path: str, choose: Choice, options: Options) -> Source:
    """Return the chosen columns of an Arrow file, as a stream or with a footer."""
    with remote.fetched(path) as local:
        if not local.is_file():
            raise ValueError(f"{path} is missing; expected an Arrow file.")
        with pa.memory_map(str(local)) as file:
            try:
                is_stream = file.read(6) != b"ARROW1"
                file.seek(0)
                whole = (pa.ipc.open_stream(file) if is_stream else pa.ipc.open_file(file)).read_all()
            except (pa.ArrowException, OSError) as error:
                raise ValueError(f"{path} is a damaged or cut Arrow file ({error}); write the folder again.") from None
            chosen = list(dict.fromkeys(choose(tuple(whole.column_names), path)))
            return from_arrow(whole.select(chosen), path, options)


def _json(filesystem: AbstractFileSystem, path: str) -> dict[str, Any]:
    try:
        found = json.loads(filesystem.cat_file(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); expected the file that `save_to_disk` wrote.") from None
    return found if isinstance(found, dict) else {}


def _is_name(name: object) -> bool:
    """True for a plain file name: never a path that leads elsewhere."""
    return (
        isinstance(name, str) and name not in ("", ".", "..") and PurePosixPath(name).name == name and "\\" not in name
    )
