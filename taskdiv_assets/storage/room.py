"""Room on a disk, looked at before something large is written to it."""

from __future__ import annotations

import shutil
from pathlib import Path

GB = 10**9


class NoRoomError(OSError):
    """A disk has less room than is needed.

    Attributes:
        folder: on that disk.
    """

    def __init__(self, folder: Path, needed_n: int, free_n: int, what: str) -> None:
        super().__init__(f"{what} needs {spelled(needed_n)}, and the disk of {folder} has {spelled(free_n)} free")
        self.folder = folder


def require(folder: Path, needed_n: int, what: str) -> None:
    """Refuse to begin what does not fit on a disk.

    Args:
        folder: where it goes; the nearest folder above that exists is looked at.
        needed_n: bytes.
        what: needs them, as the beginning of a sentence.

    Raises:
        NoRoomError: the disk has less room.
    """
    free_n = shutil.disk_usage(existing(folder)).free
    if needed_n > free_n:
        raise NoRoomError(folder, needed_n, free_n, what)


def existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())


def spelled(bytes_n: int) -> str:
    """Return a number of bytes for people.

    >>> spelled(13_500_000_000), spelled(1_500_000)
    ('13.5 GB', '1.5 MB')
    """
    return f"{bytes_n / GB:,.1f} GB" if bytes_n >= GB / 10 else f"{bytes_n / 10**6:,.1f} MB"
