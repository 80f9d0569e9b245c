"""Pools for the coverage strategies: small integer lattices full of ties, and clusters like those of a model's embeddings."""

import numpy as np
from hypothesis import strategies as st

from taskdiv_assets.selection import SelectionPool
from taskdiv_assets.selection.grid import STEPS

LATTICE = st.lists(st.tuples(*[st.integers(-1, 1)] * 4).filter(any), min_size=1, max_size=14)


def unit(points):
    points = np.asarray(points, float)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def pool_of(points, ids):
    return SelectionPool(np.asarray(ids, np.uint64), embeddings=points)


def whole_numbers(points, steps=STEPS):
    """Return the points on the grid as Python integers."""
    return [[round(float(value) * steps) for value in row] for row in points]


def clusters(n, d, seed=0, copies_n=0):
    """Return float16 unit rows around a common direction and some centres. `copies_n` of them equal the first row."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(2, n // 40), d))
    points = rng.normal(size=d) + centres[rng.integers(len(centres), size=n)] + 0.7 * rng.normal(size=(n, d))
    points[rng.permutation(n)[:copies_n]] = points[0]
    return unit(points).astype(np.float16)
