"""The units of an experiment. A unit is one result: an asset and the key of its partition."""

from __future__ import annotations

from typing import NamedTuple

from data_contracts.cell_keys import FULL_POOL_STRATEGY, split_key
from taskdiv_assets.experiment import Experiment


class Unit(NamedTuple):
    """One result: an asset, and the key of its partition. The key is a strategy, `budget|strategy`, or None."""

    asset: str
    key: str | None = None

    def __str__(self) -> str:
        return self.asset if self.key is None else f"{self.asset}/{self.key}"


def ranked_strategies(experiment: Experiment) -> list[str]:
    """Return the strategies that need a ranking: those of the experiment, and `random` for the full pool's cell."""
    return list(dict.fromkeys([*experiment.strategies, *([FULL_POOL_STRATEGY] if experiment.full_pool_seeds else [])]))


def run_tags(experiment: Experiment, key: str | None = None) -> dict[str, str]:
    """Return the tags by which users filter runs in the UI: experiment, model, and the strategy and budget in `key`."""
    tags = {"experiment": experiment.name}
    if experiment.base_model is not None:
        tags["model"] = experiment.base_model.label
    if key is not None:
        budget, strategy = split_key(key)
        tags |= {"strategy": strategy, **({"budget": budget} if budget else {})}
    return tags
