"""`kill -9` at random moments of a benchmark: no stored answer is asked for again, and scores and outputs have the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.home import Home

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("kill"), pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
KILLS_N = 6
EXPERIMENT = """
name: killed
purpose: campaign
pool: {reader: table, path: prompts.csv, columns: {prompt: prompt, task: task}}
base_model: {path: SHARED/models/stories260K}
strategies: [random, task_diversity]
budgets: [1]
seeds: [0]
tuning: {learning_rate: 1.0e-3, epochs: 1}
benchmarks:
- {name: mmlu, source: SHARED/mmlu/mmlu.parquet, sample: 342}
- {name: bbh, source: SHARED/bbh/bbh.parquet, sample: 135, max_new_tokens: 40}
primary: {strategy: task_diversity, benchmark: bbh, metric: exact_match}
"""


def asking(home: Home) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.full.benchmark_in_parts", str(home.folder / "killed.yaml")],
        env={**os.environ, **home.variables()},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )


def prepared(folder: Path, shared: Path) -> Home:
    """A home with a base; nothing is scored yet."""
    folder.mkdir()
    (folder / "prompts.csv").write_text("prompt,task\nTell me a story,tell\nSay something,say\n")
    (folder / "killed.yaml").write_text(EXPERIMENT.replace("SHARED", str(shared)))
    home = Home(folder)
    for asset in ("task_labels", "base_model"):
        result = home.taskdiv("run", "killed.yaml", "--until", asset)
        assert result.returncode == 0, result.stderr
    return home


def stored(home: Home) -> dict[str, int]:
    """Answers that the next run will find: in parts, and in finished benchmarks."""
    root = home.folder / "results/killed"
    parts = sum(pq.read_table(path).num_rows for path in root.glob("answers/*/*.parquet"))
    done = sum(pq.read_table(path).num_rows for path in root.glob("folders/*/outputs.parquet"))
    return {"parts": parts, "done": done}


def content(home: Home) -> dict[str, bytes]:
    """Scores and outputs of all benchmarks, by folder."""
    root = home.folder / "results/killed/folders"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for name in ("scores", "outputs")
        for path in root.glob(f"*/{name}.parquet")
    }


def test_kills_lose_one_batch_each_and_change_nothing(tmp_path: Path, shared_data: Path) -> None:
    home = prepared(tmp_path / "killed", shared_data)
    shutil.copytree(home.folder, tmp_path / "undisturbed")
    undisturbed = Home(tmp_path / "undisturbed")
    started = time.monotonic()
    out, _ = asking(undisturbed).communicate(timeout=400)
    whole_s, questions_n = time.monotonic() - started, int(out.split("questions ")[1])
    assert questions_n == 342 * 4 + 135
    random, hits_n = np.random.default_rng(1), 0
    for _ in range(KILLS_N):
        running = asking(home)
        assert running.stdout is not None
        if running.stdout.readline() != "asking\n":
            break
        time.sleep(float(random.uniform(0, whole_s / KILLS_N)))
        os.kill(running.pid, signal.SIGKILL)
        running.communicate()
        hits_n += 0 < sum(stored(home).values()) < questions_n
    assert hits_n >= 2, "too few kills hit the asking"
    before_n = sum(stored(home).values())
    out, _ = asking(home).communicate(timeout=400)
    assert int(out.split("questions ")[1]) == questions_n - before_n, "what was stored was asked again"
    assert stored(home) == {"parts": 0, "done": questions_n}
    assert content(home) == content(undisturbed)
