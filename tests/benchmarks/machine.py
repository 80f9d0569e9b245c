"""The times of k-center and of the similarity graph, compared with the limits of this machine's arithmetic and memory."""

from __future__ import annotations

import numpy as np

from tests.benchmarks import page
from tests.benchmarks.fresh import Side, take_turns
from tests.benchmarks.scale import Scale
from tests.benchmarks.timing import best_of

TITLE = "Distance to the machine's bound"
ABOUT = """\
Measured here, one thread: {gflops:.0f} GFLOP/s of float32 products ({square:,} × {square:,}), {gbytes:.1f} GB/s of memory
traffic (a copy of {copy:,} MiB, read and written). "bound" is the time of the products at that rate: for k-center all
distances of n prompts to k picks, 2·n·k·d operations (exact bounds skip some of them, so a share above 100% is
possible); for facility location each pair of prompts once, n²·d operations. "from memory" is the time to read the data of one matrix-vector
product per pick, n·k·d·4 bytes, at the copy's rate."""


def part(scale: Scale) -> page.Part:
    """Return the two rates, and our times beside the bounds."""
    gflops, gbytes = _product_rate(scale.square_n), _copy_rate(scale.copy_mib)
    rows = []
    n, k = scale.prompts_n, scale.k_center_n
    for d in scale.widths:
        path = scale.pool(d)
        centre, graph = take_turns([Side(f"selected.{name}", path, k) for name in ("k_center", "facility_location")])
        for name, seconds, operations, read in (
            ("k_center", centre.seconds, 2 * n * k * d, f"{n * k * d * 4 / gbytes / 1e9:.3g}"),
            ("facility_location", graph.seconds, n * n * d, ""),
        ):
            bound = operations / gflops / 1e9
            rows.append([name, f"{d:,}", f"{seconds:.3g}", f"{bound:.3g}", f"{bound / seconds:.0%}", read])
    heads = ["ours", "d", "seconds", "bound, seconds", "bound / ours", "from memory, seconds"]
    about = ABOUT.format(gflops=gflops, square=scale.square_n, gbytes=gbytes, copy=scale.copy_mib)
    return page.Part(TITLE, about + f"\n\n{n:,} prompts, {k:,} picks:\n\n" + page.table(heads, rows))


def _product_rate(square_n: int) -> float:
    """Return billions of operations a second in a product of float32 matrices."""
    left = np.random.default_rng(0).standard_normal((square_n, square_n), np.float32)
    right = left[::-1].copy()  # the product of an array with itself turned would be made in half the operations
    out = np.empty_like(left)
    return 2 * square_n**3 / best_of(lambda: np.matmul(left, right, out=out)) / 1e9


def _copy_rate(mib: int) -> float:
    """Return billions of bytes a second in a copy, read and written."""
    source = np.ones(mib * 2**18, np.float32)
    target = np.zeros_like(source)
    return 2 * source.nbytes / best_of(lambda: np.copyto(target, source)) / 1e9
