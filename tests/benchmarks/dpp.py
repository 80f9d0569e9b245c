"""dpp compared with a simple greedy implementation in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import data, page
from tests.benchmarks.data import Inputs
from tests.benchmarks.fresh import Side, take_turns
from tests.benchmarks.scale import Scale

TITLE = "dpp"
NOISE = 0.1  # the strategy's s2
ABOUT = """\
The first {k:,} prompts of {n:,}, greedy log det(I + X X′ / 0.1). "objective" is that log determinant, divided by ours."""


def numpy_greedy(inputs: Inputs, depth: int) -> NDArray[np.int64]:
    """Pick greedily in float32: one matrix-vector product and one rank-one update of the (d, d) inverse for each pick."""
    rows = inputs["rows"]
    inverse = np.eye(rows.shape[1], dtype=np.float32)
    gains = np.einsum("ij,ij->i", rows, rows)
    picks = np.zeros(depth, np.int64)
    for i in range(depth):
        pick = picks[i] = gains.argmax()
        direction = inverse @ rows[pick]
        direction /= np.sqrt(np.float32(NOISE) + gains[pick])
        gains -= (rows @ direction) ** 2
        gains[pick] = -np.inf
        inverse -= np.outer(direction, direction)
    return picks


def part(scale: Scale) -> page.Part:
    bodies = [ABOUT.format(k=scale.k_center_n, n=scale.prompts_n)]
    for d in scale.widths:
        path, k = scale.pool(d), scale.k_center_n
        ours, other = take_turns([Side("selected.dpp", path, k), Side("dpp.numpy_greedy", path, k)])
        rows = data.load(path)["rows"]
        share = objective(rows, other.picks) / objective(rows, ours.picks)
        lines = [
            page.Line("ours", ours.seconds, ours.extra_mib, 1.0),
            page.Line("one product and one rank-one update a pick, float32", other.seconds, other.extra_mib, share),
        ]
        bodies.append(f"d = {d:,}:\n\n" + page.comparison(lines, "objective"))
    return page.Part(TITLE, "\n\n".join(bodies))


def objective(rows: NDArray[np.float32], picks: NDArray[np.int64]) -> float:
    """Return log det(I + X X' / s2) of the picks, computed by the equal determinant over the d dimensions."""
    chosen = rows[picks].astype(np.float64)
    return float(np.linalg.slogdet(np.eye(rows.shape[1]) + chosen.T @ chosen / NOISE)[1])
