"""The graph on a Ray cluster of two workers, some of which are killed, gives the same results as one process."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taskdiv_assets.language_model.tuning.checkpoints import read
from tests.golden import variables_of
from tests.graph import Graph, failure
from tests.home import MINIATURE, Home
from tests.ray_cluster import RayCluster, ray_cluster, step_process

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(1200)]
STEPS_N = 450
CELL = ("--budget", "24", "--strategy", "random")


class RayHome(Home):
    """A home whose steps run on a cluster. Two workers share the scoring of each pool."""

    def __init__(self, folder: Path, cluster: RayCluster) -> None:
        super().__init__(folder)
        self.cluster = cluster

    def variables(self) -> dict[str, str]:
        settings = {"TASKDIV_EXECUTOR": "ray", "TASKDIV_SCORERS": "2", "TASKDIV_CHECKPOINT_S": "0"}
        return {**super().variables(), **self.cluster.variables, **settings}


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Yield a head and two workers, with room for a step and for two processes that share a pool. Sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    with ray_cluster(folder, 2, 2) as started:
        yield started
    shutil.rmtree(folder, ignore_errors=True)


def without_seconds(table: pa.Table) -> pa.Table:
    """Return a table without its footer and without the columns of durations."""
    names = [name for name in table.column_names if name not in ("score_s", "train_s")]
    return table.replace_schema_metadata(None).select(names)


def assert_same(here: Home, there: Home, experiment: str) -> int:
    """Compare every table of the second home with the table of the first, and return the number of tables."""
    folders = [home.folder / "results" / experiment / "tables" for home in (here, there)]
    names = sorted(path.relative_to(folders[1]) for path in folders[1].rglob("*.parquet"))
    for name in names:
        left, right = (without_seconds(pq.read_table(folder / name)) for folder in folders)
        assert left.equals(right), name
    return len(names)


@pytest.mark.cluster
def test_the_miniature_on_two_workers_equals_one_process(
    cluster: RayCluster, computed: Home, tmp_path_factory: pytest.TempPathFactory
) -> None:
    there = RayHome(tmp_path_factory.mktemp("there"), cluster)
    wanted = ("--strategy", "weighted_task_diversity", "--budget", "12", "--workers", "2")
    result = there.taskdiv("run", str(MINIATURE), *wanted, timeout_s=900)
    assert result.returncode == 0, result.stderr
    assert assert_same(computed, there, "miniature") >= 13
    found = [{p.name for p in (home.folder / "results/miniature/folders").iterdir()} for home in (computed, there)]
    assert found[1] <= found[0]
    again = there.taskdiv("run", "miniature", *wanted)
    assert again.returncode == 0 and "everything is up to date" in again.stderr, again.stderr


@pytest.fixture(scope="module")
def disturbed(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, RayHome]:
    """Return a home with a scored pool, and a copy of it on the cluster where it is not scored yet."""
    here = Home(tmp_path_factory.mktemp("undisturbed"))
    path = here.write_experiment(
        "killed",
        ("largest_n: 40, smallest_n: 12", "largest_n: 500, smallest_n: 100"),
        ("max_new_tokens: 6", "max_new_tokens: 40"),
        ("hidden_size: 32, layers: 2", "hidden_size: 96, layers: 4"),
        ("epochs: 1", f"epochs: {STEPS_N // 3}"),
        ("seeds: [0, 1]", "seeds: [0]"),
    )
    done(here, "--until", "base_model", path=path)
    done(here, "--until", "task_labels")
    folder = tmp_path_factory.mktemp("disturbed")
    shutil.copytree(here.folder, folder, dirs_exist_ok=True)
    with variables_of(here), dg.DagsterInstance.ephemeral() as instance:
        outcome = Graph(path, instance).run("pool", "annotations", "confidence_table", "task_confidence")
        assert outcome.success, failure(outcome)
    return here, RayHome(folder, cluster)


@pytest.fixture(scope="module")
def trained(disturbed: tuple[Home, RayHome]) -> tuple[Home, RayHome]:
    """Return both homes, with an adapter in the first."""
    here, _ = disturbed
    with variables_of(here), dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(here.folder / "killed.yaml", instance)
        instance.add_dynamic_partitions("killed_budget", ["24"])
        for job, assets, key in (
            ("rankings", ("ranking",), "random"),
            ("cells", ("allocation", "adapter"), "24|random"),
        ):
            outcome = graph.run(job, *assets, key=key)
            assert outcome.success, failure(outcome)
    return disturbed


def done(home: Home, *wanted: str, path: Path | str = "killed") -> None:
    """Run a command that must succeed."""
    result = home.taskdiv("run", str(path), *wanted, "--workers", "1", timeout_s=900)
    assert result.returncode == 0, result.stderr


def until(condition: Callable[[], object], running: subprocess.Popen[str], timeout_s: float = 180) -> None:
    """Wait until the condition is true. Fail if the command ends first."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert running.poll() is None, f"it ended before: {running.communicate()[0]}"
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s"
        time.sleep(0.02)


def scorers(cluster: RayCluster) -> list[psutil.Process]:
    """Return the processes of the actors that have loaded the model."""
    raylets = {raylet.pid for raylet in cluster.raylets()}
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.ppid() in raylets
                and process.cmdline()[:1]
                and process.cmdline()[0].startswith("ray::MapWorker")
            ):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def parts(home: Home) -> dict[str, int]:
    """Return the stored parts of the scores, with the time of their writing."""
    folder = home.folder / "results/killed/scores"
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}


@pytest.mark.full
def test_a_scorer_killed_in_the_middle_loses_nothing_that_was_stored(
    cluster: RayCluster, disturbed: tuple[Home, RayHome]
) -> None:
    _, there = disturbed
    running = there.start("run", "killed", "--until", "task_confidence", "--workers", "1")
    until(lambda: parts(there), running)
    before, killed = parts(there), scorers(cluster)
    assert killed, "no worker holds the model"
    killed[0].kill()
    out, _ = running.communicate(timeout=300)
    assert running.returncode == 0, out
    assert len(before) < len(parts(there)), "the kill came after the last shard"
    assert before.items() <= parts(there).items(), "what was stored was stored again"
    ids = [
        i
        for name in parts(there)
        for i in pq.read_table(there.folder / "results/killed/scores" / name)["prompt_id"].to_pylist()
    ]
    assert len(ids) == len(set(ids)) == 1553
    for name in ("confidence_table", "task_confidence"):
        left, right = (pq.read_table(home.folder / f"results/killed/tables/{name}.parquet") for home in disturbed)
        assert without_seconds(left).equals(without_seconds(right)), name


@pytest.mark.cluster
def test_a_node_killed_in_the_middle_of_a_cell_costs_a_retry(
    cluster: RayCluster, trained: tuple[Home, RayHome]
) -> None:
    _, there = trained
    done(Home(there.folder), *CELL, "--until", "allocation")  # in one process: the cluster is for the training
    running = there.start("run", "killed", *CELL, "--until", "adapter", "--workers", "1")
    folder = there.folder / "results/killed/checkpoints"
    until(lambda: any(len(read(path).losses) > 20 for path in folder.glob("*.safetensors")), running, 300)
    step = step_process("adapter")
    assert step is not None, "nothing trains"
    node = cluster.worker_of(step.pid)
    assert node is not None, "the step is not on a worker"
    step_pid = step.pid
    cluster.lose(node)
    out, _ = running.communicate(timeout=400)
    assert running.returncode == 0, out
    adapters = [list((home.folder / "results/killed/folders").glob("*/adapter_model.safetensors")) for home in trained]
    assert [len(found) for found in adapters] == [1, 1]
    assert adapters[0][0].read_bytes() == adapters[1][0].read_bytes()
    assert not list(folder.glob("*.safetensors"))
    assert not psutil.pid_exists(step_pid), "the step was not on the node that is gone"
    log = messages(there)
    assert any("requested a retry" in line for line in log)
    assert any("continuing after step" in line for line in log), "the retry did not continue from the checkpoint"


def messages(home: Home) -> list[str]:
    """Return every message in the event log of the runs."""
    from dagster import DagsterInstance

    with DagsterInstance.from_config(str(home.folder / "dagster")) as instance:
        return [
            entry.message for run in instance.get_run_records() for entry in instance.all_logs(run.dagster_run.run_id)
        ]
