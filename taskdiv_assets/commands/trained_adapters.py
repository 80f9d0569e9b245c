"""The adapters of an experiment as people ask for them: by budget, strategy and seed; and a copy of one, to take away.

In: the store's tables and folders. Out: rows, and a local folder that is there whole or not at all.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.store import Store

CARD = "README.md"


class Adapter(NamedTuple):
    """One trained adapter, or fully tuned model."""

    cell: Cell
    seed: int
    examples_n: int
    final_loss: float
    identity: str  # of its folder
    is_fresh: bool  # made from what the experiment is now


def adapters(experiment: Experiment, store: Store) -> Iterator[Adapter]:
    """Return the stored adapters by budget, strategy and seed."""
    lineage = REGISTRY.look(experiment, store)
    units = lineage.look_ahead([Unit("adapter", cell.key) for cell in cells(store)])
    tables = remote.at_once(lambda unit: store.read_table(unit.asset, unit.key).table, units)
    for unit, table in zip(units, tables, strict=True):
        cell, is_fresh = Cell.parse(unit.key or ""), lineage.is_fresh(unit)
        for row in table.to_pylist():
            seed, examples_n, loss = row["training_seed"], row["examples_n"], row["final_loss"]
            yield Adapter(cell, seed, examples_n, loss, row["folder"], is_fresh)


def cells(store: Store) -> list[Cell]:
    """Return the cells that have a table of adapters, sorted."""
    names = [name for name in store.names_below("tables", "adapter") if name.endswith(".parquet")]
    pairs = [name.removesuffix(".parquet").split("/") for name in names]
    return sorted(Cell(int(budget), strategy) for strategy, budget in pairs)


def find(experiment: Experiment, store: Store, budget_n: int | None, strategy: str | None, seed: int | None) -> Adapter:
    """Return the one adapter that is meant; what has only one value need not be said.

    Raises:
        ValueError: there is none, or several.
    """
    every = list(adapters(experiment, store))
    if not every:
        raise ValueError(
            f"no adapter of {experiment.name} is stored in {store.url}; `taskdiv run {experiment.name}` trains them"
        )
    found = [
        one
        for one in every
        if budget_n in (None, one.cell.budget_n) and strategy in (None, one.cell.strategy) and seed in (None, one.seed)
    ]
    if len(found) == 1:
        return found[0]
    among = found or every
    there: dict[str, list[object]] = {
        "--budget": [*sorted({one.cell.budget_n for one in among})],
        "--strategy": [*sorted({one.cell.strategy for one in among})],
        "--seed": [*sorted({one.seed for one in among})],
    }
    left = {option: kept for option, kept in there.items() if len(kept) > 1 or not found}
    values = "; ".join(f"{option} {', '.join(map(str, kept))}" for option, kept in left.items())
    is_none = "there is no such adapter" if not found else f"{len(found)} adapters are meant"
    raise ValueError(f"{is_none}; there are {values}; see `taskdiv adapters list {experiment.name}`")


def export(store: Store, adapter: Adapter, target: Path) -> int:
    """Copy an adapter's files and its card into a new local folder; returns how many files there are.

    Args:
        store: of the experiment.
        adapter: which one.
        target: a folder that is not there yet. It gets its name once it is whole.

    Raises:
        ValueError: something is there already, or its parent is not.
        FileNotFoundError: the adapter's folder is gone.
    """
    if target.exists():
        raise ValueError(f"{target} is there already, and nothing is overwritten; choose a new folder")
    if not target.parent.is_dir():
        raise ValueError(
            f"there is no folder {target.parent} to make {target.name} in; make it, or choose another place"
        )
    card = store.get("folders", adapter.identity, CARD)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with store.fetched(adapter.identity) as folder:
            manifest = store.read_manifest(adapter.identity) or {"files": {}}
            for name in manifest["files"]:
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, part / name)
        if card is not None:
            (part / CARD).write_bytes(card)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return sum(path.is_file() for path in target.rglob("*"))
