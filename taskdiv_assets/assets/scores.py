"""Benchmarks: every adapter of a cell, and the base, scored item by item over one loaded model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taskdiv_assets.assets.cards import put_all_cards, put_cell_cards
from taskdiv_assets.assets.pictures import bars
from taskdiv_assets.assets.scoring import load_base, load_whole
from taskdiv_assets.assets.stage import Product, Stage, Work
from taskdiv_assets.benchmarks import expected_items, notes_of, score, score_base
from taskdiv_assets.cards import mean_scores
from taskdiv_assets.experiment import Benchmark
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.units import Unit

SCORES_FILE = "scores.parquet"


def make_benchmark_scores(work: Work) -> Product:
    """Score the adapters of a cell on every benchmark; what was scored before is found by identity."""
    adapters = work.read("adapter", work.unit.key).to_pylist()
    folders: dict[int | None, str] = {row["training_seed"]: row["folder"] for row in adapters}
    tables = score_all(work, folders)
    parts = [_with_seeds(tables[row["training_seed"]], row["training_seed"], row["selection_seed"]) for row in adapters]
    table = pa.concat_tables(parts).sort_by([(name, "ascending") for name in KEY])
    return Product(table, {**_notes(work, folders), "means": _means(table)})


def cell_parameters(work: Work) -> dict[str, Any]:
    """What the contract of a cell's scores has to know: its seeds, and how many items each benchmark has."""
    return {"training_seeds": list(work.lineage.cell_seeds(work.cell)), **item_counts(work)}


def make_base_scores(work: Work) -> Product:
    """Score the base model without any adapter: the lower reference line."""
    identity = work.lineage.fresh(Unit("base_model")).identity
    folders: dict[int | None, str] = {None: identity}
    table = _with_seeds(score_all(work, folders)[None], None, None)
    notes = {**_notes(work, folders), "means": _means(table)}
    return Product(table.sort_by([(name, "ascending") for name in KEY]), notes)


def score_all(work: Work, folders: Mapping[int | None, str]) -> dict[int | None, pa.Table]:
    """Scores of each adapter on all benchmarks, by training seed (None: the base itself)."""
    model: LanguageModel | None = None
    parts: dict[int | None, list[pa.Table]] = {seed: [] for seed in folders}
    for benchmark in work.experiment.benchmarks:
        wanted = {seed: work.lineage.scores_identity(folder, benchmark) for seed, folder in folders.items()}
        missing = [seed for seed, identity in wanted.items() if work.store.read_manifest(identity) is None]
        if missing:
            if not has_whole_models(work, folders):
                model = model or load_base(work)
            for seed, scored in _score(work, model, benchmark, {seed: folders[seed] for seed in missing}).items():
                _keep(work, wanted[seed], scored)
        for seed, identity in wanted.items():
            parts[seed].append(pq.read_table(work.store.fetch_folder(identity) / SCORES_FILE))
    return {seed: pa.concat_tables(tables) for seed, tables in parts.items()}


def has_whole_models(work: Work, folders: Mapping[int | None, str]) -> bool:
    """Whether the folders hold models of their own, so that no base is needed."""
    return work.experiment.tuning.method == "full" and None not in folders


def _score(
    work: Work, model: LanguageModel | None, benchmark: Benchmark, folders: Mapping[int | None, str]
) -> Mapping[int | None, pa.Table]:
    template, pool = work.template, work.experiment.pool
    progress = work.progress(f"scoring {benchmark.name}", "items")
    if model is None:  # one whole model after the other: two of them may not fit
        found: dict[int | None, pa.Table] = {}
        for seed, folder in folders.items():
            whole = load_whole(work, folder)
            found[seed] = score_base(whole, benchmark, pool=pool, template=template, progress=progress)
        return found
    if None in folders:
        return {None: score_base(model, benchmark, pool=pool, template=template, progress=progress)}
    paths: dict[int, Path] = {
        seed: work.store.fetch_folder(folder) for seed, folder in folders.items() if seed is not None
    }
    scored = score(model, paths, benchmark, pool=pool, template=template, progress=progress)
    return {seed: scored[seed] for seed in paths}


def _keep(work: Work, identity: str, scored: pa.Table) -> None:
    with work.store.scratch() as folder:
        pq.write_table(scored, folder / SCORES_FILE, compression="zstd")
        work.store.write_folder(identity, folder, notes=notes_of(scored))


def _with_seeds(scored: pa.Table, training_seed: int | None, selection_seed: int | None) -> pa.Table:
    seeds = {"training_seed": training_seed, "selection_seed": selection_seed}
    columns = {name: pa.array([seed] * scored.num_rows, pa.int64()) for name, seed in seeds.items()}
    return pa.table({**columns, **{name: scored[name] for name in scored.column_names}})


def item_counts(work: Work) -> dict[str, Any]:
    """Rows that one seed has on each benchmark: items × metrics."""
    pool = work.experiment.pool
    return {"expected_items": {item.name: expected_items(item, pool) for item in work.experiment.benchmarks}}


def _notes(work: Work, folders: Mapping[int | None, str]) -> dict[str, Any]:
    """Settings of each benchmark, and how many prompts were cut to the model's length, over all seeds."""
    cut: dict[str, int] = {}
    for benchmark in work.experiment.benchmarks:
        identities = [work.lineage.scores_identity(folder, benchmark) for folder in folders.values()]
        notes = [(work.store.read_manifest(identity) or {})["notes"] for identity in identities]
        cut[benchmark.name] = sum(note["cut_prompts_n"] for note in notes)
    return {"benchmarks": [item.model_dump() for item in work.experiment.benchmarks], "cut_prompts_n": cut}


def _means(table: pa.Table) -> list[dict[str, Any]]:
    """Each seed's means, kept in the footer so that a card reads no rows."""
    return [entry._asdict() for entry in mean_scores(table)]


def picture_scores(table: pa.Table, notes: Any) -> bytes:
    """Mean score by task, averaged over seeds."""
    frame = table.select(["benchmark", "task", "score"]).to_pandas()
    means = frame.groupby(["benchmark", "task"])["score"].mean().reset_index()
    return bars(means["task"].tolist(), {"mean score": means["score"].tolist()}, "mean score")


KEY = ("training_seed", "benchmark", "task", "item_id", "metric")
STAGES = (
    Stage(
        "base_scores",
        make_base_scores,
        deps=("base_model",),
        description="The base model's own scores, item by item: the lower reference line.",
        parameters=item_counts,
        kinds=frozenset({"pytorch", "lm-eval"}),
        needs_model=True,
        picture=picture_scores,
        afterwards=put_all_cards,
    ),
    Stage(
        "benchmark_scores",
        make_benchmark_scores,
        deps=("adapter", "base_model"),
        description="Benchmark scores of every seed's adapter, item by item, by lm-eval.",
        parameters=cell_parameters,
        partitions="cell",
        kinds=frozenset({"pytorch", "lm-eval"}),
        needs_model=True,
        picture=picture_scores,
        afterwards=put_cell_cards,
    ),
)
