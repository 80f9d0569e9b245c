"""The units of an experiment: every result that it consists of, an asset and its partition, in the order data flows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from taskdiv_assets.experiment import ADD_BASE_MODEL, Experiment
from taskdiv_assets.experiment.benchmark_settings import asked
from taskdiv_assets.graph.cells import FULL_POOL_STRATEGY, PoolSize
from taskdiv_assets.graph.cells import expected as expected_cells
from taskdiv_assets.storage.store import Store


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


CONFIDENCE = frozenset({"confidence_table", "task_confidence", "confidence_comparison", "confidence_accuracy"})
OF_THE_BASE = frozenset({"base_model", "base_scores", "tuning_choice", "adapter", "benchmark_scores"})
SCORES = frozenset({"base_scores", "benchmark_scores"})


def used_assets(experiment: Experiment, strategies: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the assets that an experiment uses, in the order data flows.

    Nothing is computed that no strategy reads: a campaign by `random` alone neither scores nor embeds its pool. Without a base
    model nothing is trained, without a benchmark nothing is scored.

    Args:
        experiment: whose assets.
        strategies: only these; empty means all of the experiment's.
    """
    names = strategies or ranked_strategies(experiment)
    needs = frozenset[str]().union(*(experiment.strategy(name).needs for name in names))
    unused: set[str] = set()
    if not needs & {"scores", "task_confidence"}:
        unused |= CONFIDENCE
    if "embeddings" not in needs:
        unused.add("prompt_embeddings")
    if experiment.base_model is None:
        unused |= OF_THE_BASE
    if not any(asked(experiment.benchmarks)):
        unused |= SCORES
    if experiment.tuning.candidates is None:
        unused.add("tuning_choice")
    return tuple(name for name in ORDER if name not in unused)


def cell_assets(experiment: Experiment) -> tuple[str, ...]:
    """Return the assets that each cell of an experiment has, in the order data flows."""
    used = used_assets(experiment)
    return tuple(name for name in BY_CELL if name in used)


def why_unused(experiment: Experiment, asset: str, strategies: Sequence[str] = ()) -> str:
    """Return one sentence that says why an experiment does not use an asset, and what to add if it should."""
    if asset not in ORDER:
        return f"there is no asset {asset!r}; expected one of {', '.join(ORDER)}"
    if asset in OF_THE_BASE and experiment.base_model is None:
        return f"{asset} needs a base model, and {experiment.name} names none; {ADD_BASE_MODEL}"
    if asset in SCORES and not any(asked(experiment.benchmarks)):
        return f"{asset} needs a benchmark, and {experiment.name} names none; add `benchmarks: [{{name: mmlu, sample: 1140}}]`"
    if asset == "tuning_choice":
        return f"{experiment.name} names one learning rate; nothing has to be chosen"
    names = ", ".join(strategies or experiment.strategies)
    return f"none of the chosen strategies ({names}) reads {asset}; leave it out, or choose a strategy that does"


def all_units(
    experiment: Experiment, store: Store, pool: PoolSize | None, assets: Collection[str] | None = None
) -> list[Unit]:
    """Return every result of an experiment, in the order data flows.

    Args:
        experiment: whose results.
        store: knows the budgets that were added.
        pool: its size, once it was read.
        assets: of these assets; None means those that the experiment uses.
    """
    wanted = used_assets(experiment) if assets is None else assets
    return [
        *(Unit(name) for name in UNPARTITIONED if name in wanted),
        *(Unit("ranking", strategy) for strategy in ranked_strategies(experiment) if "ranking" in wanted),
        *(
            Unit(name, cell.key)
            for cell in expected_cells(experiment, store, pool)
            for name in BY_CELL
            if name in wanted
        ),
        *(Unit(name) for name in ("strategy_report",) if name in wanted),
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
    tags = {"experiment": experiment.name}
    if experiment.base_model is not None:
        tags["model"] = experiment.base_model.label
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
