"""k-center compared with greedy core-sets of other libraries and with simple implementations in numpy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import data, page
from tests.benchmarks.data import Inputs
from tests.benchmarks.fresh import Outcome, Side, run, take_turns
from tests.benchmarks.scale import Scale

TITLE = "k-center"
ABOUT = """\
The first {k:,} prompts of {n:,}. "radius" is the distance from the pool's worst covered prompt to its closest pick, divided by
ours after as many picks (1.00: equally good; the first pick differs between sides). Each side starts from the array that it needs
(float32; ours from the stored float16), in a fresh process, after a call on a few rows."""


def plain_loop(inputs: Inputs, depth: int) -> NDArray[np.int64]:
    """Pick one row at a time: subtract, square, sum, running minimum, argmax."""
    rows = inputs["rows"]
    picks = np.zeros(depth, np.int64)
    closest = np.full(len(rows), np.inf, np.float32)
    for i in range(depth - 1):
        difference = rows - rows[picks[i]]
        np.minimum(closest, (difference**2).sum(axis=1), out=closest)
        picks[i + 1] = closest.argmax()
    return picks


def one_product_a_pick(inputs: Inputs, depth: int) -> NDArray[np.int64]:
    """Keep the largest cosine to any pick so far. Each pick needs one matrix-vector product."""
    rows = inputs["rows"]
    picks = np.zeros(depth, np.int64)
    closest = np.full(len(rows), -np.inf, np.float32)
    for i in range(depth - 1):
        np.maximum(closest, rows @ rows[picks[i]], out=closest)
        picks[i + 1] = closest.argmin()
    return picks


def scikit_activeml(inputs: Inputs, depth: int) -> NDArray[np.int64]:
    from skactiveml.pool import CoreSet

    unlabelled = np.full(len(inputs["rows"]), np.nan)
    return np.asarray(CoreSet(random_state=0).query(inputs["rows"], unlabelled, batch_size=depth))


def small_text_next(inputs: Inputs, depth: int) -> NDArray[np.int64]:
    """Make one pick by small-text after the first `depth` rows are picked. It computes the distances to all of them again."""
    greedy_coreset = _small_text_coreset()
    rows = inputs["rows"]
    everything, picked = np.arange(len(rows)), np.arange(depth)
    return np.asarray(greedy_coreset(rows, everything, picked, 1, distance_metric="euclidean", normalized=True))


def small_text_picks(inputs: Inputs, depth: int) -> NDArray[np.int64]:
    """Return the first picks, which start with row 0."""
    greedy_coreset = _small_text_coreset()
    rows = inputs["rows"]
    first = np.array([0])
    others = greedy_coreset(rows, np.arange(len(rows)), first, depth - 1, distance_metric="euclidean", normalized=True)
    return np.concatenate([first, others])


def _small_text_coreset() -> Callable[..., NDArray[np.int64]]:
    """Import small-text from its own folder, because its top-level package `tests` would hide ours."""
    sys.path.append(str(Path(sys.prefix) / "small_text"))
    from small_text.query_strategies.coresets import greedy_coreset

    return greedy_coreset


def part(scale: Scale) -> page.Part:
    bodies = [ABOUT.format(k=scale.k_center_n, n=scale.prompts_n)]
    for d in scale.widths:
        bodies.append(f"d = {d:,}:\n\n" + page.comparison(list(_lines(scale, d)), "radius / ours"))
    return page.Part(TITLE, "\n\n".join(bodies))


def _lines(scale: Scale, d: int) -> Iterator[page.Line]:
    path, k = scale.pool(d), scale.k_center_n
    ours, product, loop, activeml = take_turns(
        [
            Side("selected.k_center", path, k),
            Side("k_center.one_product_a_pick", path, k),
            Side("k_center.plain_loop", path, k, turns_n=1),
            Side("k_center.scikit_activeml", path, k, turns_n=1),
        ]
    )
    rows = data.load(path)["rows"]

    def quality(outcome: Outcome) -> float:
        return radius(rows, outcome.picks) / radius(rows, ours.picks[: len(outcome.picks)])

    product_target = 5 if d >= 1_024 else None
    yield page.Line("ours", ours.seconds, ours.extra_mib)
    yield page.Line("one product a pick", product.seconds, product.extra_mib, quality(product), product_target)
    yield page.Line("plain loop", loop.seconds, loop.extra_mib, quality(loop), 20)
    yield page.Line("scikit-activeml `CoreSet`", activeml.seconds, activeml.extra_mib, quality(activeml))
    yield _small_text(scale, d, quality)


def _small_text(scale: Scale, d: int, quality: Callable[[Outcome], float]) -> page.Line:
    """Measure five picks of small-text, and interpolate: each pick computes the distances to all earlier picks again."""
    path, k = scale.pool(d), scale.k_center_n
    at = np.linspace(1, k, 5).astype(int)
    taken = [run(Side("k_center.small_text_next", path, int(depth))) for depth in at]
    picked = run(Side("k_center.small_text_picks", path, scale.k_center_n // 50))
    seconds = float(np.trapezoid([outcome.seconds for outcome in taken], at))
    how = f"picks {', '.join(f'{i:,}' for i in at)} measured, the sum of all by trapezoids; radius after {len(picked.picks)} picks"
    return page.Line(
        "small-text `greedy_coreset`",
        seconds,
        max(o.extra_mib for o in taken),
        quality(picked),
        how=how,
    )


def radius(rows: NDArray[np.float32], picks: NDArray[np.int64]) -> float:
    """Return the largest distance from any row to its nearest pick."""
    lengths = (rows.astype(np.float64) ** 2).sum(axis=1)
    closest = np.full(len(rows), np.inf)
    for some in np.array_split(picks, max(1, len(picks) // 256)):
        squares = lengths[:, None] + lengths[some] - 2 * (rows @ rows[some].T).astype(np.float64)
        np.minimum(closest, squares.min(axis=1), out=closest)
    return float(np.sqrt(max(closest.max(), 0)))
