"""Temporary files and folders, removed when their work ends, or by a later process if theirs was killed.

Each is locked (flock) while its process works on it, and the kernel releases the lock of a dead process. So a file that can be
locked is abandoned, and incomplete copies of killed processes do not fill the disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

UNFINISHED = ".tmp"  # suffix of a file that is being written, or that a killed process left
# The name of the file, then the host and a random part. Earlier versions had a random part only, and took no lock.
_NAME = re.compile(r".+\.(?:(?P<host>[0-9a-f]{8})-[0-9a-f]{24}|[0-9a-f]{32})\.tmp")
OLD_S = (
    3600.0  # without a change: for a file of another host, whose lock may not be visible here, or of an earlier version
)


class Swept(NamedTuple):
    """Number and size of the files that were removed."""

    files_n: int
    bytes_n: int


@contextmanager
def beside(path: str) -> Iterator[tuple[Path, IO[bytes]]]:
    """Yield a new file next to `path` and its name, to be renamed or linked; the name is removed when the block ends."""
    name = Path(f"{path}.{_host()}-{uuid.uuid4().hex[:24]}{UNFINISHED}")
    file = _locked(name)
    try:
        yield name, file
    finally:
        name.unlink(missing_ok=True)
        file.close()


@contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """Yield a new file that replaces `path` atomically when the block ends, and is then on the disk."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with beside(path) as (name, file):
        yield file
        sync(file)
        name.replace(path)
    handle = os.open(Path(path).parent, os.O_RDONLY)
    try:
        os.fsync(handle)  # the new name survives a power failure
    finally:
        os.close(handle)


def sync(file: IO[bytes]) -> None:
    """Wait until the content of a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """Yield a new folder on the system's temporary disk, after removing the folders of killed processes."""
    root = own_folder("scratch", "TMPDIR")
    sweep_folders(root)
    name = root / f"{prefix}{uuid.uuid4().hex}"
    lock = name.with_suffix(".lock")
    file = _locked(lock)
    try:
        name.mkdir()
        yield name
    finally:
        shutil.rmtree(name, ignore_errors=True)
        lock.unlink(missing_ok=True)
        file.close()


def sweep(root: Path) -> Swept:
    """Remove the unfinished files below a folder whose processes are gone; other files are not touched."""
    found = [Path(path, name) for path, _, names in os.walk(root) for name in names if _NAME.fullmatch(name)]
    removed = [size for path in found if (size := _removed(path)) is not None]
    return Swept(len(removed), sum(removed))


def sweep_folders(root: Path) -> None:
    """Remove the temporary folders whose processes are gone."""
    for lock in root.glob("*.lock"):
        with suppress(OSError), lock.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)


def _removed(path: Path) -> int | None:
    """Remove a file and return its size in bytes; None if it is in use, or cannot be locked or removed."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            said, status = _NAME.fullmatch(path.name), os.fstat(handle)
            is_ours = said is not None and said["host"] == _host()
            if is_ours or time.time() - status.st_mtime > OLD_S:
                path.unlink()
                return status.st_size
        finally:
            os.close(handle)
    return None


def _locked(path: Path) -> IO[bytes]:
    """Return a new, locked file that still has its name; a sweep may remove it before the lock is taken, then try again."""
    while True:
        file = path.open("xb")
        with suppress(OSError):  # no locks on this file system: a sweep cannot lock the file either, and leaves it
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def own_folder(name: str, variable: str) -> Path:
    """Return a folder of this user in the system's temporary folder.

    Args:
        name: says what the folder is for.
        variable: environment variable that leads elsewhere, for the error.

    Raises:
        ValueError: it belongs to another user, who may have put anything there.
    """
    ours = Path(tempfile.gettempdir()) / f"taskdiv-{name}-{os.getuid()}"
    ours.mkdir(mode=0o700, exist_ok=True)
    if ours.lstat().st_uid != os.getuid():
        raise ValueError(f"{ours} belongs to another user; set ${variable} to a folder of yours")
    return ours


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
