"""Checks of a user's answers to the questions of `taskdiv init`. A check returns an error message, or None for a valid answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from taskdiv_assets.experiment import parse_budget
from taskdiv_assets.pools.look import ColumnLook, FileLook
from taskdiv_assets.storage import remote

NONE = "none"
Check = Callable[[str], str | None]


def column_problem(found: FileLook, answer: str, *, with_none: bool = True) -> str | None:
    """Check that the user's answer is the name of a column. `none` is accepted too if `with_none` is True."""
    known = [*(column.name for column in found.columns), *([NONE] if with_none else [])]
    return None if answer in known else f"there is no column {answer!r}; expected one of {', '.join(known)}"


def task_problem(found: FileLook, answer: str) -> str | None:
    """Check that a column has a task in at least one row. `none` is accepted too."""
    if (problem := column_problem(found, answer)) or answer == NONE:
        return problem
    is_empty = not found.column(answer).filled_n
    return (
        f"no row has a {answer!r}; expected a column with the task of at least some rows, or {NONE}"
        if is_empty
        else None
    )


def id_problem(found: FileLook, answer: str) -> str | None:
    """Check that a column has a different id in every row. `none` is accepted too."""
    if (problem := column_problem(found, answer)) or answer == NONE:
        return problem
    column = found.column(answer)
    if column.filled_n < found.rows_n:
        return f"{found.rows_n - column.filled_n:,} rows have no {answer!r}; expected an id in every row"
    repeated_n = column.repeated_n
    return f"{repeated_n:,} rows repeat an id of {answer!r}; expected different ids" if repeated_n else None


def budget_problem(found: FileLook, prompt: ColumnLook, answer: str) -> str | None:
    """Check that a budget is a whole number above 0, and at most the number of different prompts if the whole file was read."""
    try:
        budget_n = parse_budget(answer)
    except ValueError as error:
        return str(error)
    if not found.is_whole or budget_n <= prompt.distinct_n:
        return None
    return f"{budget_n:,} is more than the {prompt.distinct_n:,} different prompts of the file; expected at most that"


def model_problem(answer: str) -> str | None:
    """Check that a base model is a folder with a config.json, or a GGUF file. `none` and URLs are accepted too."""
    if answer == NONE or remote.is_remote(answer):
        return None
    folder = Path(answer).expanduser()
    if folder.is_file() and folder.suffix.lower() == ".gguf":
        return None  # `taskdiv plan` reads its header
    if not folder.is_dir():
        return f"there is no folder {answer}; expected the folder of a model, or {NONE}"
    is_model = (folder / "config.json").is_file()
    return None if is_model else f"{answer} has no config.json; expected the folder of a model, or {NONE}"
