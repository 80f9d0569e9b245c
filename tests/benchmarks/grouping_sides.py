"""Groupings of prompts in a process of its own: by BERTopic in its own environment, or by our code. Prints a line of JSON.

    python tests/benchmarks/grouping_sides.py SIDE FOLDER TASKS

SIDE is `bertopic` or `ours`. FOLDER contains texts.json, and rows.npy and ids.npy, whose row i belongs to text i, and runs.json: a list
of [seed, order of the prompts]. TASKS, the number of tasks to look for, is used by our code only. Time and memory are those of the
first run. Before it, the first `WARM_N` prompts are grouped, because of imports and compilation.
BERTopic's environment has none of our packages, so this file imports them, and BERTopic, inside functions.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WARM_N = 500


def bertopic(texts: Sequence[str], rows: Any, ids: Any, tasks_n: int, seed: int) -> list[int]:
    """Return the topic of each prompt, -1 for an outlier: BERTopic's defaults, one thread, with `rows` as embeddings."""
    from bertopic import BERTopic
    from hdbscan import HDBSCAN
    from umap import UMAP

    reduce = UMAP(
        n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", low_memory=False, random_state=seed, n_jobs=1
    )
    group = HDBSCAN(
        min_cluster_size=10,
        metric="euclidean",
        cluster_selection_method="eom",
        prediction_data=True,
        core_dist_n_jobs=1,
    )
    topics, _ = BERTopic(embedding_model=None, umap_model=reduce, hdbscan_model=group).fit_transform(texts, rows)
    return [int(topic) for topic in topics]


def ours(texts: Sequence[str], rows: Any, ids: Any, tasks_n: int, seed: int) -> list[int]:
    """Return the found task of each prompt. As in `discover`, the ids decide the order of the work; terms and names are made too."""
    from taskdiv_assets.pools.discovery import clusters, found_tasks, naming
    from taskdiv_assets.selection.streams import keyed_hash, stream_seed

    order = np.argsort(keyed_hash(0, found_tasks.STREAM, ids), kind="stable")
    rows = rows[order]
    centres = clusters.centres_of(rows, tasks_n, stream_seed(0, found_tasks.STREAM, "k-means", seed))
    codes = clusters.without_tiny(rows, clusters.nearest(rows, centres))
    naming.names_of(naming.terms_of([texts[i] for i in order], codes))
    placed = np.empty_like(codes)
    placed[order] = codes
    return [int(code) for code in placed]


SIDES: dict[str, Callable[..., list[int]]] = {"bertopic": bertopic, "ours": ours}


def main() -> None:
    side, folder, tasks_n = SIDES[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3])
    texts, runs = (json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("texts", "runs"))
    rows, ids = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("rows", "ids"))
    side(texts[:WARM_N], rows[:WARM_N], ids[:WARM_N], min(tasks_n, WARM_N // 10), 0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak of the memory
    before_mib, found, measured = _memory_mib("VmRSS"), [], {}
    for seed, order in runs:
        started = time.process_time()
        found.append(side([texts[i] for i in order], rows[order], ids[order], tasks_n, seed))
        if not measured:
            measured = {"seconds": time.process_time() - started, "extra_mib": _memory_mib("VmHWM") - before_mib}
    print(json.dumps({"codes": found, **measured}))


def _memory_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


if __name__ == "__main__":
    main()
