"""Random streams by name: every draw of the project comes from a seed and the names of what it is for.

A stream depends on its root and names alone, so a new strategy or a new task changes no other stream. No global state.
"""

import hashlib

import numpy as np


def stream_seed(root: int, *names: str | int) -> int:
    """A 64-bit seed for one purpose, from the root seed and the purpose's names, the same on every machine.

    >>> stream_seed(0, "lab", "pool") == stream_seed(0, "lab", "pool")
    True
    >>> stream_seed(0, "lab", "pool") == stream_seed(1, "lab", "pool")
    False
    """
    text = "\x1f".join([str(root), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def generator(root: int, *names: str | int) -> np.random.Generator:
    """A numpy generator for one purpose."""
    return np.random.default_rng(stream_seed(root, *names))
