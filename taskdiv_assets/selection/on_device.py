"""Compute with torch the picks of strategies for a pool whose embeddings are a torch tensor, on the device of this tensor.

A GPU computes all rows quickly, so this module does not skip rows for a pick as `lazy` does. It computes the same whole numbers
as `grid`, `directions` and `facility_location`, so the picks are the same as on the CPU. torch is imported inside functions, so
that pools without a tensor do not need torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.directions import DIRECTION_BITS, PROJECTION_BITS, VALUE_SCALE, Directions
from taskdiv_assets.selection.grid import STEPS, blocks, check_lengths
from taskdiv_assets.selection.lazy import tell
from taskdiv_assets.selection.neighbours import Graph

if TYPE_CHECKING:
    from torch import Tensor

    from taskdiv_assets.selection.pool import Progress, SelectionPool

CELLS = 2**26  # numbers of one block, 256 MiB in float32


def is_tensor(embeddings: object) -> TypeGuard[Tensor]:
    """Return True for a torch tensor. If torch is not imported yet, `embeddings` cannot be a tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(embeddings, torch.Tensor)


@contextmanager
def exact_products() -> Iterator[None]:
    """Switch off gradients and TF32 inside the `with` block. TF32 would round the exact float32 numbers of the grid."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def on_grid(strategy: str, pool: SelectionPool, steps: int = STEPS) -> tuple[Tensor, NDArray[np.int64]]:
    """Return the points of `grid.on_grid`, (n, d) float32 on the tensor's device, and the pool row of each point, (n,).

    Raise ValueError if the embeddings are not a torch tensor, or if a row is not of length 1 (see `check_lengths`).
    """
    import torch

    tensor = pool.embeddings
    if not is_tensor(tensor):
        raise ValueError(f"{strategy}: embeddings are not a torch tensor; expected (n, d), on the device to pick on.")
    tensor = tensor.detach()  # picks have no gradient
    by_id = np.argsort(pool.prompt_ids)
    points = torch.empty(tensor.shape, dtype=torch.float32, device=tensor.device)
    wide = torch.promote_types(tensor.dtype, torch.float32)
    for rows in blocks(len(tensor), tensor.shape[1], CELLS):
        points[rows] = (tensor[torch.from_numpy(by_id[rows]).to(tensor.device)].to(wide) * steps).round().float()
    check_lengths(strategy, _lengths(points).cpu().numpy() / steps**2, by_id)
    return points, by_id


def at(points: Tensor, rows: NDArray[np.int64]) -> Tensor:
    import torch

    return points[torch.from_numpy(np.ascontiguousarray(rows)).to(points.device)]


def column_sums(points: Tensor) -> NDArray[np.float64]:  # (d,)
    import torch

    sums: NDArray[np.float64] = points.sum(dim=0, dtype=torch.float64).cpu().numpy()
    return sums


def k_center(points: Tensor, first: int, depth: int, progress: Progress | None = None) -> NDArray[np.int64]:
    """Return the picks of `selection.k_center` as rows of `points`. `first` is the row of the first pick.

    Each pick takes one matrix-vector product.
    """
    with exact_products():
        lengths = _lengths(points)
        values = lengths.new_full((len(points),), sys.float_info.max)
        values[first] = float("inf")

        def after(values: Tensor, pick: int) -> Tensor:
            return values.minimum(lengths + lengths[pick] - 2.0 * (points @ points[pick]).double())

        return _greedy(values, after, depth, progress)


def dpp(points: Tensor, directions: Directions, depth: int, progress: Progress | None = None) -> NDArray[np.int64]:
    """Return the picks of `selection.dpp` as rows of `points`. Each pick takes one matrix-vector product."""
    import torch

    with exact_products():
        wide = points.double()

        def after(values: Tensor, pick: int) -> Tensor:
            direction = directions.add(points[pick].cpu().numpy(), float(values[pick]))
            lost = (wide @ torch.from_numpy(direction).to(wide.device)) * 2.0 ** (PROJECTION_BITS - DIRECTION_BITS)
            return values - lost.round() ** 2

        return _greedy(_lengths(points) * VALUE_SCALE, after, depth, progress)


def _greedy(
    values: Tensor, after: Callable[[Tensor, int], Tensor], depth: int, progress: Progress | None
) -> NDArray[np.int64]:
    picks = np.empty(depth, np.int64)
    for done in range(depth):
        picks[done] = pick = _first_of_largest(values)
        values = after(values, pick)
        values[pick] = -float("inf")
        tell(progress, done, depth)
    return picks


def nearest(points: Tensor, neighbours_n: int) -> Graph:
    """Return the same graph as `neighbours.nearest`. Neighbours are sorted by falling similarity, then by row."""
    import torch

    n = len(points)
    m = min(neighbours_n, n)
    graph = Graph(np.zeros((n, m), np.int32), np.zeros((n, m), np.int32))
    places = 2**27 - 1 - torch.arange(n, device=points.device)
    with exact_products():
        for rows in blocks(n, n, CELLS):
            keys = ((points[rows] @ points.T).clamp(min=0).long() << 27) + places
            top = keys.topk(m, dim=1).values
            similarities = top >> 27
            neighbours = (2**27 - 1 - (top & (2**27 - 1))) * (similarities > 0)
            graph.similarities[rows] = similarities.int().cpu().numpy()
            graph.neighbours[rows] = neighbours.int().cpu().numpy()
    return graph


def facility_location(points: Tensor, depth: int, progress: Progress | None = None) -> NDArray[np.int64]:
    """Return the picks of `facility_location.greedy_exact` as rows of `points`. All gains are exact after every pick."""
    import torch

    picks = np.empty(depth, np.int64)
    with exact_products():
        covered = torch.zeros(len(points), device=points.device)
        gains = gains_over(points, covered)[0]
        for done in range(depth):
            pick = _first_of_largest(gains)
            if gains[pick] <= 0:
                picks[done:] = (gains >= 0).nonzero()[: depth - done, 0].cpu().numpy()
                break
            picks[done] = pick
            raised = covered.maximum(points @ points[pick])
            rows = (raised > covered).nonzero()[:, 0]
            for some in blocks(len(rows), len(points), CELLS):
                old, new = covered[rows[some], None], raised[rows[some], None]
                gains -= ((points[rows[some]] @ points.T).clamp(old, new) - old).sum(dim=0, dtype=torch.float64)
            gains[picks[: done + 1]] = -1
            covered = raised
            tell(progress, done, depth)
    return picks


def gains_over(points: Tensor, *levels: Tensor) -> Tensor:  # (levels, n)
    """Return the gains of `facility_location.gains_over` for all rows, in squared grid steps. Each level is (n,)."""
    import torch

    gains = torch.zeros((len(levels), len(points)), dtype=torch.float64, device=points.device)
    with exact_products():
        for rows in blocks(len(points), len(points), CELLS):
            block = points[rows] @ points.T
            for level, out in zip(levels, gains, strict=True):
                out[rows] = (block - level).clamp(min=0).sum(dim=1, dtype=torch.float64)
    return gains


def levels(points: Tensor, picks: NDArray[np.int64], budgets: Sequence[int]) -> list[Tensor]:  # each (n,)
    """Return, for each budget, the similarity of every prompt to its closest pick, in squared grid steps (0 if negative).

    `picks` are rows of `points`. `budgets` must be in ascending order.
    """
    import torch

    found, level, start = [], torch.zeros(len(points), device=points.device), 0
    with exact_products():
        for budget_n in budgets:
            for some in blocks(budget_n - start, len(points), CELLS):
                rows = torch.from_numpy(picks[start + some.start : start + some.stop]).to(points.device)
                level = level.maximum((points @ points[rows].T).amax(dim=1))
            found.append(level)
            start = budget_n
    return found


def _lengths(points: Tensor) -> Tensor:
    import torch

    return torch.cat([(points[rows].double() ** 2).sum(dim=1) for rows in blocks(len(points), points.shape[1], CELLS)])


def _first_of_largest(values: Tensor) -> int:
    return int((values == values.max()).nonzero()[0])  # argmax may return any of equal values
