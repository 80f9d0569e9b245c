"""Strict and bounded readers of files that others wrote. Every error is one sentence that names the file and the line."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE_BYTES_MAX = 4 * 2**30  # of a file that is read line by line
LINE_BYTES_MAX = 64 * 2**20
DOCUMENT_BYTES_MAX = 512 * 2**20  # of a JSON file, which is read at once; Python needs several times its size
FILES_MAX_N = 10_000  # in one folder


def check_size(path: Path, bytes_max: int) -> None:
    """Raise ValueError if `path` is no regular file, or has more than `bytes_max` bytes."""
    if not path.is_file():
        raise ValueError(f"{path} is no file; expected a file with scores")
    if (size := path.stat().st_size) > bytes_max:
        raise ValueError(f"{path} has {size / 2**20:,.0f} MiB; at most {bytes_max / 2**20:,.0f} MiB are read")


def sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def found_below(folder: Path, pattern: str) -> list[Path]:
    """Return the files below a folder whose names match `pattern`, sorted by path. Raise ValueError if there are too many."""
    found: list[Path] = []
    for path in folder.rglob(pattern):
        if path.is_file():
            found.append(path)
        if len(found) > FILES_MAX_N:
            raise ValueError(f"{folder} has more than {FILES_MAX_N:,} files {pattern}; name a folder with fewer")
    return sorted(found)


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the JSON object of each line that is not empty.

    Raises:
        ValueError: the file is too large, or a line is too long or no JSON object.
    """
    check_size(path, FILE_BYTES_MAX)
    with path.open("rb") as handle:
        number = 0
        while line := handle.readline(LINE_BYTES_MAX + 1):
            number += 1
            if len(line) > LINE_BYTES_MAX:
                raise ValueError(f"{path}, line {number:,}: longer than {LINE_BYTES_MAX / 2**20:,.0f} MiB")
            if line.strip():
                yield number, _object(line, f"{path}, line {number:,}")


def json_document(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file. Raise ValueError if the file is too large or contains no JSON object."""
    check_size(path, DOCUMENT_BYTES_MAX)
    return _object(path.read_bytes(), str(path))


def _object(raw: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: no valid JSON ({_short(error)})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{where}: expected a JSON object, found a {type(found).__name__}")
    return found


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object names one key twice")
    return found


def _short(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0][:120]
