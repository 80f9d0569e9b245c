"""The pool that every selection benchmark uses: synthetic rows that look like mean-pooled hidden states.

Such rows share a common direction, lie in clusters of very unequal size and spread, and vary in few directions more
than in the others. Here: row = common + cluster + noise, the variance of noise and clusters falls as 1 / j over the
directions, a random rotation hides the axes, 1% of the rows repeat another row exactly. L2-normalised, then float16.
Fixed by the seed alone, for one version of numpy.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

COMMON = 1.0  # length of the common direction
CLUSTER = 0.75  # length of a cluster's own direction, so that rows of different clusters have a cosine of about 0.5
NOISE = (0.35, 0.8)  # length of the noise, from the tightest cluster to the loosest: cosines of 0.93 to 0.7 within one
REPEATED = 0.01  # share of rows that are exact copies


class Data(NamedTuple):
    """What a benchmark reads."""

    prompt_ids: NDArray[np.uint64]  # (n,)
    embeddings: NDArray[np.float16]  # (n, d)


def make(n: int, d: int, seed: int = 0) -> Data:
    """Rows in clusters, in random order."""
    random = np.random.default_rng([seed, d])
    clusters_n = max(2, n // 75)
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
    ids = random.permutation(np.arange(1, n + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    return Data(ids, rows.astype(np.float16))


def saved(folder: Path, n: int, d: int) -> Path:
    """The file of a pool, made once; read it with `load`."""
    path = folder / f"pool_{n}_{d}.npz"
    if not path.exists():
        np.savez(path, **make(n, d)._asdict())
    return path


def load(path: Path) -> Data:
    """A pool that `saved` wrote."""
    with np.load(path) as arrays:
        return Data(arrays["prompt_ids"], arrays["embeddings"])
