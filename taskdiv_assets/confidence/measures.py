"""Five definitions of a continuation's confidence, all computed from the columns of the confidence table.

The paper (arXiv:2507.21482) does not define the base model's confidence. Our default is the mean probability.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]
Definition = Literal[
    "mean_probability", "geometric_mean", "min_probability", "first_probability", "sequence_probability"
]
SMALLEST = float(np.finfo(np.float32).tiny)  # floor, as in the confidence table: no confidence is 0

DEFINITIONS: Mapping[Definition, Callable[[Columns], Floats]] = {
    # mean of the chosen token's probability over the generated tokens
    "mean_probability": lambda columns: columns["mean_probability"],
    # 1 / perplexity of the continuation
    "geometric_mean": lambda columns: _exp(columns["sequence_log_probability"] / columns["generated_n"]),
    "min_probability": lambda columns: columns["min_probability"],
    "first_probability": lambda columns: columns["first_probability"],
    "sequence_probability": lambda columns: _exp(columns["sequence_log_probability"]),
}


def confidence(
    columns: Columns,  # columns of the confidence table, (n,) each
    definition: Definition,
) -> Floats:  # (n,) in (0, 1]
    """Return the confidence of each prompt by one definition.

    >>> columns = {"sequence_log_probability": np.log([0.25]), "generated_n": np.array([2])}
    >>> float(confidence(columns, "geometric_mean").round(6)[0]), float(confidence(columns, "sequence_probability").round(6)[0])
    (0.5, 0.25)
    """
    return DEFINITIONS[definition](columns)


def _exp(log_probabilities: Floats) -> Floats:
    return np.maximum(np.exp(log_probabilities), SMALLEST)
