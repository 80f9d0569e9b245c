"""facility_location: greedy picks that are similar to as much of the pool as possible.

The objective of a set S is f(S) = sum over prompts x of max over s in S of max(0, cos(x, s)). Each pick adds the prompt with the
largest gain in f; among equal gains, the smallest prompt_id. When no prompt increases f, the other prompts follow by prompt_id.
Greedy picks reach at least 1 - 1/e of the best value of their objective (Nemhauser, Wolsey, Fisher, "An analysis of
approximations for maximizing submodular set functions", 1978).

The exact form uses all similarities. The sparse form, the default, uses only the graph of `neighbours`: the similarities of each
prompt to its nearest prompts. On real pools, the first pick by the graph reaches only 0.62 of the f of the first exact pick, and
the first 10 picks reach 0.90. So in pools of up to EXACT_PROMPTS_MAX prompts, the first EXACT_PICKS picks use all similarities.
For any picks, `certificates` computes a lower bound of the ratio f(picks) / (largest f of as many picks).

Both forms use whole numbers (see `grid`). Gains are sums of integers below 2^53, so picks do not depend on the order of rows, the
block size, the threads or the machine. No form stores an n x n matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection import on_device
from taskdiv_assets.selection.checks import check_order, whole_number
from taskdiv_assets.selection.grid import STEPS, blocks, on_grid
from taskdiv_assets.selection.lazy import Rows, Values, tell
from taskdiv_assets.selection.neighbours import Graph, nearest
from taskdiv_assets.selection.pool import Progress, SelectionPool

if TYPE_CHECKING:
    from torch import Tensor

NEIGHBOURS = 64
EXACT_PICKS = 32  # first picks of the sparse form that use all similarities
EXACT_PROMPTS_MAX = 20_000  # an exact pick takes seconds at this size, and four times as long at twice the size
REFRESH_ROWS = 64  # stale bounds refreshed at once
OPEN_SHARE = 0.8  # `_Far.open` is reduced when fewer than this share of its prompts are still open
Points = NDArray[np.float32]  # (n, d), from `grid`


def facility_location_order(neighbours_n: int | None) -> Callable[..., Rows]:
    """Return the function that orders a pool: the sparse form with `neighbours_n` neighbours per prompt.

    If `neighbours_n` is None, the function uses the exact form.
    """
    if neighbours_n is not None:
        neighbours_n = whole_number("neighbours of facility_location", neighbours_n, "prompts", least=1)

    def order(pool: SelectionPool, seed: int, depth: int | None, progress: Progress | None = None) -> Rows:
        pool_n = len(pool.prompt_ids)
        at_grid = on_device.on_grid if on_device.is_tensor(pool.embeddings) else on_grid
        points, by_id = at_grid("facility_location", pool)
        return by_id[greedy_picks(points, neighbours_n, min(depth or pool_n, pool_n), progress)]

    return order


def greedy_picks(
    points: Points | Tensor,  # (n, d) on the grid, sorted by prompt_id
    neighbours_n: int | None,  # of the sparse form; None for the exact form
    picks_n: int,  # at most n
    progress: Progress | None = None,
) -> Rows:  # (picks_n,) rows of `points`
    """Return greedy picks. Points that are a tensor give the same picks as an array."""
    first_n = exact_picks_n(neighbours_n, len(points), picks_n)
    early = None if progress is None else lambda done, _: progress(done, picks_n)
    if isinstance(points, np.ndarray):
        if neighbours_n is None:
            return greedy_exact(points, picks_n, progress)
        graph = nearest(points, neighbours_n)
        first = greedy_exact(points, first_n, early, graph=graph)
        level = _levels(points, first, [first_n])[0]
    else:
        if neighbours_n is None:
            return on_device.facility_location(points, picks_n, progress)
        graph = on_device.nearest(points, neighbours_n)
        first = on_device.facility_location(points, first_n, early)
        level = on_device.levels(points, first, [first_n])[0].cpu().numpy()
    return greedy_on_graph(graph, picks_n, first, level, progress)


def exact_picks_n(neighbours_n: int | None, prompts_n: int, depth: int) -> int:
    """Return the number of first picks of the sparse form that use all similarities.

    The number is 0 for the exact form (`neighbours_n` is None). It is also 0 for a pool with at most `neighbours_n` prompts or
    more than EXACT_PROMPTS_MAX prompts.
    """
    if neighbours_n is None or not neighbours_n < prompts_n <= EXACT_PROMPTS_MAX:
        return 0
    return min(EXACT_PICKS, depth)


def greedy_on_graph(
    graph: Graph,
    depth: int,
    first: Rows,  # picks already made, at most `depth`
    level: Points,  # (n,) similarity of every prompt to the most similar pick in `first`
    progress: Progress | None = None,
) -> Rows:  # (depth,)
    """Return greedy picks on the graph. All gains are exact after every pick.

    A pick raises the levels of the prompts that have the pick as a neighbour. Only the gains of these prompts' neighbours change.
    """
    near = _Near(graph)
    picks = np.empty(depth, np.int64)
    if len(first):
        picks[: len(first)] = first
        near.cover(np.arange(len(graph.neighbours)), level.astype(np.int32))
        near.gains[first] = -1
    for done in range(len(first), depth):
        pick = int(near.gains.argmax())
        if near.gains[pick] <= 0:
            picks[done:] = np.flatnonzero(near.gains >= 0)[: depth - done]  # no prompt increases f
            break
        picks[done] = pick
        near.cover(*near.counted_by(pick))
        near.gains[pick] = -1
        tell(progress, done, depth)
    return picks


def greedy_exact(points: Points, depth: int, progress: Progress | None = None, *, graph: Graph | None = None) -> Rows:
    """Return greedy picks on all similarities. `graph` may have any number m of neighbours per prompt; None builds a graph.

    The level of a prompt is its similarity to the most similar pick. A prompt is open while its level is below its similarity to
    its m-th neighbour. The level of a prompt that is not open can increase only by a pick among its neighbours. So a gain is the
    sum of two parts: the exact gain on the graph, and the gain from open prompts outside the graph. The second part may be an
    upper bound, which is refreshed when its prompt has the largest sum (Minoux, "Accelerated greedy algorithms", 1978).
    """
    if not depth:
        return np.empty(0, np.int64)
    near = _Near(graph or nearest(points, NEIGHBOURS))
    far = _Far(points, near)
    picks = np.empty(depth, np.int64)
    for done in range(depth):
        pick = far.best()
        if near.gains[pick] + far.gains[pick] <= 0:
            picks[done:] = np.flatnonzero(near.gains >= 0)[: depth - done]
            break
        picks[done] = pick
        far.cover(pick)
        near.gains[pick], far.gains[pick], far.is_stale[pick] = -1, 0, False
        tell(progress, done, depth)
    return picks


class _Near:
    """The gain on the graph and the level of every prompt, exact after every pick. See `greedy_exact` for the terms."""

    def __init__(self, graph: Graph) -> None:
        n = len(graph.neighbours)
        self.graph = graph
        self.starts, self.rows, self.similarities = _columns(graph)
        self.gains = np.bincount(graph.neighbours.ravel(), graph.similarities.ravel(), minlength=n).astype(np.int64)
        self.covered = np.zeros(n, np.int32)

    def counted_by(self, row: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the prompts that have `row` as a neighbour, and the similarities of these prompts to `row`."""
        entries = slice(self.starts[row], self.starts[row + 1])
        return self.rows[entries], self.similarities[entries]

    def cover(self, rows: NDArray[np.integer[Any]], similarities: NDArray[np.int32]) -> None:
        """Raise the levels of distinct `rows` to `similarities` where these are higher, and update all gains."""
        is_raised = similarities > self.covered[rows]
        rows, new = rows[is_raised], similarities[is_raised]
        old = self.covered[rows]
        self.covered[rows] = new
        lost = np.clip(self.graph.similarities[rows], old[:, None], new[:, None])  # max(0, s - old) - max(0, s - new)
        lost -= old[:, None]
        np.subtract.at(self.gains, self.graph.neighbours[rows].ravel(), lost.ravel().astype(np.int64))


class _Far:
    """For every prompt p, the gain from those open prompts that do not have p as a neighbour in the graph (see `greedy_exact`).

    A gain is exact, or an upper bound where `is_stale` is True. `open` may include prompts that are no longer open.
    """

    def __init__(self, points: Points, near: _Near) -> None:
        self.points, self.near = points, near
        self.gains = gains_over(points, np.arange(len(points)), np.zeros(len(points), np.float32)) - near.gains
        self.is_stale = np.zeros(len(points), bool)
        self._keep(np.arange(len(points)))

    def best(self) -> int:
        """Refresh bounds until the largest total gain is exact; return the first row that has this gain."""
        total = self.near.gains + self.gains
        while self.is_stale[best := int(total.argmax())]:
            least = min(REFRESH_ROWS, len(total))
            top = np.argpartition(total, -least)[-least:]
            rows = np.union1d(top[self.is_stale[top]], [best])
            self._refresh(rows)
            total[rows] = self.near.gains[rows] + self.gains[rows]
        return best

    def cover(self, pick: int) -> None:
        rows, similarities = self.near.counted_by(pick)
        is_inside = ~self.is_open[rows]
        level = np.maximum(self.open_points @ self.points[pick], 0).astype(np.int32)
        if (level > self.near.covered[self.open]).any():
            self.is_stale = self.near.gains >= 0
        self.near.cover(np.concatenate([rows[is_inside], self.open]), np.concatenate([similarities[is_inside], level]))
        still = self.near.covered[self.open] < self.near.graph.similarities[self.open, -1]
        if still.sum() < OPEN_SHARE * len(still):
            self._keep(self.open[still])

    def _keep(self, rows: Rows) -> None:
        self.open_points = self.points  # frees the memory of the old copy before the new copy is made
        if len(rows) < len(self.points):
            self.open_points = self.points[rows]
        self.open = rows
        self.is_open = np.zeros(len(self.points), bool)
        self.is_open[rows] = True
        if not len(rows):
            self.gains[:], self.is_stale[:] = 0, False

    def _refresh(self, rows: Rows) -> None:
        covered = self.near.covered
        gains = np.maximum(self.points[rows] @ self.open_points.T - covered[self.open].astype(np.float32), 0)
        self.gains[rows] = gains.sum(axis=1, dtype=np.float64)
        for row in rows:
            counting, similarities = self.near.counted_by(int(row))  # already part of the gains on the graph
            added = np.maximum(similarities - covered[counting], 0) * self.is_open[counting]
            self.gains[row] -= added.sum(dtype=np.int64)
        self.is_stale[rows] = False


def _columns(graph: Graph) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Return the graph's positive entries, sorted by neighbour: the start of each neighbour's entries, their rows and values."""
    n, m = graph.neighbours.shape
    counted = np.flatnonzero(graph.similarities.ravel() > 0)
    neighbours = graph.neighbours.ravel()[counted]
    by_neighbour = counted[np.argsort(neighbours, kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(neighbours, minlength=n))])
    return starts, (by_neighbour // m).astype(np.int32), graph.similarities.ravel()[by_neighbour]


def gains_over(points: Points, rows: Rows, *levels: Points) -> Values:  # (rows,), or (levels, rows) for several
    """Return how much each of `rows` would add to f, in squared grid steps.

    Each array of `levels`, (n,), contains the current level of every prompt.
    """
    gains = np.empty((len(levels), len(rows)))
    for some in blocks(len(rows), len(points)):
        block = points[rows[some]] @ points.T
        for level, out in zip(levels, gains, strict=True):
            out[some] = np.maximum(block - level, 0).sum(axis=1, dtype=np.float64)
    return gains[0] if len(levels) == 1 else gains


class Certificate(NamedTuple):
    """How well the first `budget_n` picks of an order cover the pool, measured with all similarities."""

    budget_n: int
    mean_similarity: float  # mean over all prompts of the similarity to the closest pick; negative ones are 0
    share_of_best_at_least: float  # f of these picks / an upper bound of f for any `budget_n` prompts


def certificates(
    pool: SelectionPool,  # with embeddings
    order: Rows,  # (k,) distinct rows of the pool, first choice first
    budgets: Sequence[int],  # each from 1 to k, in any order
) -> list[Certificate]:  # one per budget
    """Return the measures of an order's first picks, for each budget, in one pass over all similarities.

    Let S be the first k picks. Since f is submodular, f of any k prompts is at most f(S) plus the k largest gains over S.
    Raise ValueError if a budget or the order is out of range, or the pool has no embeddings.
    """
    order = check_order("the order to certify", order, len(pool.prompt_ids))
    wanted = [whole_number("budget", budget_n, "prompts", least=1) for budget_n in budgets]
    if max(wanted, default=0) > len(order):
        raise ValueError(
            f"budget is {max(wanted)}, but the order to certify has {len(order)} prompts; "
            f"expected at most {len(order)}. Rank to a larger depth."
        )
    ascending = sorted(set(wanted))
    levels, gains = _levels_and_gains(pool, order, ascending)
    found = {one.budget_n: one for one in map(_certificate, ascending, levels, gains)}
    return [found[budget_n] for budget_n in wanted]


def _certificate(budget_n: int, level: Points, gain: Values) -> Certificate:
    reached = float(level.sum(dtype=np.float64))
    more = float(np.partition(gain, len(gain) - budget_n)[len(gain) - budget_n :].sum())
    return Certificate(budget_n, reached / len(gain) / STEPS**2, reached / (reached + more))


def _levels_and_gains(pool: SelectionPool, order: Rows, budgets: Sequence[int]) -> tuple[list[Points], Values]:
    if on_device.is_tensor(pool.embeddings):
        tensor, by_id = on_device.on_grid("facility_location", pool)
        on_it = on_device.levels(tensor, np.argsort(by_id)[order], budgets)
        gains: Values = on_device.gains_over(tensor, *on_it).cpu().numpy()
        return [level.cpu().numpy() for level in on_it], gains
    points, by_id = on_grid("facility_location", pool)
    levels = _levels(points, np.argsort(by_id)[order], budgets)
    return levels, np.atleast_2d(gains_over(points, np.arange(len(points)), *levels))


def _levels(points: Points, picks: Rows, budgets: Sequence[int]) -> list[Points]:
    """Return, for each budget, the similarity of every prompt to its closest pick, in squared grid steps (0 if negative).

    `budgets` must be in ascending order.
    """
    levels, level, start = [], np.zeros(len(points), np.float32), 0
    for budget_n in budgets:
        for first in range(start, budget_n, NEIGHBOURS):
            some = points[picks[first : min(first + NEIGHBOURS, budget_n)]]
            level = np.maximum(level, (points @ some.T).max(axis=1))
        levels.append(level)
        start = budget_n
    return levels
