"""Dagster's share of a cell: the demo's cells by `taskdiv run`'s own worker, against the same stages without Dagster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.benchmarks import page
from tests.benchmarks.fresh import ROOT
from tests.benchmarks.scale import Scale

TITLE = "Dagster's share of a cell"
ABOUT = """\
The demo's cells, each of three adapters, in a process that has imported everything, as the workers of `taskdiv run` have. "Dagster" runs
a cell as they do, with its run, its checks and its events in sqlite; "plain" calls the same stages, contracts and store in a loop.
Clock seconds, both sides in turn on copies of one store, the medians of {cells_n} cells; the target is a share of at most 10%."""
ASSETS = ("allocation", "annotation_batch", "adapter", "benchmark_scores")
STRATEGIES = ("random", "task_diversity", "weighted_task_diversity", "min_margin")


def part(scale: Scale) -> page.Part:
    """Cells of the demo's smallest and largest budget."""
    with tempfile.TemporaryDirectory() as folder:
        name = "demo_quick" if scale.lab_steps else "demo"
        strategies = STRATEGIES[: 1 if scale.lab_steps else len(STRATEGIES)]
        budgets = (128,) if scale.lab_steps else (128, 512)
        environ = {**os.environ, "DAGSTER_HOME": f"{folder}/home", "TASKDIV_QUIET": "1", "OMP_NUM_THREADS": "1"}
        ranked = {**environ, "TASKDIV_HOME": f"{folder}/ranked"}
        subprocess.run(
            [sys.executable, "-m", "taskdiv_assets.cli", "run", name, "--until", "ranking"],
            cwd=ROOT, env=ranked, check=True, capture_output=True,
        )  # fmt: skip
        sides = ("dagster", "plain")
        for side in sides:
            shutil.copytree(f"{folder}/ranked", f"{folder}/{side}")
        keys = [f"{budget}|{strategy}" for budget in budgets for strategy in strategies]
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.overhead", folder, name, *keys],
            cwd=ROOT, env=environ, check=True, capture_output=True, text=True,
        )  # fmt: skip
        measured: dict[str, dict[str, float]] = json.loads(ran.stdout.splitlines()[-1])
    rows = []
    for budget in budgets:
        own = [measured[key] for key in keys if key.startswith(f"{budget}|")]
        median = {field: float(np.median([one[field] for one in own])) for field in own[0]}
        share = float(np.median([1 - one["plain"] / one["dagster"] for one in own]))
        rows.append([f"{budget}", *(f"{median[field]:.2f}" for field in (*sides, *ASSETS)), f"{share:.1%}"])
    head = ["budget", "Dagster, s", "plain, s", *(f"of it {name}" for name in ASSETS), "share"]
    return page.Part(TITLE, f"{ABOUT.format(cells_n=len(strategies))}\n\n{page.table(head, rows)}")


def by_dagster(experiment: str, key: str) -> None:
    """As a worker process of `taskdiv run` does it."""
    from taskdiv_assets.workers import Task, execute

    outcome = execute(experiment, Task("cells", ASSETS, key))
    assert outcome.is_success, outcome.message


def plainly(experiment: str, key: str) -> None:
    """The same stages, one after the other."""
    from taskdiv_assets import experiment_file
    from taskdiv_assets.assets.factory import STAGES
    from taskdiv_assets.assets.produce import produce

    text, origin = experiment_file.read_text(experiment)
    parsed = experiment_file.parse(text, origin)
    log = SimpleNamespace(info=lambda _: None, debug=lambda *_, **__: None, warning=lambda _: None)
    context: Any = SimpleNamespace(
        partition_key=key, has_partition_key=True, log=log, run_id="plain", run=SimpleNamespace(tags={}),
        instance=SimpleNamespace(add_run_tags=lambda *_: None), retry_number=0,
    )  # fmt: skip
    for stage in STAGES:
        if stage.name in ASSETS:
            for _ in produce(context, parsed, stage, text):
                pass


def measure(folder: Path, experiment: str, keys: list[str]) -> dict[str, dict[str, float]]:
    """Seconds of both sides, and of each stage by the plain one, by cell; a cell that is not counted warms both up."""
    from taskdiv_assets.store import Store

    found: dict[str, dict[str, float]] = {}
    for turn, key in enumerate(["100|random", *keys]):
        seconds: dict[str, float] = {}
        for side in (("dagster", by_dagster), ("plain", plainly))[:: 1 if turn % 2 else -1]:
            os.environ["TASKDIV_HOME"] = str(folder / side[0])
            started = time.perf_counter()
            side[1](experiment, key)
            seconds[side[0]] = time.perf_counter() - started
        store = Store(experiment, str(folder / "plain"))
        footers = {asset: store.read_footer(asset, key) for asset in ASSETS}
        found[key] = seconds | {name: footer.wall_s for name, footer in footers.items() if footer is not None}
    return found


if __name__ == "__main__":
    from taskdiv_assets import instance, workers

    workers.quiet()
    folder, experiment, *keys = sys.argv[1:]
    os.environ["TASKDIV_HOME"] = f"{folder}/dagster"
    with instance.open_instance(1) as opened:
        opened.add_dynamic_partitions(f"{experiment}_budget", ["100"])
        for budget in {key.partition("|")[0] for key in keys}:
            opened.add_dynamic_partitions(f"{experiment}_budget", [budget])
    sys.stdout.write(f"{json.dumps(measure(Path(folder), experiment, keys))}\n")
