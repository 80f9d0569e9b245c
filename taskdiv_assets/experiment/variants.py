"""Variants of an experiment (section `robustness`), each as an experiment of its own for the graph.

A variant has all settings of its experiment, except those that it replaces. It has two cells: the strategies of the primary
comparison at one budget. It is stored in a folder of its own, and uses all results of its experiment that have the same identity.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data_contracts.experiment_fields import compared_strategies
from data_contracts.variant_names import GRAPH_NAME_LENGTH_MAX, graph_name
from taskdiv_assets.experiment.benchmark_settings import asked
from taskdiv_assets.experiment.declaration import Experiment, VariantOf
from taskdiv_assets.experiment.mistakes import Problem
from taskdiv_assets.selection.strategies import READS_CONFIDENCE
from taskdiv_assets.tuning_settings import Tuning


def variants_of(experiment: Experiment) -> list[Experiment]:
    """Return all variants of an experiment, in the order of its file."""
    return [derived(experiment, name) for name in experiment.robustness]


def derived(experiment: Experiment, name: str) -> Experiment:
    """Return the variant `name` of an experiment. Raise KeyError if the experiment has no such variant."""
    variant, tuning = experiment.robustness[name], experiment.tuning
    changed = {} if variant.tuning is None else variant.tuning.model_dump()
    factor = 1.0 if variant.tuning is None else variant.tuning.factor or 1.0
    if isinstance(changed.get("learning_rate"), str):
        changed.pop("learning_rate")
    if tuning.candidates is None and "learning_rate" not in changed:
        changed["learning_rate"] = tuning.rate * factor
    updates: dict[str, Any] = {
        "name": graph_name(experiment.name, name),
        "tuning": Tuning.model_validate({**tuning.model_dump(), **changed}),
        "confidence": experiment.confidence.model_copy(update={**variant.changes.get("confidence", {})}),
        "full_pool_seeds": [],
        "robustness": {},
    }
    if experiment.rounds:  # no strategy of the primary comparison is in rounds (`order_settings`)
        updates |= {"rounds": {}, "strategies": [one for one in experiment.strategies if one not in experiment.rounds]}
    updates |= {key: value for key, value in variant.changes.items() if key in ("prompt_template", "chat_template")}
    strategies, benchmark = _compared(experiment)
    one = VariantOf(name, experiment, factor, variant.budget or max(experiment.budgets), strategies, benchmark)
    return experiment.model_copy(update=updates).as_variant(one)


def _compared(experiment: Experiment) -> tuple[tuple[str, ...], str]:
    """Return the strategies of the primary comparison, and its benchmark: by default, the first one that is scored."""
    primary = experiment.primary
    if primary is not None:
        return (primary.strategy, primary.reference), primary.benchmark
    benchmark = next((one.name for one in asked(experiment.benchmarks)), "")
    return compared_strategies(experiment.strategies), benchmark


def problems(experiment: Experiment) -> Iterator[Problem]:
    """Yield the mistakes of the section `robustness` that `robustness_settings` does not find."""
    strategies, benchmark = _compared(experiment)
    if experiment.robustness and (len(strategies) < 2 or not benchmark or experiment.base_model is None):
        message = "a variant repeats the primary comparison, so it needs two strategies, a base model and a benchmark"
        yield Problem(("robustness",), message)
        return
    for name in experiment.robustness:
        for message in _of_one(experiment, name):
            yield Problem(("robustness", name), message)


def _of_one(experiment: Experiment, name: str) -> Iterator[str]:
    variant, one = experiment.robustness[name], derived(experiment, name)
    strategies, _ = _compared(experiment)
    if len(one.name) > GRAPH_NAME_LENGTH_MAX:
        yield (
            f"with the name of the experiment, the name has {len(one.name)} characters in Dagster ({one.name}); "
            f"expected at most {GRAPH_NAME_LENGTH_MAX}"
        )
    if variant.budget is not None and variant.budget not in experiment.budgets:
        listed = ", ".join(map(str, sorted(experiment.budgets)))
        yield f"{variant.budget} is not one of the `budgets` ({listed}); a variant is compared with a cell of the experiment"
    choosing = [key for key in variant.changes if key != "tuning"]
    if experiment.purpose == "campaign" and choosing:
        yield (
            f"`{choosing[0]}` changes which prompts are chosen, and a campaign has answers only for the lists that were sent "
            "out; in a campaign, a variant changes `tuning` only"
        )
    changed = ("tuning", "confidence", "prompt_template", "chat_template")
    is_same_rate = one.variant is not None and one.variant.rate_factor == 1
    if is_same_rate and all(getattr(one, key) == getattr(experiment, key) for key in changed):
        yield "this variant has the same settings as the experiment; change one of them"
    needs = frozenset[str]().union(*(experiment.strategy(strategy).needs for strategy in strategies))
    if [*variant.changes] == ["confidence"] and not needs & READS_CONFIDENCE:
        yield f"neither {strategies[0]} nor {strategies[1]} reads confidence, so another confidence changes nothing"
    if "scores" in needs and one.confidence.of == "prompt":
        yield "a strategy of the primary comparison reads scores of the continuation; use `of: continuation`"
    if one.has_lab_model and one.chat_template:
        yield "the lab's model has no chat template; remove the key"
