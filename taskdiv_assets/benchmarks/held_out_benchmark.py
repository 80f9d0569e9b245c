"""The benchmark `held_out`: how likely a model finds the known answers to prompts that were taken out of the user's pool.

One forward pass gives three scores of an item, from 0 to 1. They describe the tokens of its answer, including the end token: the
mean of their probabilities, the share of tokens that are the model's first choice, and 1 if this share is 1, else 0. The mean
probability rises with every token that becomes likelier, so it also changes for small models that never write a whole answer.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from taskdiv_assets.benchmarks.answering import Answer
from taskdiv_assets.benchmarks.encoding import Encoded
from taskdiv_assets.benchmarks.evaluation import Evaluated, Output, ScoredItem
from taskdiv_assets.benchmarks.questions import Item, Questions, key_of
from taskdiv_assets.benchmarks.tasks import Suite
from taskdiv_assets.language_model.control import plain
from taskdiv_assets.language_model.likelihood import Asked
from taskdiv_assets.language_model.loading import LanguageModel, context_tokens
from taskdiv_assets.language_model.tuning.training_examples import IGNORED, Example, encode

NAME = "held_out"


class Row(NamedTuple):
    """One held-out item. In `prompt`, the text of the template is marked (see `language_model.control.around`)."""

    item_id: str
    task: str
    prompt: str
    response: str


class Request(NamedTuple):
    """The question about one item, in the form of lm-eval's requests."""

    args: tuple[str, str]  # prompt as the model reads it, and answer
    example: Example
    request_type: str = "loglikelihood"


def questions(rows: Sequence[Row]) -> Questions:
    """Return one question for each item, grouped by task."""
    items = []
    for row in sorted(rows, key=lambda row: (row.task, row.item_id)):
        text = plain(row.prompt)
        request = Request((text, row.response), Example(row.item_id, row.prompt, row.response))
        prompt_hash = hashlib.sha256(text.encode()).hexdigest()
        keys = (key_of(request),)
        items.append(Item(row.task, NAME, row.item_id, row, (request,), keys, row.response, prompt_hash))
    requests = {item.keys[0]: item.requests[0] for item in items}
    return Questions(Suite(NAME, {}, {}, {}), tuple(items), requests, Counter(item.task for item in items))


def encoded(lm: LanguageModel, max_length: int, request: Request) -> Encoded:
    """Return the tokens of a question: those of the same example in fine-tuning, cut in the same way.

    Raises:
        ValueError: no token is left before the answer, so that its first token cannot be predicted.
    """
    room = min(max_length, context_tokens(lm) or max_length)
    found = encode(lm, request.example, room)
    start = sum(label == IGNORED for label in found.labels)
    if not 0 < start < len(found.input_ids):
        raise ValueError(
            f"benchmark `held_out`, item {request.example.prompt_id}: of prompt and answer, {start} and "
            f"{len(found.input_ids) - start} tokens fit into {room}; expected at least one of each; raise `tuning.max_length`"
        )
    return Encoded(Asked(tuple(found.input_ids[:start]), tuple(found.input_ids[start:])), found.is_cut)


def scored_items(benchmark: str, metrics: Sequence[str], asked: Questions, answers: Mapping[str, Answer]) -> Evaluated:
    """Return the scores of every item; raise ValueError if the log-likelihood of an answer is not finite."""
    rows, outputs = [], []
    for item in asked.items:
        answer = answers[item.keys[0]]
        if answer.nats is None or not math.isfinite(answer.nats):
            raise ValueError(
                f"benchmark {benchmark!r}, task {item.task!r}, item {item.item_id!r}: the log-likelihood of the answer is "
                "not a finite number; are the model's weights finite, and does its dtype hold its activations?"
            )
        probability, first = float(answer.mean_probability or 0), float(answer.first_choice or 0)
        values = {"mean_probability": probability, "first_choice": first, "exact_match": float(bool(answer.is_greedy))}
        rows += [
            ScoredItem(benchmark, item.task, item.item_id, metric, values[metric], item.prompt_hash)
            for metric in metrics
        ]
        said = f"(mean probability of the answer's tokens {probability:.2f}; {first:.0%} of them are the model's first choice)"
        outputs.append(Output(item.task, item.item_id, 0, *answer[:3], said))
    return Evaluated(rows, outputs, 0)


def bits_per_character(items: Sequence[Item], answers: Mapping[str, Answer], cut: Collection[str]) -> float | None:
    """Return the bits that a model needs for one character of the answers, end tokens included; None if every item was cut.

    Unlike a loss per token, the number can be compared between tokenizers.
    """
    whole = [item for item in items if item.keys[0] not in cut]
    characters_n = sum(len(item.target) for item in whole)
    nats = math.fsum(float(answers[item.keys[0]].nats or 0) for item in whole)
    return -nats / math.log(2) / characters_n if characters_n else None
