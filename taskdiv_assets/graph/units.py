"""The units of an experiment, and the comparison of a stored result with the identity and inputs that it should have now.

A unit is one result: an asset and the key of its partition.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from data_contracts.cell_keys import FULL_POOL_STRATEGY, split_key
from data_contracts.footer import Footer
from taskdiv_assets.experiment import Experiment


class Unit(NamedTuple):
    """One result: an asset and the key of its partition, which is a strategy, `budget|strategy`, or None without partitions."""

    asset: str
    key: str | None = None

    def __str__(self) -> str:
        return self.asset if self.key is None else f"{self.asset}/{self.key}"


def ranked_strategies(experiment: Experiment) -> list[str]:
    """Return the strategies that need a ranking: the experiment's, and `random` if the experiment has `full_pool_seeds`.

    A variant has the two strategies of the primary comparison only.
    """
    if experiment.variant is not None:
        return [name for name in experiment.strategies if name in experiment.variant.strategies]
    return list(dict.fromkeys([*experiment.strategies, *([FULL_POOL_STRATEGY] if experiment.full_pool_seeds else [])]))


def run_tags(experiment: Experiment, key: str | None = None) -> dict[str, str]:
    """Return tags by which the UI can filter runs: experiment, model (if there is one), and the strategy and budget in `key`."""
    tags = {"experiment": experiment.name}
    if experiment.base_model is not None:
        tags["model"] = experiment.base_model.label
    if key is not None:
        budget, strategy = split_key(key)
        tags |= {"strategy": strategy, **({"budget": budget} if budget else {})}
    return tags


class Expectation(NamedTuple):
    """The identity and the inputs that a result should have now."""

    identity: str
    inputs: Mapping[str, str]


class State(NamedTuple):
    """The status of a result, with a reason. `blocked`: an input is not fresh or not usable, so the result cannot be made now."""

    status: Literal["fresh", "stale", "missing", "blocked"]
    reason: str


class StaleInputError(ValueError):
    """Error for an input that is missing, stale or unusable."""


def what_changed(footer: Footer, expected: Expectation, code_version: int) -> str:
    """Return why a stored result is stale, such as "an older raw_pool". Code and settings are named only if no input changed."""
    changed = [
        name.partition(".")[0]
        for name in sorted({*footer.inputs, *expected.inputs})
        if footer.inputs.get(name) != expected.inputs.get(name)
    ]
    if changed:
        return f"an older {', '.join(dict.fromkeys(changed))}"
    return "older code" if footer.code_version != code_version else "other settings of the experiment file"
