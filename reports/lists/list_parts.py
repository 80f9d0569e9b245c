"""The page's sections on lists: progress of the answers, the chosen prompts, and the first prompts of each list."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from data_contracts.cell_keys import FULL_POOL_STRATEGY
from reports import words
from reports.lists import list_figures as figures
from reports.lists import list_sentences as sentences
from reports.lists import list_tables as tables
from reports.lists.list_numbers import Counts, FirstPrompt, Lists
from reports.results import Results
from reports.svg import Picture, picture
from reports.tables import Table, allocation
from reports.variance import FloatArray

NAMES_DRAWN_N = 13  # strategies in one picture


class Step(NamedTuple):
    """One number of the status line."""

    number: str
    label: str
    note: str  # may be empty


class StatusSection(NamedTuple):
    """The section on progress: from chosen prompts to answers."""

    strip: tuple[Step, ...]
    note: str  # on imports
    states: Table | None  # None if there is only one list, because `strip` has its numbers
    exports: Table


class ChosenSection(NamedTuple):
    """The section that compares chosen prompts with the pool: by task, or by length if there are no tasks."""

    title: str
    note: str
    pair: tuple[Picture, Table] | None


class FirstList(NamedTuple):
    """The first prompts of one list."""

    strategy: str
    budget_n: int
    prompts: tuple[FirstPrompt, ...]


def status(results: Results) -> StatusSection | None:
    """Return the section on progress; None if there is no list."""
    lists = results.lists
    if lists is None or not lists.states:
        return None
    states = tables.states(results, lists) if len(lists.states) > 1 else None
    answers = lists.answers
    last = f", the last at {answers.last_at} UTC" if answers.last_at else ""
    note = f"Answers came back in {words.count(answers.imports_n, 'import')}{last}." if answers.imports_n else ""
    return StatusSection(_strip(results, lists.total), note, states, tables.exports(lists))


def _strip(results: Results, total: Counts) -> tuple[Step, ...]:
    of = f"of {words.count(results.pool_n, 'prompt')}" if results.pool_n is not None else ""
    steps = [Step(f"{total.chosen_n:,}", "chosen", of)]
    if results.experiment.is_campaign or total.sent_n:
        back = f"{total.waiting_n:,} still out" if total.waiting_n else ""
        steps += [Step(f"{total.sent_n:,}", "sent out", back), Step(f"{total.answered_n:,}", "answers back", "")]
    if total.known_n:
        steps.append(Step(f"{total.known_n:,}", "known from the pool", ""))
    return (*steps, Step(f"{total.missing_n:,}", "missing", "" if total.missing_n else "nothing is open"))


def chosen(results: Results) -> ChosenSection | None:
    """Return the section on chosen prompts; None if there is no list or nothing to compare."""
    lists = results.lists
    if lists is None or not lists.states:
        return None
    if lists.lengths:
        return ChosenSection("Chosen by length", sentences.no_tasks(results), _lengths(results, lists))
    if len(results.task_sizes) < 2 or not results.allocations:
        return None
    return ChosenSection("Chosen by task", "", _by_task(results))


def _lengths(results: Results, lists: Lists) -> tuple[Picture, Table]:
    drawn = dict(list(lists.lengths.items())[: NAMES_DRAWN_N + 1])
    figure = figures.lengths(drawn, FULL_POOL_STRATEGY, results.experiment.strategies)
    return picture(figure, "lengths-figure", "Length of prompts", sentences.lengths(lists)), tables.lengths(lists)


def _by_task(results: Results) -> tuple[Picture, Table]:
    budget_n = max(budget for _, budget in results.allocations)
    names = [name for name in results.experiment.strategies if (name, budget_n) in results.allocations]
    tasks = sorted(results.task_sizes, key=lambda task: (-results.task_sizes[task], task))[: figures.TASKS_MAX_N]
    pool_n = sum(results.task_sizes.values())
    shares = {figures.POOL: _percent(results.task_sizes, tasks, pool_n)}
    for name in names[:NAMES_DRAWN_N]:
        own = results.allocations[name, budget_n]
        shares[name] = _percent(own, tasks, sum(own.values()))
    more = len(results.task_sizes) - len(tasks)
    rest = f" The picture has the {len(tasks)} largest tasks; {more:,} more are in the table." if more else ""
    figure = figures.by_task(shares, tasks, FULL_POOL_STRATEGY, results.experiment.strategies)
    caption = sentences.by_task(results, budget_n, names) + rest
    table = allocation(results, budget_n, has_shares=True)
    return picture(figure, "allocation-figure", "Chosen by task", caption), table


def _percent(counts: Mapping[str, float], tasks: list[str], whole_n: float) -> FloatArray:
    return np.array([100 * counts.get(task, 0.0) / max(1.0, whole_n) for task in tasks], dtype=np.float64)


def firsts(results: Results) -> list[FirstList]:
    """Return the first prompts of the largest list of each strategy; empty if the page has scores."""
    lists = results.lists
    if lists is None:
        return []
    return [FirstList(name, lists.of(name)[-1].budget_n, first) for name, first in lists.firsts.items() if first]
