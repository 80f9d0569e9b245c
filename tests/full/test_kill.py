"""After `kill -9`, the same command continues and has the results of an undisturbed run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.golden import copied
from tests.home import MINIATURE, Home

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("kill"), pytest.mark.timeout(1200)]
COMMAND = ("--strategy", "random", "--strategy", "weighted_task_diversity", "--budget", "12", "--workers", "2")
COMPARED = ("ranking", "allocation", "annotation_batch", "benchmark_scores")


def tables(home: Home, names: tuple[str, ...] = COMPARED) -> dict[str, pa.Table]:
    """Return the stored tables without their footers, which contain times."""
    root = home.folder / "results/miniature/tables"
    paths = [path for name in names for path in (root / name).rglob("*.parquet")]
    paths += [root / f"{name}.parquet" for name in ("confidence_table", "task_confidence", "base_scores")]
    return {str(path.relative_to(root)): pq.read_table(path).replace_schema_metadata(None) for path in sorted(paths)}


def adapter_hashes(home: Home) -> dict[str, list[str]]:
    root = home.folder / "results/miniature/tables/adapter"
    return {str(p.relative_to(root)): pq.read_table(p)["sha256"].to_pylist() for p in sorted(root.rglob("*.parquet"))}


def wait_for_files(pattern: str, root: Path, count_n: int, timeout_s: float = 400) -> list[Path]:
    """Wait until `count_n` files match a pattern, and return them."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = list(root.glob(pattern))
        if len(found) >= count_n:
            return found
        time.sleep(0.1)
    pytest.fail(f"{pattern} never appeared {count_n} times below {root}")


def assert_same_results(home: Home, computed: Home, *, are_all: bool = True) -> None:
    """Check that the stored results equal those of an undisturbed run: all of them, or some cells."""
    for found, expected in ((tables(home), tables(computed)), (adapter_hashes(home), adapter_hashes(computed))):
        assert list(found) == list(expected) if are_all else found and set(found) < set(expected)
        for name, value in found.items():
            assert value == expected[name], name


def test_a_run_that_is_killed_three_times_goes_on_and_ends_with_the_same_results(
    computed: Home, tmp_path: Path
) -> None:
    """Kill at the first lock, among the rankings, and among the adapters. Each run continues from what the earlier ones finished."""
    home, root = Home(tmp_path), tmp_path / "results/miniature"
    finished: dict[Path, int] = {}
    for pattern, count_n in (("locks/*", 1), ("tables/ranking/*.parquet", 1), ("tables/adapter/*/*.parquet", 1)):
        running = home.start("run", str(MINIATURE), *COMMAND)
        wait_for_files(pattern, root, count_n)
        os.killpg(running.pid, signal.SIGKILL)  # the command, its workers, everything
        running.wait(10)
        assert {path: path.stat().st_mtime_ns for path in finished} == finished, "something finished was done again"
        finished = {path: path.stat().st_mtime_ns for path in root.glob("folders/*/manifest.json")}
        for path in root.rglob("*.parquet"):
            pq.read_table(path)  # whatever is there is whole
    result = home.taskdiv("run", str(MINIATURE), *COMMAND, timeout_s=900)
    assert result.returncode == 0, result.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "something finished was done again"
    assert_same_results(home, computed, are_all=False)
    assert not list(root.glob("locks/*"))


def test_a_killed_worker_is_named_and_what_was_done_is_kept(golden: Home, tmp_path: Path) -> None:
    home, root = copied(golden, tmp_path), tmp_path / "results/miniature"
    assert home.say("budget", "add", "miniature", "18").returncode == 0
    command = ("run", "miniature", "--budget", "18", "--strategy", "random", "--workers", "1")
    running = home.start(*command)
    wait_for_files("tables/allocation/random/18.parquet", root, 1)
    workers = [pid for pid in children(running.pid) if b"worker_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(workers) == 1
    os.kill(workers[0], signal.SIGKILL)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 2
    assert "a worker process died" in out and "Traceback" not in out
    assert home.taskdiv(*command).returncode == 0
    assert (root / "tables/benchmark_scores/random/18.parquet").exists()


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(part) for part in text.split()]
