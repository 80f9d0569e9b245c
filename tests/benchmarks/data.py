"""The pools of the selection benchmarks: synthetic rows that resemble mean-pooled hidden states.

Such rows have a common direction, and are in clusters of very different size and spread. A few directions have most of the
variance. Here, row = common + cluster + noise. The variances of noise and clusters fall as 1 / j over the directions. A random
rotation hides the axes, and 1% of the rows are exact copies of other rows. Rows are L2-normalised and converted to float16.
With one version of numpy, the seed determines all values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[Any]]  # what a side reads: prompt_ids, embeddings, rows (the same as float32); or tasks …

COMMON = 1.0  # length of the common direction
CLUSTER = 0.75  # length of a cluster's own direction: rows of different clusters have a cosine of about 0.55
NOISE = (0.35, 0.8)  # length of the noise, from the tightest cluster to the loosest: a row's closest is at about 0.9
REPEATED = 0.01  # share of rows that are exact copies
PROMPTS_A_CLUSTER = 75
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it keeps 64-bit ids different


def embedded_pool(n: int, d: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Return ids (n,) and float16 rows (n, d) of length 1, in random order."""
    random = np.random.default_rng([seed, d])
    clusters_n = max(2, n // PROMPTS_A_CLUSTER)
    shares = 1 / np.arange(1, clusters_n + 1) ** 0.8
    labels = random.choice(clusters_n, n, p=shares / shares.sum())
    spectrum = 1 / np.sqrt(np.arange(1, d + 1))
    spectrum /= np.sqrt((spectrum**2).sum())  # a draw has length 1 in the mean
    centres = CLUSTER * spectrum * random.standard_normal((clusters_n, d))
    spread = random.uniform(*NOISE, clusters_n)
    rows = centres[labels] + spread[labels, None] * spectrum * random.standard_normal((n, d))
    common = random.standard_normal(d)
    rows += COMMON * common / np.linalg.norm(common)
    rows = (rows @ np.linalg.qr(random.standard_normal((d, d)))[0]).astype(np.float32)
    copies = random.choice(n, max(1, int(REPEATED * n)), replace=False)
    rows[copies] = rows[random.choice(np.setdiff1d(np.arange(n), copies), len(copies))]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return {"prompt_ids": _ids(n, random), "embeddings": rows.astype(np.float16)}


def task_pool(n: int, tasks_n: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Return ids (n,) and task codes (n,). The sizes of the tasks fall as 1 / rank^0.7."""
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, tasks_n + 1) ** 0.7
    tasks = random.choice(tasks_n, n, p=shares / shares.sum()).astype(np.int32)
    return {"prompt_ids": _ids(n, random), "tasks": tasks}


def _ids(n: int, random: np.random.Generator) -> NDArray[np.uint64]:
    return random.permutation(np.arange(1, n + 1, dtype=np.uint64)) * _GOLDEN


def save(folder: Path, name: str, arrays: Inputs) -> Path:
    """Save a pool to a file for other processes."""
    path = folder / f"{name}.npz"
    np.savez(path, **arrays)  # numpy's stub takes a name for its option
    return path


def load(path: Path, rows_n: int | None = None) -> Inputs:
    """Return the first rows of a saved pool (default: all). Embeddings are returned as float16 and, in `rows`, as float32."""
    with np.load(path) as stored:
        arrays = {name: np.ascontiguousarray(stored[name][:rows_n]) for name in stored.files}
    if "embeddings" in arrays:
        arrays["rows"] = arrays["embeddings"].astype(np.float32)
    return arrays
