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
    """Where the report of a file lies: beside it, and in the current folder for a pipe or `/dev/stdin`."""
    if path.absolute().parts[1:2] in (("dev",), ("proc",)):
        return Path(f"{path.name}.problems.csv")
    return path.with_name(f"{path.name}.problems.csv")


def write_report(path: Path, problems: Sequence[Problem]) -> Path:
    """Write the report of a file whole, over that of an earlier attempt.

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
    if report.is_file() and report.read_bytes().startswith(csv_bytes(HEADER, [])):
        report.unlink()


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
