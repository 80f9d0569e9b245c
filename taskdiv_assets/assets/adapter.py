"""Fine-tuning: one LoRA adapter per seed of a cell, found again by the identity of what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from taskdiv_assets import locks
from taskdiv_assets.adapter_plan import AdapterPlan
from taskdiv_assets.assets.pictures import lines, thin
from taskdiv_assets.assets.stage import Product, Stage, Work
from taskdiv_assets.store import sha256_file
from taskdiv_assets.units import Unit

WEIGHTS = "adapter_model.safetensors"


def make_adapter(work: Work) -> Product:
    """Train what is not there yet; equal selections and unchanged seeds are found, not trained again."""
    plans = work.lineage.adapter_plans(work.cell)
    refuse_missing_answers(work, plans)
    rows, losses, cut = [], {}, {}
    for plan in plans:
        with locks.hold(work.store, plan.identity, on_wait=lambda owner: work.log(f"waiting for {owner}")):
            kept = work.store.read_manifest(plan.identity) if work.store.is_whole(plan.identity) else None
            manifest = kept or train(work, plan)
        result = manifest["result"]
        losses[str(plan.training_seed)], cut[str(plan.training_seed)] = manifest["losses"], manifest["cut_n"]
        files = manifest["files"]
        rows.append(
            {
                "training_seed": plan.training_seed,
                "selection_seed": plan.selection_seed,
                "folder": plan.identity,
                **result,
                "sha256": files[WEIGHTS]["sha256"],
            }
        )
    notes = {"tuning": work.experiment.tuning.model_dump(), "losses": losses, "cut_examples_n": cut}
    return Product(pa.Table.from_pylist(rows).sort_by("training_seed"), notes)


def adapter_parameters(work: Work) -> dict[str, Any]:
    """What the contract of adapters has to know: the seeds, the budget, and the weights' hashes as they are now."""
    plans = work.lineage.adapter_plans(work.cell)
    folders = {plan.identity: work.store.fetch_folder(plan.identity) for plan in plans}
    return {
        "training_seeds": [plan.training_seed for plan in plans],
        "budget_n": work.cell.budget_n,
        "actual_sha256": {name: sha256_file(folder / WEIGHTS) for name, folder in folders.items()},
    }


def train(work: Work, plan: AdapterPlan) -> dict[str, Any]:
    """Train one seed's adapter and store it under its identity; returns the manifest."""
    from taskdiv_assets.language_model.tuning import Example, tune

    answers, prompts = work.lineage.answers, _prompts(work)
    chosen = plan.prompt_ids.to_pylist()
    texts = work.render([prompts[prompt_id] for prompt_id in chosen])
    examples = [Example(*row) for row in zip(chosen, texts, (answers[i] or "" for i in chosen), strict=True)]
    base = work.lineage.fresh(Unit("base_model"))
    progress = work.progress(f"training seed {plan.training_seed}", "steps")
    with work.store.scratch() as folder:
        result = tune(
            work.store.fetch_folder(base.identity),
            examples,
            work.experiment.tuning,
            seed=plan.training_seed,
            dtype=base.notes["dtype"],
            attention=base.notes["attention"],
            out=folder,
            progress=progress,
        )
        kept = ("examples_n", "trained_tokens_n", "final_loss", "train_s")
        return work.store.write_folder(
            plan.identity,
            folder,
            result={name: getattr(result, name) for name in kept},
            losses=thin(result.losses),
            cut_n=result.cut_n,
        )


def refuse_missing_answers(work: Work, plans: list[AdapterPlan]) -> None:
    """An adapter needs an answer for every chosen prompt.

    Raises:
        ValueError: how many are missing, and the two commands that get them.
    """
    missing_n = max(plan.missing_n for plan in plans)
    if missing_n:
        cell, name = work.cell, work.experiment.name
        seed = "" if work.experiment.purpose == "campaign" else f" --seed {plans[0].selection_seed}"
        raise ValueError(
            f"{missing_n} of the {cell.budget_n} prompts of {cell.key} have no answer yet. Send them out with "
            f"`taskdiv annotations export {name} --budget {cell.budget_n} --strategy {cell.strategy}{seed}`, "
            f"and bring the answers back with `taskdiv annotations import {name} FILE`"
        )


def picture_adapter(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    """Training loss of every seed."""
    return lines({f"seed {seed}": values for seed, values in notes["losses"].items()}, "share of training", "loss")


def _prompts(work: Work) -> dict[str, str]:
    pool = work.read("raw_pool")
    return dict(zip(pool["prompt_id"].to_pylist(), pool["prompt"].to_pylist(), strict=True))


STAGES = (
    Stage(
        "adapter",
        make_adapter,
        deps=("allocation", "raw_pool", "annotations", "base_model"),
        description="LoRA adapters, one per seed, trained on the chosen prompts and their answers. "
        "Equal selections share one adapter.",
        parameters=adapter_parameters,
        partitions="cell",
        kinds=frozenset({"pytorch", "huggingface"}),
        needs_model=True,
        picture=picture_adapter,
    ),
)
