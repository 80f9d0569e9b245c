"""Coverage picks on a device: the same whole numbers by torch, where a pool's embeddings are a torch tensor.

A GPU reads all rows for every pick faster than a CPU finds out which ones it may skip, so nothing is lazy here. The
numbers are those of `grid`, `dpp` and `facility_location`, and exact, so the picks are the same. torch is imported
where it is used: without a tensor, selection never loads it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.grid import STEPS, check_lengths
from taskdiv_assets.selection.lazy import tell
from taskdiv_assets.selection.neighbours import Graph

if TYPE_CHECKING:
    from torch import Tensor

    from taskdiv_assets.selection.pool import Progress, SelectionPool

CELLS = 2**26  # numbers of a block, 256 MiB in float32


class Inverse(Protocol):
    """`dpp.Directions`."""

    def add(self, point: NDArray[np.floating[Any]], value: float) -> NDArray[np.float64]:
        """Take a pick in; returns its direction."""


def is_tensor(embeddings: object) -> TypeGuard[Tensor]:
    """True for a torch tensor; where torch was never imported there is none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(embeddings, torch.Tensor)


@contextmanager
def exact_products() -> Iterator[None]:
    """Matrix products of float32 in float32: TF32 would round what the grid keeps exact."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def on_grid(strategy: str, pool: SelectionPool, steps: int = STEPS) -> tuple[Tensor, NDArray[np.int64]]:
    """`grid.on_grid` on the tensor's own device: (n, d) float32 in the order of ids, and the pool's row of each."""
    import torch

    tensor = pool.embeddings
    if not is_tensor(tensor):
        raise ValueError(f"{strategy}: embeddings are no torch tensor; expected (n, d), on the device to pick on.")
    tensor = tensor.detach()  # picks have no gradient
    by_id = np.argsort(pool.prompt_ids)
    points = torch.empty(tensor.shape, dtype=torch.float32, device=tensor.device)
    wide = torch.promote_types(tensor.dtype, torch.float32)
    for rows in _blocks(*tensor.shape):
        points[rows] = (tensor[torch.from_numpy(by_id[rows]).to(tensor.device)].to(wide) * steps).round().float()
    check_lengths(strategy, _lengths(points).cpu().numpy() / steps**2, by_id)
    return points, by_id


def k_center(points: Tensor, first: int, depth: int, progress: Progress | None = None) -> NDArray[np.int64]:
    """`k_center`, one product a pick."""
    picks = np.empty(depth, np.int64)
    with exact_products():
        lengths = _lengths(points)
        values = lengths.new_full((len(points),), float("inf"))
        pick = first
        for done in range(depth):
            picks[done] = pick
            products = (points @ points[pick]).double()
            values = values.minimum(lengths + lengths[pick] - 2.0 * products)
            values[pick] = -1.0  # stays below every distance
            pick = _first_of_largest(values)
            tell(progress, done, depth)
    return picks


def dpp(points: Tensor, inverse: Inverse, depth: int, progress: Progress | None = None) -> NDArray[np.int64]:
    """`dpp`, one product a pick."""
    import torch

    from taskdiv_assets.selection.dpp import DIRECTION_BITS, PROJECTION_BITS, VALUE_SCALE

    picks = np.empty(depth, np.int64)
    with exact_products():
        values = _lengths(points) * VALUE_SCALE
        wide = points.double()
        for done in range(depth):
            pick = _first_of_largest(values)
            picks[done] = pick
            direction = torch.from_numpy(inverse.add(points[pick].cpu().numpy(), float(values[pick]))).to(wide.device)
            lost = ((wide @ direction) * 2.0 ** (PROJECTION_BITS - DIRECTION_BITS)).round()
            values = values - lost * lost
            values[pick] = -float("inf")
            tell(progress, done, depth)
    return picks


def nearest(points: Tensor, neighbours_n: int) -> Graph:
    """`neighbours.nearest`: the largest similarities of each row, equal ones by id, as one sortable number each."""
    import torch

    n = len(points)
    m = min(neighbours_n, n)
    graph = Graph(np.zeros((n, m), np.int32), np.zeros((n, m), np.int32))
    places = 2**27 - 1 - torch.arange(n, device=points.device)
    with exact_products():
        for rows in _blocks(n, n):
            keys = ((points[rows] @ points.T).clamp(min=0).long() << 27) + places
            top = keys.topk(m, dim=1).values
            similarities = top >> 27
            neighbours = (2**27 - 1 - (top & (2**27 - 1))) * (similarities > 0)
            graph.similarities[rows] = similarities.int().cpu().numpy()
            graph.neighbours[rows] = neighbours.int().cpu().numpy()
    return graph


def facility_location(points: Tensor, depth: int, progress: Progress | None = None) -> NDArray[np.int64]:
    """`facility_location.greedy_exact`, every gain kept exact after every pick."""
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
            for some in _blocks(len(rows), len(points)):
                old, new = covered[rows[some], None], raised[rows[some], None]
                gains -= ((points[rows[some]] @ points.T).clamp(old, new) - old).sum(dim=0, dtype=torch.float64)
            gains[picks[: done + 1]] = -1
            covered = raised
            tell(progress, done, depth)
    return picks


def gains_over(points: Tensor, *levels: Tensor) -> Tensor:  # (levels, n)
    """`facility_location.gains_over` for all rows."""
    import torch

    gains = torch.zeros((len(levels), len(points)), dtype=torch.float64, device=points.device)
    with exact_products():
        for rows in _blocks(len(points), len(points)):
            block = points[rows] @ points.T
            for level, out in zip(levels, gains, strict=True):
                out[rows] = (block - level).clamp(min=0).sum(dim=1, dtype=torch.float64)
    return gains


def levels(points: Tensor, picks: NDArray[np.int64], budgets: Sequence[int]) -> list[Tensor]:  # each (n,)
    """Similarity of every prompt to its closest pick, for each budget; ascending budgets."""
    import torch

    found, level, start = [], torch.zeros(len(points), device=points.device), 0
    with exact_products():
        for budget_n in budgets:
            for some in _blocks(budget_n - start, len(points)):
                rows = torch.from_numpy(picks[start + some.start : start + some.stop]).to(points.device)
                level = level.maximum((points @ points[rows].T).amax(dim=1))
            found.append(level)
            start = budget_n
    return found


def _lengths(points: Tensor) -> Tensor:
    import torch

    return torch.cat([(points[rows].double() ** 2).sum(dim=1) for rows in _blocks(*points.shape)])


def _first_of_largest(values: Tensor) -> int:
    """Argmax promises no order among equals."""
    return int((values == values.max()).nonzero()[0])


def _blocks(rows_n: int, columns_n: int) -> Iterator[slice]:
    step = max(1, CELLS // max(1, columns_n))
    return (slice(start, min(start + step, rows_n)) for start in range(0, rows_n, step))
