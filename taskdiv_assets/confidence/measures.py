"""Five definitions of a continuation's confidence, all from the columns of one pass.

The paper weights tasks by the base's confidence and leaves the definition open; the mean probability is our default.
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
SMALLEST = float(np.finfo(np.float32).tiny)  # as in the table: no confidence is 0

DEFINITIONS: Mapping[Definition, Callable[[Columns], Floats]] = {
    # of the chosen token, mean over generated tokens
    "mean_probability": lambda columns: columns["mean_probability"],
    # one over the continuation's perplexity
    "geometric_mean": lambda columns: _exp(columns["sequence_log_probability"] / columns["generated_n"]),
    "min_probability": lambda columns: columns["min_probability"],
    "first_probability": lambda columns: columns["first_probability"],
    "sequence_probability": lambda columns: _exp(columns["sequence_log_probability"]),
}


def confidence(
    columns: Columns,  # of the confidence table, (n,) each
    definition: Definition,
) -> Floats:  # (n,) in (0, 1]
    """Return the confidence of each prompt.

    >>> columns = {"sequence_log_probability": np.log([0.25]), "generated_n": np.array([2])}
    >>> float(confidence(columns, "geometric_mean").round(6)[0]), float(confidence(columns, "sequence_probability").round(6)[0])
    (0.5, 0.25)
    """
    return DEFINITIONS[definition](columns)


def _exp(log_probabilities: Floats) -> Floats:
    return np.maximum(np.exp(log_probabilities), SMALLEST)
