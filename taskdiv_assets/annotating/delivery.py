"""Writer of an exported list to the user's disk, such that an interruption at any step can be repaired.

An export among annotators has several files; each step is done for all of them before the next step begins.
Step 1 writes and syncs `FILE.part`. Step 2 records the prompts of this file in the ledger as sent. Step 3 renames `FILE.part` to
`FILE`. After an interruption before step 2, the next export may overwrite `FILE.part`. After an interruption before step 3, the
next export renames `FILE.part` (see `finish_all`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from taskdiv_assets.annotating.ledger import Entry


def part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def check_target(path: Path, data: bytes | None = None) -> None:
    """Raise ValueError if the folder of `path` is missing or `path` exists. A file that contains exactly `data` is accepted."""
    if not path.parent.is_dir():
        needed = f"{path.parent} to write {path.name} into"
        raise ValueError(f"there is no folder {needed}; make it, or choose another --output")
    if path.exists() and not (data is not None and path.is_file() and path.read_bytes() == data):
        raise ValueError(f"{path} already exists; move it away, or choose another name with --output")


def write_synced(path: Path, data: bytes) -> None:
    """Write a file, and wait until its content and, if the file system supports this, its name are on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    write_synced(part_of(path), data)
    _rename(path)


def finish(path: Path) -> None:
    """Rename the `.part` file of a recorded export to `path`. Raise ValueError if `path` exists or the rename fails."""
    part = part_of(path)
    again = "then export again: its prompts are recorded as sent, and the file is renamed first"
    if path.exists():
        raise ValueError(f"{part} cannot be renamed because {path} exists; move that away, {again}")
    try:
        _rename(path)
    except OSError as error:
        raise ValueError(f"{part} cannot be renamed ({error}); remove the cause, {again}") from None


def finish_all(entries: Iterable[Entry]) -> list[Path]:
    """Rename the existing `.part` files whose hash is in `entries`, and return the new paths. For errors, see `finish`."""
    named = [(Path(file), sha256) for entry in entries for file, sha256 in entry.files]
    found = [path for path, sha256 in named if sha256 == _sha256(part_of(path))]
    for path in found:
        finish(path)
    return found


def _rename(path: Path) -> None:
    part_of(path).replace(path)
    _sync_folder(path.parent)


def _sha256(path: Path) -> str | None:
    with suppress(OSError):  # missing, or on another machine's disk
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return None


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not supported by some network file systems
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
