"""What changed since the last report: cells, numbers and verdicts, and the tables that were made again.

The last report is the newest stored one with other results. A stored report with the same results is skipped. So the same
tables and the same stored reports before them always give the same page, before and after the page itself is stored.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

import data_contracts
from data_contracts.cell_keys import FULL_POOL_STRATEGY, cell_key
from data_contracts.stored import open_folder
from reports.earlier.stored_reports import Figure, Figures, StoredReport, figures, newest_first, read_report
from reports.results import Results

SAME = 1e-9  # relative and absolute; two versions of numpy may differ by a rounding error


class Moved(NamedTuple):
    """A number of both reports that is not the same in both."""

    before: Figure
    now: Figure

    @property
    def in_half_widths(self) -> float:
        """The move as a multiple of half the width of the old interval; −1 if there was no interval with two ends."""
        low, high = self.before.low, self.before.high
        if low is None or high is None or high <= low or self.before.estimate is None or self.now.estimate is None:
            return -1.0
        return abs(self.now.estimate - self.before.estimate) / ((high - low) / 2)


class Counts(NamedTuple):
    """How many things only the new report has, how many changed, and how many only the last report has."""

    new_n: int
    changed_n: int
    gone_n: int


class Remade(NamedTuple):
    """The changed tables of one asset, each with its partition key; an empty key for an asset without partitions."""

    asset: str
    new: tuple[str, ...]
    again: tuple[str, ...]
    gone: tuple[str, ...]


class Changes(NamedTuple):
    """The comparison with the last report."""

    last: StoredReport | None  # None if no stored report has other results
    cells: Counts
    counts_scores: bool  # True if a cell counts by its scores, False if by its list of prompts
    numbers: Counts
    moved: tuple[Moved, ...]  # the largest move in half-widths first
    flipped: tuple[Moved, ...]  # comparisons of two strategies whose verdict changed, the primary one first
    comparisons: Counts  # of two strategies; a comparison changed if its verdict did
    remade: tuple[Remade, ...]  # in data-flow order
    unreadable: tuple[str, ...]  # paths of stored reports that cannot be read


def changes_since(results_dir: str, results: Results, table: pa.Table) -> Changes:
    """Compare results and their results table with the last report in the experiment's folder."""
    files, now = open_folder(results_dir), figures(table)
    identities, unreadable = identities_of(results), []
    for path in newest_first(files):
        try:
            report = read_report(files, path)
        except (OSError, ValueError, KeyError, pa.ArrowException):
            unreadable.append(path[len(files.root) + 1 :])
            continue
        if report is not None and differs(report, identities, now):
            return compare(report, identities, now)._replace(unreadable=tuple(unreadable))
    nothing = Counts(0, 0, 0)
    return Changes(None, nothing, False, nothing, (), (), nothing, (), tuple(unreadable))


def identities_of(results: Results) -> dict[str, str]:
    """Return the identity of each table that a report of these results uses, with the names of the report's footer."""
    names = {*results.experiment.strategies, *([FULL_POOL_STRATEGY] if results.experiment.full_pool_seeds else [])}
    keys = {None, *names, *(cell_key(cell.budget_n, cell.strategy) for cell in results.cells)}
    return {
        asset if key is None else f"{asset}/{key}": table.footer.identity
        for (asset, key), table in results.tables.items()
        if key in keys and table.footer.identity
    }


def differs(report: StoredReport, identities: Mapping[str, str], now: Figures) -> bool:
    """Return True if a stored report was made from other tables, or has other numbers."""
    if report.identities != identities or report.figures.keys() != now.keys():
        return True
    return any(not is_same(one, now[key]) for key, one in report.figures.items())


def is_same(first: Figure, second: Figure) -> bool:
    """Return True if two rows differ at most by a rounding error."""
    ends = ((first.estimate, second.estimate), (first.low, second.low), (first.high, second.high))
    return first.verdict == second.verdict and first.budget_n == second.budget_n and all(_near(*pair) for pair in ends)


def _near(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return math.isclose(first, second, rel_tol=SAME, abs_tol=SAME)


def compare(last: StoredReport, identities: Mapping[str, str], now: Figures) -> Changes:
    """Compare the present identities and numbers with those of a stored report."""
    before = last.figures
    shared = [Moved(before[key], now[key]) for key in sorted(before.keys() & now.keys())]
    changed = [pair for pair in shared if not is_same(*pair)]
    moved = [pair for pair in changed if not _near(pair.before.estimate, pair.now.estimate)]
    flipped = [pair for pair in shared if pair.now.quantity == "area" and pair.before.verdict != pair.now.verdict]
    counts_scores = any(_asset(unit) == "benchmark_scores" for unit in (*identities, *last.identities))
    of_cells = "benchmark_scores" if counts_scores else "allocation"
    remade = _remade(last.identities, identities)
    areas_before, areas_now = ({key for key in rows if key[0] == "area"} for rows in (before, now))
    cells = next((one for one in remade if one.asset == of_cells), Remade(of_cells, (), (), ()))
    return Changes(
        last,
        Counts(len(cells.new), len(cells.again), len(cells.gone)),
        counts_scores,
        Counts(len(now.keys() - before.keys()), len(changed), len(before.keys() - now.keys())),
        tuple(sorted(moved, key=_rank)),
        tuple(sorted(flipped, key=lambda pair: bool(pair.now.family))),
        Counts(len(areas_now - areas_before), len(flipped), len(areas_before - areas_now)),
        remade,
        (),
    )


def _rank(pair: Moved) -> tuple[float, float]:
    """Return the sort key of a moved number: numbers with an old interval first, then the size of the move."""
    before, now = pair.before.estimate, pair.now.estimate
    move = math.inf if before is None or now is None else abs(now - before)
    return -pair.in_half_widths, -move


def _asset(unit: str) -> str:
    return unit.partition("/")[0]


def _remade(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[Remade, ...]:
    order = {name: place for place, name in enumerate(data_contracts.names())}
    assets = {_asset(unit) for unit in {*before, *now} if before.get(unit) != now.get(unit)}
    found = []
    for asset in sorted(assets, key=lambda name: (order.get(name, len(order)), name)):
        own = sorted((unit for unit in {*before, *now} if _asset(unit) == asset), key=_by_budget)
        keys = {unit: unit.partition("/")[2] for unit in own if before.get(unit) != now.get(unit)}
        new = tuple(key for unit, key in keys.items() if unit not in before)
        gone = tuple(key for unit, key in keys.items() if unit not in now)
        again = tuple(key for unit, key in keys.items() if unit in before and unit in now)
        found.append(Remade(asset, new, again, gone))
    return tuple(found)


def _by_budget(unit: str) -> tuple[str, int]:
    """Return the sort key of a unit: the strategy, then the budget as a number."""
    budget, mark, strategy = unit.partition("/")[2].partition("|")
    return (strategy, int(budget)) if mark and budget.isdecimal() else (budget, 0)
