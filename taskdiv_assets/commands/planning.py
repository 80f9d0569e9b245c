"""The plan of `taskdiv run`: what it would compute, and how much time, memory, disk space and money that takes.

Counts come from the store, or from the pool's file. Times and sizes are estimated from stored results, and are None without such
results. Memory is predicted from the model's configuration (see `memory_plan`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from data_contracts.footer import Footer
from taskdiv_assets.annotating.gone import sent_but_gone
from taskdiv_assets.annotating.lists import Gathered, gather_held_out
from taskdiv_assets.annotating.open_labels import OpenLabels
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.benchmark_plan import BenchmarkPlan, benchmark_plans
from taskdiv_assets.commands.memory_plan import MemoryPlan, TextBytes, memory_plan
from taskdiv_assets.commands.next_steps import Standing
from taskdiv_assets.commands.wanted import Filter
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.variants import variants_of
from taskdiv_assets.graph.cells import Cell, PoolSize, expected, is_full_pool, registered, training_seeds
from taskdiv_assets.graph.known_answers import differing
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.registry import CELL_SCORES
from taskdiv_assets.graph.scoring_plan import SCORES
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.progress import spell
from taskdiv_assets.storage.store import DamagedError, Store


class CellPlan(NamedTuple):
    """State of one cell, a pair of budget and strategy."""

    cell: Cell
    is_full_pool: bool
    missing: tuple[str, ...]  # assets of the cell that are not up to date
    seeds_n: int
    labels_to_buy_n: int | None  # a prompt of several seeds counts once; None if the cell's allocation is not known
    bought_outside_n: int  # bought labels that the cell's selection does not use; 0 if its allocation is not known


class Plan(NamedTuple):
    """State of an experiment or of a part of it, and the cost of the missing results."""

    unpartitioned: Mapping[str, str]  # asset → fresh, stale, missing or blocked
    rankings: Mapping[str, str]  # strategy → state of its ranking
    cells: tuple[CellPlan, ...]
    pool_n: int | None
    prompts_to_score_n: int | None
    sampling: str  # sentence about the prompts that `confidence_sample` leaves out; empty if all are scored
    labels_to_buy_n: int | None  # a prompt of several cells counts once
    labels_out_n: int  # labels to buy whose prompts have been exported
    answers_differ_n: int  # prompts to which annotators gave different answers
    examples_to_train_n: int  # prompts × epochs, summed over the training seeds of all cells without a fresh adapter
    tokens_to_train_n: int | None
    training_s: float | None  # time with one process
    scoring_s: float | None
    disk_bytes: int | None
    benchmarks: tuple[BenchmarkPlan, ...]
    memory: MemoryPlan | None  # None if no stage to run holds a model of a real size
    standing: Standing


def plan(
    experiment: Experiment,
    store: Store,
    wanted: Filter | None = None,
    looked_at: PoolSize | None = None,  # the pool's size by its source file, used if the stored pool is not fresh
    texts: TextBytes | None = None,  # sizes of the pool's longest texts
) -> Plan:
    """Return the plan of an experiment, or of the part that `wanted` selects.

    Raise ValueError if this part does not use the asset `wanted.until`.
    """
    wanted = wanted or Filter()
    lineage = REGISTRY.look(experiment, store)
    pool = lineage.pool_size or looked_at
    every = REGISTRY.units(experiment, store, pool, wanted.assets(experiment))
    units = lineage.look_ahead(list(filter(wanted.wants, every)))
    unpartitioned = {unit.asset: lineage.state(unit).status for unit in units if unit.key is None}
    report_status = unpartitioned.pop("strategy_report", "fresh")
    if lineage.scoring.is_waiting:
        unpartitioned.pop("base_scores", None)
    labels = OpenLabels(store, lineage)
    chosen = [cell for cell in expected(experiment, store, pool) if wanted.wants_cell(cell)]
    cell_plans = tuple(_cell_plan(experiment, labels, cell, pool) for cell in chosen)
    missing = [entry for entry in cell_plans if "adapter" in entry.missing]
    to_train_n = sum(entry.cell.budget_n * entry.seeds_n for entry in missing) * experiment.tuning.epochs
    rates = _training_rates(store, [lineage.footer(Unit("adapter", entry.cell.key)) for entry in cell_plans])
    open_ids = labels.open_in_all(chosen)
    is_scored = unpartitioned.get("confidence_table", "fresh") == "fresh"  # also True if no strategy reads the table
    wanted_n = _wanted_prompts(experiment, store, lineage, pool)
    stale = {name for name, status in unpartitioned.items() if status != "fresh"}
    to_make, pool_n = stale.union(*(entry.missing for entry in cell_plans)), None if pool is None else pool.prompts_n
    return Plan(
        unpartitioned=unpartitioned,
        rankings=_rankings(lineage, units),
        cells=cell_plans,
        pool_n=pool_n,
        prompts_to_score_n=0 if is_scored else wanted_n,
        sampling=_sampling(experiment, wanted_n, pool_n),
        labels_to_buy_n=None if open_ids is None else len(open_ids),
        labels_out_n=len(labels.sent & (open_ids or set())),
        answers_differ_n=_differing_n(store),
        examples_to_train_n=to_train_n,
        tokens_to_train_n=None if rates is None else round(to_train_n * rates.tokens_per_example),
        training_s=None if rates is None else to_train_n * rates.seconds_per_example,
        scoring_s=0.0 if is_scored else _scoring_s(lineage, wanted_n),
        disk_bytes=None if rates is None else sum(entry.seeds_n for entry in missing) * rates.bytes_per_adapter,
        benchmarks=_benchmarks(experiment, store, cell_plans, to_make, wanted),
        memory=memory_plan(experiment, lineage, to_make, texts),
        standing=_standing(experiment, labels, cell_plans, {**unpartitioned, "strategy_report": report_status}),
    )


def _differing_n(store: Store) -> int:
    try:
        return len(differing(store))
    except DamagedError:  # the table of annotations is then blocked, and the plan says why
        return 0


def _rankings(lineage: Lineage, units: Sequence[Unit]) -> dict[str, str]:
    """Return the state of each ranking among `units`, by its strategy."""
    strategies = lineage.experiment.strategies
    ranked = [unit for unit in units if unit.asset == "ranking" and unit.key in strategies]
    return {str(unit.key): lineage.state(unit).status for unit in ranked}


def _scoring_s(lineage: Lineage, prompts_n: int | None) -> float | None:
    """Return the seconds for scoring `prompts_n` prompts at the rate of the stored table; None if one of the two is not known."""
    scored = lineage.footer(Unit("confidence_table"))
    per_s = None if scored is None else scored.notes.get("prompts_per_s")
    return prompts_n / per_s if per_s and prompts_n else None


def _benchmarks(
    experiment: Experiment, store: Store, cells: tuple[CellPlan, ...], to_make: set[str], wanted: Filter
) -> tuple[BenchmarkPlan, ...]:
    if "benchmark_scores" not in wanted.assets(experiment):
        return ()
    models_n = sum(entry.seeds_n for entry in cells if "benchmark_scores" in entry.missing)
    return benchmark_plans(experiment, store, models_n + ("base_scores" in to_make))


def _standing(
    experiment: Experiment, labels: OpenLabels, cells: tuple[CellPlan, ...], unpartitioned: Mapping[str, str]
) -> Standing:
    lineage = labels.lineage
    open_of = {entry.cell: labels.open_of(entry.cell) for entry in cells}
    unsent = {cell: found - labels.sent for cell, found in open_of.items() if found is not None}
    to_send = next((cell for cell, found in unsent.items() if found), None)
    is_listed = bool(cells) and not any("allocation" in entry.missing for entry in cells)
    if to_send is not None:
        is_listed = is_listed and lineage.is_fresh(Unit("annotation_batch", to_send.key))
    open_ids = set().union(*(found for found in open_of.values() if found is not None))
    ready = [entry for entry in cells if open_of[entry.cell] == set()]
    is_waiting = any(open_of[entry.cell] for entry in cells)
    blocked = {"tuning_choice"} | ({"base_scores"} if is_waiting and not ready else set())
    items = Gathered((), [], 0, 0)
    if experiment.has_later_answers and lineage.is_fresh(Unit("raw_pool")):
        items = gather_held_out(lineage, labels.went_out)
    waiting = SCORES if lineage.scoring.is_waiting else frozenset[str]()
    seeds = () if to_send is None else lineage.cell_selection_seeds(to_send)
    is_rest_done = all(status == "fresh" for name, status in unpartitioned.items() if name not in blocked)
    return Standing(
        is_campaign=experiment.purpose == "campaign",
        is_listed=is_listed,
        to_send=to_send,
        to_send_n=0 if to_send is None else len(unsent[to_send]),
        seed=seeds[0] if len(seeds) > 1 else None,
        out_n=len(open_ids & labels.sent),
        answered_n=len(labels.answered_in_all(open_of)),
        ready_n=sum(bool(set(entry.missing) - {"annotation_batch"} - waiting) for entry in ready),
        is_done=is_rest_done and not any(set(entry.missing) - waiting for entry in cells),
        items_to_send_n=len(items.batch),
        items_out_n=items.out_n,
        gone_n=len(sent_but_gone(labels.store, labels.every)) if lineage.is_fresh(Unit("raw_pool")) else 0,
    )


def budgets(experiment: Experiment, store: Store) -> list[tuple[int, str, int, int]]:
    """Return one row per budget: the budget, its kind, its number of finished cells, and its number of cells."""
    lineage = REGISTRY.look(experiment, store)
    cells = expected(experiment, store, lineage.pool_size)
    assets = REGISTRY.cell_assets(experiment)
    lineage.look_ahead([Unit(asset, cell.key) for cell in cells for asset in assets])
    rows, last = [], assets[-1]
    for budget_n, kind in registered(experiment, store).items():
        of_budget = [cell for cell in cells if cell.budget_n == budget_n]
        done_n = sum(lineage.is_fresh(Unit(last, cell.key)) for cell in of_budget)
        rows.append((budget_n, kind, done_n, len(of_budget)))
    return rows


def variant_lines(experiment: Experiment, store: Store, pool: PoolSize | None = None) -> dict[str, bool]:
    """Return one line for each variant of an experiment, which says what its results cost, and whether they are finished.

    `pool` is the size of the pool by its source file, used if the stored pool is not fresh.
    """
    lines = {}
    for name, one in zip(experiment.robustness, variants_of(experiment), strict=True):
        own = store.of_variant(name)
        found = plan(one, own, looked_at=pool)
        missing_n = sum(bool(entry.missing) for entry in found.cells)
        is_done = not missing_n and all(own.owns(CELL_SCORES, entry.cell.key) for entry in found.cells)
        if is_done:
            lines[f"variant {name}: done"] = True
            continue
        time = "" if found.training_s is None else f", training {spell(found.training_s)} with one process"
        to_score_n = 0 if _is_scored_alike(experiment, one) else found.prompts_to_score_n
        scoring = f", {to_score_n:,} prompts to score" if to_score_n else ""
        amount = f"{found.examples_to_train_n:,} examples to train (over epochs and seeds)"
        if one.tuning.tokens is not None:
            adapters_n = sum(entry.seeds_n for entry in found.cells if "adapter" in entry.missing)
            amount, time = f"{one.tuning.tokens * adapters_n:,} tokens to train (over seeds)", ""
        cost = f"{amount}{time}{scoring}"
        lines[f"variant {name}: {missing_n} of {len(found.cells)} cells missing; {cost}"] = False
    return lines


def round_lines(experiment: Experiment, store: Store, pool: PoolSize | None = None) -> list[str]:
    """Return one line for each strategy in rounds: what draws its order again, and what that costs if it is not done yet.

    `pool` is the size of the pool by its source file, used if the stored pool is not fresh.
    """
    if not experiment.rounds:
        return []
    lineage = REGISTRY.look(experiment, store)
    size, is_done = lineage.pool_size or pool, lineage.is_fresh(Unit("round_confidence"))
    lines = []
    for name, rounds in experiment.rounds.items():
        counts = " and after ".join(f"{n:,}" for n in rounds.after)
        state = "done"
        if not is_done:
            seeds_n = len(experiment.selection_seeds)
            models_n = seeds_n * len(rounds.after)
            to_score_n = None if size is None else seeds_n * sum(max(size.prompts_n - n, 0) for n in rounds.after)
            scored = "" if to_score_n is None else f", at most {to_score_n:,} prompts to score with them"
            state = f"missing; {models_n:,} adapters (cells share those of the same prompts){scored}"
        lines.append(f"rounds of {name}: the order is drawn again after {counts} labels: {state}")
    return lines


def _is_scored_alike(experiment: Experiment, variant: Experiment) -> bool:
    """Return True if a variant needs no scores of prompts but those of its experiment, for example for another definition."""
    of_file, own = experiment.confidence, variant.confidence
    templates = [(one.prompt_template, one.chat_template) for one in (experiment, variant)]
    return templates[0] == templates[1] and own.model_copy(update={"column": of_file.column}) == of_file


class _Rates(NamedTuple):
    seconds_per_example: float
    tokens_per_example: float
    bytes_per_adapter: int


def _cell_plan(experiment: Experiment, labels: OpenLabels, cell: Cell, pool: PoolSize | None) -> CellPlan:
    lineage = labels.lineage
    missing = tuple(asset for asset in REGISTRY.cell_assets(experiment) if not lineage.is_fresh(Unit(asset, cell.key)))
    open_ids = labels.open_of(cell)
    return CellPlan(
        cell,
        is_full_pool(experiment, cell, pool),
        missing,
        len(training_seeds(experiment, cell, pool)),
        None if open_ids is None else len(open_ids),
        labels.bought_outside_n(cell),
    )


def _training_rates(store: Store, found: Sequence[Footer | None]) -> _Rates | None:
    """Return the mean rates of the adapters in the tables of footers; None without adapters. Examples count once per epoch."""
    footers = [footer for footer in found if footer is not None]
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


def _wanted_prompts(experiment: Experiment, store: Store, lineage: Lineage, pool: PoolSize | None) -> int | None:
    """Return the number of prompts to score; None if the pool is unknown, or if sampling needs task labels that are not fresh.

    If `confidence_sample` has a tolerance, the number is a lower bound.
    """
    sample = experiment.confidence_sample
    if pool is None or (sample is not None and not lineage.is_fresh(Unit("task_labels"))):
        return None
    if sample is None:
        return pool.prompts_n
    sizes: list[int] = store.read_table("task_labels").table["task"].value_counts().field("counts").to_pylist()
    return sum(min(size, sample if isinstance(sample, int) else sample.first) for size in sizes)


def _sampling(experiment: Experiment, wanted_n: int | None, pool_n: int | None) -> str:
    sample = experiment.confidence_sample
    if sample is None:
        return ""
    rule = (
        f"`confidence_sample`: {sample:,} of each task"
        if isinstance(sample, int)
        else f"at least: `confidence_sample` goes on until every task is known within {sample.tolerance:.1%}"
    )
    return f"{1 - wanted_n / pool_n:.0%} fewer than all; {rule}" if wanted_n is not None and pool_n else rule
