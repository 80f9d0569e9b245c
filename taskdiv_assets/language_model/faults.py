"""What libraries raise for a damaged file of a model, as one sentence that names the folder and the next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskdiv_assets.language_model.memory import refuse_full


@contextmanager
def explained(folder: Path, what: str, advice: str) -> Iterator[None]:
    """Turn what libraries raise for a damaged file into one sentence; an error that memory ran out passes as it is."""
    try:
        yield
    except (
        Exception
    ) as error:  # whichever library reads the file: KeyError, TypeError, JSONDecodeError, Rust panics as Exception
        refuse_full(error)
        raise ValueError(
            f"base model {folder}: {what} cannot be used ({type(error).__name__}: {first_line(error)}); {advice}"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of an error's text, at most 200 characters of it."""
    return next(iter(str(error).strip().splitlines()), "no reason given")[:200]
