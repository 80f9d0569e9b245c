"""Facility location: prompts that lie close to as much of the pool as possible, by greedy picks.

The objective of a set S is f(S) = sum over prompts x of max over s in S of max(0, cos(x, s)); each pick adds the
prompt that raises f most, equal gains go to the smaller prompt_id, and once nothing raises f the rest follows by
prompt_id. Greedy picks reach at least 1 - 1/e of the best value (Nemhauser, Wolsey, Fisher, "An analysis of
approximations for maximizing submodular set functions", 1978).

Two forms. The sparse one, the default, counts of each x only its most similar prompts (`neighbours`); its greedy
objective is within a thousandth of the exact one's (docs/BENCHMARKS.md), and `certificate` says how far any k picks
are from the best at most. The exact one streams all similarities. Both count in whole numbers (`grid`): gains are
sums of integers below 2^53, so picks do not depend on the order of rows, the block size, the threads or the machine.
Neither ever holds an n x n matrix.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection import on_device
from taskdiv_assets.selection.grid import STEPS, on_grid, rows_at_once
from taskdiv_assets.selection.lazy import Rows, Values, tell
from taskdiv_assets.selection.neighbours import Graph, nearest
from taskdiv_assets.selection.pool import Progress, SelectionPool

NEIGHBOURS = 64
EAGER_ROWS = 64  # 10 to 1,000 rows differ by a fifth in time at n = 15,011, d = 64
REFRESH_ROWS = 64  # 16 took a tenth longer there
Points = NDArray[np.float32]  # (n, d), from `grid`


def facility_location_order(neighbours_n: int | None) -> Callable[..., Rows]:
    """The greedy order on the graph of `neighbours_n` neighbours, or the exact one where that is None."""

    def order(pool: SelectionPool, seed: int, depth: int | None, progress: Progress | None = None) -> Rows:
        picks_n = min(depth or len(pool.prompt_ids), len(pool.prompt_ids))
        if on_device.is_tensor(pool.embeddings):
            tensor, by_id = on_device.on_grid("facility_location", pool)
            if neighbours_n is None:
                return by_id[on_device.facility_location(tensor, picks_n, progress)]
            return by_id[greedy_on_graph(on_device.nearest(tensor, neighbours_n), picks_n, progress)]
        points, by_id = on_grid("facility_location", pool)
        if neighbours_n is None:
            return by_id[greedy_exact(points, picks_n, progress)]
        return by_id[greedy_on_graph(nearest(points, neighbours_n), picks_n, progress)]

    return order


def greedy_on_graph(graph: Graph, depth: int, progress: Progress | None = None) -> Rows:
    """Greedy picks on a sparse graph; every gain is kept exact, so a pick touches its neighbours' neighbours only."""
    n = len(graph.neighbours)
    starts, covered_by, similarities = _columns(graph)
    gains = np.bincount(graph.neighbours.ravel(), graph.similarities.ravel(), minlength=n).astype(np.int64)
    covered = np.zeros(n, np.int32)
    picks = np.empty(depth, np.int64)
    for done in range(depth):
        pick = int(gains.argmax())
        if gains[pick] <= 0:
            picks[done:] = np.flatnonzero(gains >= 0)[: depth - done]  # nothing raises f any more: by prompt_id
            break
        picks[done] = pick
        reached = slice(starts[pick], starts[pick + 1])
        is_raised = similarities[reached] > covered[covered_by[reached]]
        rows, new = covered_by[reached][is_raised], similarities[reached][is_raised]
        old = covered[rows]
        covered[rows] = new
        lost = np.clip(graph.similarities[rows], old[:, None], new[:, None])  # max(0, s - old) - max(0, s - new)
        lost -= old[:, None]
        np.subtract.at(gains, graph.neighbours[rows].ravel(), lost.ravel().astype(np.int64))
        gains[pick] = -1
        tell(progress, done, depth)
    return picks


def _columns(graph: Graph) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """The graph by neighbour: where each one's entries start, the rows that count it, and with which similarity."""
    n, m = graph.neighbours.shape
    counted = np.flatnonzero(graph.similarities.ravel() > 0)
    neighbours = graph.neighbours.ravel()[counted]
    by_neighbour = counted[np.argsort(neighbours, kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(neighbours, minlength=n))])
    return starts, (by_neighbour // m).astype(np.int32), graph.similarities.ravel()[by_neighbour]


def greedy_exact(points: Points, depth: int, progress: Progress | None = None) -> Rows:
    """Greedy picks on all similarities, streamed; an old gain is an upper bound of the present one.

    After a pick, `covered` rises in some rows. Where they are few, the loss of every gain is subtracted at once and all
    bounds stay as exact as they were. Where they are many, all bounds are marked stale, and only those that surface at
    the top are computed anew. Source of the lazy part: Minoux, "Accelerated greedy algorithms", 1978.
    """
    n = len(points)
    covered = np.zeros(n, np.float32)  # similarity of each prompt to its closest pick so far
    bounds = gains_over(points, np.arange(n), covered)
    is_stale = np.zeros(n, bool)
    picks = np.empty(depth, np.int64)
    for done in range(depth):
        pick = _best(points, covered, bounds, is_stale)
        if bounds[pick] <= 0:
            picks[done:] = np.flatnonzero(bounds >= 0)[: depth - done]
            break
        picks[done] = pick
        raised = np.maximum(covered, points @ points[pick])
        _lower(points, covered, raised, bounds, is_stale)
        covered = raised
        bounds[pick] = -1
        is_stale[pick] = False
        tell(progress, done, depth)
    return picks


def _best(points: Points, covered: Points, bounds: Values, is_stale: NDArray[np.bool_]) -> int:
    """The first row of the largest gain; refreshes stale bounds until the top one is exact."""
    n = len(bounds)
    while is_stale[best := int(bounds.argmax())]:
        top = np.argpartition(bounds, n - REFRESH_ROWS)[n - REFRESH_ROWS :] if n > REFRESH_ROWS else np.arange(n)
        rows = np.union1d(top[is_stale[top]], [best])
        bounds[rows] = gains_over(points, rows, covered)
        is_stale[rows] = False
    return best


def gains_over(points: Points, rows: Rows, *levels: Points) -> Values:  # (rows,), or (levels, rows) for several
    """What adding each of `rows` would add to f where every prompt is covered to a level (n,) already."""
    gains = np.empty((len(levels), len(rows)))
    for start in range(0, len(rows), rows_at_once(len(points))):
        some = slice(start, start + rows_at_once(len(points)))
        block = points[rows[some]] @ points.T
        for level, out in zip(levels, gains, strict=True):
            out[some] = np.maximum(block - level, 0).sum(axis=1, dtype=np.float64)
    return gains[0] if len(levels) == 1 else gains


def _lower(points: Points, covered: Points, raised: Points, bounds: Values, is_stale: NDArray[np.bool_]) -> None:
    """Subtract from every gain what the rise of `covered` took from it; where many rows rose, mark all as stale."""
    rows = np.flatnonzero(raised > covered)
    if len(rows) > EAGER_ROWS:
        is_stale[:] = bounds >= 0
        return
    block = points[rows] @ points.T
    old = covered[rows, None]
    np.clip(block, old, raised[rows, None], out=block)  # max(0, s - old) - max(0, s - new)
    block -= old
    bounds -= np.where(bounds < 0, 0, block.sum(axis=0, dtype=np.float64))  # below 0: picked already


class Certificate(NamedTuple):
    """What the first `budget_n` picks of an order reach, by all similarities of the pool."""

    budget_n: int
    mean_similarity: float  # of a prompt of the pool to its closest pick, negative ones as 0
    share_of_best_at_least: float  # f of these picks over an upper bound of what any `budget_n` prompts reach


def certificates(pool: SelectionPool, order: Rows, budgets: Sequence[int]) -> list[Certificate]:
    """How good the prefixes of any order are as coverings; one pass over all similarities, whatever the budgets.

    No k prompts reach more than f(S) plus the k largest gains over S, since f is submodular.
    """
    levels, gains = _levels_and_gains(pool, order, budgets)
    found = []
    for budget_n, level, gain in zip(budgets, levels, gains, strict=True):
        reached = float(level.sum(dtype=np.float64))
        more = float(np.partition(gain, len(gain) - budget_n)[len(gain) - budget_n :].sum())
        found.append(Certificate(budget_n, reached / len(gain) / STEPS**2, reached / (reached + more)))
    return found


def _levels_and_gains(pool: SelectionPool, order: Rows, budgets: Sequence[int]) -> tuple[list[Points], Values]:
    """What every prompt is covered to at each budget, and what every further pick would add to f."""
    if on_device.is_tensor(pool.embeddings):
        tensor, by_id = on_device.on_grid("facility_location", pool)
        on_it = on_device.levels(tensor, np.argsort(by_id)[order], budgets)
        gains: Values = on_device.gains_over(tensor, *on_it).cpu().numpy()
        return [level.cpu().numpy() for level in on_it], gains
    points, by_id = on_grid("facility_location", pool)
    levels = _levels(points, np.argsort(by_id)[order], budgets)
    return levels, np.atleast_2d(gains_over(points, np.arange(len(points)), *levels))


def _levels(points: Points, picks: Rows, budgets: Sequence[int]) -> list[Points]:
    """Similarity of every prompt to its closest pick, for each budget; ascending budgets."""
    levels, level, start = [], np.zeros(len(points), np.float32), 0
    for budget_n in budgets:
        for first in range(start, budget_n, NEIGHBOURS):
            some = points[picks[first : min(first + NEIGHBOURS, budget_n)]]
            level = np.maximum(level, (points @ some.T).max(axis=1))
        levels.append(level)
        start = budget_n
    return levels
