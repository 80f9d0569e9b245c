"""Dagster's share of the time of a cell.

The demo's cells run as in a worker of `taskdiv run`. The time inside our code is measured separately.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.benchmarks import page
from tests.benchmarks.fresh import ROOT
from tests.benchmarks.scale import Scale

TITLE = "Dagster's share of a cell"
ABOUT = """\
The demo's cells, each of three adapters, in a process that has imported everything, like the workers of `taskdiv run`. Time outside the stages (their
work, contracts, store) is Dagster's: its run, steps, checks and events in SQLite. Lines that a stage logs count as
the stage's. Clock seconds, medians of {cells_n} cells; the target is a share of at most 10%. In the last row the cells are up to date, so
only the lookup is left."""
ASSETS = ("allocation", "annotation_batch", "adapter", "benchmark_scores")
STRATEGIES = ("random", "task_diversity", "weighted_task_diversity", "min_margin")


def part(scale: Scale) -> page.Part:
    """Measure cells of the demo's smallest and largest budget."""
    with tempfile.TemporaryDirectory() as folder:
        name = "demo_quick" if scale.lab_steps else "demo"
        strategies = STRATEGIES[: 1 if scale.lab_steps else len(STRATEGIES)]
        budgets = (128,) if scale.lab_steps else (128, 512)
        environ = {**os.environ, "TASKDIV_QUIET": "1", "OMP_NUM_THREADS": "1"}
        environ |= {"TASKDIV_HOME": f"{folder}/results", "DAGSTER_HOME": f"{folder}/dagster"}
        subprocess.run(
            [sys.executable, "-m", "taskdiv_assets.cli", "run", name, "--until", "ranking"],
            cwd=ROOT, env=environ, check=True, capture_output=True,
        )  # fmt: skip
        keys = [f"{budget}|{strategy}" for budget in budgets for strategy in strategies]
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.overhead", name, *keys],
            cwd=ROOT, env=environ, check=True, capture_output=True, text=True,
        )  # fmt: skip
        measured: dict[str, list[dict[str, float]]] = json.loads(ran.stdout.splitlines()[-1])
    rows = []
    for named, found in measured.items():
        median = {field: float(np.median([one[field] for one in found])) for field in found[0]}
        share = float(np.median([one["dagster"] / one["cell"] for one in found]))
        rows.append([named, *(f"{median[field]:.2f}" for field in ("cell", *ASSETS, "dagster")), f"{share:.1%}"])
    head = ["budget", "cell, s", *ASSETS, "Dagster, s", "share"]
    return page.Part(TITLE, f"{ABOUT.format(cells_n=len(strategies))}\n\n{page.table(head, rows)}")


class Inside:
    """Wrapper of `produce` that records the seconds of each asset."""

    def __init__(self, produce: Callable[..., Iterator[Any]]) -> None:
        self._produce = produce
        self.seconds: dict[str, float] = {}

    def __call__(self, context: Any, experiment: Any, stage: Any, text: str, **settings: Any) -> Iterator[Any]:
        events = self._produce(context, experiment, stage, text, **settings)
        while True:
            started = time.perf_counter()
            event = next(events, None)
            self.seconds[stage.name] = self.seconds.get(stage.name, 0.0) + time.perf_counter() - started
            if event is None:
                return
            yield event


def measure(experiment: str, keys: list[str]) -> dict[str, list[dict[str, float]]]:
    """Run the cells twice, and return the times by budget. A cell that is not counted runs first, because of imports."""
    from taskdiv_assets.commands.workers import Task, execute
    from taskdiv_assets.orchestration import factory
    from taskdiv_assets.orchestration.produce import produce

    found: dict[str, list[dict[str, float]]] = {}
    for turn, key in enumerate(["100|random", *keys, *keys]):
        factory.produce = inside = Inside(produce)
        started = time.perf_counter()
        outcome = execute(experiment, Task("cells", ASSETS, key))
        cell_s = time.perf_counter() - started
        assert outcome.is_success, outcome.message
        row = {"cell": cell_s, **inside.seconds, "dagster": cell_s - sum(inside.seconds.values())}
        if turn > 0:
            found.setdefault(key.partition("|")[0] if turn <= len(keys) else "up to date", []).append(row)
    return found


if __name__ == "__main__":
    from taskdiv_assets.commands import workers
    from taskdiv_assets.orchestration import instance

    workers.quiet()
    experiment, *keys = sys.argv[1:]
    with instance.open_instance(1) as opened:
        budgets = {"100", *(key.partition("|")[0] for key in keys)}
        opened.add_dynamic_partitions(f"{experiment}_budget", sorted(budgets))
    sys.stdout.write(f"{json.dumps(measure(experiment, keys))}\n")
