"""The cells that an experiment expects, with their status. A cell is one strategy at one budget."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import data_contracts
from data_contracts.cell_keys import BUDGET_PATTERN, FULL_POOL_STRATEGY, budget_kind, cell_key, full_pool_cell
from data_contracts.stored import Listing, StoredTable
from reports.experiment_view import Experiment, cell_stages
from reports.reader import Reader
from reports.scores import ScoreSet

HELD_OUT_TABLE = "held_out_items"


class Budgets(NamedTuple):
    """The budgets of an experiment."""

    pool_n: int | None  # prompts of the pool; None if unknown
    ordinary: tuple[int, ...]  # below `pool_n`; also `pool_n` itself if the experiment file has that budget
    ignored: tuple[int, ...]  # larger than the pool
    full_pool_n: int | None  # None if the full pool has no cell


class Cell(NamedTuple):
    """One strategy at one budget, with the expected seeds, and the seeds that have scores by every metric that the cell has."""

    strategy: str
    budget_n: int
    is_full_pool: bool
    expected_seeds: tuple[int, ...]
    scored_seeds: tuple[int, ...]
    status: str  # done, partial, missing, rejected
    reason: str  # why the cell is not done; empty if it is done
    command: str  # command that produces the cell; empty if it is done


def read_budgets(reader: Reader, experiment: Experiment, pool_n: int | None) -> Budgets:
    """Return the budgets in the experiment file and in the folder `budgets`, in which the name of each file is a budget.

    A file of kind `full_pool` counts only if its budget is the size of the pool. For each other entry of the folder, a
    sentence is added to `reader.problems`, unless its name starts with "." or it is of kind `full_pool` with another budget.
    """
    found = set(experiment.budgets)
    for name, is_file in reader.files.children("budgets").items():
        is_number = is_file and BUDGET_PATTERN.fullmatch(name)
        kind = budget_kind(reader.files.text("budgets", name)) if is_number else None
        if kind == "requested" or (kind == "full_pool" and int(name) == pool_n):
            found.add(int(name))
        elif not kind and not name.startswith("."):
            reader.problems.append(f"budgets/{name} was not written by `taskdiv budget add`; it is ignored")
    full_pool = full_pool_cell(pool_n, experiment.budgets, experiment.full_pool_seeds)
    in_pool = [n for n in sorted(found) if pool_n is None or n < pool_n or (n == pool_n and n in experiment.budgets)]
    ignored = tuple(n for n in sorted(found) if pool_n is not None and n > pool_n)
    return Budgets(pool_n, tuple(in_pool), ignored, pool_n if full_pool and pool_n in found else None)


def cells(experiment: Experiment, budgets: Budgets, listing: Listing, sets: Collection[ScoreSet]) -> tuple[Cell, ...]:
    """Return all expected cells. The cell of the full pool, if there is one, is last."""
    grid = [(strategy, budget, False) for strategy in experiment.strategies for budget in budgets.ordinary]
    if budgets.full_pool_n is not None:
        grid.append((FULL_POOL_STRATEGY, budgets.full_pool_n, True))
    return tuple(_cell(experiment, *place, listing, sets) for place in grid)


def _cell(
    experiment: Experiment, strategy: str, budget: int, is_full: bool, listing: Listing, sets: Collection[ScoreSet]
) -> Cell:
    expected = experiment.full_pool_seeds if is_full else experiment.seeds
    own = [one.arms[strategy, budget] for one in sets if (strategy, budget) in one.arms]
    scored = tuple(sorted(set.intersection(*(set(arm.seeds) for arm in own)))) if own else ()
    keys = {(stage, _key(stage, strategy, budget)) for stage in cell_stages()}
    broken = [entry for entry in listing.rejected if (entry.asset, entry.key) in keys]
    if broken:
        rules = ", ".join(rule.rule for rule in broken[0].rules) or "a rule that the file does not name"
        older = "; an older result is stored and shown" if own else ""
        status, reason = "rejected", f"{broken[0].asset} broke {rules}{older}"
    elif not own:
        reason = _why_missing(experiment, strategy, budget, listing)
        status = "missing" if reason else "done"
    else:
        reason = _why_partial(experiment, (strategy, budget), [seed for seed in expected if seed not in scored], sets)
        status = "partial" if reason else "done"
    command = f"taskdiv run {experiment.name} --budget {budget} --strategy {strategy}" if reason else ""
    return Cell(strategy, budget, is_full, expected, scored, status, reason, command)


def _why_partial(
    experiment: Experiment, arm: tuple[str, int], absent: Collection[int], sets: Collection[ScoreSet]
) -> str:
    known, have = {one.benchmark for one in sets}, {one.benchmark for one in sets if arm in one.arms}
    unscored = [one.name for one in experiment.benchmarks if one.name in known - have]
    reasons = [f"seeds without scores: {', '.join(map(str, absent))}"] if absent else []
    reasons += [f"benchmarks without scores: {', '.join(unscored)}"] if unscored else []
    return "; ".join(reasons)


def waits_for_items(experiment: Experiment, tables: Mapping[tuple[str, str | None], StoredTable]) -> bool:
    """Return True if nothing can be scored: the only benchmark to run is `held_out`, and none of its items has an answer."""
    items = tables.get((HELD_OUT_TABLE, None))
    others = [one for one in experiment.benchmarks if one.name != "held_out" and not one.is_skipped]
    return items is not None and items.footer.notes.get("answered_n") == 0 and not others


def _why_missing(experiment: Experiment, strategy: str, budget: int, listing: Listing) -> str:
    stages, batch = experiment.stages, listing.tables.get(("annotation_batch", cell_key(budget, strategy)))
    for stage in stages:
        if stage != "annotation_batch" and (stage, _key(stage, strategy, budget)) not in listing.tables:
            if stage == "benchmark_scores" and waits_for_items(experiment, listing.tables):
                return "its scores wait for answers to held-out items"
            if stage == "adapter" and batch is not None and batch.rows_n:
                return f"{batch.rows_n:,} of its prompts wait for an annotation"
            return f"no {stage} is stored"
    return "its scores cannot be read, or cover too few items" if "benchmark_scores" in stages else ""


def _key(stage: str, strategy: str, budget: int) -> str:
    return strategy if data_contracts.partitioned_by(stage) == "strategy" else cell_key(budget, strategy)
