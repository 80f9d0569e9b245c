"""Orders by one stored score of the base model's own continuation: sort, ties by prompt_id, nothing else.

Scores are sorted as they are stored. What keeps near-ties from flipping is scoring with fixed shapes, not
rounding here.
"""

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.pool import SelectionPool
from taskdiv_assets.selection.strata import Order


def score_order(column: str, *, is_high_first: bool) -> Order:
    """All rows by a score of confidence_table."""

    def order(pool: SelectionPool, seed: int, depth: int | None) -> NDArray[np.int64]:
        scores = pool.scores[column]
        if is_high_first:
            return np.lexsort((~pool.prompt_ids, scores))[::-1]  # no score is negated: unsigned ones would wrap
        return np.lexsort((pool.prompt_ids, scores))

    return order
