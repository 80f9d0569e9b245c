"""Greedy picks without looking at every row for every pick, exact: the driver of `k_center` and `dpp`.

Each row has a value that can only fall as picks are added, and each pick takes the largest (equal values: the row that
stands first). A value that was computed some picks ago is thus an upper bound of the present one. A few hundred
candidates, the active rows, are kept fresh; all others wait with their old values. As long as the best active row
comes before the best of the waiting bounds it is the true best. When a bound surfaces, the rows with the highest bounds
are refreshed against all picks that they have missed, by one matrix product, and the active rows are chosen anew. So
most of the work is matrix products instead of one matrix-vector product a pick, which waits for memory.

Source of the bounds: Minoux, "Accelerated greedy algorithms for maximizing submodular set functions", 1978. We differ
in refreshing in bulk. Values have to be exact (whole numbers): then nothing here depends on which rows happen to be
active.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.pool import Progress

ACTIVE_ROWS = 512
PICKS_PER_REPORT = 64
REFRESH_ROWS = 2_048  # rows that are refreshed at least, when a bound surfaces

Rows = NDArray[np.int64]
Values = NDArray[np.float64]


class Falling(Protocol):
    """How values fall as picks are added."""

    def add(self, row: int, value: float) -> None:
        """Note a pick, and the value that it had."""

    def after(self, rows: Rows, values: Values, since: Rows) -> Values:
        """Values of `rows`, which hold for the first `since` picks of each, after all picks so far."""

    def activate(self, rows: Rows) -> None:
        """Rows that `after_last` is asked about from now on."""

    def after_last(self, values: Values) -> Values:
        """Values of the active rows after the last pick, given those before it."""


def greedy(
    falling: Falling,
    values: Values,  # (n,) before any pick
    depth: int,  # picks to make, at most n
    progress: Progress | None = None,
) -> Rows:  # (depth,)
    """The greedy order: always the row of the largest value, and of equal ones the first."""
    waiting = values.copy()  # bounds; -inf for rows that are active or picked
    since = np.zeros(len(values), np.int64)  # picks that each bound knows of
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
    """Pass on how far it is, every few picks."""
    if progress is not None and (done % PICKS_PER_REPORT == 0 or done == depth - 1):
        progress(done + 1, depth)


def _comes_first(value: float, row: int, bound: float, bound_row: int) -> bool:
    return value > bound or (value == bound and row < bound_row and np.isfinite(value))


def _surfaced(falling: Falling, waiting: Values, since: Rows, done: int) -> tuple[Rows, Values]:
    """Refresh the rows of the highest bounds until the best of all is among them; the best of these become active."""
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
    """The `wanted` rows of the highest bounds, equal ones from the first on, in order; and the highest bound left."""
    n = len(waiting)
    if wanted == n:
        return np.flatnonzero(waiting > -np.inf), -np.inf
    least = np.partition(waiting, n - wanted)[n - wanted]
    above = waiting > least
    at_least = np.flatnonzero(waiting == least)[: wanted - int(above.sum())]
    above[at_least] = True
    rows = np.flatnonzero(above & (waiting > -np.inf))
    return rows, float(np.max(waiting, initial=-np.inf, where=~above))
