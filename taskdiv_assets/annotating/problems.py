"""Rows of an answer file that cannot be used, and the report of these rows.

The report is a CSV file for a spreadsheet program, usually beside the user's file. Its cells are escaped, because a text from the
user's file could be a formula.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_contracts.spreadsheet_cells import csv_bytes

HEADER = ("row", "prompt_id", "reason")
SHOWN_N = 10
NAMES_N = 100
ID_LENGTH_MAX = 60  # characters of an id in the report; a text in the wrong column may be a page long


class Problem(NamedTuple):
    """One row that cannot be used."""

    row: int  # row of a spreadsheet (the header is row 1), line of JSON lines, or position in a JSON list, all from 1
    prompt_id: str  # as in the file; empty if it cannot be read
    reason: str  # what is wrong, and what was expected


def report_path(path: Path) -> Path:
    """Return the path of a file's report: beside the file, or in the current folder if the file is below `/dev` or `/proc`.

    The name is `FILE.problems.csv`. If a file of that name exists and is not a report, a number is added: `FILE.problems.2.csv`.
    """
    is_pipe = path.absolute().parts[1:2] in (("dev",), ("proc",))
    first = Path(f"{path.name}.problems.csv") if is_pipe else path.with_name(f"{path.name}.problems.csv")
    if _is_free(first):
        return first
    *others, last = (first.with_name(f"{path.name}.problems.{n}.csv") for n in (*range(2, NAMES_N), os.getpid()))
    return next(filter(_is_free, others), last)


def write_report(path: Path, problems: Sequence[Problem]) -> Path:
    """Write a report of `problems`, the unusable rows of the answer file `path`, and return the report's path.

    An earlier report is replaced. A file that is not a report is kept (see `report_path`). Raise OSError if the report cannot be
    written.
    """
    report = report_path(path)
    temporary = report.with_name(f"{report.name}.{os.getpid()}.part")
    rows = [(row, _cut(_text(id_)), _text(reason)) for row, id_, reason in problems]
    try:
        temporary.write_bytes(csv_bytes(HEADER, rows))
        temporary.replace(report)
    finally:
        temporary.unlink(missing_ok=True)
    return report


def remove_report(path: Path) -> None:
    """Remove the report that an earlier import of the answer file `path` wrote. A file that is not a report is never removed."""
    report_path(path).unlink(missing_ok=True)


def strangers(path: Path) -> Path | None:
    """Return the user's own file that has the usual name of a report; None if there is none."""
    report = report_path(path)
    first = report.with_name(f"{path.name}.problems.csv")
    return None if report == first else first


def _is_free(report: Path) -> bool:
    is_there = report.is_symlink() or report.exists()
    return not is_there or (report.is_file() and report.read_bytes().startswith(csv_bytes(HEADER, [])))


def shown(problems: Sequence[Problem]) -> str:
    """Return text for the terminal: the first problems, one per line, and the number of the others."""
    lines = [f"\n  row {row}: {reason}" for row, _, reason in problems[:SHOWN_N]]
    more_n = len(problems) - SHOWN_N
    return "".join(lines) + (f"\n  … and {more_n} more" if more_n > 0 else "")


def _cut(text: str) -> str:
    return text if len(text) <= ID_LENGTH_MAX else f"{text[:ID_LENGTH_MAX]}…"


def _text(text: str) -> str:
    r"""Return text that can be encoded: each lone surrogate becomes an escape such as `\udce4`."""
    return text.encode("utf-8", "backslashreplace").decode()
