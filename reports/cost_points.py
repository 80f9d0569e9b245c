"""Score against cost: what each strategy costs at each budget, and which of these points no other one beats.

The cost is that of the labels, plus the recorded hours of selection and of one training times the price of an hour.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from data_contracts.cell_keys import FULL_POOL_STRATEGY
from data_contracts.stored import StoredTable
from reports import cost_figures, words
from reports.analysis import FULL_POOL, Section
from reports.results import Results
from reports.statistics import Difference
from reports.svg import Picture, picture
from reports.tables import Table
from reports.variance import FloatArray

SHARED = frozenset(
    {"raw_pool", "base_model", "annotations", "held_out_items"}
)  # every strategy needs these, so none pays for them
COST_DIGITS = 3  # with which costs are compared: recorded times are not exact
KEYS = "annotation: {price: …, price_of_machine_hour: …, currency: …}"


class Point(NamedTuple):
    """Cost and score of a strategy at a budget, or of the full pool."""

    name: str
    budget_n: int
    labels_cost: float
    selection_s: float
    training_s: float  # of one adapter, the mean over seeds
    cost: float
    score: float
    is_unbeaten: bool = False


class Part(NamedTuple):
    """The part of the page on score against cost. Without prices there is only the text."""

    text: str
    keys: str  # what to set in the experiment file; empty if nothing is missing
    picture: Picture | None = None
    table: Table | None = None


def part(results: Results, section: Section, name: str) -> Part:
    """Return the part for one benchmark and metric. All ids on the page start with `name`."""
    money = results.money
    if money is None or money.price_of_hour is None:
        missing = "a machine hour" if money else "a label and of a machine hour"
        return Part(f"No cost is shown: the experiment file has no price of {missing}.", KEYS)
    found, left_out = points(results, section)
    if len(found) < 2:
        return Part("No cost is shown: fewer than two points have a score and recorded times.", "")
    figure = cost_figures.score_against_cost(section, found, money.head("cost"))
    shown = picture(figure, f"{name}-cost", "Score against cost", _caption(section, found))
    hour = money.amount(money.price_of_hour)
    text = (
        f"The cost is that of the labels ({money.basis}), plus the recorded hours of selection and of one training at {hour} "
        f"a machine hour. What every strategy needs, such as reading the pool, is not counted.{left_out}"
    )
    return Part(text, "", shown, _table(found, f"{name}-cost-table", section, money.head("cost")))


def points(results: Results, section: Section) -> tuple[tuple[Point, ...], str]:
    """Return the points in the order of their cost, and a sentence on points that are left out, empty if there are none.

    The experiment must have both prices. A point is left out if the time of a step of its selection or training is not stored.
    """
    selection, training = selection_times(results), training_times(results)
    found, left_out_n = [], 0
    for name, strategy, budget_n, mean in _means(section):
        selection_s, training_s = selection.get(strategy), training.get((strategy, budget_n))
        if name == FULL_POOL:
            selection_s = 0.0  # who takes all prompts selects none
        if selection_s is None or training_s is None:
            left_out_n += 1
        else:
            found.append(_point(results, name, (strategy, budget_n), (selection_s, training_s), mean.estimate))
    found.sort(key=lambda one: (one.cost, -one.score, one.name))
    costs = np.array([float(f"{one.cost:.{COST_DIGITS}g}") for one in found])
    scores = np.array([one.score for one in found])
    marked = zip(found, unbeaten(costs, scores), strict=True)
    left = f" Left out, because a time is not stored: {words.count(left_out_n, 'point')}." if left_out_n else ""
    return tuple(one._replace(is_unbeaten=bool(is_unbeaten)) for one, is_unbeaten in marked), left


def _means(section: Section) -> Iterator[tuple[str, str, int, Difference]]:
    for name, curve in section.curves.items():
        yield from ((name, name, point.budget_n, point.mean) for point in curve)
    if section.full_pool is not None:
        yield FULL_POOL, FULL_POOL_STRATEGY, section.full_pool_n or 0, section.full_pool


def _point(results: Results, name: str, arm: tuple[str, int], times_s: tuple[float, float], score: float) -> Point:
    money = results.money
    if money is None or money.price_of_hour is None:
        raise ValueError("points of cost need the price of a label and of a machine hour")
    labels = money.cost(*arm)
    return Point(name, arm[1], labels, *times_s, labels + sum(times_s) / 3600 * money.price_of_hour, score)


def unbeaten(
    costs: FloatArray,  # (n,)
    scores: FloatArray,  # (n,)
) -> np.ndarray:  # (n,) booleans
    """Return True for each point that no other point beats.

    One point beats another if it costs no more, scores no less, and is better in cost or score.

    >>> unbeaten(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.4, 0.6])).tolist()
    [True, False, True]
    """
    order = np.lexsort((-scores, costs))
    best, found, last = -np.inf, np.zeros(len(costs), bool), (np.nan, np.nan)
    for place in order.tolist():
        if scores[place] > best:
            best, last, found[place] = float(scores[place]), (costs[place], scores[place]), True
        elif (costs[place], scores[place]) == last:
            found[place] = True
    return found


def training_times(results: Results) -> dict[tuple[str, int], float]:
    """Return for each strategy and budget the seconds of one training: the mean over its adapters."""
    found: dict[tuple[str, int], list[float]] = {}
    for run in results.adapters:
        found.setdefault((run.strategy, run.budget_n), []).append(run.train_s)
    return {arm: float(np.mean(times)) for arm, times in found.items() if np.isfinite(times).all()}


def selection_times(results: Results) -> dict[str, float]:
    """Return for each strategy the seconds of its selection, as recorded when the tables were made.

    They are the time of one order (the ranking's time over its selection seeds), and the times of the tables from which the
    ranking was made, such as confidence or embeddings. A strategy is left out if one of these times is not stored.
    """
    found = {}
    for (asset, key), table in results.tables.items():
        if asset != "ranking" or key is None or not table.footer.wall_s:
            continue
        seeds_n = max((n for (name, _), n in results.selection_seeds_n.items() if name == key), default=1)
        sources = _sources(results.tables, table)
        times = [None if one is None else one.footer.wall_s or None for one in sources.values()]
        if None not in times:
            found[key] = table.footer.wall_s / seeds_n + sum(time for time in times if time is not None)
    return found


def _sources(
    tables: Mapping[tuple[str, str | None], StoredTable], table: StoredTable
) -> dict[tuple[str, str | None], StoredTable | None]:
    """Return the tables from which a table was made, directly or not, without `SHARED`; None for one that is not stored."""
    found: dict[tuple[str, str | None], StoredTable | None] = {}
    open_ones = [table]
    while open_ones:
        for name in open_ones.pop().footer.inputs:
            asset, _, key = name.partition("/")
            unit = asset.partition(".")[0], key or None
            if unit[0] in SHARED or unit in found:
                continue
            found[unit] = tables.get(unit)
            open_ones += [one for one in [found[unit]] if one is not None]
    return found


def _caption(section: Section, found: tuple[Point, ...]) -> str:
    budgets = words.listing([f"{budget:,}" for budget in section.budgets])
    on_line = words.listing([f"{one.name} at {one.budget_n:,}" for one in found if one.is_unbeaten], most_n=6)
    return (
        f"Mean score against cost. Each mark is a strategy at a budget, from left to right {budgets} labels. The grey line joins "
        f"the filled marks, which no other mark beats in both cost and score: {on_line}. Costs are compared with three digits, "
        "since times are not exact. The line is drawn on means: neighbours may not be separable from noise, see Paired "
        "differences."
    )


def _table(found: tuple[Point, ...], name: str, section: Section, cost: str) -> Table:
    rows = tuple(
        (
            one.name,
            f"{one.budget_n:,}",
            f"{one.cost:,.2f}",
            f"{one.labels_cost:,.2f}",
            words.duration(one.selection_s),
            words.duration(one.training_s),
            words.score(one.score),
            "on the line" if one.is_unbeaten else "beaten",
        )
        for one in found
    )
    caption = f"{section.scores.label} on {section.scores.benchmark} and what it costs, the cheapest first"
    head = ("strategy", "labels", cost, "of it labels", "selection", "one training", "mean score", "no other beats it")
    return Table(name, caption, head, rows, frozenset({1, 2, 3, 4, 5, 6}))
