"""Asset `base_model`: the files of the model that is scored and fine-tuned, with their hashes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from taskdiv_assets.experiment import ADD_BASE_MODEL
from taskdiv_assets.graph.asset import WITHOUT_BASE_MODEL, Asset, Needs, Settings
from taskdiv_assets.graph.drawings import lines, thin
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.models import BASE_MODEL_VERSION, BATCHING, READING
from taskdiv_assets.graph.units import StaleInputError
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.language_model.counted import notes_of
from taskdiv_assets.language_model.loading import resolve_source
from taskdiv_assets.language_model.model_folder import read_config
from taskdiv_assets.language_model.texts import CONTROL, read_tokenizer
from taskdiv_assets.language_model.tuning import Base, try_out
from taskdiv_assets.storage.store import sha256_file


def make_base_model(work: Work) -> Product:
    """Return the table of the base model's files. If the files are not stored yet, store them first.

    The files are copied or downloaded. Only the model of the built-in demo (`base_model: {lab: …}`) is trained here.

    Raises:
        ValueError: the model cannot be fetched, is damaged, or cannot be fine-tuned.
        OSError: a remote folder or GGUF file is missing or may not be read, or a disk has too little free space.
    """
    identity = work.expected.identity
    manifest = work.store.read_manifest(identity)
    if manifest is None:
        source = work.experiment.base
        if not source.lab:  # a copy or download reports no progress, so the log announces it
            work.log(f"fetching the files of {source.hub or source.path}")
        with work.store.scratch() as folder, work.progress("preparing the base model", "steps") as progress:
            resolved = resolve_source(source, work.experiment.pool, folder, progress)
            facts: dict[str, Any] = {
                "source": resolved.source,
                "revision": resolved.revision,
                "parameters_n": resolved.parameters_n,
            }
            notes = {**facts, **resolved.unpacking(), "losses": thin(resolved.losses), **work.lineage.models.decision}
            manifest = work.store.write_folder(identity, folder, notes=notes)
    folder = work.store.fetch_folder(identity)
    reading = read_tokenizer(folder).notes()
    if reading["ended_texts"]:
        work.log("the tokenizer adds its end token to every text; this is switched off, because a prompt must continue")
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
        work.log(f"this model does not allow texts of different length in every batch: {batching}")
    notes = {**manifest["notes"], READING: reading, BATCHING: batching, "not_tried": _try(work, folder)}
    return Product(table, {**notes, **work.lineage.sources.noted("base_model")})


def _try(work: Work, folder: Path) -> str:
    """Train one step as a test. Return "" after the step, or the reason why there was no step, such as too little memory.

    The files are stored before this test, so they are not downloaded again after a failure.
    """
    if work.experiment.base.lab:
        return "the lab's model was trained here"
    work.log("trying one step of training, so that a model that cannot be trained is found before labels are bought")
    decision = work.lineage.models.decision
    why_not = try_out(Base(folder, decision["dtype"], decision["attention"]), work.experiment.tuning)
    if why_not:
        work.log(f"not tried: {why_not}")
    return why_not


def picture_base_model(table: pa.Table, notes: Any) -> bytes:
    losses = notes["losses"]  # empty unless the model was trained here
    return lines({"pretraining": losses}, "share of training", "loss [nats a token]") if losses else b""


def model_files(work: Work) -> dict[str, Any]:
    manifest = work.store.read_manifest(work.expected.identity) or {"files": {}}
    local = work.store.fetch_folder(work.expected.identity)
    return {"actual_sha256": {name: sha256_file(local / name) for name in manifest["files"]}}


def base_model_recipe(inputs: Inputs) -> Settings:
    experiment, models = inputs.experiment, inputs.lineage.models
    if experiment.base_model is None:
        raise StaleInputError(f"{experiment.name} names no base model; {ADD_BASE_MODEL}")
    inputs.add(inputs.lineage.sources.base_model())
    return models.settings(experiment.base_model, models.decision["dtype"])


def lacks_notes(notes: Mapping[str, Any]) -> bool:
    """Return True if `notes`, the notes of a stored table from an earlier version, lack entries that are written now."""
    return not (BATCHING in notes and CONTROL in notes.get(READING, {}))


ASSET = Asset(
    name="base_model",
    make=make_base_model,
    recipe=base_model_recipe,
    code_version=BASE_MODEL_VERSION,
    description="The model that is scored and tuned, resolved to an exact revision and the hash of its files. "
    "The lab's own model is trained here.",
    needs=Needs(2, 24, 1, "number format and attention are decided here once, by the GPU of this step"),
    unless=(WITHOUT_BASE_MODEL,),
    folders="own",
    parameters=model_files,
    picture=picture_base_model,
    kinds=frozenset({"pytorch", "huggingface"}),
    lacks_notes=lacks_notes,
)
