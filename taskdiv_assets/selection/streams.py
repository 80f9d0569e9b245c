"""Random numbers by seed and stream name, without global state. A stream is named after its purpose.

The order of prompts comes from a keyed hash in 64-bit integer arithmetic. So the hash of a prompt is the same for every order of
rows, on every machine and with every version of numpy. The order of tasks comes from SHA-256. Other draws use a numpy generator
with a seed computed from names. A new strategy or task does not change other streams.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RANDOM = "selection/random"
WITHIN_TASK = "selection/within_task"
TASK_ORDER = "selection/task_order"
K_CENTER = "selection/k_center"

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def keyed_hash(
    seed: int,
    stream: str,
    prompt_ids: NDArray[np.uint64],  # (n,)
) -> NDArray[np.uint64]:  # (n,)
    """Return a 64-bit number for each prompt, which depends on the seed, the stream name and the prompt_id.

    The hash is two rounds of splitmix64. Its key is the first 16 bytes of SHA-256 over the stream name and the seed. Each step
    is a bijection of 64-bit integers, so two prompts cannot get the same number.

    Source: `mix64variant13` in Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014; its constants are by
    David Stafford. We use this function as a keyed permutation instead of as a generator.

    >>> [f"{h:016x}" for h in keyed_hash(0, "selection/random", np.array([0, 1], np.uint64))]
    ['93bbbb2829726d54', '3dc82be45247915c']
    """
    digest = hashlib.sha256(f"{stream}\x00{int(seed)}".encode()).digest()
    first, second = (np.uint64(int.from_bytes(digest[i : i + 8], "little")) for i in (0, 8))
    hashed = _splitmix64(prompt_ids.astype(np.uint64) ^ first)
    hashed ^= second
    return _splitmix64(hashed)


def _splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Apply one round of splitmix64 to `values` in place, and return them."""
    values += _GAMMA
    values ^= values >> np.uint64(30)
    values *= _MIX_1
    values ^= values >> np.uint64(27)
    values *= _MIX_2
    values ^= values >> np.uint64(31)
    return values


def shuffled_positions(seed: int, stream: str, names: Sequence[str]) -> NDArray[np.int64]:  # (T,)
    """Return the position of each name after a seeded shuffle. The positions do not depend on the order of `names`.

    >>> shuffled_positions(0, "selection/task_order", ["qa", "sum"]).tolist()
    [1, 0]
    """
    digests = [hashlib.sha256(f"{stream}\x00{int(seed)}\x00{name}".encode()).digest() for name in names]
    places = np.empty(len(names), np.int64)
    places[sorted(range(len(names)), key=lambda i: (digests[i], names[i]))] = np.arange(len(names))
    return places


def stream_seed(root: int, *names: str | int) -> int:
    """Return a 64-bit seed from a root seed and names that describe the purpose of the new seed. It is the same on every machine.

    >>> stream_seed(0, "lab", "pool") == stream_seed(1, "lab", "pool")
    False
    """
    text = "\x1f".join([str(root), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def generator(root: int, *names: str | int) -> np.random.Generator:
    return np.random.default_rng(stream_seed(root, *names))
