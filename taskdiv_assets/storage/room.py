"""Free space of a disk, checked before a large file is written."""

from __future__ import annotations

import shutil
from pathlib import Path

GB = 10**9


class NoRoomError(OSError):
    """Error for a disk that has too little free space. `folder` is a path on that disk; it need not exist."""

    def __init__(self, folder: Path, needed_n: int, free_n: int, what: str) -> None:
        super().__init__(f"{what} needs {spelled(needed_n)}, and the disk of {folder} has {spelled(free_n)} free")
        self.folder = folder


def require(folder: Path, needed_n: int, what: str) -> None:
    """Raise NoRoomError if the disk of `folder` has fewer than `needed_n` free bytes. `what` begins the message.

    The folder itself may be missing.
    """
    free_n = shutil.disk_usage(existing(folder)).free
    if needed_n > free_n:
        raise NoRoomError(folder, needed_n, free_n, what)


def existing(path: Path) -> Path:
    """Return the absolute path if it exists, otherwise its nearest parent that exists."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())


def spelled(bytes_n: int) -> str:
    """Return a number of bytes as text in GB or MB.

    >>> spelled(13_500_000_000), spelled(1_500_000)
    ('13.5 GB', '1.5 MB')
    """
    return f"{bytes_n / GB:,.1f} GB" if bytes_n >= GB / 10 else f"{bytes_n / 10**6:,.1f} MB"
