"""What `taskdiv run` would do, and what it would cost: counts from the store, rates as they were measured.

Nothing is guessed: what was not measured on this machine yet stands as None, and the terminal says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from taskdiv_assets.cells import Cell, expected, is_full_pool, registered
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.lineage import Lineage
from taskdiv_assets.store import Footer, Store
from taskdiv_assets.units import BY_CELL, Unit, all_units


class CellPlan(NamedTuple):
    """How one cell stands."""

    cell: Cell
    is_full_pool: bool
    missing: tuple[str, ...]  # assets of the cell that are not up to date
    seeds_n: int
    labels_to_buy_n: int | None  # None until its allocation is known


class Plan(NamedTuple):
    """How an experiment stands, and what the missing part costs."""

    unpartitioned: Mapping[str, str]  # asset → fresh, stale, missing or blocked
    rankings: Mapping[str, str]
    cells: tuple[CellPlan, ...]
    pool_n: int | None
    prompts_to_score_n: int | None
    sampling: str  # what `confidence_sample` leaves out, in words; empty where all are scored
    labels_to_buy_n: int | None  # each prompt counted once, over all cells
    examples_to_train_n: int  # prompts × epochs over all missing cells and seeds
    tokens_to_train_n: int | None
    training_s: float | None  # of one process
    scoring_s: float | None
    disk_bytes: int | None
    price: float | None


def plan(experiment: Experiment, store: Store) -> Plan:
    """Look at the store and count what is missing."""
    lineage = Lineage(experiment, store)
    pool = lineage.pool_size
    units = [
        unit for unit in all_units(experiment, store, pool) if unit.key is None and unit.asset != "strategy_report"
    ]
    unpartitioned = {unit.asset: lineage.state(unit).status for unit in units}
    cell_plans = tuple(_cell_plan(experiment, lineage, cell) for cell in expected(experiment, store, pool))
    missing = [entry for entry in cell_plans if "adapter" in entry.missing]
    to_train_n = sum(entry.cell.budget_n * entry.seeds_n for entry in missing) * experiment.tuning.epochs
    trained = [lineage.footer(Unit("adapter", entry.cell.key)) for entry in cell_plans]
    rates = _training_rates(store, [footer for footer in trained if footer is not None])
    tokens_n = None if rates is None else round(to_train_n * rates.tokens_per_example)
    open_ids = _open_prompts(experiment, store, lineage, [entry.cell for entry in cell_plans])
    price = experiment.annotation.price
    confidence = lineage.footer(Unit("confidence_table"))
    is_scored = unpartitioned["confidence_table"] == "fresh"
    wanted_n = _wanted_prompts(experiment, store, lineage)
    return Plan(
        unpartitioned=unpartitioned,
        rankings={name: lineage.state(Unit("ranking", name)).status for name in experiment.strategies},
        cells=cell_plans,
        pool_n=None if pool is None else pool.prompts_n,
        prompts_to_score_n=0 if is_scored else wanted_n,
        sampling=_sampling(experiment, wanted_n, None if pool is None else pool.prompts_n),
        labels_to_buy_n=None if open_ids is None else len(open_ids),
        examples_to_train_n=to_train_n,
        tokens_to_train_n=tokens_n,
        training_s=None if rates is None else to_train_n * rates.seconds_per_example,
        scoring_s=0.0 if is_scored else _scoring_s(confidence, wanted_n),
        disk_bytes=None if rates is None else sum(entry.seeds_n for entry in missing) * rates.bytes_per_adapter,
        price=None if price is None or open_ids is None else price * len(open_ids),
    )


def budgets(experiment: Experiment, store: Store) -> list[tuple[int, str, int, int]]:
    """Every budget with its kind, and how many of its cells are scored and expected."""
    lineage = Lineage(experiment, store)
    cells = expected(experiment, store, lineage.pool_size)
    rows = []
    for budget_n, kind in registered(experiment, store).items():
        of_budget = [cell for cell in cells if cell.budget_n == budget_n]
        done_n = sum(lineage.is_fresh(Unit("benchmark_scores", cell.key)) for cell in of_budget)
        rows.append((budget_n, kind, done_n, len(of_budget)))
    return rows


class _Rates(NamedTuple):
    seconds_per_example: float
    tokens_per_example: float
    bytes_per_adapter: int


def _cell_plan(experiment: Experiment, lineage: Lineage, cell: Cell) -> CellPlan:
    missing = tuple(asset for asset in BY_CELL if not lineage.is_fresh(Unit(asset, cell.key)))
    batch = lineage.footer(Unit("annotation_batch", cell.key)) if "annotation_batch" not in missing else None
    is_full = is_full_pool(experiment, cell, lineage.pool_size)
    return CellPlan(
        cell, is_full, missing, len(lineage.cell_seeds(cell)), None if batch is None else int(batch.notes["open_n"])
    )


def _training_rates(store: Store, footers: list[Footer]) -> _Rates | None:
    """Rates of the adapters that stand in the store; examples are counted once an epoch."""
    examples = tokens = bytes_n = adapters_n = 0
    seconds = 0.0
    for footer in footers:
        for row in store.read_table(footer.asset, footer.key).table.to_pylist():
            manifest = store.read_manifest(row["folder"])
            if manifest is None:
                continue
            examples += row["examples_n"] * int(footer.notes["tuning"]["epochs"])
            tokens += row["trained_tokens_n"]
            seconds += row["train_s"]
            adapters_n += 1
            bytes_n += sum(entry["bytes"] for entry in manifest["files"].values())
    return _Rates(seconds / examples, tokens / examples, bytes_n // adapters_n) if examples else None


def _wanted_prompts(experiment: Experiment, store: Store, lineage: Lineage) -> int | None:
    """Prompts that the confidence table will hold; with a tolerance at least. None before the pool and its tasks are known."""
    sample = experiment.confidence_sample
    if lineage.pool_size is None or (sample is not None and not lineage.is_fresh(Unit("task_labels"))):
        return None
    if sample is None:
        return lineage.pool_size.prompts_n
    sizes: list[int] = store.read_table("task_labels").table["task"].value_counts().field("counts").to_pylist()
    return sum(min(size, sample if isinstance(sample, int) else sample.first) for size in sizes)


def _sampling(experiment: Experiment, wanted_n: int | None, pool_n: int | None) -> str:
    sample = experiment.confidence_sample
    if sample is None:
        return ""
    if isinstance(sample, int):
        rule = f"`confidence_sample`: {sample:,} of each task"
    else:
        rule = f"at least: `confidence_sample` goes on until every task is known within {sample.tolerance:.1%}"
    return f"{1 - wanted_n / pool_n:.0%} fewer than all; {rule}" if wanted_n is not None and pool_n else rule


def _scoring_s(footer: Footer | None, prompts_n: int | None) -> float | None:
    rate = footer.notes.get("prompts_per_s") if footer is not None else None
    return prompts_n / rate if rate and prompts_n else None


def _open_prompts(experiment: Experiment, store: Store, lineage: Lineage, cells: list[Cell]) -> set[str] | None:
    """Prompts of all allocations without an answer; None while an allocation is still to be made and answers lack."""
    if lineage.pool_size is None:
        return None
    if lineage.pool_size.is_answered:
        return set()
    answers = lineage.answers
    found: set[str] = set()
    for cell in cells:
        if not lineage.is_fresh(Unit("allocation", cell.key)):
            return None
        chosen = store.read_table("allocation", cell.key).table["prompt_id"].to_pylist()
        found |= {prompt_id for prompt_id in chosen if answers[prompt_id] is None}
    return found
