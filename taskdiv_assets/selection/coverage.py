"""Facility location: prompts that lie close to as much of the pool as possible, by greedy picks, exact.

The objective of a set S is f(S) = sum over prompts x of max over s in S of max(0, cos(x, s)); each pick adds
the prompt that raises f most, equal gains go to the smaller prompt_id, and once nothing raises f the rest
follows by prompt_id.

Why the picks do not depend on the order of rows, the block size, the number of threads or the machine:
embeddings are rounded to integers in units of 2^-16. Every product, every dot product and every sum of gains
is then an integer below 2^53, so float64 holds it exactly and the order of additions is nothing that can be
seen. What rounding costs: a cosine moves by about 6e-6, less than storing the embeddings as float16 did.

Similarities are streamed in blocks of about 4 MiB; no n x n matrix is ever held. Memory is n * d * 8 bytes
for the rounded embeddings and a few blocks.
"""

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.pool import Floats, SelectionPool

UNIT_BITS = 16  # embeddings in units of 2^-16
PROMPTS_MAX = 2**20  # n * (2^16 * NORM_TOLERANCE)^2 stays below 2^53
NORM_TOLERANCE = 0.02  # a float16 row of norm 1 is off by at most 2^-11
BLOCK_CELLS = 2**19  # similarities held at once, 4 MiB
EAGER_ROWS = 64  # 10 to 1,000 rows differ by a fifth in time at n = 15,011, d = 64
REFRESH_ROWS = 64  # 16 took a tenth longer there


def facility_location_order(pool: SelectionPool, seed: int, depth: int | None) -> NDArray[np.int64]:
    """The greedy order, its first `depth` picks; the seed plays no part."""
    if pool.embeddings is None:
        raise ValueError("facility_location needs embeddings; materialise prompt_embeddings first.")
    by_id = np.argsort(pool.prompt_ids)  # argmax takes the first of equals: the smallest id
    points = _integer_points(pool.embeddings)[by_id]
    return by_id[_greedy(points, len(by_id) if depth is None else min(depth, len(by_id)))]


def _integer_points(embeddings: Floats) -> NDArray[np.float64]:  # (n, d) integers, as float64
    """Embeddings in units of 2^-16; ValueError for a row that is not of length 1."""
    if len(embeddings) > PROMPTS_MAX:
        raise ValueError(
            f"facility_location is exact up to {PROMPTS_MAX} prompts, the pool has {len(embeddings)}; "
            "choose another strategy."
        )
    points: NDArray[np.float64] = np.rint(np.asarray(embeddings, np.float64) * 2**UNIT_BITS)
    lengths = np.sqrt(np.einsum("ij,ij->i", points, points)) / 2**UNIT_BITS
    is_off = ~(np.abs(lengths - 1) <= NORM_TOLERANCE)
    if is_off.any():
        row = int(np.flatnonzero(is_off)[0])
        raise ValueError(
            f"facility_location: {int(is_off.sum())} rows of embeddings are not of length 1, the first is row {row} "
            f"with {lengths[row]:.4g}; expected L2-normalised rows, as prompt_embeddings stores them."
        )
    return points


def _greedy(points: NDArray[np.float64], depth: int) -> NDArray[np.int64]:
    """Greedy picks with lazy bounds: a gain can only fall, so an old gain is an upper bound of the present one.

    After a pick, `covered` rises in some rows. Where they are few, the loss of every gain is subtracted at
    once and all bounds stay as exact as they were. Where they are many, all bounds are marked stale, and only
    those that surface at the top are computed anew. Source of the lazy part: Minoux, "Accelerated greedy
    algorithms", 1978.
    """
    n = len(points)
    covered = np.zeros(n)  # similarity of each prompt to its closest pick so far
    bounds = _gains(points, np.arange(n), covered)
    is_stale = np.zeros(n, bool)
    picks = np.empty(depth, np.int64)
    for i in range(depth):
        pick = _best(points, covered, bounds, is_stale)
        if bounds[pick] <= 0:
            picks[i:] = np.flatnonzero(bounds >= 0)[: depth - i]  # nothing raises f any more: by prompt_id
            break
        picks[i] = pick
        raised = np.maximum(covered, points @ points[pick])
        _lower_bounds(points, covered, raised, bounds, is_stale)
        covered = raised
        bounds[pick] = -1
        is_stale[pick] = False
    return picks


def _best(
    points: NDArray[np.float64],
    covered: NDArray[np.float64],
    bounds: NDArray[np.float64],
    is_stale: NDArray[np.bool_],
) -> int:
    """The first row of the largest gain; refreshes stale bounds until the top one is exact."""
    n = len(bounds)
    while is_stale[best := int(bounds.argmax())]:
        top = np.argpartition(bounds, n - REFRESH_ROWS)[n - REFRESH_ROWS :] if n > REFRESH_ROWS else np.arange(n)
        rows = np.union1d(top[is_stale[top]], [best])
        bounds[rows] = _gains(points, rows, covered)
        is_stale[rows] = False
    return best


def _gains(points: NDArray[np.float64], rows: NDArray[np.int64], covered: NDArray[np.float64]) -> NDArray[np.float64]:
    """What adding each of `rows` would add to f: sum over x of max(0, similarity - covered)."""
    gains = np.empty(len(rows))
    step = max(1, BLOCK_CELLS // len(points))
    for start in range(0, len(rows), step):
        block = points[rows[start : start + step]] @ points.T
        block -= covered
        np.maximum(block, 0, out=block)
        gains[start : start + step] = block.sum(axis=1)
    return gains


def _lower_bounds(
    points: NDArray[np.float64],
    covered: NDArray[np.float64],
    raised: NDArray[np.float64],
    bounds: NDArray[np.float64],
    is_stale: NDArray[np.bool_],
) -> None:
    """Subtract from every gain what the rise of `covered` took from it; or, where many rows rose, mark all as stale."""
    rows = np.flatnonzero(raised > covered)
    if len(rows) > EAGER_ROWS:
        is_stale[:] = bounds >= 0
        return
    step = max(1, BLOCK_CELLS // len(points))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        block = points[some] @ points.T
        old = covered[some, None]
        np.clip(block, old, raised[some, None], out=block)  # max(0, s - old) - max(0, s - new)
        block -= old
        bounds -= np.where(bounds < 0, 0, block.sum(axis=0))  # below 0: picked already
