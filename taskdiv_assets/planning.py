"""What `taskdiv run` would do, and what it would cost: counts from the store, rates as they were measured.

Nothing is guessed: what was not measured on this machine yet stands as None, and the terminal says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from taskdiv_assets import ledger, remote
from taskdiv_assets.benchmark_plan import BenchmarkPlan, benchmark_plans
from taskdiv_assets.cells import Cell, expected, is_full_pool, registered
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.lineage import Lineage
from taskdiv_assets.store import Footer, Store
from taskdiv_assets.units import Unit, all_units, cell_assets


class CellPlan(NamedTuple):
    """How one cell stands."""

    cell: Cell
    is_full_pool: bool
    missing: tuple[str, ...]  # assets of the cell that are not up to date
    seeds_n: int
    labels_to_buy_n: int | None  # each prompt counted once over its seeds; None until its allocation is known
    bought_outside_n: int  # labels bought for it that its selection does not hold; 0 until its allocation is known


class Plan(NamedTuple):
    """How an experiment stands, and what the missing part costs."""

    unpartitioned: Mapping[str, str]  # asset → fresh, stale, missing or blocked
    rankings: Mapping[str, str]
    cells: tuple[CellPlan, ...]
    pool_n: int | None
    prompts_to_score_n: int | None
    sampling: str  # what `confidence_sample` leaves out, in words; empty where all are scored
    labels_to_buy_n: int | None  # each prompt counted once, over all cells
    labels_out_n: int  # of these, sent out and not back yet
    examples_to_train_n: int  # prompts × epochs over all missing cells and seeds
    tokens_to_train_n: int | None
    training_s: float | None  # of one process
    scoring_s: float | None
    disk_bytes: int | None
    benchmarks: tuple[BenchmarkPlan, ...]


def plan(experiment: Experiment, store: Store) -> Plan:
    """Look at the store and count what is missing."""
    lineage = Lineage(experiment, store)
    pool = lineage.pool_size
    units = lineage.look_ahead([unit for unit in all_units(experiment, store, pool) if unit.asset != "strategy_report"])
    unpartitioned = {unit.asset: lineage.state(unit).status for unit in units if unit.key is None}
    labels = _Labels(store, lineage)
    cell_plans = tuple(_cell_plan(experiment, labels, cell) for cell in expected(experiment, store, pool))
    missing = [entry for entry in cell_plans if "adapter" in entry.missing]
    to_train_n = sum(entry.cell.budget_n * entry.seeds_n for entry in missing) * experiment.tuning.epochs
    trained = [lineage.footer(Unit("adapter", entry.cell.key)) for entry in cell_plans]
    rates = _training_rates(store, [footer for footer in trained if footer is not None])
    tokens_n = None if rates is None else round(to_train_n * rates.tokens_per_example)
    open_ids = labels.open_in_all([entry.cell for entry in cell_plans])
    confidence = lineage.footer(Unit("confidence_table"))
    is_scored = unpartitioned.get("confidence_table", "fresh") == "fresh"  # fresh too where nothing reads it
    wanted_n = _wanted_prompts(experiment, store, lineage)
    return Plan(
        unpartitioned=unpartitioned,
        rankings={name: lineage.state(Unit("ranking", name)).status for name in experiment.strategies},
        cells=cell_plans,
        pool_n=None if pool is None else pool.prompts_n,
        prompts_to_score_n=0 if is_scored else wanted_n,
        sampling=_sampling(experiment, wanted_n, None if pool is None else pool.prompts_n),
        labels_to_buy_n=None if open_ids is None else len(open_ids),
        labels_out_n=len(labels.sent & (open_ids or set())),
        examples_to_train_n=to_train_n,
        tokens_to_train_n=tokens_n,
        training_s=None if rates is None else to_train_n * rates.seconds_per_example,
        scoring_s=0.0 if is_scored else _scoring_s(confidence, wanted_n),
        disk_bytes=None if rates is None else sum(entry.seeds_n for entry in missing) * rates.bytes_per_adapter,
        benchmarks=benchmark_plans(
            experiment, store, _models_to_score(cell_plans, unpartitioned.get("base_scores", "fresh"))
        ),
    )


def _models_to_score(cells: tuple[CellPlan, ...], base_status: str) -> int:
    """Adapters without scores, and the base."""
    adapters_n = sum(entry.seeds_n for entry in cells if "benchmark_scores" in entry.missing)
    return adapters_n + (base_status != "fresh")


def budgets(experiment: Experiment, store: Store) -> list[tuple[int, str, int, int]]:
    """Every budget with its kind, and how many of its cells are scored and expected."""
    lineage = Lineage(experiment, store)
    cells = expected(experiment, store, lineage.pool_size)
    assets = cell_assets(experiment)
    lineage.look_ahead([Unit(asset, cell.key) for cell in cells for asset in assets])
    rows, last = [], assets[-1]
    for budget_n, kind in registered(experiment, store).items():
        of_budget = [cell for cell in cells if cell.budget_n == budget_n]
        done_n = sum(lineage.is_fresh(Unit(last, cell.key)) for cell in of_budget)
        rows.append((budget_n, kind, done_n, len(of_budget)))
    return rows


class _Rates(NamedTuple):
    seconds_per_example: float
    tokens_per_example: float
    bytes_per_adapter: int


class _Labels:
    """What the stored selections ask annotators for, and what was bought; each selection is read once."""

    def __init__(self, store: Store, lineage: Lineage) -> None:
        self.store, self.lineage = store, lineage
        self.entries = ledger.read(store)
        self.sent = {prompt_id for entry in self.entries for prompt_id in entry.prompt_ids}
        self._chosen: dict[Cell, set[tuple[int, str]] | None] = {}

    def chosen(self, cell: Cell) -> set[tuple[int, str]] | None:
        """Selection seed and prompt of a cell's allocation; None while there is none that is up to date."""
        if cell not in self._chosen:
            is_fresh = self.lineage.is_fresh(Unit("allocation", cell.key))
            table = self.store.read_table("allocation", cell.key).table if is_fresh else None
            columns = () if table is None else (table["selection_seed"].to_pylist(), table["prompt_id"].to_pylist())
            self._chosen[cell] = set(zip(*columns, strict=True)) if columns else None
        return self._chosen[cell]

    def open_of(self, cell: Cell) -> set[str] | None:
        """Prompts of a cell without an answer; None while its allocation is still to be made and answers lack."""
        pool = self.lineage.pool_size
        if pool is not None and pool.is_answered:
            return set()
        chosen = self.chosen(cell) if pool is not None else None
        answers = self.lineage.answers if chosen is not None else {}
        return None if chosen is None else {prompt_id for _, prompt_id in chosen if answers[prompt_id] is None}

    def open_in_all(self, cells: list[Cell]) -> set[str] | None:
        """Prompts of all cells without an answer; None if it is not known of one of them."""
        each = [self.open_of(cell) for cell in cells]
        known = [found for found in each if found is not None]
        return set().union(*known) if self.lineage.pool_size is not None and len(known) == len(each) else None

    def bought_outside_n(self, cell: Cell) -> int:
        """Labels that were bought for a cell and are in the pool, but not in its selection."""
        chosen = self.chosen(cell) if self.entries else None
        if chosen is None:
            return 0
        seeds = self.lineage.cell_selection_seeds(cell)
        return len(set(ledger.bought(self.entries, self.lineage.answers, cell, seeds)) - chosen)


def _cell_plan(experiment: Experiment, labels: _Labels, cell: Cell) -> CellPlan:
    lineage = labels.lineage
    missing = tuple(asset for asset in cell_assets(experiment) if not lineage.is_fresh(Unit(asset, cell.key)))
    is_full = is_full_pool(experiment, cell, lineage.pool_size)
    open_ids = labels.open_of(cell)
    return CellPlan(
        cell,
        is_full,
        missing,
        len(lineage.cell_seeds(cell)),
        None if open_ids is None else len(open_ids),
        labels.bought_outside_n(cell),
    )


def _training_rates(store: Store, footers: list[Footer]) -> _Rates | None:
    """Rates of the adapters that stand in the store; examples are counted once an epoch."""
    examples = tokens = bytes_n = adapters_n = 0
    seconds = 0.0
    tables = remote.at_once(lambda footer: store.read_table(footer.asset, footer.key), footers)
    rows = [(stored.footer, row) for stored in tables for row in stored.table.to_pylist()]
    manifests = remote.at_once(lambda one: store.read_manifest(one[1]["folder"]), rows)
    for (footer, row), manifest in zip(rows, manifests, strict=True):
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
