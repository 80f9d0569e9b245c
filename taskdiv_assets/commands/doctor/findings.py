"""The type of a finding, and helpers for checks that may fail or hang."""

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
    """Result of one check. The level `look` means that something works, but only with limits. `advice` may be empty."""

    level: Level
    what: str
    found: str
    advice: str = ""


def within(timeout_s: float, work: Callable[[], T]) -> T:
    """Return the result of `work`. Raise TimeoutError after `timeout_s` seconds; `cli.main` does not wait for work that hangs."""
    return ThreadPoolExecutor(1).submit(work).result(timeout_s)


def reason(error: BaseException) -> str:
    """Return an exception's message as one line of at most 200 characters; without one, "no answer in time" or the class."""
    text = " ".join(str((isinstance(error, OSError) and error.strerror) or error).split()).rstrip(".")
    text = re.sub(r"^\[Errno -?\d+\] ", "", text)
    return text[:200] or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
