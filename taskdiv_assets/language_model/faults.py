"""Recognise two kinds of library errors: errors about a damaged model file, and errors because memory ran out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CPU_MESSAGES = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


@contextmanager
def explained(folder: Path, what: str, advice: str, kind: str = "base model") -> Iterator[None]:
    """Turn a library's error, unless memory ran out, into a ValueError that names `folder` and `what` and ends with `advice`.

    The message begins with `kind`, the kind of model in the folder.
    """
    try:
        yield
    except Exception as error:  # KeyError, TypeError, JSONDecodeError or a Rust panic, depending on the library
        refuse_full(error)
        said = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"{kind} {folder}: {what} cannot be used ({said}); {advice}") from error


def first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason given")[:200]


def ran_out(error: BaseException) -> bool:
    """Return True if an error means that memory ran out, on a GPU or a CPU."""
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    import torch

    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in CPU_MESSAGES)


def refuse_full(error: Exception) -> None:
    """Raise `error` again if it says that memory ran out, since this may be temporary, and is not due to the architecture."""
    if ran_out(error):
        raise error
