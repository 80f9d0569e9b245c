"""Rows that cannot be used, and the report of them beside the user's file.

The report is a CSV for a spreadsheet program. It repeats what strangers wrote, so its cells are kept from being formulas.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from taskdiv_assets.annotating.formats import csv_bytes

HEADER = ("row", "prompt_id", "reason")
SHOWN_N = 10
NAMES_N = 100
ID_LENGTH_MAX = 60  # in the report: what stands in place of an id may be a page long


class Problem(NamedTuple):
    """One row that cannot be used.

    Attributes:
        row: as a spreadsheet counts (the header is 1), the line of JSON lines, the place in a JSON list from 1.
        prompt_id: as it stands there, empty where it cannot be told.
        reason: a clause that says what is wrong and what was expected.
    """

    row: int
    prompt_id: str
    reason: str


def report_path(path: Path) -> Path:
    """Return where the report of a file goes: beside it, and into the current folder for a pipe or `/dev/stdin`.

    A file of that name which is not a report of ours stays; the report is then `FILE.problems.2.csv`, or the next free number.
    """
    is_pipe = path.absolute().parts[1:2] in (("dev",), ("proc",))
    first = Path(f"{path.name}.problems.csv") if is_pipe else path.with_name(f"{path.name}.problems.csv")
    if _is_free(first):
        return first
    others = (first.with_name(f"{path.name}.problems.{number}.csv") for number in range(2, NAMES_N))
    return next(
        (other for other in others if _is_free(other)), first.with_name(f"{path.name}.problems.{os.getpid()}.csv")
    )


def write_report(path: Path, problems: Sequence[Problem]) -> Path:
    """Write the report of a file whole, over that of an earlier attempt, and never over a file that is not ours.

    Raises:
        OSError: the folder cannot be written.
    """
    report = report_path(path)
    temporary = report.with_name(f"{report.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(
            csv_bytes(HEADER, [(row, _cut(_text(id_)), _text(reason)) for row, id_, reason in problems])
        )
        temporary.replace(report)
    finally:
        temporary.unlink(missing_ok=True)
    return report


def remove_report(path: Path) -> None:
    """Remove the report of an earlier attempt; a file of that name that is not ours stays."""
    report = report_path(path)
    if report.is_file():
        report.unlink()


def strangers(path: Path) -> Path | None:
    """Return the file that is not ours and has the name which the report of a file should have had, if there is one."""
    report = report_path(path)
    first = report.with_name(f"{path.name}.problems.csv")
    return None if report == first else first


def _is_free(report: Path) -> bool:
    """True if there is nothing of this name, or an earlier report of ours."""
    if report.is_symlink() or report.exists():
        return report.is_file() and report.read_bytes().startswith(csv_bytes(HEADER, []))
    return True


def shown(problems: Sequence[Problem]) -> str:
    """The first of them, a line each, for the terminal."""
    lines = [f"\n  row {row}: {reason}" for row, _, reason in problems[:SHOWN_N]]
    more_n = len(problems) - SHOWN_N
    return "".join(lines) + (f"\n  … and {more_n} more" if more_n > 0 else "")


def _cut(text: str) -> str:
    return text if len(text) <= ID_LENGTH_MAX else f"{text[:ID_LENGTH_MAX]}…"


def _text(text: str) -> str:
    """Bytes that were no UTF-8 as escapes: they cannot be written otherwise."""
    return text.encode("utf-8", "backslashreplace").decode()
