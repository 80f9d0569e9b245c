"""The stored results of an experiment with many cells: every result is up to date, but the numbers in its tables are invented."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from data_contracts.footer import Footer
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.assets.raw_pool import content_hashes
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.selection import STRATEGIES
from taskdiv_assets.storage.remote import at_once
from taskdiv_assets.storage.store import Store
from tests.home import MINIATURE

NOTE = "a line of the notes that footers hold, " * 100  # as long as the losses of two seeds


def experiment(budgets_n: int, strategies_n: int) -> Experiment:
    names = sorted(STRATEGIES)[: strategies_n - 1]
    names = ["random", *[name for name in names if name != "random"]][:strategies_n]
    text = MINIATURE.read_text().replace("name: miniature", "name: many")
    for old, new in (
        ("[random, facility_location, weighted_task_diversity]", f"[{', '.join(names)}]"),
        ("[12, 24]", str(list(range(1, budgets_n + 1)))),
        ("full_pool_seeds: [0]", "full_pool_seeds: []"),
        ("primary: {strategy: weighted_task_diversity", f"primary: {{strategy: {names[1]}"),
    ):
        assert old in text
        text = text.replace(old, new)
    return experiment_file.parse(text, "many.yaml")


def make(wanted: Experiment, url: str) -> None:
    """Write every result of an experiment in a local folder, and upload all files to `url`."""
    with tempfile.TemporaryDirectory() as folder:
        local = Store(wanted.name, folder)
        lineage = REGISTRY.look(wanted, local)
        pool = read_pool(wanted.pool).table.sort_by("prompt_id")
        for unit in REGISTRY.units(wanted, local, None):
            if unit.asset != "strategy_report":
                _write(wanted, local, lineage, unit, pool)
        paths = [path for path in Path(local.path()).rglob("*") if path.is_file()]
        there = Store(wanted.name, url)
        at_once(lambda path: there.put(path.read_bytes(), *path.relative_to(local.path()).parts), paths)


# What a look at the store reads of tables: how sure the base is, for the scale of costs.
LOOKED_INTO: Mapping[str, Mapping[str, list[object]]] = {
    "task_labels": {"prompt_id": ["a"], "task": ["t"]},
    "confidence_table": {"prompt_id": ["a"], "sequence_log_probability": [-1.0]},
    "task_confidence": {"task": ["t"], "mean_confidence": [0.5]},
}


def _write(wanted: Experiment, local: Store, lineage: Lineage, unit: Unit, pool: pa.Table) -> None:
    expected = lineage.expect(unit)
    table, parts, notes = pa.table({"a": [1]}), {}, {"text": NOTE}
    if unit.asset == "raw_pool":
        table, parts = pool, content_hashes(pool)
    if unit.asset in LOOKED_INTO:
        table = pa.table(LOOKED_INTO[unit.asset])
    if unit.asset == "base_model":
        notes |= {**lineage.models.decision, "reading": {"control": []}, "batching": {}}
    if unit.asset == "allocation":
        table = _chosen(wanted, Cell.parse(str(unit.key)), pool)
    if unit.asset == "adapter":
        notes |= {"tuning": {"epochs": 1}}
        row = {"examples_n": 1, "trained_tokens_n": 1, "train_s": 1.0}
        table = pa.Table.from_pylist([{**row, "folder": folder} for folder in expected.inputs.values()])
    folders = expected.inputs.values() if unit.asset == "adapter" else [expected.identity]
    for folder in folders if unit.asset in ("adapter", "base_model", "prompt_embeddings") else ():
        if local.read_manifest(folder) is None:
            with local.scratch() as scratch:
                for name in ("adapter_config.json", "adapter_model.safetensors"):
                    (scratch / name).write_text(folder)
                local.write_folder(folder, scratch)
    version = REGISTRY[unit.asset].code_version
    footer = Footer(*unit, expected.identity, expected.inputs, version, None, "", "", 0.0, (), parts, {}, notes)
    local.write_table(table, footer)
    lineage._footers[unit] = footer  # as a new look would find it


def _chosen(wanted: Experiment, cell: Cell, pool: pa.Table) -> pa.Table:
    """Return prompts that differ from those of every other strategy, so that no two cells share an adapter."""
    shift = wanted.strategies.index(cell.strategy) * 7
    ids = pool["prompt_id"].to_pylist()
    rows = [
        {"selection_seed": seed, "rank": rank, "prompt_id": ids[(shift + rank) % len(ids)], "task": "a"}
        for seed in wanted.seeds
        for rank in range(cell.budget_n)
    ]
    return pa.Table.from_pylist(rows)
