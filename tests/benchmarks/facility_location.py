"""Facility location compared with apricot and submodlib. Each library is called in the fastest way that was tried.

Seconds below are for n = 15,000, d = 384 and 1,500 picks, on the otherwise idle machine of docs/BENCHMARKS.md. Brackets contain
the share of the objective of exact greedy.

apricot 0.6.1 gets a precomputed matrix: its `metric="cosine"` squares the cosine, which is another objective, and its distances
take longer than one product. `lazy` (its default) took 11.9, `two-stage` 19.9, `approximate-lazy` 13.0 (0.9998), `stochastic`
11.0 (0.982). `n_neighbors` raises an error for cosine and for euclidean. So the sparse mode is measured with the same graph
from scikit-learn, as a precomputed CSR matrix: `lazy` 8.0 (0.9996), `two-stage` 12.0. Every call compiles the loops again,
which is about 2 of these seconds; the tables exclude this time.

submodlib 0.0.3 gets a precomputed matrix too: at 3,000 rows, its own dense kernel (C++ over lists) took 7.1, and a float32
matrix took 1.5. `LazyGreedy` took 24.2, `LazierThanLazyGreedy` 11.9 (0.9972). The sparse mode reads all n x n pairs before the
first pick: 0.35, 1.39 and 4.99 at 750, 1,500 and 3,000 rows, for any number of picks. So it is measured on few rows, and scaled
by their square.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import data, page
from tests.benchmarks.data import Inputs
from tests.benchmarks.fresh import Outcome, Side, take_turns
from tests.benchmarks.scale import Scale

TITLE = "Facility location"
NEIGHBOURS = 64
ABOUT = """\
The first k of {n:,} prompts. "objective" is the exact F(S) = Σ max(0, cos) of a side's picks, divided by that of ours with
all similarities. Time and memory of every side include the computation of the similarities. numba's compilation, which apricot
repeats at every call, is subtracted from its time. `tests/benchmarks/facility_location.py` explains how each peer is called."""
Picks = NDArray[np.int64]


def apricot(inputs: Inputs, depth: int) -> Picks:
    """Use all similarities, and `lazy`, apricot's default optimizer."""
    from apricot import FacilityLocationSelection

    similarities = inputs["rows"] @ inputs["rows"].T
    similarities = np.maximum(similarities, 0, out=similarities).astype(np.float64)
    model = FacilityLocationSelection(depth, metric="precomputed", optimizer="lazy")
    return np.asarray(model.fit(similarities).ranking)


def apricot_graph(inputs: Inputs, depth: int) -> Picks:
    """Use the similarities of each prompt's nearest neighbours, as a CSR matrix."""
    from apricot import FacilityLocationSelection

    model = FacilityLocationSelection(depth, metric="precomputed", optimizer="lazy")
    return np.asarray(model.fit(_graph(inputs["rows"])).ranking)


def submodlib(inputs: Inputs, depth: int) -> Picks:
    """Use all similarities, and submodlib's lazy greedy."""
    from submodlib import FacilityLocationFunction

    similarities = inputs["rows"] @ inputs["rows"].T
    function = FacilityLocationFunction(
        n=len(similarities), mode="dense", separate_rep=False, sijs=similarities, pybind_mode="array32"
    )
    return _maximised(function, depth)


def submodlib_graph(inputs: Inputs, depth: int) -> Picks:
    """Use the similarities of each prompt's nearest neighbours, as a CSR matrix. submodlib's own computation took longer."""
    from submodlib import FacilityLocationFunction

    graph = _graph(inputs["rows"])
    function = FacilityLocationFunction(n=graph.shape[0], mode="sparse", sijs=graph, num_neighbors=NEIGHBOURS)
    return _maximised(function, depth)


def _maximised(function: Any, depth: int) -> Picks:
    picked = function.maximize(budget=depth, optimizer="LazyGreedy", show_progress=False)
    return np.array([row for row, _ in picked])


def _graph(rows: NDArray[np.float32]) -> Any:
    """Return a CSR matrix (n, n): row s has the cosines of the prompts that have s among their nearest neighbours."""
    from sklearn.neighbors import kneighbors_graph

    graph = kneighbors_graph(rows, NEIGHBOURS, mode="distance", metric="cosine", include_self=True)
    graph.data = np.maximum(1 - graph.data, 0).astype(np.float64)
    return graph.T.tocsr()


def part(scale: Scale) -> page.Part:
    bodies = [ABOUT.format(n=scale.prompts_n)]
    for d in scale.widths:
        rows = data.load(scale.pool(d))["rows"]
        for k in scale.facility_n:
            lines = list(_lines(scale, d, k, rows))
            bodies.append(f"d = {d:,}, k = {k:,}:\n\n" + page.comparison(lines, "objective"))
    return page.Part(TITLE, "\n\n".join(bodies))


def _lines(scale: Scale, d: int, k: int, rows: NDArray[np.float32]) -> Iterator[page.Line]:
    path, few = scale.pool(d), scale.graph_rows_n
    ours, exact, ap, ap_graph, sub, sub_graph = take_turns(
        [
            Side("selected.facility_location", path, k, turns_n=3),
            Side("selected.facility_location_exact", path, k, turns_n=1),
            Side("facility_location.apricot", path, k, turns_n=1),
            Side("facility_location.apricot_graph", path, k, turns_n=2),
            Side("facility_location.submodlib", path, k, turns_n=1),
            Side("facility_location.submodlib_graph", path, few // 10, few, turns_n=1),
        ]
    )
    best = objective(rows, exact.picks)

    def line(side: str, outcome: Outcome, compile_s: float = 0.0, how: str = "") -> page.Line:
        quality = objective(rows, outcome.picks) / best
        return page.Line(side, outcome.seconds - compile_s, outcome.extra_mib, quality, 4, 5, how=how)

    share = objective(rows, ours.picks) / best
    yield page.Line("ours", ours.seconds, ours.extra_mib, share, quality_target=0.999)
    yield page.Line("ours, all similarities (`neighbours_n=None`)", exact.seconds, exact.extra_mib, 1.0)
    compiled = "less {:.1f} s of compilation"
    yield line("apricot, dense, `lazy`", ap, ap.warm_s, compiled.format(ap.warm_s))
    name = f"apricot, {NEIGHBOURS} closest as CSR, `lazy`"
    yield line(name, ap_graph, ap_graph.warm_s, compiled.format(ap_graph.warm_s))
    yield line("submodlib, dense, `LazyGreedy`", sub)
    factor = (scale.prompts_n / few) ** 2
    how = f"{few:,} rows and {few // 10} picks measured, × {factor:g}: all pairs of rows are looked up before the first pick"
    yield page.Line(
        f"submodlib, {NEIGHBOURS} closest as CSR, `LazyGreedy`", sub_graph.seconds * factor, time_target=4, how=how
    )


def objective(rows: NDArray[np.float32], picks: Picks) -> float:
    """Return F(S): the sum over all prompts of the largest cosine to any pick, at least 0."""
    covered = np.zeros(len(rows), np.float32)
    for some in np.array_split(picks, max(1, len(picks) // 256)):
        np.maximum(covered, (rows @ rows[some].T).max(axis=1), out=covered)
    return float(covered.sum(dtype=np.float64))
