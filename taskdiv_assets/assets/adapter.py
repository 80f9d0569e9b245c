"""Asset `adapter`: the fine-tuned adapters of a cell, one per training seed, stored under their identities."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from taskdiv_assets.cards.stored_cards import made_of, put_cell_cards
from taskdiv_assets.graph import markdown
from taskdiv_assets.graph.adapter_plan import CODE_VERSION, AdapterPlan
from taskdiv_assets.graph.asset import HOLDS_7B, WITHOUT_BASE_MODEL, Asset, Needs, Settings
from taskdiv_assets.graph.drawings import lines
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.language_model.tuning import Example
from taskdiv_assets.language_model.tuning.saving import weights_sha256
from taskdiv_assets.pools import held_items
from taskdiv_assets.storage import locks
from taskdiv_assets.storage.store import sha256_file


def make_adapter(work: Work) -> Product:
    """Train the adapters of a cell that are not stored yet. A stored adapter with the same identity is reused."""
    from taskdiv_assets.services.training import other_versions

    plans = work.lineage.adapter_plans(work.cell)
    refuse_missing_answers(work, plans)
    manifests: dict[str, dict[str, Any]] = {}  # training seed → manifest of the adapter's folder
    older: dict[str, str] = {}
    for plan in plans:
        seed = str(plan.training_seed)
        manifests[seed] = stored_or_trained(work, plan)
        if versions := other_versions(manifests[seed]):
            older[seed] = versions
            work.log(f"seed {seed} was trained with {versions}; it is kept: versions are not part of the identity")
    rows = [_row(*pair) for pair in zip(plans, manifests.values(), strict=True)]
    notes: dict[str, Any] = {"tuning": work.experiment.tuning.at(plans[0].learning_rate).model_dump()}
    for name, field in (("losses", "losses"), ("cut_examples_n", "cut_n"), ("choices", "choices")):
        notes[name] = {seed: manifest[field] for seed, manifest in manifests.items()}
    decided = notes["choices"][str(plans[0].training_seed)]
    notes |= {"other_versions": older, "decided": "; ".join(f"{name}: {why}" for name, why in decided.items())}
    return Product(pa.Table.from_pylist(rows).sort_by("training_seed"), notes)


def stored_or_trained(work: Work, plan: AdapterPlan) -> dict[str, Any]:
    """Return the manifest of an adapter's folder. The adapter is trained if it is not stored yet."""
    from taskdiv_assets.services.training import train

    with locks.hold(work.store, plan.identity, on_wait=work.wait):
        if work.store.is_whole(plan.identity) and (kept := work.store.read_manifest(plan.identity)):
            return kept
        tuning = work.experiment.tuning.at(plan.learning_rate)
        examples = examples_of(work, plan.prompt_ids.to_pylist(), work.lineage.other_answers)
        return train(work, plan, examples, made_of(work, plan, tuning))


def _row(plan: AdapterPlan, manifest: Mapping[str, Any]) -> dict[str, Any]:
    hashes = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    return {
        "training_seed": plan.training_seed,
        "selection_seed": plan.selection_seed,
        "folder": plan.identity,
        **manifest["result"],
        "sha256": weights_sha256(hashes),
    }


def adapter_parameters(work: Work) -> dict[str, Any]:
    """Return the contract parameters: seeds, budget, held-out items among the training prompts, and hashes of the weights."""
    plans, others = work.lineage.adapter_plans(work.cell), work.lineage.other_answers
    chosen = [plan.prompt_ids.to_pylist() for plan in plans]
    return {
        "training_seeds": [plan.training_seed for plan in plans],
        "budget_n": work.cell.budget_n,
        "examples_max_n": work.cell.budget_n
        + max((sum(len(others.get(i, ())) for i in ids) for ids in chosen), default=0),
        "held_out_trained": held_items.among(work.store, (i for ids in chosen for i in ids)),
        "actual_sha256": {plan.identity: _hash_of_weights(work, plan.identity) for plan in plans},
    }


def _hash_of_weights(work: Work, identity: str) -> str:
    with work.store.fetched(identity) as folder:
        return weights_sha256({path.name: sha256_file(path) for path in folder.glob("*.safetensors")})


def examples_of(
    work: Work, prompt_ids: Sequence[str], others: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> list[Example]:
    """Return training examples: the prompts as the model reads them, with their answers.

    `others` are further answers. Each of them is one more example of its prompt, of the same weight, after the first one.
    """
    answers, pool = work.lineage.answers, work.read("raw_pool")
    prompts = dict(zip(pool["prompt_id"].to_pylist(), pool["prompt"].to_pylist(), strict=True))
    texts = work.render([prompts[prompt_id] for prompt_id in prompt_ids])
    if held_n := len(work.lineage.held.pairs.intersection(prompt_ids)):
        work.log(f"{held_n:,} examples contain the text of a special token of this model; it is learnt as text")
    return [
        Example(prompt_id, text, answer)
        for prompt_id, text in zip(prompt_ids, texts, strict=True)
        for answer in (answers[prompt_id] or "", *others.get(prompt_id, ()))
    ]


def refuse_missing_answers(work: Work, plans: list[AdapterPlan]) -> None:
    """Raise ValueError if a chosen prompt has no answer. The message names the commands that export and import answers."""
    worst = max(plans, key=lambda plan: plan.missing_n)
    if worst.missing_n and work.experiment.variant is not None:
        raise ValueError(
            f"{worst.missing_n} of the {work.cell.budget_n} prompts of {work.cell.key} have no answer. "
            "A variant trains only on answers that exist, so no answer is requested for it"
        )
    if worst.missing_n:
        cell, name = work.cell, work.experiment.name
        seed = "" if work.experiment.purpose == "campaign" else f" --seed {worst.selection_seed}"
        raise ValueError(
            f"{worst.missing_n} of the {cell.budget_n} prompts of {cell.key} have no answer yet. Send them out with "
            f"`taskdiv annotations export {name} --budget {cell.budget_n} --strategy {cell.strategy}{seed}`, "
            f"and bring the answers back with `taskdiv annotations import {name} FILE`"
        )


def picture_adapter(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    return lines({f"seed {seed}": values for seed, values in notes["losses"].items()}, "share of training", "loss")


def by_seed(notes: Mapping[str, Any]) -> str:
    """Return a Markdown table by seed: final loss, cut examples, and packages that had another version at the training."""
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
    needs=Needs(4, 32, 1, f"{HOLDS_7B}, and checkpoints of what is trained; a GPU for each training process"),
    unless=(WITHOUT_BASE_MODEL,),
    needs_answers=True,
    folders="inputs",
    parameters=adapter_parameters,
    kinds=frozenset({"pytorch", "huggingface"}),
    picture=picture_adapter,
    summary=by_seed,
    afterwards=put_cell_cards,
)
