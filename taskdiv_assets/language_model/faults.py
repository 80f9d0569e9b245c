"""Turn errors of libraries about a damaged model file into one sentence with the folder and the next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskdiv_assets.language_model.memory import refuse_full


@contextmanager
def explained(folder: Path, what: str, advice: str) -> Iterator[None]:
    """Turn a library's error about a damaged file into one sentence. An out-of-memory error is not changed."""
    try:
        yield
    except Exception as error:  # KeyError, TypeError, JSONDecodeError or a Rust panic, depending on the library
        refuse_full(error)
        said = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"base model {folder}: {what} cannot be used ({said}); {advice}") from error


def first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason given")[:200]
