"""Where everything starts: the prompts, their tasks, and the base model."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from taskdiv_assets.assets.pictures import bars, lines, thin
from taskdiv_assets.assets.stage import Product, Stage, Work
from taskdiv_assets.language_model.loading import resolve_source
from taskdiv_assets.pools import labels
from taskdiv_assets.pools.frame import content_hashes
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.store import sha256_file


def make_raw_pool(work: Work) -> Product:
    """Read the pool and give every prompt its id."""
    pool = read_pool(work.experiment.pool)
    table = pool.table.sort_by("prompt_id")
    notes = {
        "source": _source(work),
        "rows_read_n": pool.rows_read_n,
        "duplicates_n": pool.duplicates_n,
        "dropped_n": pool.dropped_n,
        "drops": pool.drops,
        "repairs": pool.repairs,
        "prompts_under_two_tasks_n": pool.prompts_under_two_tasks_n,
        "responses_n": pool.responses_n,
    }
    work.log(", ".join(f"{name} {value}" for name, value in notes.items()))
    return Product(table, notes, parts=content_hashes(table))


def _source(work: Work) -> str:
    pool = work.experiment.pool
    if pool.reader == "lab":
        return f"lab, seed {pool.seed}"
    return f"{pool.hub}@{pool.revision}" if pool.hub else str(pool.path)


def make_task_labels(work: Work) -> Product:
    """Give every prompt its task."""
    pool = work.read("raw_pool")
    path = work.experiment.task_labels.path
    table = (labels.from_column(pool) if path is None else labels.from_mapping(pool, path)).sort_by("prompt_id")
    notes = {"tasks_n": len(table["task"].unique())}
    return Product(table, notes)


def pool_ids(work: Work) -> dict[str, Any]:
    """Parameters of contracts whose ids must be those of the pool."""
    return {"pool_prompt_ids": work.read("raw_pool")["prompt_id"].to_pylist()}


def picture_task_labels(table: pa.Table, notes: Any) -> bytes:
    """Prompts per task."""
    counts = table["task"].value_counts().to_pylist()
    counts.sort(key=lambda entry: -entry["counts"])
    names = [entry["values"] for entry in counts]
    return bars(names, {"prompts": [entry["counts"] for entry in counts]}, "prompts in the pool")


def make_base_model(work: Work) -> Product:
    """Resolve the base model to files that no longer change; the lab's own is trained here."""
    identity = work.expected.identity
    manifest = work.store.read_manifest(identity)
    if manifest is None:
        progress = work.progress("preparing the base model", "steps")
        with work.store.scratch() as folder:
            resolved = resolve_source(work.experiment.base_model, work.experiment.pool, folder, progress)
            notes = {**resolved._asdict(), "losses": thin(resolved.losses), **work.lineage.models.decision}
            manifest = work.store.write_folder(identity, folder, notes=notes)
    files = manifest["files"]
    table = pa.table(
        {
            "file": pa.array(list(files), pa.string()),
            "bytes": pa.array([entry["bytes"] for entry in files.values()], pa.int64()),
            "sha256": pa.array([entry["sha256"] for entry in files.values()], pa.string()),
        }
    ).sort_by("file")
    return Product(table, manifest["notes"])


def picture_base_model(table: pa.Table, notes: Any) -> bytes:
    """Loss while the lab's own model was trained; nothing for a model that came as files."""
    return (
        lines({"pretraining": notes["losses"]}, "share of training", "loss [nats a token]") if notes["losses"] else b""
    )


def model_files(work: Work) -> dict[str, Any]:
    """Hashes of the base model's files as they lie in the store now."""
    manifest = work.store.read_manifest(work.expected.identity) or {"files": {}}
    local = work.store.fetch_folder(work.expected.identity)
    return {"actual_sha256": {name: sha256_file(local / name) for name in manifest["files"]}}


STAGES = (
    Stage(
        "raw_pool",
        make_raw_pool,
        deps=(),
        description="The prompts one could have annotated: text, answer where it is known, and the source's own task. "
        "Prompt ids are made here, once.",
    ),
    Stage(
        "task_labels",
        make_task_labels,
        deps=("raw_pool",),
        description="The task of every prompt, and how it was found.",
        parameters=pool_ids,
        picture=picture_task_labels,
    ),
    Stage(
        "base_model",
        make_base_model,
        deps=(),
        description="The model that is scored and tuned, resolved to an exact revision and the hash of its files. "
        "The lab's own model is trained here.",
        parameters=model_files,
        picture=picture_base_model,
        kinds=frozenset({"pytorch", "huggingface"}),
        needs_model=True,
    ),
)
