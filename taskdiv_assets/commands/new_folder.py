"""Creation of a folder in one step, at a place that the user chose."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder, which becomes `target` if the block ends without an error. Nothing is overwritten.

    Raise ValueError if `target` exists, or if its parent is missing.
    """
    if target.exists():
        raise ValueError(f"{target} already exists, and nothing is overwritten; choose a new folder")
    if not target.parent.is_dir():
        raise ValueError(
            f"there is no folder {target.parent} to make {target.name} in; make it, or choose another folder"
        )
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir()
        yield part
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
