"""Apportionment: the counts of one budget, and the complete stratified order of ten million prompts."""

from __future__ import annotations

import heapq
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.apportionment import allocate
from tests.benchmarks import data, page
from tests.benchmarks.data import Inputs
from tests.benchmarks.fresh import Outcome, Side, take_turns
from tests.benchmarks.scale import Scale
from tests.benchmarks.timing import best_of

TITLE = "Apportionment"
ABOUT = """\
{tasks:,} tasks. A priority queue takes the same time for every pick up to a logarithm of the number of tasks. So {few:,} of
its picks are measured and scaled."""


def one_sort(inputs: Inputs, depth: int) -> NDArray[np.int64]:
    """Sort as many 64-bit numbers with one argsort. An order of all rows cannot be cheaper."""
    return np.argsort(inputs["prompt_ids"])


def literal_queue(costs: NDArray[np.int64], sizes: NDArray[np.int64], budget_n: int) -> NDArray[np.int64]:
    """Compute the apportionment by its definition: a priority queue, one pick at a time."""
    counts = np.zeros(len(costs), np.int64)
    queue = [(0, int(cost), order) for order, cost in enumerate(costs) if sizes[order] > 0]
    heapq.heapify(queue)
    for _ in range(min(budget_n, int(sizes.sum()))):
        key, cost, order = heapq.heappop(queue)
        counts[order] += 1
        if counts[order] < sizes[order]:
            heapq.heappush(queue, (key + cost, cost, order))
    return counts


def part(scale: Scale) -> page.Part:
    arrays = data.task_pool(scale.many_n, scale.tasks_n)
    path = data.save(scale.folder, f"tasks_{scale.many_n}", arrays)
    sizes = np.bincount(arrays["tasks"], minlength=scale.tasks_n)
    costs = np.rint(1e6 * np.linspace(0.05, 0.95, scale.tasks_n)).astype(np.int64)
    queue_s = best_of(lambda: literal_queue(costs, sizes, scale.heap_n), 2) / scale.heap_n  # per pick
    bodies = [
        ABOUT.format(tasks=scale.tasks_n, few=scale.heap_n),
        _counts(scale, costs, sizes, queue_s),
        _orders(scale, path, queue_s),
    ]
    return page.Part(TITLE, "\n\n".join(bodies))


def _counts(scale: Scale, costs: NDArray[np.int64], sizes: NDArray[np.int64], queue_s: float) -> str:
    """Measure `allocate` at three budgets."""
    if not (allocate(costs, sizes, scale.heap_n) == literal_queue(costs, sizes, scale.heap_n)).all():
        raise RuntimeError("allocate and the priority queue differ: times of different results say nothing.")
    rows = []
    for budget_n in (scale.many_n // 1_000, scale.many_n // 10, scale.many_n // 2):
        ours = best_of(lambda budget_n=budget_n: allocate(costs, sizes, budget_n))
        queue = queue_s * budget_n
        rows.append([f"{budget_n:,}", f"{ours * 1e3:.2f}", f"{queue * 1e3:,.0f}", f"{queue / ours:,.0f}"])
    heads = ["picks", "`allocate`, ms", "priority queue, ms", "queue / ours"]
    return f"Counts of one budget, of {scale.many_n:,} prompts:\n\n" + page.table(heads, rows)


def _orders(scale: Scale, path: Path, queue_s: float) -> str:
    """Measure `rank` at full depth, compared with one sort of as many numbers."""
    n = scale.many_n
    names = ("selected.task_diversity", "selected.weighted_task_diversity", "apportionment.one_sort")
    equal, weighted, sort = take_turns([Side(name, path, n, turns_n=2) for name in names])
    input_mib = n * 12 / 2**20

    def row(what: str, seconds: float, outcome: Outcome | None = None) -> list[str]:
        memory = "" if outcome is None else f"{outcome.extra_mib / input_mib:.1f}"
        return [what, f"{seconds:.3g}", f"{seconds / sort.seconds:,.1f}", memory]

    rows = [
        row("`rank`, task_diversity", equal.seconds, equal),
        row("`rank`, weighted_task_diversity", weighted.seconds, weighted),
        row("one `np.argsort` of the ids", sort.seconds, sort),
        row("priority queue, all picks, scaled", queue_s * n),
    ]
    heads = ["side", "seconds", "in sorts", "extra memory / input"]
    about = f"The order of all {n:,} prompts; the input, ids and task codes, is {input_mib:,.0f} MiB:\n\n"
    return about + page.table(heads, rows)
