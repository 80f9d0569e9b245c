"""The section on found tasks: what was found, how stable it is, and how it compares with tasks that the source names."""

from typing import NamedTuple

from reports import words
from reports.found import found_curve
from reports.found import found_sentences as sentences
from reports.found.found_map import DRAWN_MAX_N, NAMED_MAX_N, task_map
from reports.found.found_numbers import Found, FoundTask
from reports.found.found_sentences import Warned
from reports.results import Results
from reports.svg import Picture, picture
from reports.tables import Table

LISTED_MAX_N = 300  # tasks on the page
FIRST_N = 10  # tasks that are not folded


class FoundSection(NamedTuple):
    """The section on found tasks."""

    lead: tuple[str, ...]  # sentences for a first reading
    warnings: tuple[Warned, ...]
    map: Picture | None  # None with fewer than three tasks
    first: tuple[FoundTask, ...]  # the largest tasks
    others: tuple[FoundTask, ...]  # folded
    left_out: Warned | None  # how many tasks are not listed, and how to list them
    chosen: str  # what decided the number of tasks
    curve: Table  # other numbers of tasks; no rows if none were measured
    curve_note: str
    repetitions: str
    moved: Table  # labels that would go to other tasks
    moved_note: str
    with_true: str
    distances_note: str
    distances: Table


def found_section(results: Results) -> FoundSection | None:
    """Return the section on found tasks; None if no tasks were found."""
    found = results.found
    if found is None:
        return None
    tasks, name = found.note.tasks, results.experiment.name
    lead = (sentences.lead(results, found), sentences.stability(found), sentences.evenness(found))
    more_n = len(tasks) - LISTED_MAX_N
    return FoundSection(
        tuple(text for text in lead if text),
        sentences.warnings(results, found),
        _map(found),
        tasks[:FIRST_N],
        tasks[FIRST_N:LISTED_MAX_N],
        Warned(f"{words.count(more_n, 'smaller task')} not listed here:", f"taskdiv tasks show {name}")
        if more_n > 0
        else None,
        found_curve.chosen(found.note),
        found_curve.curve_table(found.note),
        found_curve.curve_note(found.note),
        sentences.repetitions(found.note),
        _moved(results, found),
        sentences.moved(found.note, results.budgets),
        sentences.with_true(found.note),
        sentences.DISTANCE_NOTE,
        _distances(results, found),
    )


def _map(found: Found) -> Picture | None:
    tasks = found.note.tasks
    if len(tasks) < 3:
        return None
    caption = sentences.map_caption(found.note, min(len(tasks), DRAWN_MAX_N), NAMED_MAX_N)
    return picture(task_map(tasks), "found-figure", "Found tasks", caption)


def _moved(results: Results, found: Found) -> Table:
    known = [one for one in found.note.moved_labels or () if one.budget_n in results.budgets]
    rows = tuple((f"{one.budget_n:,}", words.share(one.share)) for one in known)
    caption = f"Labels that another seed of k-means would give to other tasks, by {sentences.EVEN}"
    return Table("found-moved", caption, ("labels", "to other tasks"), rows, frozenset({1}))


def _distances(results: Results, found: Found) -> Table:
    """Return the table of distances from an even spread over the source's tasks: one row for each budget that has one."""
    names = [name for name in results.experiment.strategies if any(name == strategy for strategy, _ in found.distances)]
    rows = []
    for budget_n in results.budgets:
        own = {name: found.distances[name, budget_n] for name in names if (name, budget_n) in found.distances}
        if own:
            random = next(iter(own.values())).random
            cells = (words.score(own[name].own) if name in own else "–" for name in names)
            rows.append((f"{budget_n:,}", words.score(random), *cells))
    head = ("labels", "random choice, expected", *names)
    caption = "Distance of a list from an even spread over the source’s tasks"
    return Table("found-distances", caption, head, tuple(rows), frozenset(range(1, len(head))))
