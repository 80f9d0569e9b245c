"""Where everything starts: the prompts, their tasks, and the base model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taskdiv_assets.graph import markdown
from taskdiv_assets.graph.drawings import bars, counted, histogram, lines, thin
from taskdiv_assets.graph.models import BATCHING, READING
from taskdiv_assets.graph.stage import Product, Stage, Work
from taskdiv_assets.language_model.control_marks import SIGNS, signs_in
from taskdiv_assets.language_model.counted import notes_of
from taskdiv_assets.language_model.loading import resolve_source
from taskdiv_assets.language_model.model_folder import read_config
from taskdiv_assets.language_model.texts import read_tokenizer
from taskdiv_assets.language_model.tuning import Base, try_out
from taskdiv_assets.pools import copies, labels
from taskdiv_assets.pools.frame import content_hashes
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.storage.progress import spell
from taskdiv_assets.storage.store import sha256_file

MEASURED_N = (
    1_000_000  # prompts whose length a picture takes; they stand by hashed ids, so the first are as good as random
)


def make_raw_pool(work: Work) -> Product:
    """Read the pool and give every prompt its id."""
    work.log(f"reading {_source(work)}")
    started = time.monotonic()
    pool = read_pool(work.experiment.pool)
    work.log(f"{pool.table.num_rows:,} prompts read in {spell(time.monotonic() - started)}; hashing what they say")
    table = pool.table.sort_by("prompt_id")
    notes: dict[str, Any] = {
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
    parts, files = content_hashes(table), {}
    if pool.copies.num_rows:
        stored = copies.serialised(pool.copies)
        notes[copies.NOTE], files[stored.path] = stored.path, stored.content
        parts["copies"] = copies.digest(pool.copies)
    signs = {column: signs_in(table[column]) for column in ("prompt", "response")}
    notes = {**notes, SIGNS: signs, **work.lineage.sources.noted("raw_pool")}
    return Product(table, notes, parts, files, {"dropped_copies": pool.copies["copy_id"].to_pylist()})


def dropped_copies(work: Work) -> dict[str, Any]:
    """Ids of the rows that the stored pool left out because they repeat a prompt."""
    return {"dropped_copies": copies.read(work.store)["copy_id"].to_pylist()}


def _source(work: Work) -> str:
    pool = work.experiment.pool
    if pool.reader == "lab":
        return f"lab, seed {pool.seed}"
    return f"{pool.hub}@{pool.revision}" if pool.hub else str(pool.path)


def picture_raw_pool(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    """How long the prompts are, and how many have an answer."""
    some = table.slice(0, MEASURED_N)
    lengths = pc.utf8_length(some["prompt"]).to_numpy().astype(np.int64)
    is_answered = some["response"].is_valid().to_numpy()
    share = f"{1 - table['response'].null_count / table.num_rows:.0%} with an answer" if table.num_rows else "none"
    title = f"{table.num_rows:,} prompts, {share}"
    if len(lengths):
        title += f"; median {np.median(lengths):,.0f} characters, longest {lengths.max():,}"
    if len(some) < len(table):
        title += f" (lengths of {MEASURED_N:,})"
    parts = {"with an answer": lengths[is_answered], "without": lengths[~is_answered]}
    return histogram(parts, "length of the prompt [characters]", "prompts", title)


def drops_and_repairs(notes: Mapping[str, Any]) -> str:
    """What was left out of the pool or set to null, and why, as Markdown for the UI."""
    kinds = {"dropped": notes["drops"], "set to null": notes["repairs"]}
    rows = [(kind, markdown.text(why), f"{n:,}") for kind, found in kinds.items() for why, n in sorted(found.items())]
    if not rows:
        return f"All {notes['rows_read_n']:,} rows were taken as they are."
    return markdown.table(("what", "why", "rows"), rows)


def make_task_labels(work: Work) -> Product:
    """Give every prompt its task."""
    pool = work.read("raw_pool")
    experiment = work.experiment
    table = labels.of_source(experiment.labels_from, experiment.task_labels, pool, copies.read(work.store))
    if experiment.labels_from == "column":
        labels.refuse_unlabelled(table, experiment.by_task)
    notes = {"tasks_n": len(table["task"].unique()), **work.lineage.sources.noted("task_labels")}
    return Product(table, notes)


def pool_ids(work: Work) -> dict[str, Any]:
    """Parameters of contracts whose ids must be those of the pool."""
    return {"pool_prompt_ids": work.read("raw_pool")["prompt_id"]}


def picture_task_labels(table: pa.Table, notes: Any) -> bytes:
    """Prompts per task."""
    counts = counted(table["task"])
    return bars(list(counts), {"prompts": list(counts.values())}, f"prompts in the pool, {len(counts):,} tasks")


def make_base_model(work: Work) -> Product:
    """Resolve the base model to files that no longer change; the lab's own is trained here."""
    identity = work.expected.identity
    manifest = work.store.read_manifest(identity)
    if manifest is None:
        source = work.experiment.base
        if not source.lab:  # copied or downloaded, with nothing to count
            work.log(f"getting the files of {source.hub or source.path}")
        with work.store.scratch() as folder, work.progress("preparing the base model", "steps") as progress:
            resolved = resolve_source(source, work.experiment.pool, folder, progress)
            notes = {**resolved._asdict(), "losses": thin(resolved.losses), **work.lineage.models.decision}
            manifest = work.store.write_folder(identity, folder, notes=notes)
    folder = work.store.fetch_folder(identity)
    reading = read_tokenizer(folder).notes()
    if reading["ended_texts"]:
        work.log("the tokenizer ends every text with its end token; that is switched off, since a prompt has to go on")
    files = manifest["files"]
    table = pa.table(
        {
            "file": pa.array(list(files), pa.string()),
            "bytes": pa.array([entry["bytes"] for entry in files.values()], pa.int64()),
            "sha256": pa.array([entry["sha256"] for entry in files.values()], pa.string()),
        }
    ).sort_by("file")
    batching = notes_of(read_config(folder))
    if any(batching.values()):
        work.log(f"texts of different length do not share every batch with this model: {batching}")
    notes = {**manifest["notes"], READING: reading, BATCHING: batching, "not_tried": _try(work, folder)}
    return Product(table, {**notes, **work.lineage.sources.noted("base_model")})


def _try(work: Work, folder: Path) -> str:
    """Train one step, and return why that was not tried. It comes after the files are kept, so a failure fetches nothing twice.

    Raises:
        ValueError: the model cannot be trained.
    """
    if work.experiment.base.lab:
        return "the lab's model was trained here"
    work.log("trying one step of training: a model that cannot be trained should be known before labels are bought")
    decision = work.lineage.models.decision
    why_not = try_out(Base(folder, decision["dtype"], decision["attention"]), work.experiment.tuning)
    if why_not:
        work.log(f"not tried: {why_not}")
    return why_not


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
        parameters=dropped_copies,
        picture=picture_raw_pool,
        summary=drops_and_repairs,
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
