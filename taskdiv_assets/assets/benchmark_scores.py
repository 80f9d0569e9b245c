"""Asset `benchmark_scores`: the scores of a cell's adapters on each benchmark to run."""

from dataclasses import replace
from typing import Any

import pyarrow as pa

from taskdiv_assets.assets import base_scores
from taskdiv_assets.cards.facts import means_as_notes
from taskdiv_assets.cards.stored_cards import put_cell_cards
from taskdiv_assets.graph.asset import HOLDS_7B, Needs, Settings
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.services import benchmarking
from taskdiv_assets.services.benchmarking import item_counts


def make_benchmark_scores(work: Work) -> Product:
    """Return the scores of a cell's adapters on each benchmark to run. Scores that are stored under their identity are reused."""
    adapters = work.read("adapter", work.unit.key).to_pylist()
    folders: dict[int | None, str] = {row["training_seed"]: row["folder"] for row in adapters}
    tables = benchmarking.score_all(work, folders)
    seeds = [(row["training_seed"], row["selection_seed"]) for row in adapters]
    parts = [benchmarking.with_seeds(tables[training], training, selection) for training, selection in seeds]
    table = pa.concat_tables(parts).sort_by(benchmarking.ORDER)
    return Product(table, {**benchmarking.notes_of(work, folders), "means": means_as_notes(table)})


def cell_parameters(work: Work) -> dict[str, Any]:
    return {"training_seeds": list(work.lineage.cell_seeds(work.cell)), **item_counts(work)}


def benchmark_scores_recipe(inputs: Inputs) -> Settings:
    inputs.of("adapter", inputs.key)
    return inputs.lineage.scoring.settings()


ASSET = replace(
    base_scores.ASSET,
    name="benchmark_scores",
    make=make_benchmark_scores,
    reads=("adapter", "base_model", "held_out_items"),
    recipe=benchmark_scores_recipe,
    partitioned_by="cell",
    description="Benchmark scores of every seed's adapter, item by item, by lm-eval.",
    needs=Needs(4, 24, 1, f"{HOLDS_7B}; all adapters of a cell over it"),
    parameters=cell_parameters,
    afterwards=put_cell_cards,
)
