"""Workers on S3 are killed between the files and the manifest of a folder, in a training, and while they hold a lock."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from taskdiv_assets.storage import locks
from taskdiv_assets.storage.store import Store
from tests import faults
from tests.forked import CONTEXT, Forked
from tests.full.test_object_store_faults import Reader
from tests.home import Home
from tests.s3 import BUCKET, S3Home, objects, proxied, variables

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("s3"), pytest.mark.timeout(900)]
CELL = "24|random"
STEPS_N = 60
URL = f"s3://{BUCKET}/prefix"
# A worker that carries out one step, in a process of its own with an empty disk; `patch` may kill it.
STEP = """
import os, signal, sys
from pathlib import Path
import dagster as dg
from taskdiv_assets.storage.store import Store
from tests.graph import Graph, failure
def kill(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
{patch}
if __name__ == "__main__":
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(Path(sys.argv[1]), instance)
        instance.add_dynamic_partitions(f"{{graph.experiment.name}}_budget", ["24"])
        for job, asset, key in [entry.split(",") for entry in sys.argv[2:]]:
            result = graph.run(job, asset, key=key or None)
            assert result.success, failure(result)
"""
UNTIL_ALLOCATION = (
    *(f"pool,{asset}," for asset in ("raw_pool", "task_labels", "annotations", "base_model")),
    "rankings,ranking,random",
    f"cells,allocation,{CELL}",
)
BEFORE_MANIFEST = "Store.finish_folder = kill"
IN_TRAINING = """
puts, put_file = [], Store.put_file
def put_file_and_die(self, local, *parts):
    put_file(self, local, *parts)
    puts.extend(parts[:1] if parts[0] == "checkpoints" else [])
    if len(puts) == 20: kill()
Store.put_file = put_file_and_die
"""


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a home on the local disk in which the adapter was trained without disturbance."""
    home = Home(tmp_path_factory.mktemp("local"))
    path = home.write_experiment("long", ("epochs: 1", f"epochs: {STEPS_N // 3}"), ("seeds: [0, 1]", "seeds: [0]"))
    assert step(home, path, *UNTIL_ALLOCATION, f"cells,adapter,{CELL}").returncode == 0
    return home


@pytest.fixture(scope="module")
def there(local: Home, endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> S3Home:
    """Return a home on S3 with all inputs of the adapter."""
    home = S3Home(tmp_path_factory.mktemp("remote"), endpoint)
    result = step(home, local.folder / "long.yaml", *UNTIL_ALLOCATION)
    assert result.returncode == 0, result.stderr
    return home


def step(home: Home, path: Path, *entries: str, patch: str = "") -> subprocess.CompletedProcess[str]:
    """Run steps in a new process whose disk contains only the program."""
    disk = home.folder / f"disk-{time.monotonic_ns()}"
    disk.mkdir()
    program = disk / "step.py"
    program.write_text(STEP.format(patch=patch))
    own = {"TASKDIV_CACHE": str(disk / "cache"), "TMPDIR": str(disk), "TASKDIV_CHECKPOINT_S": "0"}
    variables_there = {**os.environ, **home.variables(), **own}
    return Forked(str(program), str(path), *entries, variables=variables_there, folder=disk).wait()


def weights(files: dict[str, bytes]) -> dict[str, str]:
    """Return the sha256 of each finished adapter, by its identity."""
    manifests = {path.split("/")[-2]: json.loads(data) for path, data in files.items() if "manifest.json" in path}
    name = "adapter_model.safetensors"
    return {key: one["files"][name]["sha256"] for key, one in manifests.items() if name in one["files"]}


def stored(endpoint: str) -> dict[str, bytes]:
    """Return the objects of this experiment; other tests use the same server."""
    fs = objects(endpoint)
    return {path: fs.cat_file(path) for path in fs.find(f"{BUCKET}/prefix/long")}


def test_kills_change_nothing(local: Home, there: S3Home, endpoint: str) -> None:
    """Kill in the middle of a training, then between the files of its folder and the manifest. The third worker finishes."""
    path, adapter = local.folder / "long.yaml", f"cells,adapter,{CELL}"
    with Reader(endpoint) as reader:
        result = step(there, path, adapter, patch=IN_TRAINING)
        assert result.returncode == -signal.SIGKILL, result.stderr
        files = stored(endpoint)
        assert not weights(files) and any("/checkpoints/" in name for name in files)

        result = step(there, path, adapter, patch=BEFORE_MANIFEST)
        assert result.returncode == -signal.SIGKILL, result.stderr
        assert int(re.findall(r"continuing after step (\d+) of \d+", result.stderr)[0]) >= 19
        files = stored(endpoint)
        assert not weights(files) and any("adapter_model.safetensors" in name for name in files)

        result = step(there, path, adapter)
        assert result.returncode == 0, result.stderr
        assert "continuing after step" in result.stderr
    assert not reader.wrong, reader.wrong
    assert weights(stored(endpoint)) == weights(local.files()) != {}
    left = [name for name in stored(endpoint) if "/checkpoints/" in name or "/locks/" in name]
    assert not left


HOLDERS_N, ROUNDS_N = 4, 6
RATES = {
    faults.BUSY: 0.02,
    faults.DROPPED: 0.05,
    faults.CUT_ANSWER: 0.05,
    faults.CUT_UPLOAD: 0.05,
    faults.LOST_ANSWER: 0.3,  # the one that makes an owner meet its own lock, and remove another's
}


def hold_often(endpoint: str, inside: Any, most: Any, holds: Any) -> None:
    os.environ.update(variables(endpoint))
    locks.POLL_S = 0.05
    store = Store("locked", URL)
    for _ in range(ROUNDS_N):
        with locks.hold(store, "one"):
            with inside.get_lock():
                inside.value += 1
                holds.value += 1
                most.value = max(most.value, inside.value)
            time.sleep(0.05)
            with inside.get_lock():
                inside.value -= 1


def die_with_lock(endpoint: str) -> None:
    os.environ.update(variables(endpoint))
    with locks.hold(Store("locked", URL), "one"):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("rates", [{}, RATES], ids=["all well", "faults"])
def test_one_of_several_processes_holds_a_lock(endpoint: str, rates: dict[str, float]) -> None:
    """The first owner dies while it holds the lock. One other takes it over, and from then on exactly one holds it at a time."""
    context = CONTEXT
    with proxied(endpoint, rates=rates, seed=3) as proxy:
        dead = context.Process(target=die_with_lock, args=(endpoint,))
        dead.start()
        dead.join(60)
        assert Store("locked", URL).names("locks") == ["one"]
        inside, most, holds = (context.Value("i", 0) for _ in range(3))
        holders = [context.Process(target=hold_often, args=(proxy.url, inside, most, holds)) for _ in range(HOLDERS_N)]
        for holder in holders:
            holder.start()
        for holder in holders:
            holder.join(300)
            assert holder.exitcode == 0
        assert (holds.value, most.value) == (HOLDERS_N * ROUNDS_N, 1)
        proxy.rates.clear()
        assert Store("locked", URL).names("locks") == []
        if rates:
            lost = [one for one in proxy.requests if one.fault == faults.LOST_ANSWER]
            assert {"PUT", "DELETE"} <= {one.method for one in lost}, "the seed brings none of the faults that matter"
