"""What a ranking is made of, apart from its inputs: how deep it goes, its settings, and the prompts it begins with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from taskdiv_assets.annotating import ledger
from taskdiv_assets.experiment import DEFAULT_GREEDY_DEPTH, Experiment, plugins
from taskdiv_assets.graph.units import ranked_strategies
from taskdiv_assets.selection import STRATEGIES
from taskdiv_assets.selection.facility_location import exact_picks_n
from taskdiv_assets.selection.strata import COST_SCALE
from taskdiv_assets.storage.store import Store

IN_THOUSANDTHS: dict[str, object] = {"costs": "in thousandths of the smallest"}  # mark of costs below a millionth
BY_COMPLEMENT = "complement_weighted_task_diversity"  # its costs never depend on the scale


def ranking_depth(experiment: Experiment, strategy: str, pool_n: int) -> int:
    """How deep a strategy's order goes: the pool, and for greedy orders at most `ranking_depth`."""
    if not experiment.strategy(strategy).is_greedy:
        return pool_n
    return min(pool_n, experiment.ranking_depth or DEFAULT_GREEDY_DEPTH)


def ranking_settings(experiment: Experiment, strategy: str, depth: int, pool_n: int) -> dict[str, object]:
    """The fields of an experiment that a strategy's order over so many prompts depends on."""
    settings: dict[str, object] = {
        "strategy": strategy,
        "selection_seeds": sorted(experiment.selection_seeds),
        "depth": depth,
    }
    if strategy == "facility_location":
        neighbours_n = experiment.facility_location.neighbours_n
        settings["neighbours_n"] = neighbours_n
        if first_n := exact_picks_n(neighbours_n, pool_n, depth):
            settings["exact_picks_n"] = first_n
    elif own := experiment.own_order(strategy):
        settings["own_order"] = own.settings
    elif strategy not in STRATEGIES:
        settings["plugin"] = plugins.identity_of(strategy)
    return settings


def cost_settings(strategy: str, needs: Collection[str], mean_confidence: Iterable[float]) -> dict[str, object]:
    """What a ranking by task confidence depends on beside its inputs: the scale of costs, where it is not millionths."""
    is_inverse = "task_confidence" in needs and strategy != BY_COMPLEMENT
    is_small = is_inverse and min(mean_confidence, default=1.0) < 1 / COST_SCALE
    return IN_THOUSANDTHS if is_small else {}


def kept_first(experiment: Experiment, store: Store) -> Mapping[str, list[list[str]]]:
    """By strategy, the groups of prompts that its order begins with (`ledger.kept_first`); the annotations are stored."""
    annotated = store.read_table("annotations").table["prompt_id"].to_pylist()
    entries = ledger.read(store)
    return {name: ledger.kept_first(entries, annotated, name) for name in ranked_strategies(experiment)}
