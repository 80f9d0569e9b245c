"""`kill -9` at five random moments of a training, and two who want one adapter at once: the bytes of an undisturbed run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from taskdiv_assets.language_model.tuning.checkpoints import read
from tests.home import Home

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("kill"), pytest.mark.timeout(900)]
KILLS_N = 5
STEPS_N = 900
ASK = ("run", "long", "--budget", "24", "--strategy", "random", "--until", "adapter", "--workers", "1")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home where all is done but a training of some ten seconds."""
    home = Home(tmp_path_factory.mktemp("prepared"))
    path = home.write_experiment("long", ("epochs: 1", f"epochs: {STEPS_N // 3}"), ("seeds: [0, 1]", "seeds: [0]"))
    result = home.taskdiv("run", str(path), *ASK[2:6], "--until", "allocation")
    assert result.returncode == 0, result.stderr
    return home


def copied(home: Home, folder: Path) -> Home:
    shutil.copytree(home.folder, folder)
    return Home(folder)


def start(home: Home) -> subprocess.Popen[str]:
    """The command with a checkpoint at each step."""
    os.environ["TASKDIV_CHECKPOINT_S"] = "0"
    try:
        return home.start(*ASK)
    finally:
        del os.environ["TASKDIV_CHECKPOINT_S"]


def checkpoint(home: Home) -> Path | None:
    return next((home.folder / "results/long/checkpoints").glob("*.safetensors"), None)


def wait_for_training(home: Home, running: subprocess.Popen[str], before: int) -> None:
    """Wait until the run is some steps further than the checkpoint it found."""
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


def test_five_kills_and_the_same_bytes(prepared: Home, tmp_path: Path) -> None:
    undisturbed = copied(prepared, tmp_path / "undisturbed")
    result = undisturbed.taskdiv(*ASK)
    assert result.returncode == 0, result.stderr

    home, random, done = copied(prepared, tmp_path / "killed"), np.random.default_rng(5), 0
    stopped_at = []
    for _ in range(KILLS_N):
        running = start(home)
        wait_for_training(home, running, done)
        time.sleep(float(random.uniform(0, 1.0)))
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        path = checkpoint(home)
        assert path is not None, "the training ended before it was killed: make it longer"
        with safe_open(path, "pt") as file:  # whole, whenever the kill came
            assert file.metadata()
        assert steps_of(path) > done, "a resumed training did not go on from its checkpoint"
        done = steps_of(path)
        stopped_at.append(done)
    assert stopped_at[-1] < STEPS_N
    result = home.taskdiv(*ASK)
    assert result.returncode == 0, result.stderr
    assert adapter_bytes(home) == adapter_bytes(undisturbed)
    assert checkpoint(home) is None
    assert not list((home.folder / "results/long/locks").glob("*"))


def test_two_at_once_train_once(prepared: Home, tmp_path: Path) -> None:
    """Both end well; one trains while the other waits and says for whom."""
    import dagster as dg

    home = copied(prepared, tmp_path / "two")
    both = [home.start(*ASK) for _ in range(2)]
    for running in both:
        out, _ = running.communicate(timeout=300)
        assert running.returncode == 0, out
    with dg.DagsterInstance.from_config(str(home.folder / "dagster")) as instance:
        runs = [run for run in instance.get_runs() if run.tags.get("dagster/partition") == "24|random"]
        lines = [
            entry.user_message
            for run in runs
            for entry in instance.all_logs(run.run_id)
            if "adapter" in str(entry.step_key)
        ]
    assert sum(line.startswith("steps: ") for line in lines) == 1, "it was trained twice"
    assert any(line.startswith("waiting for ") for line in lines)
    assert set(adapter_bytes(home)) == {"adapter_model.safetensors", "adapter_config.json"}
