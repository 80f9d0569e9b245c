"""Temporary files and folders. They are removed at the end of the work, or by a later process if their creator was killed.

A process locks its temporary file (flock) while it works on the file. The kernel releases the lock of a dead process. So if
another process of the same host can lock a temporary file, the file is abandoned and may be removed.
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
# Target name, hash of the host name, random part. In earlier versions the name had no host, and the file was not locked.
_NAME = re.compile(r".+\.(?:(?P<host>[0-9a-f]{8})-[0-9a-f]{24}|[0-9a-f]{32})\.tmp")
OLD_S = 3600.0  # age at which a file of an earlier version, or of a host whose lock is invisible here, is removed


class Swept(NamedTuple):
    """Number and total size of the files that were removed."""

    files_n: int
    bytes_n: int


@contextmanager
def beside(path: str) -> Iterator[tuple[Path, IO[bytes]]]:
    """Yield the name and handle of a new file in the folder of `path`. The block may rename or link the file.

    The yielded name is removed when the block ends, but a new name from a rename or link stays.
    """
    name = Path(f"{path}.{_host()}-{uuid.uuid4().hex[:24]}{UNFINISHED}")
    file = _locked(name)
    try:
        yield name, file
    finally:
        name.unlink(missing_ok=True)
        file.close()


@contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """Yield a new file. If the block ends without an error, the file replaces `path` atomically and survives a power failure."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with beside(path) as (name, file):
        yield file
        sync(file)
        name.replace(path)
    handle = os.open(Path(path).parent, os.O_RDONLY)
    try:
        os.fsync(handle)  # writes the new name to the disk
    finally:
        os.close(handle)


def sync(file: IO[bytes]) -> None:
    """Write the buffered content of a file to the disk, and wait until the disk has it."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """Yield a new temporary folder, and remove it when the block ends. Folders of killed processes are removed first.

    For errors, see `own_folder`.
    """
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
    """Remove the abandoned temporary files below a folder, and return their number and size. Other files are not touched."""
    found = [Path(path, name) for path, _, names in os.walk(root) for name in names if _NAME.fullmatch(name)]
    removed = [size for path in found if (size := _removed(path)) is not None]
    return Swept(len(removed), sum(removed))


def sweep_folders(root: Path) -> None:
    for lock in root.glob("*.lock"):
        with suppress(OSError), lock.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)


def _removed(path: Path) -> int | None:
    """Remove an abandoned temporary file and return its size in bytes. Return None if the file stays.

    The file stays if it is locked or cannot be removed. A file of another host or of an earlier version stays until it was not
    changed for `OLD_S` seconds.
    """
    with suppress(OSError):
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found, status = _NAME.fullmatch(path.name), os.fstat(handle)
            if (found and found["host"] == _host()) or time.time() - status.st_mtime > OLD_S:
                path.unlink()
                return status.st_size
        finally:
            os.close(handle)
    return None


def _locked(path: Path) -> IO[bytes]:
    """Create a file, lock it if possible, and return its handle. Try again if `sweep` removed the file before it was locked."""
    while True:
        file = path.open("xb")
        with suppress(OSError):  # a file system without locks: `sweep` cannot lock the file either, and keeps it
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def own_folder(name: str, variable: str) -> Path:
    """Return a private folder of this user in the system's temporary folder. Create the folder if it does not exist.

    Raise ValueError if the folder belongs to another user, who could change its content. `name` is a part of the folder's name.
    `variable` is the environment variable that the error message names.
    """
    ours = Path(tempfile.gettempdir()) / f"taskdiv-{name}-{os.getuid()}"
    ours.mkdir(mode=0o700, exist_ok=True)
    if ours.lstat().st_uid != os.getuid():
        raise ValueError(f"{ours} belongs to another user; set ${variable} to a folder of yours")
    return ours


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
