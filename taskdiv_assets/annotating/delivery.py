"""Put a list on the user's disk so that an interruption at any moment can be mended: `FILE.part`, ledger, rename.

The `.part` is whole and synced before the ledger says that its prompts were sent out, and gets its name afterwards. So a
`.part` without an entry is a leftover, which may be overwritten, and one with an entry only lacks its name (`finish`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from taskdiv_assets.annotating.ledger import Entry


def part_of(path: Path) -> Path:
    """Name of a file while it is not sent out yet."""
    return path.with_name(f"{path.name}.part")


def check_target(path: Path, data: bytes | None = None) -> None:
    """See that a file can be written where it should go; one that holds `data` already may stand there.

    Raises:
        ValueError: something else is there, or its folder is not.
    """
    if not path.parent.is_dir():
        raise ValueError(
            f"there is no folder {path.parent} to write {path.name} into; make it, or choose another --output"
        )
    if path.exists() and not (data is not None and path.is_file() and path.read_bytes() == data):
        raise ValueError(f"{path} is there already; move it away, or choose another name with --output")


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until it and its name are on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there with all its content, or not at all."""
    write_synced(part_of(path), data)
    part_of(path).replace(path)
    _sync_folder(path.parent)


def finish(path: Path) -> None:
    """Give a delivered `.part` its name.

    Raises:
        ValueError: it cannot be: what is in the way, and that the next export tries again.
    """
    part = part_of(path)
    again = "then export again: it is noted as sent out, and gets its name first"
    if path.exists():
        raise ValueError(f"{part} cannot get its name, for {path} is there; move that away, {again}")
    try:
        part.replace(path)
    except OSError as error:
        raise ValueError(f"{part} cannot get its name ({error}); see to that, {again}") from None
    _sync_folder(path.parent)


def unfinished(entries: Iterable[Entry]) -> list[Path]:
    """Files of earlier exports that were noted as sent out and lack only their name."""
    return [Path(entry.file) for entry in entries if entry.file and entry.sha256 == _sha256(part_of(Path(entry.file)))]


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:  # none there, or on another machine's disk
        return None


def _sync_folder(folder: Path) -> None:
    """Wait until names are on the disk, where the system lets a folder be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems have no such thing
        return
    finally:
        os.close(descriptor)
