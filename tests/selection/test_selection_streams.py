"""Keyed hashes: fixed numbers on all machines, and streams that are independent of each other."""

import numpy as np

from taskdiv_assets.selection.streams import keyed_hash, shuffled_positions

MASK = 2**64 - 1


def splitmix64(value):
    """Compute the hash with Python's own integers."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def test_the_finaliser_is_the_published_one():
    """First outputs of splitmix64 from state 0, as in Vigna's reference code."""
    assert splitmix64(0) == 0xE220A8397B1DCDAF
    assert splitmix64(0x9E3779B97F4A7C15) == 0x6E789E6AA1B965F4


def test_keyed_hash_equals_plain_integers():
    import hashlib

    ids = np.array([0, 1, 2**63, MASK, 12345678901234567890], np.uint64)
    digest = hashlib.sha256(b"selection/random\x007").digest()
    first, second = (int.from_bytes(digest[i : i + 8], "little") for i in (0, 8))
    expected = [splitmix64(splitmix64(int(i) ^ first) ^ second) for i in ids]
    assert keyed_hash(7, "selection/random", ids).tolist() == expected
    assert ids.tolist() == [0, 1, 2**63, MASK, 12345678901234567890], "the input is left alone"


def test_different_ids_never_collide_and_streams_and_seeds_differ():
    ids = np.arange(100_000, dtype=np.uint64)
    hashes = [keyed_hash(seed, stream, ids) for seed in (0, 1) for stream in ("a", "b")]
    assert all(len(np.unique(h)) == len(ids) for h in hashes)
    assert all((x != y).all() for i, x in enumerate(hashes) for y in hashes[:i])


def test_a_shuffle_of_names_does_not_depend_on_their_order():
    names = [f"task {i}" for i in range(20)]
    places = shuffled_positions(5, "s", names)
    assert sorted(places) == list(range(20))
    assert (shuffled_positions(5, "s", names[::-1])[::-1] == places).all()
    assert (shuffled_positions(6, "s", names) != places).any()
