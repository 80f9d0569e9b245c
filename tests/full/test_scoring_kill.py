"""`kill -9` at ten random moments of scoring: nothing that was stored is scored again, and the table has the same bytes."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.home import Home

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("kill"), pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
KILLS_N = 10


def scored_in_parts(home: Home, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.full.score_in_parts", str(path)],
        env={**os.environ, **home.variables()},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )


def prepared(folder: Path) -> tuple[Home, Path]:
    """A home with 1,553 prompts and a base that takes some seconds for them; nothing is scored yet."""
    folder.mkdir()
    home = Home(folder)
    path = home.write_experiment(
        "killed",
        ("largest_n: 40, smallest_n: 12", "largest_n: 500, smallest_n: 100"),
        ("max_new_tokens: 6", "max_new_tokens: 40"),
        ("hidden_size: 32, layers: 2", "hidden_size: 96, layers: 4"),
    )
    for asset in ("task_labels", "base_model"):
        result = home.taskdiv("run", str(path), "--until", asset)
        assert result.returncode == 0, result.stderr
    return home, path


def content(home: Home) -> bytes:
    """The table's bytes without its footer, which carries times."""
    table = pq.read_table(home.folder / "results/killed/tables/confidence_table.parquet").replace_schema_metadata(None)
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return out.getvalue()


def stored_n(home: Home) -> int:
    """Different prompts in whole parts."""
    found: set[str] = set()
    for path in (home.folder / "results/killed/scores").rglob("*.parquet"):
        found |= set(pq.read_table(path)["prompt_id"].to_pylist())
    return len(found)


def test_ten_kills_lose_seconds_and_change_nothing(tmp_path: Path) -> None:
    home, path = prepared(tmp_path / "killed")
    shutil.copytree(home.folder, tmp_path / "undisturbed")
    undisturbed = Home(tmp_path / "undisturbed")
    running = scored_in_parts(undisturbed, undisturbed.folder / "killed.yaml")
    assert running.stdout is not None and running.stdout.readline() == "scoring\n"
    started = time.monotonic()
    assert running.stdout.readline() == "scored\n"
    scoring_s = time.monotonic() - started
    out, _ = running.communicate(timeout=120)
    pool_n = int(out.split("asked ")[1])

    random = np.random.default_rng(0)
    stored, kept = 0, []
    for _ in range(KILLS_N):
        running = scored_in_parts(home, path)
        assert running.stdout is not None
        line = running.stdout.readline()
        if line.startswith("asked"):
            break  # all was there
        assert line == "scoring\n"
        time.sleep(float(random.uniform(0, 2 * scoring_s / KILLS_N)))
        os.kill(running.pid, signal.SIGKILL)
        running.communicate()
        before, stored = stored, stored_n(home)
        assert stored >= before
        kept.append(stored)
    assert len({n for n in kept if 0 < n < pool_n}) >= 2, f"too few kills hit the scoring: {kept} of {pool_n}"
    out, _ = scored_in_parts(home, path).communicate(timeout=300)
    assert int(out.split("asked ")[1]) == pool_n - stored, "what was stored was scored again"
    assert content(home) == content(undisturbed)
