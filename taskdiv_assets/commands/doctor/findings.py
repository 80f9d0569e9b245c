"""What all checks share: the type of a finding, and helpers for work that may fail or hang."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple, TypeVar

T = TypeVar("T")
Level = Literal["well", "look", "broken"]
PROBE = ".taskdiv-doctor-"  # prefix of probe files
GIB = 2**30


class Finding(NamedTuple):
    """Result of one check: `well`, `look` (works, but…) or `broken`; `advice` is empty if there is nothing to do."""

    level: Level
    what: str
    found: str
    advice: str = ""


def within(timeout_s: float, work: Callable[[], T]) -> T:
    """Return the result of some work, or raise TimeoutError; `main` ends the process without waiting for work that hangs."""
    return ThreadPoolExecutor(1).submit(work).result(timeout_s)


def reason(error: BaseException) -> str:
    """Return an exception of any library as a part of a sentence."""
    text = " ".join(str((isinstance(error, OSError) and error.strerror) or error).split()).rstrip(".")
    text = re.sub(r"^\[Errno -?\d+\] ", "", text)
    return text[:200] or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
