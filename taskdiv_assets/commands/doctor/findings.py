"""What every check shares: the finding that it ends with, and how to look at something that may fail, hang or not be there.

In: an exception, some work, a folder. Out: a part of a sentence, a result in time, a folder that is there. No check of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

T = TypeVar("T")
Level = Literal["well", "look", "broken"]
PROBE = ".taskdiv-doctor-"  # begins the name of what is written to see whether it can be
GIB = 2**30


class Finding(NamedTuple):
    """What one check found: `well`, `look` (works, but…) or `broken`; the advice is empty where there is nothing to do."""

    level: Level
    what: str
    found: str
    advice: str = ""


def within(timeout_s: float, work: Callable[[], T]) -> T:
    """Result of some work; TimeoutError if it takes longer: `main` ends the process without waiting for what is left behind."""
    return ThreadPoolExecutor(1).submit(work).result(timeout_s)


def reason(error: BaseException) -> str:
    """An exception of any library as a part of a sentence."""
    text = " ".join(str((isinstance(error, OSError) and error.strerror) or error).split()).rstrip(".")
    text = re.sub(r"^\[Errno -?\d+\] ", "", text)
    return text[:200] or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())
