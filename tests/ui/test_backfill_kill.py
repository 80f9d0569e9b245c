"""`kill -9` in the middle of a backfill: of a run's process, of the daemon, of everything. The backfill still completes."""

from __future__ import annotations

import os
import re
import signal

import psutil
import pyarrow.parquet as pq
import pytest

from tests.dagster_dev import Ui, dagster_dev, wait_for
from tests.graphql import CELL_ASSETS, Run, add_budget, backfill_status, budgets, launch_backfill, log, runs
from tests.home import MINIATURE, Home

pytestmark = [pytest.mark.ui, pytest.mark.xdist_group("backfill"), pytest.mark.timeout(1200)]
CELLS = [
    f"{budget}|{strategy}"
    for budget in (12, 24)
    for strategy in ("random", "facility_location", "weighted_task_diversity")
]
NAME = "miniature"


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Run the miniature up to its rankings with `taskdiv run`."""
    home = Home(tmp_path_factory.mktemp("ranked"))
    done = home.taskdiv("run", str(MINIATURE), "--until", "ranking", "--workers", "2")
    assert done.returncode == 0, done.stderr
    return home


def test_a_backfill_outlives_its_runs_the_daemon_and_the_machine(ranked: Home) -> None:
    adapters = ranked.folder / f"results/{NAME}/tables/adapter"
    with dagster_dev(ranked) as ui:
        wait_for(lambda: {"12", "24"} <= budgets(ui, NAME), 60, "the sensor has registered the budgets")
        backfill = launch_backfill(ui, NAME, CELLS, *CELL_ASSETS)
        wait_for(lambda: started(ui, backfill), 150, "a cell is being made")
        first = started(ui, backfill)[0]
        worker_of(ui, first).kill()
        # Its code server sees that at once; the run is tried again from where it failed.
        wait_for(lambda: retries_of(ui, first), 120, "the killed run is tried again")
        daemon(ui).kill()
    with dagster_dev(ranked) as ui:
        wait_for(lambda: started(ui, backfill), 150, "cells go on after the daemon was killed")
        wait_for(lambda: list(adapters.rglob("*.parquet")), 240, "one cell at least is tuned")
        everything = [psutil.Process(ui.pid), *psutil.Process(ui.pid).children(recursive=True)]
        running = started(ui, backfill)
        os.killpg(ui.pid, signal.SIGKILL)
        psutil.wait_procs(everything, 10)
    whole = {path: path.stat().st_mtime_ns for path in adapters.rglob("*.parquet")}
    with dagster_dev(ranked) as ui:
        wait_for(lambda: backfill_status(ui, backfill) != "REQUESTED", 400, "the backfill ended")
        assert backfill_status(ui, backfill) == "COMPLETED_SUCCESS"
        of_backfill = runs(ui, **{"dagster/backfill": backfill})
        succeeded = [run.tags["dagster/partition"] for run in of_backfill if run.status == "SUCCESS"]
        assert sorted(succeeded) == sorted(CELLS), "a cell was lost, or done twice"
        assert {run.status for run in of_backfill} <= {"SUCCESS", "FAILURE"}
        ended = {run.run_id: run.status for run in of_backfill}
        assert all(ended[run.run_id] in ("FAILURE", "SUCCESS") for run in running), "a killed run stands as running"
        wait_for(lambda: claimed_slots(ui) == 0, 60, "every pool slot is free")
    assert {path: path.stat().st_mtime_ns for path in whole} == whole, "a cell that was tuned was tuned again"
    for cell in CELLS:
        budget, strategy = cell.split("|")
        paths = {
            asset: ranked.folder / f"results/{NAME}/tables/{asset}/{strategy}/{budget}.parquet" for asset in CELL_ASSETS
        }
        rows = {asset: pq.read_metadata(path).num_rows for asset, path in paths.items()}
        assert rows == {"allocation": 2 * int(budget), "annotation_batch": 0, "adapter": 2, "benchmark_scores": 2 * 240}
    assert not list((ranked.folder / f"results/{NAME}").glob("locks/*"))


def test_a_cell_that_the_ui_and_the_command_ask_for_at_once_is_made_once(ranked: Home) -> None:
    """One makes it; the other waits for its lock, and finds it."""
    with dagster_dev(ranked) as ui:
        add_budget(ui, NAME, "17")
        backfill = launch_backfill(ui, NAME, ["17|random"], *CELL_ASSETS)
        wait_for(lambda: runs(ui, **{"dagster/backfill": backfill}), 90, "the daemon has started the cell's run")
        asked = ranked.taskdiv("run", NAME, "--budget", "17", "--strategy", "random", "--workers", "1")
        assert asked.returncode == 0, asked.stderr
        wait_for(lambda: backfill_status(ui, backfill) == "COMPLETED_SUCCESS", 120, "the backfill ended")
        both = runs(ui, experiment=NAME, budget="17", strategy="random")
        assert len(both) == 2 and {run.status for run in both} == {"SUCCESS"}
        found = [line for run in both for line in log(ui, run.run_id) if "nothing to do" in line]
        assert len(found) == len(CELL_ASSETS), found


def started(ui: Ui, backfill: str) -> list[Run]:
    """Return the runs of a backfill that have started and not ended."""
    return [run for run in runs(ui, **{"dagster/backfill": backfill}) if run.status == "STARTED"]


def retries_of(ui: Ui, run: Run) -> list[Run]:
    return runs(ui, **{"dagster/root_run_id": run.run_id})


def worker_of(ui: Ui, run: Run) -> psutil.Process:
    """Return the process that carries out a run, as the run's log names it."""
    said = [re.search(r"Started process for run \(pid: (\d+)\)", message) for message in log(ui, run.run_id)]
    return psutil.Process(int(next(match for match in said if match)[1]))


def daemon(ui: Ui) -> psutil.Process:
    (found,) = [
        process for process in psutil.Process(ui.pid).children(recursive=True) if "dagster._daemon" in process.cmdline()
    ]
    return found


def claimed_slots(ui: Ui) -> int:
    """Return how many slots of the accelerator pool are taken."""
    found = ui.query(
        """query { instance { concurrencyLimit(concurrencyKey: "accelerator") { activeSlotCount pendingStepCount } } }"""
    )
    return int(found["instance"]["concurrencyLimit"]["activeSlotCount"])
