"""Rows for the discovery of tasks from vectors, such as embeddings, and the mix of several views.

Vectors are centred, because the vectors of a language model share one large component, and reduced to `COMPONENTS_N` numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.pools.discovery.word_views import BLOCK_N, COMPONENTS_N, Rows, components, on_grid, words

Vectors: TypeAlias = np.ndarray[Any, np.dtype[np.floating[Any]]]  # (n, d) one vector a prompt, of any length


def reduced(vectors: Vectors, order: NDArray[np.int64], fitted_n: int) -> Rows:
    """Return a row for each vector in the order `order`, (n, at most `COMPONENTS_N`).

    The mean and the components come from the first `fitted_n` vectors of the order. Equal vectors in an equal order give equal
    rows. Vectors that differ by rounding, such as those of another machine, give rows that are mostly equal, because of the grid.
    """
    first = _block(vectors, order[:fitted_n])
    mean = first.mean(axis=0)
    first -= mean
    reduce: Callable[[Any], NDArray[np.float64]] | None = (
        None if min(first.shape) <= COMPONENTS_N else components(first)
    )

    def rows_of(block: NDArray[np.float64]) -> Rows:
        return on_grid(block if reduce is None else reduce(block))

    blocks = [rows_of(first)]
    for start in range(fitted_n, len(order), BLOCK_N):
        blocks.append(rows_of(_block(vectors, order[start : start + BLOCK_N]) - mean))
    return np.concatenate(blocks)


def rows_of_views(
    texts: Sequence[str],  # in the order `order`
    order: NDArray[np.int64],  # row of each text's vector
    fitted_n: int,
    *,
    with_words: bool,
    vectors: Sequence[Vectors],
) -> Rows:
    """Return the rows of the view `words` if `with_words`, mixed with those of `vectors`, in the order `order`."""
    views = [words(texts, fitted_n)] if with_words else []
    return mixed([*views, *(reduced(one, order, fitted_n) for one in vectors)])


def mixed(views: Sequence[Rows]) -> Rows:
    """Return one row for each prompt from its rows in several views.

    The unit rows of all views are joined with equal weights, and the result is scaled to length 1. A view in which a prompt has a
    row of zeros does not count for this prompt.

    >>> mixed([np.array([[1, 0]], np.float32), np.array([[0, 0.6, 0.8]], np.float32)]).round(2).tolist()[0]
    [0.7099999785423279, 0.0, 0.0, 0.41999998688697815, 0.5699999928474426]
    """
    return views[0] if len(views) == 1 else on_grid(np.hstack(views).astype(np.float64))


def _block(vectors: Vectors, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return some vectors, scaled to length 1. A vector of zeros stays zero."""
    block = vectors[rows].astype(np.float64)
    lengths = np.linalg.norm(block, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(block, lengths, out=np.zeros_like(block), where=lengths > 0)
    return unit
