"""A run whose steps are pods has the same results as a run in one process, even if a pod is killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster._core.launcher import ResumeRunContext, WorkerStatus

from tests.deploy.instances import DEPLOY, write_home
from tests.deploy.kubernetes_api import Cluster, Pod
from tests.deploy.test_kubernetes import allowed
from tests.home import MINIATURE, Home

pytestmark = [
    pytest.mark.skipif(find_spec("dagster_k8s") is None, reason="the extra k8s is not installed"),
    pytest.mark.cluster,
    pytest.mark.xdist_group("pods"),
    pytest.mark.timeout(1500),
]
CELL = ("--budget", "12", "--strategy", "random", "--until", "adapter", "--workers", "2")
KILLED = "miniature__adapter"


class PodHome(Home):
    """A home whose Dagster launches pods."""

    def variables(self) -> dict[str, str]:
        return {**super().variables(), "TASKDIV_EXECUTOR": "k8s"}


def kill_at_work(pod: Pod, results: Path) -> None:
    """Kill a pod as soon as its process holds the lock of its result."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and pod.process is not None:
        for lock in results.glob("miniature/locks/*"):
            try:
                owner = str(json.loads(lock.read_text())["owner"])
            except (ValueError, OSError):  # being written, or gone again
                continue
            if owner.split(":")[1] == str(pod.process.pid):
                pod.kill()
                return
        time.sleep(0.05)


@contextmanager
def running_pods(home: Home, on_start: Callable[[Pod], None] = lambda pod: None) -> Iterator[Cluster]:
    """Yield a cluster with the config map and the secrets that the specs name. The home's Dagster launches its pods there."""
    settings = {
        "TASKDIV_HOME": str(home.folder / "results"),
        "TASKDIV_EXECUTOR": "k8s",
        "TASKDIV_CACHE": str(home.folder / "cache"),
        "TASKDIV_QUIET": "1",
    }
    secrets = {"taskdiv-secrets": {"TASKDIV_JUDGE_KEY": "k"}, "taskdiv-postgres": {"postgresql-password": "p"}}
    maps = {"taskdiv-settings": settings}
    with Cluster(home.folder, is_running_pods=True, config_maps=maps, secrets=secrets, on_start=on_start) as cluster:
        write_home(home.folder / "dagster", cluster.kubeconfig())
        yield cluster


@pytest.fixture(scope="module")
def in_one_process(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a home with the same cell, made by `taskdiv run` with default settings."""
    home = Home(tmp_path_factory.mktemp("in_process"))
    result = home.taskdiv("run", str(MINIATURE), *CELL, timeout_s=900)
    assert result.returncode == 0, result.stderr
    return home


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Cluster]]:
    """Yield the home and the cluster of a cell whose first training pod was killed."""
    home = PodHome(tmp_path_factory.mktemp("pods"))

    def on_start(pod: Pod) -> None:
        if pod.step == KILLED and sum(other.step == KILLED for other in cluster.pods.values()) == 1:
            threading.Thread(target=kill_at_work, args=(pod, home.folder / "results"), daemon=True).start()

    with running_pods(home, on_start) as cluster:
        result = home.taskdiv("run", str(MINIATURE), *CELL, timeout_s=1200)
        logs = "\n".join(f"{pod.name} {pod.step}: {pod.exit_code()}" for pod in cluster.pods.values())
        assert result.returncode == 0, f"{result.stdout[-2000:]}\n{result.stderr[-3000:]}\n{logs}"
        yield home, cluster


def tables(home: Home) -> dict[str, pa.Table]:
    """Return all stored tables without footers, and without columns of seconds, which differ between runs."""
    root = home.folder / "results/miniature/tables"
    read = {str(path.relative_to(root)): pq.read_table(path) for path in sorted(root.rglob("*.parquet"))}
    return {
        name: table.drop_columns([column for column in table.column_names if column.endswith("_s")])
        .replace_schema_metadata(None)
        for name, table in read.items()
    }  # fmt: skip


def test_pods_give_what_one_process_gives(in_one_process: Home, killed: tuple[Home, Cluster]) -> None:
    expected, found = tables(in_one_process), tables(killed[0])
    assert set(found) == set(expected) >= {"raw_pool.parquet", "base_model.parquet", "ranking/random.parquet"}
    assert [name for name in expected if not found[name].equals(expected[name])] == []
    (adapter,) = (table for name, table in found.items() if name.startswith("adapter/"))
    assert len(set(adapter["sha256"].to_pylist())) == 2, "two seeds, two adapters"


def test_a_pod_that_was_killed_is_started_anew_by_dagster(killed: tuple[Home, Cluster]) -> None:
    home, cluster = killed
    first, second = (pod for pod in cluster.pods.values() if pod.step == KILLED)
    assert (first.exit_code(), second.exit_code()) == (-9, 0)
    name = first.job["metadata"]["name"]
    assert second.job["metadata"]["name"] == f"{name}-1", "another attempt of the same step"
    others = [pod for pod in cluster.pods.values() if pod.step != KILLED]
    assert all(pod.exit_code() == 0 for pod in others)
    with dg.DagsterInstance.from_config(str(home.folder / "dagster")) as instance:
        run_id = first.job["metadata"]["labels"]["dagster/run-id"]
        run = instance.get_run_by_id(run_id)
        assert run is not None and run.status == dg.DagsterRunStatus.SUCCESS
        retried = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY).records
        assert [record.event_log_entry.step_key for record in retried] == [KILLED]


def test_each_step_was_a_pod_of_its_own_and_no_more_was_asked_than_the_role_allows(
    killed: tuple[Home, Cluster],
) -> None:
    _, cluster = killed
    assert cluster.refused == []
    assert {pod.step.removeprefix("miniature__") for pod in cluster.pods.values()} >= {"raw_pool", "ranking", "adapter"}
    assert cluster.asked <= allowed()
    assert {asked.resource for asked in cluster.asked} >= {"jobs", "jobs/status"}


def test_without_a_launcher_of_kubernetes_a_sentence_says_so(tmp_path: Path) -> None:
    home = PodHome(tmp_path)
    result = home.taskdiv("run", str(MINIATURE), *CELL)
    assert result.returncode == 2
    assert "K8sRunLauncher" in result.stderr and "docs/deploy/dagster.yaml" in result.stderr


def launch(home: Home) -> str:
    """Launch a run of `raw_pool` as the daemon does, and return the run's id."""
    folder = home.folder / "results/miniature"
    if not folder.exists():
        folder.mkdir(parents=True)
        shutil.copy(MINIATURE, folder / "experiment.yaml")
    command = [sys.executable, "-m", "tests.deploy.launch_run", "miniature_pool", "miniature/raw_pool"]
    launched = subprocess.run(
        command,
        env={**os.environ, **home.variables()},
        cwd=DEPLOY.parents[1],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert launched.returncode == 0, launched.stderr
    return launched.stdout.split()[-1]


def test_a_run_that_is_launched_is_a_pod_which_launches_its_steps_and_one_that_is_cancelled_is_gone(
    tmp_path: Path,
) -> None:
    home = PodHome(tmp_path)
    with running_pods(home) as cluster, dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        run_id = launch(home)
        pod = cluster.pods[f"dagster-run-{run_id}"]
        assert pod.process is not None and pod.log is not None
        pod.process.wait(400)
        run = instance.get_run_by_id(run_id)
        assert run is not None and run.status == dg.DagsterRunStatus.SUCCESS, pod.log.read_text()[-3000:]
        assert instance.run_launcher.check_run_worker_health(run).status == WorkerStatus.SUCCESS
        (step,) = (other for other in cluster.pods.values() if other is not pod)
        assert (step.step, step.exit_code()) == ("miniature__raw_pool", 0)
        assert step.job["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.org/taskdiv:0.1.0"

        second = launch(home)
        instance.run_launcher.terminate(second)
        assert cluster.pods[f"dagster-run-{second}"].exit_code() == -9
        cancelled = instance.get_run_by_id(second)
        assert cancelled is not None and cancelled.status == dg.DagsterRunStatus.CANCELING
        assert {asked.verb for asked in cluster.asked} >= {"create", "get", "delete"}
        assert cluster.asked <= allowed(), "what a cluster's role would have refused"


def test_a_run_whose_pod_is_gone_goes_on_in_another_and_finds_its_step_where_it_is(tmp_path: Path) -> None:
    home = PodHome(tmp_path)

    def on_start(pod: Pod) -> None:
        if pod.step:  # at work, and not before the one that launched it has had its answer
            run_pod = cluster.pods[f"dagster-run-{pod.job['metadata']['labels']['dagster/run-id']}"]
            threading.Timer(1.0, run_pod.kill).start()

    with (
        running_pods(home, on_start) as cluster,
        dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance,
    ):
        run_id = launch(home)
        first = cluster.pods[f"dagster-run-{run_id}"].process
        assert first is not None and first.wait(400) == -9
        run = instance.get_run_by_id(run_id)
        assert run is not None and run.status == dg.DagsterRunStatus.STARTED
        launcher = instance.run_launcher
        assert launcher.check_run_worker_health(run).status == WorkerStatus.FAILED  # what the daemon acts upon
        launcher.resume_run(ResumeRunContext(run, workspace=None, resume_attempt_number=1))
        second = cluster.pods[f"dagster-run-{run_id}-1"].process
        assert second is not None and second.wait(400) == 0
        ended = instance.get_run_by_id(run_id)
        assert ended is not None and ended.status == dg.DagsterRunStatus.SUCCESS
        assert [pod.exit_code() for pod in cluster.pods.values() if pod.step] == [0], "one pod, which was left in peace"
        assert cluster.asked <= allowed()
