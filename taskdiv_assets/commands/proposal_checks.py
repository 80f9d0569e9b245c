"""Checks of what a user answers to `taskdiv init`: a sentence that says what is wrong, or None.

In: a look at the file. What passes here is not refused by the readers. Nothing here asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from taskdiv_assets.experiment import parse_budget
from taskdiv_assets.pools.look import ColumnLook, FileLook
from taskdiv_assets.storage import remote

NONE = "none"
Check = Callable[[str], str | None]


def one_of(names: Iterable[str], *, with_none: bool = True) -> Check:
    """A check that an answer is one of some columns."""
    known = [*names]

    def problem(answer: str) -> str | None:
        if answer in known or (with_none and answer == NONE):
            return None
        return f"there is no column {answer!r}; expected one of {', '.join([*known, *([NONE] if with_none else [])])}"

    return problem


def task_check(found: FileLook, names: Iterable[str]) -> Check:
    """A check that a column has a task in every row."""
    is_there = one_of(names)

    def problem(answer: str) -> str | None:
        if is_there(answer) or answer == NONE:
            return is_there(answer)
        empty_n = found.rows_n - found.column(answer).filled_n
        return (
            f"{empty_n:,} rows have no {answer!r}; expected a column that is filled in every row" if empty_n else None
        )

    return problem


def id_check(found: FileLook, names: Iterable[str]) -> Check:
    """A check that a column has an id in every row, and none twice."""
    is_there = one_of(names)

    def problem(answer: str) -> str | None:
        if is_there(answer) or answer == NONE:
            return is_there(answer)
        column = found.column(answer)
        if column.filled_n < found.rows_n:
            return f"{found.rows_n - column.filled_n:,} rows have no {answer!r}; expected an id in every row"
        return (
            f"{column.repeated_n:,} rows repeat an id of {answer!r}; expected different ids"
            if column.repeated_n
            else None
        )

    return problem


def budget_check(found: FileLook, prompt: ColumnLook) -> Check:
    """A check that a budget is a number of prompts that the file has."""

    def problem(answer: str) -> str | None:
        try:
            budget_n = parse_budget(answer)
        except ValueError as error:
            return str(error)
        most_n = prompt.distinct_n
        is_over = found.is_whole and budget_n > most_n
        return (
            f"{budget_n:,} is more than the {most_n:,} different prompts of the file; expected at most that"
            if is_over
            else None
        )

    return problem


def model_problem(answer: str) -> str | None:
    """A check that a base model is a folder with a model in it; a URL is not looked at."""
    if answer == NONE or remote.is_remote(answer):
        return None
    folder = Path(answer).expanduser()
    if not folder.is_dir():
        return f"there is no folder {answer}; expected the folder of a model, or {NONE}"
    is_model = (folder / "config.json").is_file()
    return None if is_model else f"{answer} has no config.json; expected the folder of a model, or {NONE}"
