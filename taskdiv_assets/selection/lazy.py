"""Exact greedy picks without computing every row for every pick: the driver of `k_center` and `dpp`.

Each row has a value that can only fall as picks are added. Each pick takes the largest value; the first row wins a tie. A
value computed some picks ago is thus an upper bound of the current one. A few hundred candidates, the active rows, are
kept current; all others keep their old values as bounds. While the best active row beats the best bound, it is the true
best. Otherwise the rows with the highest bounds are refreshed against all picks they missed, by one matrix product, and
new active rows are chosen. So most of the work is matrix products instead of one memory-bound product per pick.

Source of the bounds: Minoux, "Accelerated greedy algorithms for maximizing submodular set functions", 1978. We refresh in
bulk. Values must be exact (whole numbers), so that the result does not depend on which rows are active.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.grid import rows_at_once
from taskdiv_assets.selection.pool import Progress

ACTIVE_ROWS = 512
PICKS_PER_REPORT = 64
REFRESH_ROWS = 2_048  # least number of rows to refresh at once

Rows = NDArray[np.int64]
Values = NDArray[np.float64]


class Falling(Protocol):
    """Values that fall as picks are added."""

    def add(self, row: int, value: float) -> None:
        """Record a pick and the value it had."""

    def after(self, rows: Rows, values: Values, since: Rows) -> Values:
        """Update `values`, of which each is current up to its first `since` picks, to all picks so far."""

    def activate(self, rows: Rows) -> None:
        """Set the rows whose values `after_last` updates."""

    def after_last(self, values: Values) -> Values:
        """Update the values of the active rows by the last pick."""


def greedy(
    falling: Falling,
    values: Values,  # (n,) before any pick
    depth: int,  # picks to make, at most n
    progress: Progress | None = None,
) -> Rows:  # (depth,)
    """Return the greedy order: each pick is the row of the largest value, the first of equal ones."""
    waiting = values.copy()  # bounds; -inf for active and picked rows
    since = np.zeros(len(values), np.int64)  # picks that each bound accounts for
    active, fresh = np.empty(0, np.int64), np.empty(0)
    bound, bound_row = np.inf, -1
    picks = np.empty(depth, np.int64)
    for done in range(depth):
        best = int(fresh.argmax()) if len(fresh) else -1
        if best < 0 or not _comes_first(fresh[best], active[best], bound, bound_row):
            waiting[active], since[active] = fresh, done
            active, fresh = _surfaced(falling, waiting, since, done)
            falling.activate(active)
            waiting[active] = -np.inf
            bound_row = int(waiting.argmax())
            bound = waiting[bound_row]
            best = int(fresh.argmax())
        picks[done] = active[best]
        falling.add(int(active[best]), float(fresh[best]))
        fresh = falling.after_last(fresh)
        fresh[best] = -np.inf
        tell(progress, done, depth)
    return picks


def tell(progress: Progress | None, done: int, depth: int) -> None:
    """Call `progress` every few picks."""
    if progress is not None and (done % PICKS_PER_REPORT == 0 or done == depth - 1):
        progress(done + 1, depth)


def _comes_first(value: float, row: int, bound: float, bound_row: int) -> bool:
    return value > bound or (value == bound and row < bound_row and np.isfinite(value))


def _surfaced(falling: Falling, waiting: Values, since: Rows, done: int) -> tuple[Rows, Values]:
    """Refresh the rows of the highest bounds until the best row is among them; return the new active rows."""
    n = len(waiting)
    wanted = min(n, REFRESH_ROWS)
    while True:
        rows, highest_left = _highest(waiting, wanted)
        stale = rows[since[rows] < done]
        waiting[stale] = falling.after(stale, waiting[stale], since[stale])
        since[stale] = done
        above = int((waiting[rows] > highest_left).sum())
        if above >= max(1, min(ACTIVE_ROWS // 2, len(rows))) or wanted == n:
            break
        wanted = min(n, 2 * wanted)
    chosen = rows[np.argsort(-waiting[rows], kind="stable")[:ACTIVE_ROWS]]
    chosen.sort()
    return chosen, waiting[chosen]


def _highest(waiting: Values, wanted: int) -> tuple[Rows, float]:
    """Return the `wanted` rows of the highest bounds in row order, and the highest bound left out."""
    n = len(waiting)
    if wanted == n:
        return np.flatnonzero(waiting > -np.inf), -np.inf
    least = np.partition(waiting, n - wanted)[n - wanted]
    above = waiting > least
    at_least = np.flatnonzero(waiting == least)[: wanted - int(above.sum())]
    above[at_least] = True
    rows = np.flatnonzero(above & (waiting > -np.inf))
    return rows, float(np.max(waiting, initial=-np.inf, where=~above))


def in_groups(
    after_some: Callable[[Rows, Values, slice], Values],  # values after some of the missed picks
    rows: Rows,
    values: Values,
    since: Rows,
    picks_n: int,
    width: int,  # d; gathered rows and picks must fit into a block too
) -> Values:
    """Refresh together the rows that missed the same picks, a block of rows and picks at a time."""
    fresh = values.copy()
    for first in np.unique(since):
        group = np.flatnonzero(since == first)
        for missed in _slices(int(first), picks_n, rows_at_once(width)):
            step = min(rows_at_once(max(64, missed.stop - missed.start)), rows_at_once(width))
            for block in _slices(0, len(group), step):
                some = group[block]
                fresh[some] = after_some(rows[some], fresh[some], missed)
    return fresh


def _slices(start: int, stop: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, stop)) for first in range(start, stop, step))
