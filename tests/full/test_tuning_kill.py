"""Killed trainings, and two commands that need one adapter at the same time, have the bytes of an undisturbed run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from safetensors import safe_open

from taskdiv_assets.language_model.tuning.checkpoints import read
from taskdiv_assets.orchestration import instance
from tests.forked import Forked
from tests.golden import variables_of
from tests.graph import Graph, failure
from tests.home import Home

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("tuning_kill"), pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
# After a checkpoint, before a later one, and when the weights are written but the manifest of their folder is not.
POINTS = ("put_file checkpoints 20 after", "put_file checkpoints 40 before", "finish_folder * 1 before")
RANDOM_KILLS_N = 5
STEPS_N = 900
CELL = "24|random"
ASK = ("run", "long", "--budget", "24", "--strategy", "random", "--until", "adapter", "--workers", "1")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a home in which only a training of about ten seconds is missing."""
    home = Home(tmp_path_factory.mktemp("prepared"))
    path = home.write_experiment("long", ("epochs: 1", f"epochs: {STEPS_N // 3}"), ("seeds: [0, 1]", "seeds: [0]"))
    with variables_of(home), instance.open_instance() as recorded:  # commands follow, which look at Dagster's records
        graph = Graph(path, recorded)
        recorded.add_dynamic_partitions("long_budget", ["24"])
        for job, assets, key in (
            ("pool", ("raw_pool", "task_labels", "annotations", "base_model"), None),
            ("rankings", ("ranking",), "random"),
            ("cells", ("allocation",), CELL),
        ):
            result = graph.run(job, *assets, key=key)
            assert result.success, failure(result)
    return home


def copied(home: Home, folder: Path) -> Home:
    shutil.copytree(home.folder, folder, dirs_exist_ok=True)
    return Home(folder)


def start(home: Home) -> subprocess.Popen[str]:
    """Start the command with a checkpoint after each step."""
    os.environ["TASKDIV_CHECKPOINT_S"] = "0"
    try:
        return home.start(*ASK)
    finally:
        del os.environ["TASKDIV_CHECKPOINT_S"]


def checkpoint(home: Home) -> Path | None:
    return next((home.folder / "results/long/checkpoints").glob("*.safetensors"), None)


def wait_for_training(home: Home, running: subprocess.Popen[str], before: int) -> None:
    """Wait until the run is some steps after the checkpoint from which it started."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        path = checkpoint(home)
        if running.poll() is not None or (path is not None and steps_of(path) > before):
            return
        time.sleep(0.02)
    pytest.fail("no training step within two minutes")


def steps_of(path: Path) -> int:
    return len(read(path).losses)


def adapter_bytes(home: Home) -> dict[str, bytes]:
    (folder,) = {path.parent for path in (home.folder / "results/long/folders").glob("*/adapter_model.safetensors")}
    return {name: (folder / name).read_bytes() for name in ("adapter_model.safetensors", "adapter_config.json")}


@pytest.fixture(scope="module")
def undisturbed(prepared: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a home in which two commands needed the adapter at the same time. One of them trained it without disturbance."""
    home = copied(prepared, tmp_path_factory.mktemp("two"))
    both = [home.start(*ASK) for _ in range(2)]
    for running in both:
        out, _ = running.communicate(timeout=600)
        assert running.returncode == 0, out
    return home


def killed_at(home: Home, point: str) -> int:
    """Train in a process that is killed at the point, and return its exit code."""
    variables = {**os.environ, **home.variables(), "TASKDIV_CHECKPOINT_S": "0"}
    arguments = (str(home.folder / "long.yaml"), point, f"cells,adapter,{CELL}")
    return Forked("tests.full.one_step", *arguments, variables=variables, folder=ROOT).wait().returncode


def finish(home: Home, undisturbed: Home) -> None:
    result = home.taskdiv(*ASK)
    assert result.returncode == 0, result.stderr
    assert adapter_bytes(home) == adapter_bytes(undisturbed)
    assert checkpoint(home) is None
    assert not list((home.folder / "results/long/locks").glob("*"))


def test_kills_at_each_kind_of_write_and_the_same_bytes(prepared: Home, undisturbed: Home, tmp_path: Path) -> None:
    home, done = copied(prepared, tmp_path), [0]
    for point in POINTS:
        assert killed_at(home, point) == -signal.SIGKILL, point
        path = checkpoint(home)
        assert path is not None
        with safe_open(path, "pt") as file:  # whole, whenever the kill came
            assert file.metadata()
        done.append(steps_of(path))
    assert done == sorted(set(done)), "a resumed training did not go on from its checkpoint"
    finish(home, undisturbed)


@pytest.mark.crash
def test_random_kills_and_the_same_bytes(prepared: Home, undisturbed: Home, tmp_path: Path) -> None:
    home, random, done = copied(prepared, tmp_path), np.random.default_rng(5), 0
    for _ in range(RANDOM_KILLS_N):
        running = start(home)
        wait_for_training(home, running, done)
        time.sleep(float(random.uniform(0, 1.0)))
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        path = checkpoint(home)
        assert path is not None, "the training ended before it was killed: make it longer"
        with safe_open(path, "pt") as file:
            assert file.metadata()
        assert steps_of(path) > done, "a resumed training did not go on from its checkpoint"
        done = steps_of(path)
    assert done < STEPS_N
    finish(home, undisturbed)


def test_two_at_once_train_once(undisturbed: Home) -> None:
    """Both commands succeeded. One trained while the other waited and named the owner of the lock."""
    with dg.DagsterInstance.from_config(str(undisturbed.folder / "dagster")) as recorded:
        runs = [run for run in recorded.get_runs() if run.tags.get("dagster/partition") == CELL]
        lines = [
            entry.user_message
            for run in runs
            for entry in recorded.all_logs(run.run_id)
            if "adapter" in str(entry.step_key)
        ]
    assert sum(line.startswith("steps: ") for line in lines) == 1, "it was trained twice"
    assert any(line.startswith("waiting for ") for line in lines)
    assert set(adapter_bytes(undisturbed)) == {"adapter_model.safetensors", "adapter_config.json"}
