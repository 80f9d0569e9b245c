"""The units of an experiment: every result that it consists of, an asset and its partition, in the order data flows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from taskdiv_assets.cells import FULL_POOL_STRATEGY, PoolSize
from taskdiv_assets.cells import expected as expected_cells
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.selection import STRATEGIES
from taskdiv_assets.store import Store


class Unit(NamedTuple):
    """One result: an asset, and its partition if it has any."""

    asset: str
    key: str | None = None

    def __str__(self) -> str:
        return self.asset if self.key is None else f"{self.asset}/{self.key}"


UNPARTITIONED = (
    "raw_pool",
    "task_labels",
    "annotations",
    "base_model",
    "confidence_table",
    "task_confidence",
    "confidence_comparison",
    "confidence_accuracy",
    "prompt_embeddings",
    "base_scores",
    "tuning_choice",
)
BY_CELL = ("allocation", "annotation_batch", "adapter", "benchmark_scores")
ORDER = (*UNPARTITIONED, "ranking", *BY_CELL, "strategy_report")  # as data flows


def all_units(experiment: Experiment, store: Store, pool: PoolSize | None) -> list[Unit]:
    """Every result of an experiment, in the order data flows; what it does not need is left out."""
    unneeded = set()
    if not any("embeddings" in STRATEGIES[name].needs for name in experiment.strategies):
        unneeded.add("prompt_embeddings")
    if experiment.tuning.candidates is None:
        unneeded.add("tuning_choice")
    return [
        *(Unit(name) for name in UNPARTITIONED if name not in unneeded),
        *(Unit("ranking", strategy) for strategy in ranked_strategies(experiment)),
        *(Unit(name, cell.key) for cell in expected_cells(experiment, store, pool) for name in BY_CELL),
        Unit("strategy_report"),
    ]


def ranked_strategies(experiment: Experiment) -> list[str]:
    """The experiment's strategies, and `random` where there is a full pool: its cell is a prefix of that order."""
    return list(dict.fromkeys([*experiment.strategies, *([FULL_POOL_STRATEGY] if experiment.full_pool_seeds else [])]))


def run_tags(experiment: Experiment, key: str | None = None) -> dict[str, str]:
    """Tags by which a run is found in the UI: experiment, model, and what its partition names.

    Args:
        experiment: that the run belongs to.
        key: `budget|strategy`, a strategy, or None.
    """
    tags = {"experiment": experiment.name, "model": experiment.base_model.label}
    if key is not None:
        budget, _, strategy = key.rpartition("|")
        tags |= {"strategy": strategy, **({"budget": budget} if budget else {})}
    return tags


# What a strategy says that it needs, and the asset that gives it.
RANKING_INPUTS: Mapping[str, str] = {
    "scores": "confidence_table",
    "task_confidence": "task_confidence",
    "embeddings": "prompt_embeddings",
}
