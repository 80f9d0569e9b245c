"""The texts of all items that an experiment asks, for the comparison with its pool. No model is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from taskdiv_assets.benchmarks import ItemText, item_texts
from taskdiv_assets.experiment.benchmark_settings import AlpacaEvalBenchmark, Benchmark, HeldOutBenchmark, asked
from taskdiv_assets.graph.work import Work
from taskdiv_assets.pools import held_items
from taskdiv_assets.services.judged_outputs import TASK, chosen_instructions, item_id


class AskedItem(NamedTuple):
    """One item of a benchmark. `benchmark`, `task` and `item_id` are the same as in the item's scores."""

    benchmark: str
    task: str
    item_id: str
    text: str


def asked_items(work: Work) -> list[AskedItem]:
    """Return the items of all benchmarks that the experiment asks, benchmark by benchmark."""
    benchmarks = asked(work.experiment.benchmarks)
    return [AskedItem(benchmark.name, *item) for benchmark in benchmarks for item in _texts(work, benchmark)]


def _texts(work: Work, benchmark: Benchmark) -> Iterable[ItemText]:
    if isinstance(benchmark, AlpacaEvalBenchmark):
        return [ItemText(TASK, item_id(one), one.text) for one in chosen_instructions(benchmark)]
    if isinstance(benchmark, HeldOutBenchmark):
        table = held_items.read(work.store)  # all items, also those whose answers come later
        columns = (table[name].to_pylist() for name in ("task", "prompt_id", "prompt"))
        return map(ItemText, *columns)
    return item_texts(benchmark, work.experiment.pool)
