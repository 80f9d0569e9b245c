"""What the base model makes of the pool: confidence of every prompt and task, and embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from taskdiv_assets.assets.pictures import bars
from taskdiv_assets.assets.pool import pool_ids
from taskdiv_assets.assets.stage import Product, Stage, Work
from taskdiv_assets.language_model.loading import LanguageModel, load

SHARD_ROWS_N = 65_536


def load_base(work: Work) -> LanguageModel:
    """The base model of an experiment, as its stored decision says (dtype, attention)."""
    footer = work.lineage.fresh(work.unit._replace(asset="base_model", key=None))
    folder = work.store.fetch_folder(footer.identity)
    return load(folder, dtype=footer.notes["dtype"], attention=footer.notes["attention"])


def make_confidence_table(work: Work) -> Product:
    """Let the base model continue every prompt greedily, and keep the statistics of what it says."""
    from taskdiv_assets.language_model.confidence import score

    settings = work.experiment.confidence
    pool = work.read("raw_pool")
    prompts = work.render(pool["prompt"].to_pylist())
    scores = score(
        load_base(work),
        prompts,
        max_new_tokens=settings.max_new_tokens,
        progress=work.progress("scoring prompts", "prompts"),
    )
    columns = scores.columns()
    columns["confidence"] = columns[settings.column]
    table = pa.table({"prompt_id": pool["prompt_id"], **columns})
    notes = {
        "truncated_prompts_n": scores.truncated_prompts_n,
        "tokens_n": scores.tokens_n,
        "tokens_per_s": round(scores.tokens_n / scores.score_s, 1),
        "prompts_per_s": round(len(prompts) / scores.score_s, 1),
    }
    return Product(table, notes)


def scored_prompts(work: Work) -> dict[str, Any]:
    """What the contract of confidence_table has to know."""
    settings = work.experiment.confidence
    ids = work.read("raw_pool")["prompt_id"].to_pylist()
    return {
        "scored_prompt_ids": ids,
        "confidence_column": settings.column,
        "max_new_tokens": settings.max_new_tokens,
    }


def make_task_confidence(work: Work) -> Product:
    """Mean confidence of each task with its standard error."""
    labels = work.read("task_labels").select(["prompt_id", "task"]).to_pandas()
    scores = work.read("confidence_table").select(["prompt_id", "confidence"]).to_pandas()
    groups = labels.merge(scores, on="prompt_id", how="left").groupby("task")["confidence"]
    stats = groups.agg(pool_n="size", scored_n="count", mean_confidence="mean", deviation="std").reset_index()
    stats["standard_error"] = stats["deviation"] / np.sqrt(stats["scored_n"])  # NaN for a single prompt: not known
    table = pa.Table.from_pandas(
        stats[["task", "pool_n", "scored_n", "mean_confidence", "standard_error"]], preserve_index=False
    ).sort_by("task")
    return Product(table)


def task_sizes(work: Work) -> dict[str, Any]:
    """Prompts per task in the whole pool."""
    counts = work.read("task_labels")["task"].value_counts().to_pylist()
    return {"pool_task_sizes": {entry["values"]: entry["counts"] for entry in counts}}


def picture_task_confidence(table: pa.Table, notes: Any) -> bytes:
    """Mean confidence by task, least confident first."""
    rows = sorted(table.to_pylist(), key=lambda row: row["mean_confidence"])
    errors = [row["standard_error"] or 0.0 for row in rows]
    values = {"mean confidence": [row["mean_confidence"] for row in rows]}
    return bars([row["task"] for row in rows], values, "mean confidence (bars: one standard error)", errors)


def make_prompt_embeddings(work: Work) -> Product:
    """Last hidden states of every prompt, averaged over its tokens; row i belongs to row i of raw_pool."""
    from taskdiv_assets.language_model.embeddings import embed

    pool = work.read("raw_pool")
    identity = work.expected.identity
    if work.store.read_manifest(identity) is None:
        progress = work.progress("embedding prompts", "prompts")
        vectors = embed(load_base(work), work.render(pool["prompt"].to_pylist()), progress=progress)
        with work.store.scratch() as folder:
            for shard, start in enumerate(range(0, len(vectors), SHARD_ROWS_N)):
                np.save(folder / f"shard-{shard:05d}.npy", vectors[start : start + SHARD_ROWS_N])
            work.store.write_folder(identity, folder, rows_n=len(vectors), dimensions_n=vectors.shape[1])
    vectors = read_embeddings(work, identity)
    norms = np.linalg.norm(vectors.astype(np.float32), axis=1).astype(np.float64)
    table = pa.table({"prompt_id": pool["prompt_id"], "norm": norms})
    return Product(table, {"dimensions_n": vectors.shape[1]})


def read_embeddings(work: Work, identity: str) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Embeddings as (n, d) float16, memory-mapped where they are one shard."""
    folder = work.store.fetch_folder(identity)
    shards = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("shard-*.npy"))]
    return shards[0] if len(shards) == 1 else np.concatenate(shards)


STAGES = (
    Stage(
        "confidence_table",
        make_confidence_table,
        deps=("raw_pool", "base_model"),
        description="What the base model's own greedy continuation of every prompt looked like: probabilities, entropy, "
        "margins, and `confidence` in (0, 1].",
        parameters=scored_prompts,
        kinds=frozenset({"pytorch", "parquet"}),
        needs_model=True,
    ),
    Stage(
        "task_confidence",
        make_task_confidence,
        deps=("task_labels", "confidence_table"),
        description="Mean confidence of each task with its standard error: the weights of WeightedTaskDiversity.",
        parameters=task_sizes,
        picture=picture_task_confidence,
    ),
    Stage(
        "prompt_embeddings",
        make_prompt_embeddings,
        deps=("raw_pool", "base_model"),
        description="Last hidden states of the base model, averaged over the prompt's tokens, L2-normalised, float16. "
        "Coverage strategies read them.",
        parameters=pool_ids,
        kinds=frozenset({"pytorch", "numpy"}),
        needs_model=True,
    ),
)
