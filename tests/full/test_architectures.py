"""Every family of causal language models, from a folder to benchmarks: right, or refused in a sentence of ours."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from taskdiv_assets.benchmarks.answering import Answerer
from taskdiv_assets.language_model.confidence import score
from taskdiv_assets.language_model.loading import LanguageModel, end_tokens, load
from taskdiv_assets.language_model.tuning import Base, Example, encode, tune
from taskdiv_assets.tuning_settings import Tuning
from tests.full.architectures import CONTEXT

PROMPTS = [
    "Q: red\nA:",
    "Q: yellow, long, and what else is there to say of it? It grows in bunches.\nA:",
    "Q: sky\nA:",
    "x",
    "red red red",
    "Name a fruit that is red.",
]
EXAMPLES = [
    Example(f"p{i}", prompt, answer)
    for i, (prompt, answer) in enumerate(
        [("Q: red\nA:", " apple"), ("Q: yellow, long\nA:", " banana"), ("Q: sky\nA:", " blue")]
    )
]
NEW_N = 6


def plain_logits(lm: LanguageModel, tokens: list[int], model: Any = None) -> torch.Tensor:
    with torch.inference_mode():
        return (model or lm.model)(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].double()


def written(lm: LanguageModel, tokens: list[int], new_n: int) -> tuple[list[int], list[float]]:
    """Greedy decoding of one text, whole passes without a cache: the tokens, and the log-probability of each."""
    tokens, first_n, nats = list(tokens), len(tokens), []
    for _ in range(new_n):
        log_probabilities = plain_logits(lm, tokens)[-1].log_softmax(-1)
        tokens.append(int(log_probabilities.argmax()))
        nats.append(float(log_probabilities.max()))
        if tokens[-1] in end_tokens(lm):
            break
    return tokens[first_n:], nats


def check_scored(lm: LanguageModel) -> None:
    columns = score(lm, PROMPTS, max_new_tokens=NEW_N).columns
    for row, prompt in enumerate(PROMPTS):
        _, nats = written(lm, lm.tokenizer(prompt)["input_ids"], NEW_N)
        assert columns["generated_n"][row] == len(nats), ("generated_n", row)
        found = columns["mean_probability"][row], columns["sequence_log_probability"][row]
        assert found == pytest.approx((np.exp(nats).mean(), np.sum(nats)), rel=1e-4, abs=1e-4), row


def loss_of(lm: LanguageModel, model: Any) -> float:
    total, n = 0.0, 0
    for example in (encode(lm, one, CONTEXT) for one in EXAMPLES):
        logits = plain_logits(lm, example.input_ids, model)[:-1].log_softmax(-1)
        labels = torch.tensor(example.labels[1:])
        kept = labels != -100
        total -= float(logits[kept].gather(-1, labels[kept][:, None]).sum())
        n += int(kept.sum())
    return total / n


def check_trained(lm: LanguageModel, folder: Path, out: Path) -> None:
    from peft import PeftModel

    out.mkdir()
    tuning = Tuning(learning_rate=1e-2, epochs=8, batch_size=3)
    result = tune(Base(folder, "float32", "sdpa"), EXAMPLES, tuning, seed=0, out=out)
    before = loss_of(lm, lm.model)
    assert result.losses[0] == pytest.approx(before, rel=1e-3)
    fresh = load(folder, dtype="float32", attention="sdpa")
    after = loss_of(fresh, PeftModel.from_pretrained(fresh.model, str(out)).eval())
    assert result.losses[-1] < result.losses[0] - 0.02
    assert after < before - 0.02


class Request:
    def __init__(self, kind: str, *arguments: Any) -> None:
        self.request_type, self.args = kind, arguments


# Shared beginnings of two lengths, both longer than what is worth sharing.
STORIES = [
    "Name a fruit that is red, yellow or blue, and say why it is so. What is it? Q: red\nA: apple\n\n",
    "What is red? What is long and yellow? And what is blue as the sky?\n\nQ: red",
]
ENDS = ["Q: yellow\nA:", "Q: sky\nA:", "Q: long, yellow\nA:", "x", "Q: it\nA:", "A:", "Q: blue fruit\nA:", "Q: a\nA:"]


def check_benchmarked(lm: LanguageModel) -> None:
    requests: dict[str, Any] = {}
    for place, prompt in enumerate([STORIES[0] + ENDS[0], STORIES[1] + ENDS[2], ENDS[1]]):
        for answer in (" apple", " banana", " blue"):
            requests[f"answer {place}{answer}"] = Request("loglikelihood", prompt, answer)
    for place, prompt in enumerate([*PROMPTS, *(STORIES[0] + end for end in ENDS)]):
        requests[f"text {place}"] = Request("generate_until", prompt, {"until": ["\n\n"], "max_gen_toks": NEW_N})
    answerer = Answerer(lm, requests)
    answers = {key: one for found in answerer.run({}) for key, one in found.items()}
    for key, request in requests.items():
        question = answerer.encoder.encode(request).question
        if request.request_type == "loglikelihood":
            whole = [*question.context, *question.answer]
            rows = plain_logits(lm, whole[:-1]).log_softmax(-1)[-len(question.answer) :]
            expected = float(rows.gather(-1, torch.tensor(question.answer)[:, None]).sum())
            assert answers[key].nats == pytest.approx(expected, rel=1e-4, abs=1e-4), key
        else:
            tokens, _ = written(lm, list(question.context), NEW_N)
            expected_text = lm.tokenizer.decode(tokens, skip_special_tokens=True).split("\n\n")[0]
            assert answers[key].text == expected_text, key


def outcome(step: Callable[[], None]) -> str:
    """Yes, or the sentence with which it is refused; whatever else is raised is a fault."""
    try:
        step()
    except ValueError as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        if "taskdiv_assets" not in last.filename:
            raise
        return str(error)
    return "yes"
