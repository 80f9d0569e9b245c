"""Fine-tuning: one adapter per seed of a cell, found again by the identity of what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from taskdiv_assets.cards.stored_cards import made_of, put_cell_cards
from taskdiv_assets.graph import markdown
from taskdiv_assets.graph.adapter_plan import CODE_VERSION, AdapterPlan
from taskdiv_assets.graph.asset import HOLDS_7B, Asset, Needs, Settings
from taskdiv_assets.graph.drawings import lines
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.usage import WITHOUT_BASE_MODEL
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.language_model.tuning import Example
from taskdiv_assets.language_model.tuning.saving import weights_sha256
from taskdiv_assets.storage import locks
from taskdiv_assets.storage.store import sha256_file


def make_adapter(work: Work) -> Product:
    """Train what is not there yet; equal selections and unchanged seeds are found, not trained again."""
    from taskdiv_assets.services.training import other_versions

    plans = work.lineage.adapter_plans(work.cell)
    refuse_missing_answers(work, plans)
    rows, told = [], _Told()
    for plan in plans:
        with locks.hold(work.store, plan.identity, on_wait=work.wait):
            kept = work.store.read_manifest(plan.identity) if work.store.is_whole(plan.identity) else None
            manifest = kept or _trained(work, plan)
        older = other_versions(manifest)
        if older:
            work.log(f"seed {plan.training_seed} was trained with {older}; it is kept: versions are told, not hashed")
        told.add(plan.training_seed, manifest, older)
        rows.append(row_of(plan, manifest))
    tuning = work.experiment.tuning.at(plans[0].learning_rate).model_dump()
    decided = told.notes["choices"][str(plans[0].training_seed)]
    told.notes["decided"] = "; ".join(f"{name}: {reason}" for name, reason in decided.items())  # shown in the UI
    return Product(pa.Table.from_pylist(rows).sort_by("training_seed"), {"tuning": tuning, **told.notes})


def _trained(work: Work, plan: AdapterPlan) -> dict[str, Any]:
    from taskdiv_assets.services.training import train

    tuning = work.experiment.tuning.at(plan.learning_rate)
    examples = examples_of(work, plan.prompt_ids.to_pylist())
    return train(work, plan, examples, made_of(work, plan, tuning))


class _Told:
    """What is worth noting of each seed."""

    def __init__(self) -> None:
        self.notes: dict[str, Any] = {name: {} for name in ("losses", "cut_examples_n", "choices", "other_versions")}

    def add(self, seed: int, manifest: Mapping[str, Any], older: str) -> None:
        names = {"losses": "losses", "cut_examples_n": "cut_n", "choices": "choices"}
        for name, key in names.items():
            self.notes[name][str(seed)] = manifest[key]
        if older:
            self.notes["other_versions"][str(seed)] = older


def row_of(plan: AdapterPlan, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A seed's row of the table."""
    hashes = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    return {
        "training_seed": plan.training_seed,
        "selection_seed": plan.selection_seed,
        "folder": plan.identity,
        **manifest["result"],
        "sha256": weights_sha256(hashes),
    }


def adapter_parameters(work: Work) -> dict[str, Any]:
    """What the contract of adapters has to know: the seeds, the budget, and the weights' hashes as they are now."""
    plans = work.lineage.adapter_plans(work.cell)
    return {
        "training_seeds": [plan.training_seed for plan in plans],
        "budget_n": work.cell.budget_n,
        "actual_sha256": {plan.identity: _hash_of_weights(work, plan.identity) for plan in plans},
    }


def _hash_of_weights(work: Work, identity: str) -> str:
    with work.store.fetched(identity) as folder:
        return weights_sha256({path.name: sha256_file(path) for path in folder.glob("*.safetensors")})


def examples_of(work: Work, prompt_ids: Sequence[str]) -> list[Example]:
    """Answered prompts as the model reads them, with their answers."""
    answers, pool = work.lineage.answers, work.read("raw_pool")
    prompts = dict(zip(pool["prompt_id"].to_pylist(), pool["prompt"].to_pylist(), strict=True))
    texts = work.render([prompts[prompt_id] for prompt_id in prompt_ids])
    if held_n := len(work.lineage.held.pairs.intersection(prompt_ids)):
        work.log(f"{held_n:,} examples hold the text of a special token of this model; it is learnt as text")
    return [Example(*row) for row in zip(prompt_ids, texts, (answers[i] or "" for i in prompt_ids), strict=True)]


def refuse_missing_answers(work: Work, plans: list[AdapterPlan]) -> None:
    """An adapter needs an answer for every chosen prompt.

    Raises:
        ValueError: how many are missing, and the two commands that get them.
    """
    worst = max(plans, key=lambda plan: plan.missing_n)
    missing_n = worst.missing_n
    if missing_n:
        cell, name = work.cell, work.experiment.name
        seed = "" if work.experiment.purpose == "campaign" else f" --seed {worst.selection_seed}"
        raise ValueError(
            f"{missing_n} of the {cell.budget_n} prompts of {cell.key} have no answer yet. Send them out with "
            f"`taskdiv annotations export {name} --budget {cell.budget_n} --strategy {cell.strategy}{seed}`, "
            f"and bring the answers back with `taskdiv annotations import {name} FILE`"
        )


def picture_adapter(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    """Training loss of every seed."""
    return lines({f"seed {seed}": values for seed, values in notes["losses"].items()}, "share of training", "loss")


def by_seed(notes: Mapping[str, Any]) -> str:
    """What became of each seed's examples, and whether an adapter that was found is of other versions; Markdown for the UI."""
    rows = [
        (seed, f"{losses[-1]:.3f}" if losses else "", f"{notes['cut_examples_n'][seed]:,}", markdown.text(older))
        for seed, losses in notes["losses"].items()
        for older in [notes.get("other_versions", {}).get(seed, "")]
    ]
    return markdown.table(("seed", "loss at the end", "examples cut", "trained with other versions"), rows)


def adapter_recipe(inputs: Inputs) -> Settings:
    inputs.add({f"seed/{plan.training_seed}": plan.identity for plan in inputs.lineage.adapter_plans(inputs.cell)})
    return {}


ASSET = Asset(
    name="adapter",
    make=make_adapter,
    reads=("allocation", "raw_pool", "annotations", "base_model", "tuning_choice"),
    recipe=adapter_recipe,
    code_version=CODE_VERSION,
    partitioned_by="cell",
    description="Adapters, one per seed, trained on the chosen prompts and their answers. Equal selections share one adapter.",
    needs=Needs(4, 32, 1, f"{HOLDS_7B}, and checkpoints of what is trained; a card for each training process"),
    unless=(WITHOUT_BASE_MODEL,),
    needs_answers=True,
    folders="inputs",
    parameters=adapter_parameters,
    kinds=frozenset({"pytorch", "huggingface"}),
    picture=picture_adapter,
    summary=by_seed,
    afterwards=put_cell_cards,
)
