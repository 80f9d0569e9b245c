"""smart: shares of tasks by a graph cut between the centroids of tasks, prompts of a task by facility location.

Source: SMART (Renduchintala, Bhatia, Ramakrishnan, arXiv:2403.08370). We know its abstract and its authors' code
(github.com/kowndinya-renduchintala/SMART, commit 0fe2cba), not the paper's full text. From the code, with its defaults, we take:

- The centroid of a task is the mean of the embeddings of all its prompts. Similarities of tasks are cosines of centroids.
- f(S) = sum over all tasks i and tasks j in S of s_ij - 0.4 * sum over i and j in S of s_ij. All tasks are picked greedily by f.
  The gain g_t of a task is the increase of f by its pick: its similarity to all tasks, less 0.8 * its similarity to earlier
  picks, less 0.4.
- The weight of a task is 1 + g_t + g_t^2 / 2, the Taylor softmax of second order before its division by the sum.
- The prompts of a task are picked greedily by facility location on the prompts of this task alone.

Here we differ from the code:

- One order serves all budgets. So shares come from `apportionment` with costs 1 / weight: every task gets a first prompt before
  any task gets its second. The code rounds the shares of one budget down, and gives the rest to tasks one by one.
- All tasks get prompts. The code can also give the whole budget to the first tasks that were picked.
- Embeddings are those of prompt_embeddings. The code uses the sentence embedder gte-large.
- Facility location uses the 64 nearest prompts (the first 32 picks use all), and negative cosines count as 0. The code uses all.
- A task of more than PART_PROMPTS prompts is split at random into parts of nearly equal size. Facility location orders the first
  part, then the second. So a task needs PART_PROMPTS^2 similarities for each part that the depth reaches, and not n^2.
- The code splits the budget of a task over types of prompt templates. Our pools have no such types.

No confidence is read, and no random number. Tasks of equal gain are picked by name, prompts of equal gain by prompt_id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection import on_device
from taskdiv_assets.selection.apportionment import stratified_order
from taskdiv_assets.selection.facility_location import EXACT_PROMPTS_MAX, NEIGHBOURS, greedy_picks
from taskdiv_assets.selection.grid import STEPS, blocks, on_grid
from taskdiv_assets.selection.lazy import Rows, Values, tell
from taskdiv_assets.selection.pool import Progress, SelectionPool
from taskdiv_assets.selection.strata import SMALLEST_COST

if TYPE_CHECKING:
    from torch import Tensor

PART_PROMPTS = EXACT_PROMPTS_MAX  # 20,000: the first picks of every part use all similarities
MEAN_STEPS = 2**19  # the largest component of a mean in whole steps; squares of 2^15 components sum to at most 2^53
Points = NDArray[np.float32]  # (n, d), from `grid`


class TaskPicks(NamedTuple):
    """All tasks in the order in which graph cut picks them, and their gains."""

    order: Rows  # (T,) positions of tasks
    gains: Values  # (T,) gain of each pick, in units of a cosine of 1


def smart_order(pool: SelectionPool, seed: int, depth: int | None, progress: Progress | None = None) -> Rows:
    """Return the first `depth` prompts (all if `depth` is None) of the order, as row positions."""
    picks_n = min(depth or len(pool.prompt_ids), len(pool.prompt_ids))
    at_grid = on_device.on_grid if on_device.is_tensor(pool.embeddings) else on_grid
    points, by_id = at_grid("smart", pool)
    codes = pool.tasks[by_id]
    sizes = np.bincount(codes, minlength=len(pool.task_names))
    by_task = np.split(np.argsort(codes, kind="stable"), np.cumsum(sizes)[:-1])  # rows of `points` of each task
    named = [task for task in _by_name(pool.task_names) if sizes[task]]
    picked = graph_cut(np.stack([centroid(points, by_task[task]) for task in named]))
    tasks, costs, place = np.array(named)[picked.order], np.ones(len(sizes), np.int64), np.arange(len(sizes))
    costs[tasks] = costs_of(picked.gains)
    place[tasks] = np.arange(len(tasks))
    taken = codes[stratified_order(codes, costs, np.arange(len(codes)), place)[:picks_n]]  # the task of each place
    places = np.argsort(taken, kind="stable")
    order, done = np.empty(picks_n, np.int64), 0
    for task, count in enumerate(np.bincount(taken, minlength=len(sizes)).tolist()):
        order[places[done : done + count]] = by_id[picks_of_task(points, by_task[task], count)]
        for one in range(done, done + count):
            tell(progress, one, picks_n)
        done += count
    return order


def graph_cut(centroids: Points) -> TaskPicks:
    """Pick all tasks greedily by graph cut (see the module). Of equal gains, pick the first. This needs no T x T matrix.

    `centroids`, (T, d), are on the grid. Gains are computed in fifths of a squared grid step, whole numbers below 2^53.

    >>> picked = graph_cut(np.array([[4000, 0], [4000, 0], [0, 4000]], np.float32))
    >>> picked.order.tolist(), picked.gains.tolist()
    ([0, 1, 2], [1.6, 0.8, 0.6])
    """
    wide = centroids.astype(np.float64)
    gains = 5 * (wide @ wide.sum(axis=0)) - 2 * np.einsum("ij,ij->i", wide, wide)
    order, found = np.empty(len(centroids), np.int64), np.empty(len(centroids))
    for done in range(len(centroids)):
        pick = int(gains.argmax())
        order[done], found[done] = pick, gains[pick]
        gains -= 4 * (centroids @ centroids[pick]).astype(np.float64)
        gains[pick] = -np.inf
    return TaskPicks(order, found / (5 * STEPS**2))


def costs_of(gains: Values) -> Rows:  # (T,)
    """Return costs in proportion to 1 / weight, in thousandths of the smallest.

    >>> costs_of(np.array([2.0, 0.0])).tolist()  # weights 5 and 1
    [1000, 5000]
    """
    weights = 1 + gains + gains * gains / 2
    costs: Rows = np.rint(SMALLEST_COST * (weights.max() / weights)).astype(np.int64)
    return costs


def centroid(points: Points | Tensor, rows: Rows) -> Points:  # (d,)
    """Return the mean of some rows, scaled to length 1, on the grid; zeros if the mean is zero.

    Sums and squared lengths are whole numbers below 2^53, so the result is the same on every machine.
    """
    total = np.zeros(points.shape[1])
    for some in blocks(len(rows), points.shape[1]):
        block = _at(points, rows[some])
        if isinstance(block, np.ndarray):
            total += block.sum(axis=0, dtype=np.float64)
        else:
            total += on_device.column_sums(block)
    largest = np.abs(total).max()
    if largest == 0:
        return total.astype(np.float32)
    mean = np.rint(total * (MEAN_STEPS / largest))
    unit: Points = np.rint(mean * (STEPS / np.sqrt(mean @ mean))).astype(np.float32)
    return unit


def picks_of_task(points: Points | Tensor, rows: Rows, count: int) -> Rows:  # (count,)
    """Return the first `count` of a task's `rows` by facility location. The rows must be sorted by prompt_id.

    The rows of a large task are split into parts: neighbours by prompt_id, a hash, go to different parts. One part is used up
    before the next one, because the first picks of two random parts would be nearly equal.
    """
    parts_n = -(-len(rows) // PART_PROMPTS)
    found: list[Rows] = [np.empty(0, np.int64)]
    for part in (rows[first::parts_n] for first in range(parts_n)):
        wanted = min(len(part), count - sum(map(len, found)))
        if wanted:
            found.append(part[greedy_picks(_at(points, part), NEIGHBOURS, wanted)])
    return np.concatenate(found)


def _at(points: Points | Tensor, rows: Rows) -> Points | Tensor:
    return points[rows] if isinstance(points, np.ndarray) else on_device.at(points, rows)


def _by_name(names: tuple[str, ...]) -> list[int]:
    return sorted(range(len(names)), key=names.__getitem__)
