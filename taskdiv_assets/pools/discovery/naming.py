"""Descriptions of found groups: a name, the terms that distinguish a group from the others, and its most central prompts."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.pools.discovery.clusters import Codes, sums_of
from taskdiv_assets.pools.discovery.word_views import FEATURES_MAX, Rows, joined, phrases_of

TERMS_N = 6  # terms of a group that are kept
NAME_TERMS_N = 3  # terms in the name of a group
TERM_LENGTH_MAX = 30
CENTRAL_N = 3
MAPPED_MAX_N = 500  # groups on a map whose distances are fitted; the time grows with the square of their number
SHARE_MIN = 0.1  # a term is in at least this share of the group's prompts
WEIGHT_MIN = 0.25  # and its weight is at least this share of the group's largest
READ_N = 50  # prompts of a group that are read for its terms
SEPARATOR = " / "


def terms_of(prompts: Sequence[str], codes: Codes) -> list[tuple[str, ...]]:
    """Return for each group at most `TERMS_N` terms, the most distinguishing first; () if no term distinguishes it.

    A term is a phrase of at most three words. Only the first `READ_N` prompts of each group are read. The weight of a term is
    p · log(p / q): p is the share of the group's read prompts that contain the term, and q is the mean of p over all groups.

    The source of the idea is class-based TF-IDF (arXiv:2203.05794). We use shares of prompts instead of counts of words, and a
    logarithm that is 0 for a term that is equally common in all groups, so that common words need no list of stop words.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    groups_n = int(codes.max()) + 1
    read = np.concatenate([np.flatnonzero(codes == group)[:READ_N] for group in range(groups_n)])
    counter = CountVectorizer(analyzer=phrases_of, binary=True, min_df=2, max_features=FEATURES_MAX)
    try:
        counts = counter.fit_transform([prompts[i] for i in read]).tocsr()
    except ValueError:  # no phrase is in two prompts
        return [()] * groups_n
    names = counter.get_feature_names_out().tolist()
    shares = np.stack([np.asarray(counts[codes[read] == group].mean(axis=0)).ravel() for group in range(groups_n)])
    mean = shares.mean(axis=0)
    gains = np.where(shares >= SHARE_MIN, shares * np.log(np.maximum(shares, SHARE_MIN) / mean), 0)
    return [_best(names, gain) for gain in gains]


def _best(names: Sequence[str], weights: NDArray[np.float64]) -> tuple[str, ...]:
    """Return the terms with the largest weights, at most `TERMS_N`. No two of them share a word.

    A weight must be above 0.0005 and above `WEIGHT_MIN` times the largest weight. Among weights that are equal to three decimals,
    the term with more words comes first. Terms of more than `TERM_LENGTH_MAX` characters are left out.
    """
    likely = np.flatnonzero(weights > max(0.0005, WEIGHT_MIN * float(weights.max(initial=0))))
    likely = likely[np.argsort(-weights[likely], kind="stable")[: 20 * TERMS_N]]
    order = sorted(likely.tolist(), key=lambda i: (-round(float(weights[i]), 3), -names[i].count(" "), names[i]))
    kept: list[str] = []
    used: set[str] = set()
    for words in (names[i].split() for i in order):
        term = joined(words)
        if len(term) <= TERM_LENGTH_MAX and used.isdisjoint(words):
            kept.append(term)
            used.update(words)
        if len(kept) == TERMS_N:
            break
    return tuple(kept)


def names_of(terms: Sequence[Sequence[str]], taken: Collection[str] = ()) -> list[str]:
    """Return a different name for each group: its first terms, or `task` and the group's number (from 1) if it has no terms.

    If a name is in `taken` or belongs to an earlier group, a number is added. Names count as equal if only case or spaces differ.

    >>> names_of([("refund", "money back"), ("refund", "money back"), ()], ["task 3"])
    ['refund / money back', 'refund / money back (2)', 'task 3 (2)']
    """
    used, names = {_folded(name) for name in taken}, []
    for number, own in enumerate(terms, start=1):
        for name in _candidates(SEPARATOR.join(own[:NAME_TERMS_N]) or f"task {number}"):
            if _folded(name) not in used:
                break
        used.add(_folded(name))
        names.append(name)
    return names


def _candidates(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name} ({number})"
        number += 1


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name.casefold()).split())


def central(rows: Rows, codes: Codes) -> list[list[int]]:
    """Return the positions of the `CENTRAL_N` rows of each group that are nearest to its mean, the nearest first."""
    sums = sums_of(rows, codes)
    found = []
    for group, total in enumerate(sums):
        members = np.flatnonzero(codes == group)
        closeness = rows[members].astype(np.float64) @ (total / np.float64(len(members)))
        order = np.argsort(-np.round(closeness, 9), kind="stable")[:CENTRAL_N]
        found.append(members[order].tolist())
    return found


def places(rows: Rows, codes: Codes) -> NDArray[np.float64]:  # (k, 2)
    """Return a place on a map for each group, so that near groups have near means.

    The map starts from the first two principal components of the means, weighted by size. With at most `MAPPED_MAX_N` groups, it
    is then changed so that distances on it are close to the distances between the means (SMACOF: de Leeuw, 1977). Without that
    step, groups that share no words lie over each other in the middle.
    """
    from sklearn.manifold import smacof

    sizes = np.bincount(codes).astype(np.float64)
    means = sums_of(rows, codes) / sizes[:, None]
    centred = means - np.average(means, axis=0, weights=sizes)
    _, _, axes = np.linalg.svd(centred * np.sqrt(sizes)[:, None], full_matrices=False)
    axes = axes[:2] * np.sign(axes[np.arange(min(2, len(axes))), np.argmax(np.abs(axes[:2]), axis=1)])[:, None]
    place = np.zeros((len(sizes), 2))
    place[:, : len(axes)] = centred @ axes.T
    if not 2 < len(sizes) <= MAPPED_MAX_N:
        return place
    products = means @ means.T
    squares = np.diag(products)
    gaps = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0))
    gaps = (gaps + gaps.T) / 2
    np.fill_diagonal(gaps, 0)
    mapped: NDArray[np.float64] = smacof(gaps, init=place, n_init=1, normalized_stress=False)[0]
    return mapped
