"""Asset `tuning_choice`: the learning rate with the lowest loss on validation prompts, out of the experiment's candidates.

Training and validation prompts are answered prompts of the pool; test items of benchmarks are not used. All strategies and
budgets use the same rate, so they differ only in their selections. The table is empty if the experiment names one rate.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

import data_contracts
from taskdiv_assets.assets.adapter import examples_of
from taskdiv_assets.graph.adapter_plan import choice_recipe
from taskdiv_assets.graph.asset import HOLDS_7B, WITHOUT_BASE_MODEL, WITHOUT_CANDIDATES, Asset, Needs, Settings
from taskdiv_assets.graph.drawings import bars
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.language_model.tuning import DivergedError, Example
from taskdiv_assets.pools import held_items
from taskdiv_assets.tuning_settings import LearningRates

Trial = Mapping[str, Any]


def make_tuning_choice(work: Work) -> Product:
    """Train at each candidate rate with each seed, and store the best rate in a note. A single rate is stored without training.

    The best rate has the lowest mean validation loss over the seeds; of equal losses, the smaller rate.

    Raises:
        ValueError: at every rate, training diverged with at least one seed.
    """
    schema = data_contracts.load("tuning_choice").arrow_schema
    rates = work.experiment.tuning.candidates
    if rates is None:
        return Product(schema.empty_table(), {"learning_rate": work.experiment.tuning.rate, "why": "the file names it"})
    drawn = work.lineage.trial_prompts(rates)
    training, judging = examples_of(work, drawn.training), examples_of(work, drawn.validation)
    wanted, trials = [(rate, seed) for rate in rates.choose for seed in rates.seeds], []
    with work.progress("learning rates", "trials") as progress:
        for rate, seed in wanted:
            trials.append(try_out(work, rate, seed, training, judging))
            progress(len(trials), len(wanted))
    means = mean_losses(trials)
    if not means:
        raise ValueError(
            f"training diverged at every learning rate of {', '.join(f'{rate:g}' for rate in rates.choose)}; try lower ones"
        )
    best = min(means, key=lambda rate: (means[rate], rate))
    table = pa.Table.from_pylist(list(trials), schema=schema)
    order = [("learning_rate", "ascending"), ("training_seed", "ascending")]
    notes = {"learning_rate": best, "why": reason(means, best, rates)}
    # The drawn prompts are stored, so that later answers do not cause a new draw.
    return Product(table.sort_by(order), {**notes, "training": drawn.training, "validation": drawn.validation})


def try_out(work: Work, rate: float, seed: int, training: list[Example], judging: list[Example]) -> Trial:
    """Train once at one rate, and return a row with the loss on the examples `judging`; without losses if training diverged."""
    from taskdiv_assets.language_model.tuning.held_out import validation_loss
    from taskdiv_assets.services.training import base_of, run

    tuning = work.experiment.tuning.at(rate)
    what = f"learning rate {rate:g}, seed {seed}"
    counts = {"examples_n": len(training), "validation_n": len(judging)}
    with work.store.scratch() as out:
        try:
            with work.progress(what, "steps") as steps:
                result = run(work, training, tuning, seed, out, steps)
        except DivergedError as error:
            work.log(f"{what}: {error}")
            return {"learning_rate": rate, "training_seed": seed, **counts}
        with work.progress(f"{what}: judging", "prompts") as judged:
            loss = validation_loss(base_of(work), out, judging, tuning.max_length, judged)
    work.log(f"{what}: loss {loss:.4f} nats a token on {len(judging)} prompts that it was not trained on")
    found = {"validation_loss": loss, "final_loss": result.final_loss, "train_s": result.train_s}
    return {"learning_rate": rate, "training_seed": seed, **counts, **found}


def mean_losses(trials: Sequence[Trial]) -> dict[float, float]:
    """Return the mean validation loss of each rate over its seeds. Rates that diverged for any seed are left out."""
    by_rate: dict[float, list[float]] = {}
    for trial in trials:
        by_rate.setdefault(trial["learning_rate"], []).append(trial.get("validation_loss", math.inf))
    means = {rate: math.fsum(losses) / len(losses) for rate, losses in by_rate.items()}
    return {rate: mean for rate, mean in means.items() if math.isfinite(mean)}


def reason(means: Mapping[float, float], best: float, rates: LearningRates) -> str:
    """Return the reason for the choice as text, with advice if the best rate is the smallest or the largest candidate."""
    others = ", ".join(f"{rate:g}: {mean:.4f}" for rate, mean in sorted(means.items()))
    edge = {min(rates.choose): "the smallest: try smaller ones", max(rates.choose): "the largest: try larger ones"}
    at_edge = f". It is {edge[best]}" if best in edge else ""
    return f"lowest loss on prompts that it was not trained on ({others} nats a token){at_edge}"


def choice_parameters(work: Work) -> dict[str, Any]:
    rates = work.experiment.tuning.candidates
    if rates is None:
        return {"learning_rates": [], "training_seeds": [], "held_out_trained": []}
    held = held_items.among(work.store, chain(*work.lineage.trial_prompts(rates)))
    return {"learning_rates": [*rates.choose], "training_seeds": [*rates.seeds], "held_out_trained": held}


def picture_choice(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    means = mean_losses([{k: v for k, v in row.items() if v is not None} for row in table.to_pylist()])
    rates = sorted(means)
    title = "loss by learning rate on prompts that it was not trained on [nats a token]"
    return bars([f"{rate:g}" for rate in rates], {"loss": [means[rate] for rate in rates]}, title)


def tuning_choice_recipe(inputs: Inputs) -> Settings:
    lineage, tuning = inputs.lineage, inputs.experiment.tuning
    if tuning.candidates is None:  # the experiment names one rate
        return {"learning_rate": tuning.rate}
    lineage.fresh(Unit("annotations"))
    base = lineage.fresh(Unit("base_model")).identity
    drawn, template = lineage.trial_prompts(tuning.candidates), lineage.models.training_template
    settings, found = choice_recipe(tuning, drawn, lineage.answer_hashes, template, base, lineage.held.pairs)
    inputs.add(found)
    return settings


ASSET = Asset(
    name="tuning_choice",
    make=make_tuning_choice,
    reads=("raw_pool", "annotations", "base_model"),
    recipe=tuning_choice_recipe,
    description="The learning rate: each candidate is trained on some answered prompts and judged by others, drawn at "
    "random from the pool. Benchmark items choose nothing. Empty if the experiment names one rate.",
    needs=Needs(4, 32, 1, f"{HOLDS_7B}, and checkpoints of what is trained"),
    unless=(WITHOUT_BASE_MODEL, WITHOUT_CANDIDATES),
    needs_answers=True,
    parameters=choice_parameters,
    kinds=frozenset({"pytorch", "huggingface"}),
    picture=picture_choice,
)
