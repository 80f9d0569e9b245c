"""The checks of `taskdiv plan`. They load no model and store nothing.

If the stored pool is not fresh, the pool's file is read and validated in the same way as by the asset `raw_pool`. A pool on the
hub is not downloaded. `look` runs all checks and returns all problems.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

import data_contracts
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.assets.task_labels import label_settings
from taskdiv_assets.commands.benchmark_plan import benchmark_plans
from taskdiv_assets.commands.contract_warnings import Warned, is_of_interest, of_rules, warning_lines
from taskdiv_assets.commands.memory_plan import TextBytes, text_bytes
from taskdiv_assets.commands.wanted import Filter
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.own_orders import OwnOrder
from taskdiv_assets.graph import fixed_tasks
from taskdiv_assets.graph.cells import PoolSize, over_pool
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.language_model.control_marks import SIGN_FORMS
from taskdiv_assets.language_model.gguf_base import check_local, is_gguf
from taskdiv_assets.language_model.texts import read_tokenizer
from taskdiv_assets.pools import copies, held_items, labels, levels
from taskdiv_assets.pools.order_files import read_order
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.storage.store import Store


class Looked(NamedTuple):
    """Result of the checks."""

    pool: PoolSize | None  # from the store or the file; None if the pool cannot be read or is not downloaded yet
    errors: list[str]  # one sentence for each problem that would end a run
    texts: TextBytes | None  # sizes of the pool's longest texts; None if there is no pool
    warnings: list[str]  # lines about contract warnings of the pool and its task labels, and about the prompt template


def look(experiment: Experiment, store: Store, wanted: Filter) -> Looked:
    """Check the pool and its tasks, and the budgets, own orders, base model and benchmarks that `wanted` selects.

    The problems are returned, not raised. Raise ValueError only if the selected part does not use the asset `wanted.until`.
    """
    errors: list[str] = []
    warned: list[Warned] = []
    lineage = REGISTRY.look(experiment, store)
    pool = _collected(errors, lambda: _pool(lineage, errors, warned))
    size = texts = None
    if pool is not None:
        table = pool.table
        texts = text_bytes(table["prompt"], table["response"])
        size = lineage.pool_size or PoolSize(table.num_rows, table["response"].null_count == 0)
        _collected(errors, lambda: _tasks(lineage, pool, errors, warned))
        errors += filter(None, [over_pool(experiment, wanted.budgets or experiment.budgets, size)])
        for own in experiment.own_orders:
            if not wanted.strategies or own.name in wanted.strategies:
                _collected(errors, partial(_own_order, experiment, own, table, pool.copies, wanted))
    used = wanted.assets(experiment)
    notes: list[str] = []
    if "base_model" in used:
        notes = _collected(errors, lambda: _base_model(experiment, lineage)) or []
    if "benchmark_scores" in used:
        _collected(errors, lambda: benchmark_plans(experiment, store, 0))
    lines = warning_lines([one for one in warned if is_of_interest(experiment, one.unit.asset)])
    return Looked(size, errors, texts, [*notes, *lines])


def _collected(errors: list[str], action: Callable[[], Any]) -> Any:
    """Return the result of `action`. For a ValueError, OSError or ImportError, add the message to `errors`, and return None."""
    try:
        return action()
    except (ValueError, OSError, ImportError) as error:
        errors.append(str(error))
        return None


class _Pool(NamedTuple):
    """A pool, its dropped copies, and the ids of its held-out items."""

    table: pa.Table
    copies: pa.Table
    held_ids: list[str]


def _pool(lineage: Lineage, errors: list[str], warned: list[Warned]) -> _Pool | None:
    """Return the stored pool if it is fresh, else the pool of the source file; None if the source is on the hub."""
    experiment, store = lineage.experiment, lineage.store
    if lineage.is_fresh(Unit("raw_pool")):
        held_ids = held_items.read(store)["prompt_id"].to_pylist()
        return _Pool(store.read_table("raw_pool").table, copies.read(store), held_ids)
    if experiment.pool.hub is not None:
        return None
    pool = read_pool(experiment.pool)
    split = held_items.without_items(pool, experiment.held_out, experiment.given_labels, experiment.task_labels)
    found = _Pool(split.pool.table, pool.copies, split.items["prompt_id"].to_pylist())
    lists = {"dropped_copies": pool.copies["copy_id"].to_pylist(), "held_out_ids": found.held_ids}
    _validate("raw_pool", found.table, lists, errors, warned)
    return found


def _tasks(lineage: Lineage, pool: _Pool, errors: list[str], warned: list[Warned]) -> None:
    """Make the table `task_labels` as its asset does, and validate it. A fresh stored table is not checked again.

    Tasks that depend on the texts (by rules, or found) are not checked, because this can take minutes for a large pool.
    """
    experiment = lineage.experiment
    refuse_other_tasks(lineage)
    if lineage.is_fresh(Unit("raw_pool")) and lineage.is_fresh(Unit("task_labels")):
        return
    if experiment.labels_from != experiment.given_labels or experiment.task_labels.missing is not None:
        return
    left_out = [*pool.copies["copy_id"].to_pylist(), *pool.held_ids]
    rows, level = pool.table, experiment.task_labels.level
    if level is not None:
        rows = levels.as_tasks(rows, levels.of_source(experiment.pool, level, rows["prompt_id"].to_pylist()))
    table = labels.of_source(experiment.given_labels, experiment.task_labels, rows, left_out)
    if experiment.labels_from == "column":
        labels.refuse_unlabelled(table, experiment.by_task)
    found = {"smallest_budget": min(experiment.budgets), "agreement": None, "vote_confidence": None}  # nothing is found
    _validate("task_labels", table, {"pool_prompt_ids": pool.table["prompt_id"], **found}, errors, warned)


def refuse_other_tasks(lineage: Lineage) -> None:
    """Raise StaleInputError if tasks are fixed and the experiment file asks for others. Then the file must not be stored."""
    fixed_tasks.settled(lineage, label_settings(lineage, min(lineage.experiment.budgets)), "")


def _own_order(experiment: Experiment, own: OwnOrder, pool: pa.Table, dropped: pa.Table, wanted: Filter) -> None:
    """Read a user-defined order as the asset `ranking` does. Raise ValueError if the order has fewer prompts than a budget."""
    columns = experiment.pool.columns
    placed = read_order(own, pool, columns.id if columns else None, None, copies.kept_by_id(dropped))
    over = [n for n in wanted.budgets or experiment.budgets if placed.ranked_n < n <= pool.num_rows]
    if over:
        raise ValueError(
            f"budget {over[0]} is larger than the order {own.name!r}, which names {placed.ranked_n:,} prompts; lower the budget, "
            "or name more prompts"
        )


def _validate(asset: str, table: pa.Table, parameters: Any, errors: list[str], warned: list[Warned]) -> None:
    from taskdiv_assets.orchestration.produce import in_contract_order

    contract = data_contracts.load(asset)
    result = data_contracts.validate(contract, in_contract_order(table, contract.arrow_schema), parameters)
    broken = [f"{rule.rule} ({rule.observed})" for rule in result.failed if rule.severity == "error"]
    if broken:
        errors.append(f"{asset} would break its contract: {'; '.join(broken)}")
    warned += of_rules(Unit(asset), result.failed)


def _base_model(experiment: Experiment, lineage: Lineage) -> list[str]:
    """Check a local base model. Return one note if the prompt template repeats the tokenizer's start token, otherwise no note.

    Raise ValueError if the model cannot be used (see `check_local`).
    """
    path = experiment.base.path
    is_here = path is not None and "://" not in path  # any other model is checked when it is downloaded
    if path is not None and is_here:
        check_local(Path(path))
    template = experiment.prompt_template
    if experiment.chat_template or not any(form.match(template) for form in SIGN_FORMS):
        return []
    start = lineage.models.start
    if not start and path is not None and is_here and not is_gguf(path):
        start = read_tokenizer(Path(path)).start
    if not start or not template.startswith(start):
        return []
    return [
        f"note: `prompt_template` begins with {start!r}, which the tokenizer itself puts before every text; scoring, "
        "training and benchmarks write it only once"
    ]
