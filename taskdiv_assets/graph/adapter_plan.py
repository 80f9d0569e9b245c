"""Plan the training of adapters and the choice of a learning rate: training prompts, settings and identities.

The functions are pure. `language_model.tuning` does the training.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from taskdiv_assets.language_model.control_marks import MARK
from taskdiv_assets.storage.identity import digest, identity
from taskdiv_assets.tuning_settings import LearningRates, Tuning

CODE_VERSION = 3  # code version of adapters
LEAST_ANSWERED_N = 20
VALIDATION_SHARE = 5  # at most one fifth of the answered prompts are validation prompts


class AdapterPlan(NamedTuple):
    """The plan of the training of one seed's adapter."""

    training_seed: int
    selection_seed: int
    identity: str
    learning_rate: float
    missing_n: int  # number of chosen prompts whose answer is not known
    prompt_ids: pa.ChunkedArray
    pairs: str  # digest of the prompts with their answers


class TrialPrompts(NamedTuple):
    """The training prompts and the validation prompts of a choice of learning rate, as prompt ids."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


def plan_adapters(
    allocation: pa.Table,  # columns selection_seed, prompt_id
    answers: Mapping[str, str | None],  # prompt_id → SHA-256 of the answer, None if the answer is not known
    seeds: Mapping[int, int],  # training seed → selection seed
    tuning: Tuning,  # with one learning rate
    template: list[object],
    base_model: str,  # identity of the base model
    held: Collection[str] = (),  # ids of prompts with the text of a special token in the prompt or in the answer
) -> list[AdapterPlan]:
    """Return one plan per training seed, in the order of `seeds`.

    The strategy is not a part of the identities, so strategies that choose the same prompts share their adapters.
    """
    plans = []
    for seed, selection_seed in seeds.items():
        chosen = allocation.filter(np.asarray(allocation["selection_seed"]) == selection_seed)["prompt_id"]
        known = {prompt_id: answers.get(prompt_id) for prompt_id in chosen.to_pylist()}
        pairs = pairs_digest(known)
        value = identity(
            "adapter",
            CODE_VERSION,
            {**made_by(tuning), "template": [*template, *_marks(known, held)], "training_seed": seed},
            {"base_model": base_model, "pairs": pairs},
        )
        missing_n = sum(answer is None for answer in known.values())
        plans.append(AdapterPlan(seed, selection_seed, value, tuning.rate, missing_n, chosen, pairs))
    return plans


def made_by(tuning: Tuning) -> dict[str, object]:
    """Return the settings of `tuning` that an adapter depends on.

    LoRA's settings are left out if all weights are trained; epochs and steps are left out if `tokens` replaces them.
    """
    unused = {"rank", "alpha", "dropout", "quantization"} if tuning.method == "full" else set[str]()
    return tuning.model_dump(exclude=unused | ({"epochs", "min_steps"} if tuning.tokens else set()))


def pairs_digest(answers: Mapping[str, str | None]) -> str:
    """Return a hash of `answers` (prompt id → SHA-256 of the answer, or None). The order of the prompts has no effect."""
    return digest(sorted([prompt_id, answer or ""] for prompt_id, answer in answers.items()))


def choice_recipe(
    tuning: Tuning,
    drawn: TrialPrompts,
    answers: Mapping[str, str | None],
    template: list[object],
    base_model: str,
    held: Collection[str] = (),
) -> tuple[dict[str, object], dict[str, str]]:
    """Return settings and inputs for the identity of a choice of learning rate.

    `drawn` contains the prompts of the choice. The other arguments have the same meaning as in `plan_adapters`.
    """
    used = {prompt_id: answers[prompt_id] for prompt_id in (*drawn.training, *drawn.validation)}
    settings = {**made_by(tuning), "template": [*template, *_marks(used, held)]}
    return settings, {"base_model": base_model, "pairs": pairs_digest(used)}


def _marks(used: Iterable[str], held: Collection[str]) -> list[str]:
    return [MARK] if held and not set(held).isdisjoint(used) else []


def kept_or_drawn(
    answers: Mapping[str, str | None],
    rates: LearningRates,
    smallest_budget_n: int,
    notes: Mapping[str, Any],  # notes of the stored choice
) -> TrialPrompts:
    """Return the prompts of the stored choice of learning rate, so that later answers do not change the choice.

    New prompts are drawn (see `trial_prompts`) in three cases: there is no stored choice, a prompt of the choice has no answer,
    or the choice has another number of training prompts than requested (`rates.examples`, by default `smallest_budget_n`).
    Raise ValueError if new prompts are needed and fewer than LEAST_ANSWERED_N prompts have an answer.
    """
    kept = TrialPrompts(tuple(notes.get("training", ())), tuple(notes.get("validation", ())))
    is_whole = len(kept.training) == (rates.examples or smallest_budget_n)
    if is_whole and all(answers.get(prompt_id) is not None for prompt_id in (*kept.training, *kept.validation)):
        return kept
    return trial_prompts((i for i, answer in answers.items() if answer is not None), rates, smallest_budget_n)


def trial_prompts(answered: Iterable[str], rates: LearningRates, smallest_budget_n: int) -> TrialPrompts:
    """Draw training and validation prompts from the ids in `answered` by a hash. Raise ValueError for fewer than 20 ids."""
    ordered = sorted(answered, key=lambda prompt_id: hashlib.sha256(f"tuning choice {prompt_id}".encode()).digest())
    if len(ordered) < LEAST_ANSWERED_N:
        raise ValueError(
            f"a learning rate is chosen on answered prompts, at least {LEAST_ANSWERED_N}, and {len(ordered)} have an answer; "
            "import answers first, or set one `tuning.learning_rate`"
        )
    judging_n = min(rates.validation, len(ordered) // VALIDATION_SHARE)
    training_n = min(rates.examples or smallest_budget_n, len(ordered) - judging_n)
    return TrialPrompts(tuple(ordered[judging_n : judging_n + training_n]), tuple(ordered[:judging_n]))
