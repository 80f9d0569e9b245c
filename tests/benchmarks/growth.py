"""The growth of the time of greedy strategies with the pool and with the number of picks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.benchmarks import page
from tests.benchmarks.fresh import Side, take_turns
from tests.benchmarks.scale import Scale

TITLE = "Growth"
STRATEGIES = ("k_center", "facility_location", "dpp")
ABOUT = """\
Our seconds at d = {d}. "exponent" is the slope of a straight line through their logarithms: 1 is linear. Pools are the
first rows of one pool."""


def part(scale: Scale) -> page.Part:
    """Return one table over n at a fixed k, and one over k at a fixed n."""
    d, largest = scale.widths[0], scale.growth_rows[-1]
    middle_k, middle_n = scale.growth_depths[1], scale.growth_rows[-2]
    path = scale.pool(d, largest)
    along_n = {s: [Side(f"selected.{s}", path, middle_k, n, 2) for n in scale.growth_rows] for s in STRATEGIES}
    along_k = {s: [Side(f"selected.{s}", path, k, middle_n, 2) for k in scale.growth_depths] for s in STRATEGIES}
    bodies = [
        ABOUT.format(d=d),
        f"Along n, {middle_k:,} picks:\n\n" + _table("n", scale.growth_rows, along_n),
        f"Along k, {middle_n:,} prompts:\n\n" + _table("k", scale.growth_depths, along_k),
    ]
    return page.Part(TITLE, "\n\n".join(bodies))


def _table(name: str, sizes: Sequence[int], sides: dict[str, list[Side]]) -> str:
    rows = []
    for strategy, some in sides.items():
        seconds = [outcome.seconds for outcome in take_turns(some)]
        exponent = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
        rows.append([strategy, *(f"{s:.3g}" for s in seconds), f"{exponent:.2f}"])
    return page.table(["strategy", *(f"{name} = {size:,}" for size in sizes), "exponent"], rows)
