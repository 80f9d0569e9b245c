"""Our strategies as sides of a comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection import SelectionPool, rank
from tests.benchmarks.data import Inputs


def k_center(inputs: Inputs, depth: int) -> NDArray[np.int64]:
    return rank("k_center", _pool(inputs), seed=0, depth=depth)


def dpp(inputs: Inputs, depth: int) -> NDArray[np.int64]:
    return rank("dpp", _pool(inputs), seed=0, depth=depth)


def facility_location(inputs: Inputs, depth: int) -> NDArray[np.int64]:
    """Select with the graph of the nearest prompts, the default."""
    return rank("facility_location", _pool(inputs), seed=0, depth=depth)


def facility_location_exact(inputs: Inputs, depth: int) -> NDArray[np.int64]:
    """Select with all similarities, computed in blocks."""
    from taskdiv_assets.selection.strategies import facility_location

    return rank(facility_location(neighbours_n=None), _pool(inputs), seed=0, depth=depth)


def task_diversity(inputs: Inputs, depth: int) -> NDArray[np.int64]:
    return rank("task_diversity", _task_pool(inputs), seed=0)


def weighted_task_diversity(inputs: Inputs, depth: int) -> NDArray[np.int64]:
    return rank("weighted_task_diversity", _task_pool(inputs), seed=0)


def _pool(inputs: Inputs) -> SelectionPool:
    return SelectionPool(prompt_ids=inputs["prompt_ids"], embeddings=inputs["embeddings"])


def _task_pool(inputs: Inputs) -> SelectionPool:
    confidence: NDArray[Any] = np.linspace(0.05, 0.95, 2_000)
    names = tuple(f"task {i}" for i in range(len(confidence)))
    return SelectionPool(inputs["prompt_ids"], inputs["tasks"], names, task_confidence=confidence)
