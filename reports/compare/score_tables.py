"""Reader of a table of scores as CSV: columns task, item and score, and optionally seed and system."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from reports.compare.bounded_files import DOCUMENT_BYTES_MAX, check_size, sha256
from reports.compare.systems import SCORE, System

FORM = "table of scores"
NEEDED, OPTIONAL = ("task", "item", "score"), ("seed", "system")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_UNKNOWN = ("", "nan", "inf", "-inf", "+inf")


def read(path: Path, name: str, source: str) -> list[System]:
    """Read a CSV file with a header. With a column `system`, each of its values is a system of its own.

    Raises:
        ValueError: the file is not UTF-8 or no CSV, a column is missing, a value is not valid, or an item has two scores.
    """
    check_size(path, DOCUMENT_BYTES_MAX)
    systems: dict[str, System] = {}
    for where, row in _rows(path):
        own = row.get("system", name)
        if not own or len(own) > 80:
            raise ValueError(f"{where}: the name of the system has {len(own)} characters; expected 1 to 80")
        if own not in systems:
            systems[own] = System(own, source, FORM, is_table=True, digests={f"{sha256(path)} {row.get('system', '')}"})
        systems[own].add(row["task"], row["item"], SCORE, _seed(row, where), _score(row["score"], where), where)
    if not systems:
        raise ValueError(f"{path}: the table has no rows")
    return list(systems.values())


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place and the known columns of each row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            first = handle.readline(100_000)
            handle.seek(0)
            delimiter = max(",;\t", key=first.count)
            reader = csv.reader(handle, delimiter=delimiter, strict=True)
            head = [title.strip().lower() for title in next(reader, [])]
            known = _columns(head, path)
            for row in reader:
                where = f"{path}, line {reader.line_num:,}"
                if not any(row):
                    continue
                if len(row) != len(head):
                    raise ValueError(f"{where}: {len(row)} values in {len(head)} columns")
                yield where, {title: row[place].strip() for title, place in known.items()}
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 at byte {error.start:,}; save the table as UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path}: no valid CSV ({error})") from None


def _columns(head: list[str], path: Path) -> dict[str, int]:
    known = [title for title in head if title in (*NEEDED, *OPTIONAL)]
    missing = [title for title in NEEDED if title not in head]
    if missing or len(known) != len(set(known)):
        listed = ", ".join(title[:40] for title in head[:12])
        raise ValueError(
            f"{path}, line 1: the columns are {listed}; expected task, item and score, each once, and optionally seed and system"
        )
    return {title: head.index(title) for title in known}


def _seed(row: dict[str, str], where: str) -> int:
    text = row.get("seed", "0")
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError(f"{where}: the seed is {text[:40]!r}; expected a whole number from 0 to 999999999")
    return int(text)


def _score(text: str, where: str) -> float:
    if text.lower() in _UNKNOWN:
        return float("nan")
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{where}: the score is {text[:40]!r}; expected a number from 0 to 1")
    score = float(text)
    if not 0 <= score <= 1:
        raise ValueError(
            f"{where}: the score is {text[:40]}; expected a number from 0 to 1 (divide points of 100 by 100)"
        )
    return score
