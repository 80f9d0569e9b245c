"""The benchmark `held_out`: how likely a model finds the known answers to the user's own prompts.

The prompts were taken out of the user's pool, or come from a file.

One forward pass gives three scores of an item, from 0 to 1. They describe the tokens of the known answer and its end token: the
mean of their probabilities, the share of tokens that are the model's first choice, and 1 if this share is 1, else 0. The mean
probability rises with every token that becomes likelier, so it also changes for small models that never write a whole answer.

If the benchmark's setting `generated` is given, the model also writes an answer greedily. Two metrics of other libraries, chrF
and ROUGE-L, compare this answer with the known one.
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
from taskdiv_assets.experiment.benchmark_settings import Generated
from taskdiv_assets.language_model.continuation import Wanted
from taskdiv_assets.language_model.control import plain
from taskdiv_assets.language_model.likelihood import Asked
from taskdiv_assets.language_model.loading import NO_LIMIT, LanguageModel, context_tokens
from taskdiv_assets.language_model.tuning.training_examples import IGNORED, Example, encode

NAME = "held_out"


class Row(NamedTuple):
    """One held-out item. In `prompt`, the text of the template is marked (see `language_model.control.around`)."""

    item_id: str
    task: str
    prompt: str
    response: str


class Request(NamedTuple):
    """A question about one item, in the form of lm-eval's requests."""

    # The prompt as the model reads it; and the answer, or for `generate_until` the largest number of new tokens.
    args: tuple[str, str] | tuple[str, dict[str, int]]
    example: Example  # without an answer for `generate_until`
    request_type: str = "loglikelihood"


def questions(rows: Sequence[Row], generated: Generated | None = None) -> Questions:
    """Return the questions about each item, grouped by task.

    The first question asks for the likelihood of the known answer. If `generated` is given, the second asks for a written answer.
    """
    items = []
    for row in sorted(rows, key=lambda row: (row.task, row.item_id)):
        text = plain(row.prompt)
        asked = [Request((text, row.response), Example(row.item_id, row.prompt, row.response))]
        if generated is not None:
            limit = {"max_new_tokens": generated.max_new_tokens}
            asked.append(Request((text, limit), Example(row.item_id, row.prompt, ""), "generate_until"))
        prompt_hash, keys = hashlib.sha256(text.encode()).hexdigest(), tuple(map(key_of, asked))
        items.append(Item(row.task, NAME, row.item_id, row, tuple(asked), keys, row.response, prompt_hash))
    requests = {key: request for item in items for key, request in zip(item.keys, item.requests, strict=True)}
    return Questions(Suite(NAME, {}, {}, {}), tuple(items), requests, Counter(item.task for item in items))


def encoded(lm: LanguageModel, max_length: int, request: Request) -> Encoded:
    """Return the tokens of a question: those of the same example in fine-tuning, cut in the same way.

    A prompt for a new answer is cut only if the model's context requires it.

    Raises:
        ValueError: no token of the prompt or of the known answer is left, a new answer leaves no room for the prompt, or the
            base model's tokenizer has no EOS.
    """
    if isinstance(limit := request.args[1], dict):
        return _to_write(lm, request.example, limit["max_new_tokens"])
    room = min(max_length, context_tokens(lm) or max_length)
    found = encode(lm, request.example, room)
    start = sum(label == IGNORED for label in found.labels)
    if not 0 < start < len(found.input_ids):
        raise ValueError(
            f"benchmark `held_out`, item {request.example.prompt_id}: of prompt and answer, {start} and "
            f"{len(found.input_ids) - start} tokens fit into {room}; expected at least one of each; raise `tuning.max_length`"
        )
    return Encoded(Asked(tuple(found.input_ids[:start]), tuple(found.input_ids[start:])), found.is_cut)


def _to_write(lm: LanguageModel, example: Example, new_n: int) -> Encoded:
    room = (context_tokens(lm) or NO_LIMIT) - new_n
    if room < 1:
        raise ValueError(
            f"`generated.max_new_tokens` of benchmark `held_out` is {new_n}, but the model reads {context_tokens(lm)} tokens, "
            "prompt included; expected a number well below it"
        )
    found = encode(lm, example, room, has_end=False)
    if not found.input_ids:
        raise ValueError(
            f"benchmark `held_out`, item {example.prompt_id}: the prompt has no token for this model's tokenizer"
        )
    return Encoded(Wanted(tuple(found.input_ids), (), new_n), found.is_cut)


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
        written = [answers[key].text or "" for key in item.keys[1:]]
        for text in written:
            values |= {metric: similarity(metric, text, item.target) for metric in metrics if metric not in values}
        rows += [
            ScoredItem(benchmark, item.task, item.item_id, metric, values[metric], item.prompt_hash)
            for metric in metrics
        ]
        said = f"(mean probability of the answer's tokens {probability:.2f}; {first:.0%} of them are the model's first choice)"
        outputs.append(Output(item.task, item.item_id, 0, *answer[:3], said))
        outputs += [Output(item.task, item.item_id, 1, text, None, None, "") for text in written]
    return Evaluated(rows, outputs, 0)


def similarity(metric: str, written: str, known: str) -> float:
    """Return the similarity of a written answer to the known answer, from 0 to 1.

    The metric `chrf` is sacrebleu's chrF2 of one sentence, divided by 100. The metric `rouge_l` is the F-measure of rouge-score's
    ROUGE-L without stemming. ROUGE-L ignores case, and all characters except the letters a to z and digits.
    """
    if metric == "chrf":
        from sacrebleu.metrics.chrf import CHRF

        return float(CHRF().sentence_score(written, [known]).score) / 100
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    # Without `tokenizer`, absl logs which one is used, and adds a handler to the root logger.
    return float(RougeScorer(["rougeL"], tokenizer=DefaultTokenizer()).score(known, written)["rougeL"].fmeasure)


def bits_per_character(items: Sequence[Item], answers: Mapping[str, Answer], cut: Collection[str]) -> float | None:
    """Return the bits that a model needs for one character of the known answers. End tokens add bits, but no characters.

    `cut` contains the keys of the questions that were cut to fit the model's context or `tuning.max_length`. An item is left out
    if its first question, the one about the known answer, is in `cut`. Return None if no character is left. Unlike a loss per
    token, the result can be compared between tokenizers.
    """
    whole = [item for item in items if item.keys[0] not in cut]
    characters_n = sum(len(item.target) for item in whole)
    nats = math.fsum(float(answers[item.keys[0]].nats or 0) for item in whole)
    return -nats / math.log(2) / characters_n if characters_n else None
