"""Found tasks compared with BERTopic: agreement with true tasks, outliers, stability, time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.pools.discovery.found_tasks import FITTED_MAX
from taskdiv_assets.pools.discovery.word_views import words
from tests.benchmarks import page
from tests.benchmarks.fresh import ROOT
from tests.benchmarks.scale import Scale
from tests.evidence.discovered import Labelled, read, sources

TITLE = "Found tasks"
ABOUT = """\
{prompts_n:,} prompts of {pool}, {true_n} true tasks. Both sides group the same rows: TF-IDF of 1- to 3-grams of words, reduced to {width} numbers by
a truncated SVD (our view `words`; {view_s:.1f} processor seconds, in no line of the table). So this compares the grouping only. It does
not show BERTopic with its default sentence embedder, which has to be downloaded. {peer}

- "outliers": share of prompts that get no task. "ARI", "NMI": agreement with true tasks (1: equal), means over two seeds; outliers count as one
  more task. "ARI, grouped": only the prompts that BERTopic did not call outliers with the first seed, for every line.
- "swap": adjusted Rand index between two runs of one seed, after the first two prompts changed places. "seed": the
  same between two seeds. 1: the same tasks.
- "seconds" (of the processor) and "MiB" (highest resident memory above that before the call): the first of three runs of a process, one
  thread, after a call on {warm_n} prompts. Both include the terms that describe a task."""
PEER = """\
BERTopic {bertopic} with umap-learn {umap}, hdbscan {hdbscan} and scikit-learn {sklearn}, its default parameters, except that UMAP has a seed (without
one, each run differs) and one thread."""
MISSING = "BERTopic was not measured: its environment is missing (`make bench` installs it)."
PYTHON = Path(sys.prefix) / "bertopic" / "bin" / "python"  # an environment of its own, made by the Makefile
SCRIPT = Path(__file__).parent / "grouping_sides.py"
VERSIONS = (
    "import json; from importlib.metadata import version; "
    "print(json.dumps({n: version(p) for n, p in dict(bertopic='bertopic', umap='umap-learn', hdbscan='hdbscan', "
    "sklearn='scikit-learn').items()}))"
)
SEEDS = (0, 1)
Codes = NDArray[np.int64]


class Side(NamedTuple):
    """The runs of one side. A task of -1 is an outlier."""

    name: str
    seeds: list[Codes]  # the task of each prompt, for each of SEEDS
    swapped: Codes  # with the first seed, in the order of the prompts before the swap
    seconds: float  # of the processor
    extra_mib: float

    @property
    def outliers(self) -> float:
        return float(np.mean([(codes < 0).mean() for codes in self.seeds]))

    @property
    def tasks_n(self) -> int:
        return int(self.seeds[0].max()) + 1


def part(scale: Scale) -> page.Part:
    """Group a pool by both sides. Without BERTopic's environment, only ours is measured."""
    from tests.benchmarks.grouping_sides import WARM_N

    pools = sources()
    name = "T0" if "T0" in pools else "lab"
    pool = _first(read(name, pools[name]), scale.discovery_prompts_n)
    started = time.process_time()
    rows = words(pool.prompts, FITTED_MAX)
    view_s = time.process_time() - started
    true_n = int(pool.true.max()) + 1
    peer = _side("BERTopic", PYTHON, "bertopic", pool, rows, 0) if PYTHON.exists() else None
    sides = [peer] if peer else []
    for tasks_n in dict.fromkeys([true_n, *([peer.tasks_n] if peer else [])]):
        sides.append(_side(f"ours, {tasks_n} tasks looked for", Path(sys.executable), "ours", pool, rows, tasks_n))
    about = ABOUT.format(
        prompts_n=len(pool.prompts),
        pool=name if name == "T0" else "the lab",
        true_n=true_n,
        width=rows.shape[1],
        view_s=view_s,
        peer=PEER.format(**_versions()) if peer else MISSING,
        warm_n=WARM_N,
    )
    return page.Part(TITLE, f"{about}\n\n{table(sides, pool.true)}")


def table(sides: Sequence[Side], true: Codes) -> str:
    """Return the table. If no side has outliers, "ARI, grouped" is "ARI"."""
    is_grouped = sides[0].seeds[0] >= 0
    return page.table(
        ["side", "tasks", "outliers", "ARI", "ARI, grouped", "NMI", "swap", "seed", "seconds", "MiB"],
        [_cells(side, true, is_grouped) for side in sides],
    )


def _cells(side: Side, true: Codes, is_grouped: NDArray[np.bool_]) -> list[str]:
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    runs = side.seeds
    first = runs[0]
    values = (
        np.mean([adjusted_rand_score(true, codes) for codes in runs]),
        np.mean([adjusted_rand_score(true[is_grouped], codes[is_grouped]) for codes in runs]),
        np.mean([normalized_mutual_info_score(true, codes) for codes in runs]),
        adjusted_rand_score(first, side.swapped),
        np.mean([adjusted_rand_score(first, codes) for codes in runs[1:]]),
    )
    measured = (f"{side.seconds:.1f}", f"{side.extra_mib:,.0f}")
    return [side.name, str(side.tasks_n), f"{side.outliers:.0%}", *(f"{value:.2f}" for value in values), *measured]


def _side(name: str, python: Path, side: str, pool: Labelled, rows: NDArray[np.float32], tasks_n: int) -> Side:
    everything = np.arange(len(rows))
    swapped = np.concatenate([[1, 0], everything[2:]])
    runs = [*((seed, everything) for seed in SEEDS), (SEEDS[0], swapped)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    packages = {"PYTHONPATH": str(ROOT) if side == "ours" else ""}
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), pool, rows, runs)
        command = [str(python), "-W", "ignore", str(SCRIPT), side, folder, str(tasks_n)]
        environment = os.environ | threads | packages
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"grouping by {side} ended with {done.returncode}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"  {name}: {found['seconds']:.1f} s, +{found['extra_mib']:.0f} MiB", flush=True)
    codes = [np.array(one, np.int64)[np.argsort(order)] for one, (_, order) in zip(found["codes"], runs, strict=True)]
    return Side(name, codes[:-1], codes[-1], found["seconds"], found["extra_mib"])


def _write(folder: Path, pool: Labelled, rows: NDArray[np.float32], runs: Sequence[tuple[int, Codes]]) -> None:
    (folder / "texts.json").write_text(json.dumps(pool.prompts), encoding="utf-8")
    (folder / "runs.json").write_text(json.dumps([(seed, order.tolist()) for seed, order in runs]), encoding="utf-8")
    np.save(folder / "rows.npy", rows)
    np.save(folder / "ids.npy", pool.ids)


def _versions() -> dict[str, str]:
    done = subprocess.run(
        [str(PYTHON), "-c", VERSIONS], env=os.environ | {"PYTHONPATH": ""}, check=True, capture_output=True
    )
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def _first(pool: Labelled, prompts_n: int) -> Labelled:
    return pool if prompts_n >= len(pool.prompts) else pool.at(range(prompts_n))
