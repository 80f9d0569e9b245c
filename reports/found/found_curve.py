"""The number of tasks: what decided it, and what fewer and more tasks would change. The page and the commands show this."""

from collections.abc import Iterator, Mapping
from typing import Any

from reports import words
from reports.found.found_numbers import Note, Point
from reports.found.found_sentences import PROMPTS_MIN, two
from reports.tables import Table

PICKS_MIN = 2  # labels of the smallest budget for each task: a bound of the rule
NOT_MEASURED = "Other numbers of tasks were not measured when these tasks were stored."
TOO_FEW = "The pool has too few prompts to measure other numbers of tasks."


def chosen(note: Note) -> str:
    """Return what decided the number of tasks, and whether other numbers were measured."""
    curve, tasks = note.curve, words.count(note.tasks_n, "task")
    if curve is None:
        return NOT_MEASURED
    prompts_n, budget_n = words.count(curve.prompts_n, "prompt"), words.count(note.budget_n or 0, "label")
    decided = {
        "given": f"The experiment file sets the number of tasks to {note.tasks_n:,}.",
        "prompts": f"The rule chose {tasks} by the size of the pool: {prompts_n} give each task at least {PROMPTS_MIN} on "
        "average.",
        "budget": f"The rule chose {tasks} by the smallest budget: {budget_n} give each task at least {PICKS_MIN}.",
        "most": f"The rule chose {tasks}, the most that it allows.",
        "fewest": f"The rule chose {tasks}, the fewest that it allows: {prompts_n} and a budget of {budget_n} would give "
        "fewer.",
    }[curve.bound]
    return f"{decided} {TOO_FEW}" if len(curve.points) < 2 else decided


def curve_note(note: Note) -> str:
    """Return how the curve was measured, and what it does not show; "" if there is no curve."""
    curve = note.curve
    if curve is None:
        return ""
    part = (
        f" They were measured on {curve.measured_n:,} of the {curve.prompts_n:,} prompts: sizes count prompts of this "
        "sample, and with fewer prompts the agreements may be lower than those of the whole pool."
        if curve.measured_n < curve.prompts_n
        else ""
    )
    return (
        "Stability says little about evenness: on two of the five pools that we measured, stable tasks covered the true ones "
        "less evenly than random choice (docs/DISCOVERY.md). The agreements are adjusted Rand indices: 1 is equal, 0 is chance. "
        f"Groups of fewer than five prompts are merged, so fewer tasks may be found than were looked for.{part}"
    )


def curve_table(note: Note) -> Table:
    """Return the table of the curve, one row for each number of tasks. It has no rows if only one number was measured."""
    points = note.curve.points if note.curve else ()
    rows = tuple(_row(one, one.tasks_n == note.tasks_n) for one in points)
    head = ("tasks looked for", "found", "between seeds", "between halves", "median size", "smallest")
    caption = "Agreement and prompts of a task, by the number of tasks"
    return Table("found-curve", caption, head, rows if len(rows) > 1 else (), frozenset(range(1, len(head))))


def lines(raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield the sentence of `chosen`, and the curve as one sentence, given the stored note on found tasks.

    Yield nothing if the curve was not measured.
    """
    if not raw.get("curve"):
        return
    note = Note.model_validate(raw)
    yield chosen(note)
    points = [
        f"{one.tasks_n:,}{' (chosen)' if one.tasks_n == note.tasks_n else ''} → {two(one.between_seeds)}, "
        f"{two(one.between_halves)}, {one.median_n:,}"
        for one in (note.curve.points if note.curve else ())
    ]
    if len(points) > 1:
        yield f"Tasks looked for → agreement between seeds, between halves, prompts of the median task: {'; '.join(points)}."


def _row(one: Point, is_chosen: bool) -> tuple[str, ...]:
    name = f"{one.tasks_n:,}{' (chosen)' if is_chosen else ''}"
    agreements = two(one.between_seeds), two(one.between_halves)
    return name, f"{one.found_n:,}", *agreements, f"{one.median_n:,}", f"{one.smallest_n:,}"
