"""Make exact greedy picks without computing every row for every pick. `k_center` and `dpp` use this module.

Each row has a value that never rises as picks are added, so an old value is an upper bound of the current value. A few hundred
candidates, the active rows, have current values. All other rows have bounds. The best active row has the largest current value.
If this value is larger than every bound, or equal to a bound of a later row, the best active row is the next pick. Otherwise the
rows with the highest bounds are refreshed by matrix products, and new active rows are chosen.

Source of the bounds: Minoux, "Accelerated greedy algorithms for maximizing submodular set functions", 1978. We refresh many rows
at once. Values must be exact (whole numbers), so that the picks do not depend on which rows are active.
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
    """Interface of values that never rise as picks are added."""

    points: NDArray[np.float32]  # (n, d)

    def add(self, row: int, value: float) -> None:
        """Record a pick and its value."""

    def after_some(self, rows: Rows, values: Values, missed: slice) -> Values:
        """Update the values of `rows` by the picks that they lack. `missed` is the slice of these picks among all picks.

        `values` are the values of `rows` before these picks.
        """

    def activate(self, rows: Rows) -> None:
        """Set the rows whose values `after_last` updates."""

    def after_last(self, values: Values) -> Values:
        """Return the values of the active rows after the last pick. `values` are their values before this pick."""


def greedy(
    falling: Falling,
    values: Values,  # (n,) values before the first pick
    depth: int,  # picks to make, at most n
    progress: Progress | None = None,
) -> Rows:  # (depth,)
    """Return the greedy picks: each pick is the row with the largest value; among equal values, the first row."""
    waiting = values.copy()  # bounds; -inf for active and picked rows
    since = np.zeros(len(values), np.int64)  # number of picks that each bound includes
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
    """Call `progress` after the picks 1, 65, 129 and so on, and after the last pick."""
    if progress is not None and (done % PICKS_PER_REPORT == 0 or done == depth - 1):
        progress(done + 1, depth)


def _comes_first(value: float, row: int, bound: float, bound_row: int) -> bool:
    return value > bound or (value == bound and row < bound_row and np.isfinite(value))


def _surfaced(falling: Falling, waiting: Values, since: Rows, done: int) -> tuple[Rows, Values]:
    """Choose new active rows. Return them in row order, with their current values.

    The rows with the highest bounds are refreshed, then more rows, until enough values are above the bounds of all other rows.
    """
    n = len(waiting)
    wanted = min(n, REFRESH_ROWS)
    while True:
        rows, highest_left = _highest(waiting, wanted)
        stale = rows[since[rows] < done]
        width = falling.points.shape[1]
        waiting[stale] = in_groups(falling.after_some, stale, waiting[stale], since[stale], done, width)
        since[stale] = done
        above = int((waiting[rows] > highest_left).sum())
        if above >= max(1, min(ACTIVE_ROWS // 2, len(rows))) or wanted == n:
            break
        wanted = min(n, 2 * wanted)
    chosen = rows[np.argsort(-waiting[rows], kind="stable")[:ACTIVE_ROWS]]
    chosen.sort()
    return chosen, waiting[chosen]


def _highest(waiting: Values, wanted: int) -> tuple[Rows, float]:
    """Return the rows with the highest bounds, at most `wanted`, in row order, and then the highest bound of all other rows."""
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
    after_some: Callable[[Rows, Values, slice], Values],  # returns values after a slice of the picks
    rows: Rows,
    values: Values,
    since: Rows,
    picks_n: int,
    width: int,  # d; the copied rows and picks must also fit into a block
) -> Values:
    """Return the values of `rows` after all picks. Rows whose values lack the same picks are refreshed together, in blocks."""
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
