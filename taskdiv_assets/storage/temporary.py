"""Temporary files and folders of ours: removed when their work ends, and found and removed after their process was killed.

Each is locked (flock) for as long as its process works on it, and the kernel releases the lock of a dead process. So what can be
locked is abandoned: the half of a copy that was killed does not fill the disk for good.
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

UNFINISHED = ".tmp"  # ends the name of a file that is being written, or was when its process was killed
# The name of the file, then the host and a random part, or a random part alone in earlier versions, which took no lock.
_NAME = re.compile(r".+\.(?:(?P<host>[0-9a-f]{8})-[0-9a-f]{24}|[0-9a-f]{32})\.tmp")
OLD_S = 3600.0  # without a change: a file of another host, whose lock may not be seen here, or of an earlier version


class Swept(NamedTuple):
    """What was removed."""

    files_n: int
    bytes_n: int


@contextmanager
def beside(path: str) -> Iterator[tuple[Path, IO[bytes]]]:
    """Yield a new file beside `path` with its name, to be renamed or linked; the name is gone when the block ends."""
    name = Path(f"{path}.{_host()}-{uuid.uuid4().hex[:24]}{UNFINISHED}")
    file = _locked(name)
    try:
        yield name, file
    finally:
        name.unlink(missing_ok=True)
        file.close()


@contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """Yield a new folder on the system's temporary disk; those that killed processes left there are removed first."""
    root = _root()
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
    """Remove the unfinished files below a folder whose processes are gone; nothing else is touched."""
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
    """Bytes of a file that was removed; None if it is somebody's, or cannot be locked or removed."""
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
    """A new file that is locked, and still has its name: a sweep may have been quicker, and its end is waited for."""
    while True:
        file = path.open("xb")
        with suppress(OSError):  # a file system without locks: a sweep cannot lock it either, and leaves it
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _root() -> Path:
    """A folder of this user's below the system's temporary one.

    Raises:
        ValueError: it is another user's, who may have put anything there.
    """
    ours = Path(tempfile.gettempdir()) / f"taskdiv-scratch-{os.getuid()}"
    ours.mkdir(mode=0o700, exist_ok=True)
    if ours.lstat().st_uid != os.getuid():
        raise ValueError(f"{ours} is another user's; set $TMPDIR to a folder of yours")
    return ours


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
