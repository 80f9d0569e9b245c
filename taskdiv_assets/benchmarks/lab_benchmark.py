"""The benchmark `lab`: held-out items of the synthetic pool (`pools.lab`), scored by log-likelihood."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

from taskdiv_assets.benchmarks.tasks import LocalTask, Suite, load_local, stock_version
from taskdiv_assets.experiment.benchmark_settings import LabBenchmark
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.pools.lab import LabItem, held_out_items

STOCK_FILE = Path(__file__).parent / "lab.yaml"


def items_of(benchmark: LabBenchmark, pool: Pool) -> list[LabItem]:
    """Return the held-out items that belong to a pool of the reader `lab`; raise ValueError for another reader."""
    if pool.reader != "lab":
        raise ValueError(f"benchmark `lab` needs `pool: {{reader: lab}}`, found reader {pool.reader!r}")
    return held_out_items(benchmark.split, pool.seed, pool.tasks)


def suite(benchmark: LabBenchmark, pool: Pool, *, template: str, end: str) -> Suite:
    """Return a suite with one lm-eval task for each task of the pool. `end` is the end token that training appends to answers."""
    by_task: dict[str, list[LabItem]] = {}
    for item in items_of(benchmark, pool):
        by_task.setdefault(item.task, []).append(item)
    tasks = []
    for name, items in by_task.items():
        rows = [{"prompt": template.replace("{prompt}", one.prompt), "target": one.response + end} for one in items]
        tasks.append(LocalTask(name, f"lab_{name}", STOCK_FILE, rows, [item.item_id for item in items]))
    return load_local("lab", tasks)


def task_sizes(benchmark: LabBenchmark, pool: Pool) -> dict[str, int]:
    return dict(Counter(item.task for item in items_of(benchmark, pool)))


def settings_identity(benchmark: LabBenchmark, pool: Pool, *, template: str) -> dict[str, object]:
    """Return the settings on which the scores depend, and a hash of the items."""
    items = json.dumps([list(item) for item in items_of(benchmark, pool)])
    return {
        "name": "lab",
        "split": benchmark.split,
        "template": template,
        "items_sha256": hashlib.sha256(items.encode()).hexdigest(),
        "task_version": stock_version(STOCK_FILE),
    }
