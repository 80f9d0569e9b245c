"""Run one training of the graph, from a plan to a stored folder.

The store then contains:

    folders/<identity>/                     weights, configuration and manifest: written once, the manifest last
    checkpoints/<identity>.safetensors      the last checkpoint, replaced atomically; removed after the training
    failures/<identity>.json                the losses of a training that diverged, and its cell
"""

from __future__ import annotations

import json
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

from taskdiv_assets.graph import environment
from taskdiv_assets.graph.adapter_plan import AdapterPlan
from taskdiv_assets.graph.drawings import thin
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.language_model.tuning import Base, DivergedError, Example, HubName, Keeper, TuningResult, tune
from taskdiv_assets.language_model.tuning.process_group import tune_in_processes
from taskdiv_assets.storage.machine import machine
from taskdiv_assets.storage.progress import Progress
from taskdiv_assets.tuning_settings import Tuning

# Packages whose versions can change the results.
NUMERIC_PACKAGES = ("torch", "transformers", "tokenizers", "peft", "trl", "accelerate")


def train(
    work: Work,
    plan: AdapterPlan,
    examples: list[Example],
    made_of: dict[str, Any],  # facts for the model card; the manifest contains them
) -> dict[str, Any]:
    """Train one seed, store the result under its identity, and return the manifest.

    Raises:
        ValueError: the training diverged. Its losses are stored in `failures`. Other errors of `tune` are raised unchanged.
    """
    tuning = work.experiment.tuning.at(plan.learning_rate)
    with work.store.scratch() as folder, work.progress(f"training seed {plan.training_seed}", "steps") as progress:
        out = folder / "out"
        out.mkdir()
        keeper = keeper_of(work, plan.identity, folder)
        try:
            result = run(work, examples, tuning, plan.training_seed, out, progress, keeper)
        except DivergedError as error:
            losses = [loss if math.isfinite(loss) else None for loss in error.losses]
            note = {"message": str(error), "losses": losses, "seed": plan.training_seed, "cell": work.unit.key}
            if variant := work.experiment.variant:  # so that the report can say why the variant has no scores
                changes = variant.parent.robustness[variant.name].changes
                note["variant"] = {"name": variant.name, "changes": {**changes}}
            path = work.store.put(json.dumps(note).encode(), "failures", f"{plan.identity}.json")
            raise ValueError(
                f"training seed {plan.training_seed}: {error}. The losses until then are in {path}"
            ) from None
        kept = ("examples_n", "trained_tokens_n", "final_loss", "train_s")
        manifest = work.store.write_folder(
            plan.identity,
            out,
            result={name: getattr(result, name) for name in kept},
            losses=thin(result.losses),
            steps_n=len(result.losses),
            cut_n=result.cut_n,
            choices=dict(result.choices),
            made_of=made_of,
            environment=environment.describe(),
        )
    work.store.remove("checkpoints", f"{plan.identity}.safetensors")
    work.store.remove("failures", f"{plan.identity}.json")
    return manifest


def run(
    work: Work,
    examples: list[Example],
    tuning: Tuning,
    seed: int,
    out: Path,
    progress: Progress,
    keeper: Keeper | None = None,
) -> TuningResult:
    """Train in this process, or in several processes if `$TASKDIV_TRAINING_PROCESSES` is more than 1."""
    # Time and tokens at the end of the first step, so that the rate excludes loading.
    first: list[tuple[float, int]] = []

    def on_step(done: int, total: int, loss: float, tokens_n: int) -> None:
        if not first:
            first.append((time.monotonic(), tokens_n))
        elapsed_s = time.monotonic() - first[0][0]
        rate = f", {(tokens_n - first[0][1]) / elapsed_s:,.0f} tokens/s" if tokens_n > first[0][1] and elapsed_s else ""
        progress(done, total, f"loss {loss:.3f}{rate}")

    base = base_of(work)
    processes_n = machine().training_processes
    if processes_n == 1:
        return tune(base, examples, tuning, seed=seed, out=out, on_step=on_step, keeper=keeper, log=work.log)
    with work.store.scratch() as folder:
        tuned = partial(tune_in_processes, base, examples, tuning, processes_n=processes_n, folder=folder)
        return tuned(seed=seed, out=out, on_step=on_step, keeper=keeper, log=work.log)


def base_of(work: Work) -> Base:
    footer = work.lineage.fresh(Unit("base_model"))
    source = work.experiment.base
    hub = HubName(source.hub, str(source.revision)) if source.hub else None
    return Base(work.store.fetch_folder(footer.identity), footer.notes["dtype"], footer.notes["attention"], hub)


def keeper_of(work: Work, identity: str, folder: Path) -> Keeper:
    parts = ("checkpoints", f"{identity}.safetensors")

    def read() -> Path | None:
        return work.store.fetch_file(folder / "last.safetensors", *parts)

    every_s = machine().checkpoint_s
    return Keeper(read, lambda path: work.store.put_file(path, *parts), every_s, identity, work.log)


def other_versions(manifest: dict[str, Any]) -> str:
    """Return, as text, the NUMERIC_PACKAGES that now have another version than in the manifest; "" if there are none."""
    before = manifest.get("environment", {}).get("versions", {})
    now = environment.describe()["versions"]
    changed = [name for name in NUMERIC_PACKAGES if name in before and name in now and before[name] != now[name]]
    return ", ".join(f"{name} {before[name]} (now {now[name]})" for name in changed)
