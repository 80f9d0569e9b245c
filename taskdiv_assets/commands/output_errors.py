"""The folder of `--output`: errors of writing there name the path, and advise another folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskdiv_assets.storage.room import existing


def check_output(folder: str) -> None:
    """Raise ValueError if the local path `folder`, or a parent of it, is a file. A URL and an empty text are not checked."""
    if folder and "://" not in folder and not (there := existing(Path(folder).expanduser())).is_dir():
        raise ValueError(f"{there} is a file, not a folder; choose another --output")


@contextmanager
def writing_output(folder: str) -> Iterator[None]:
    """Turn an OSError of the block, such as a full or read-only disk, into a ValueError that advises another folder.

    If `folder` is empty, the error stays as it is.
    """
    try:
        yield
    except OSError as error:
        if not folder:
            raise
        path = error.filename if isinstance(error.filename, str) else folder
        raise ValueError(f"{path} cannot be written ({error.strerror or error}); choose another --output") from error
