"""Gemma 3 270M against plain passes of transformers over one text alone. Its texts may exceed the sliding window of 512 tokens.

`make real-model` installs the model; without it these tests are skipped.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from taskdiv_assets.language_model import packed
from taskdiv_assets.language_model.confidence import score
from taskdiv_assets.language_model.embeddings import embed
from taskdiv_assets.language_model.likelihood import Asked, LikelihoodPlan
from taskdiv_assets.language_model.loading import LanguageModel, load
from tests.benchmark_tasks.test_held_out import assert_equal_to_recount
from tests.language_model.test_confidence import by_generate
from tests.language_model.test_packed import same
from tests.real_model import FOLDER

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("gemma"), pytest.mark.timeout(1800)]
WINDOW_N = 512  # tokens
Row = dict[str, str]


@pytest.fixture(scope="module")
def gemma() -> LanguageModel:
    if not (FOLDER / "config.json").is_file():
        pytest.skip("no real model: `make real-model` brings it")
    return load(FOLDER, dtype="float32", attention="sdpa")


@pytest.fixture(scope="module")
def dolly(shared_data: Path) -> list[Row]:
    with gzip.open(shared_data / "dolly" / "databricks-dolly-15k.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(2000), strict=False)]
    for row in rows:
        row["prompt"] = "\n\n".join(filter(None, (row["instruction"], row["context"])))
    return rows


@pytest.fixture(scope="module")
def rows(dolly: list[Row]) -> list[Row]:
    """Return 16 rows with short prompts, and 4 with prompts of 2,800 to 4,000 characters. Some exceed the window."""
    long = [row for row in dolly if 2800 < len(row["prompt"]) < 4000]
    return [row for row in dolly if len(row["prompt"]) < 400][:16] + long[:4]


@pytest.fixture(scope="module")
def prompts(gemma: LanguageModel, rows: list[Row]) -> list[str]:
    found = [row["prompt"] for row in rows]
    assert sum(len(tokens) > WINDOW_N for tokens in gemma.tokenizer(found)["input_ids"]) >= 2
    return found


def test_confidence(gemma: LanguageModel, prompts: list[str]) -> None:
    assert packed.can_pack(gemma)
    columns = score(gemma, prompts, max_new_tokens=8).columns
    for row, prompt in enumerate(prompts):
        for name, expected in by_generate(gemma, prompt, 8).items():
            assert columns[name][row] == pytest.approx(expected, rel=1e-4, abs=1e-4), (name, prompt)


def test_company_changes_no_bit_of_a_confidence(gemma: LanguageModel, prompts: list[str]) -> None:
    whole = score(gemma, prompts, max_new_tokens=8).columns
    for chosen in ([3], [19], [18, 0, 7], np.random.default_rng(0).permutation(20)):
        part = score(gemma, [prompts[row] for row in chosen], max_new_tokens=8).columns
        assert same(part, {name: values[chosen] for name, values in whole.items()}), chosen


def test_embeddings(gemma: LanguageModel, prompts: list[str]) -> None:
    import torch

    found = embed(gemma, prompts).astype(np.float64)
    for row, prompt in enumerate(prompts):
        with torch.inference_mode():
            states = gemma.model.model(**gemma.tokenizer(prompt, return_tensors="pt")).last_hidden_state[0].double()
        expected = (states.mean(0) / states.mean(0).norm()).numpy()
        rounding = 2.0**-11 * np.abs(expected)  # of float16, in which embeddings are stored
        assert (np.abs(found[row] - expected) <= 1e-4 + rounding).all(), prompt


def test_likelihoods(gemma: LanguageModel, rows: list[Row]) -> None:
    import torch

    read = gemma.tokenizer
    asked = [
        Asked(tuple(read(row["prompt"])["input_ids"]), tuple(read(row["response"])["input_ids"][1:61])) for row in rows
    ]
    for found in LikelihoodPlan(gemma, asked).run():
        for position, nats, probability in zip(found.positions, found.nats, found.mean_probability, strict=True):
            one = asked[position]
            with torch.inference_mode():
                logits = gemma.model(torch.tensor([one.context + one.answer])).logits[0].double()
            places = range(len(one.context) - 1, len(one.context + one.answer) - 1)
            expected = logits[places].log_softmax(-1)[range(len(one.answer)), one.answer]
            assert nats == pytest.approx(float(expected.sum()), rel=1e-4), rows[position]["prompt"]
            assert probability == pytest.approx(float(expected.exp().mean()), abs=1e-4), rows[position]["prompt"]


def test_held_out_scores_equal_a_recount_on_10_items(gemma: LanguageModel, rows: list[Row]) -> None:
    texts = [(row["category"], row["prompt"], row["response"]) for row in rows[:9] + rows[-1:]]
    assert_equal_to_recount(gemma, texts, 2048, 2048)
