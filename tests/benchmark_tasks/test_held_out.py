"""The benchmark `held_out`: its scores compared with a second computation by transformers, one item at a time."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from taskdiv_assets.benchmarks import ItemScorer, Scored
from taskdiv_assets.benchmarks.adapters import loaded_adapters
from taskdiv_assets.benchmarks.held_out_benchmark import Row, similarity
from taskdiv_assets.experiment.benchmark_settings import HeldOutBenchmark
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.language_model.control import around
from taskdiv_assets.language_model.loading import LanguageModel, load
from taskdiv_assets.pools.lab import held_out_items

pytestmark = pytest.mark.xdist_group("test_lab")  # they share the lab's model
HELD_OUT = HeldOutBenchmark(name="held_out", per_task=1)
METRICS = ("mean_probability", "first_choice", "exact_match")
Load = Callable[[], LanguageModel]
Frame = tuple[str, str]
FRAME = ("Q: ", "\nA:")  # the template around a prompt
BARE = ("", "")  # the lab's tokenizer knows no other words


def rows_of(texts: Sequence[tuple[str, str, str]], frame: Frame = BARE) -> list[Row]:
    """Return a row for each (task, prompt, answer), with the template around the prompt."""
    return [
        Row(f"{n:04x}", task, around(frame[0], prompt, frame[1]), answer)
        for n, (task, prompt, answer) in enumerate(texts)
    ]


def recount(
    lm: LanguageModel, prompt: str, answer: str, room: int, frame: Frame
) -> tuple[tuple[float, float, float], float]:
    """Compute the metrics of one row a second time, with one forward pass of transformers. The last number is in bits."""
    import torch

    tokenizer: Any = lm.tokenizer
    before = tokenizer(f"{frame[0]}{prompt}{frame[1]}")["input_ids"]
    whole = tokenizer(f"{frame[0]}{prompt}{frame[1]}{answer}")["input_ids"] + [tokenizer.eos_token_id]
    start = 0
    while start < len(before) and before[start] == whole[start]:
        start += 1
    context, completion = whole[:start], whole[start:]
    if len(whole) > room:  # the prompt keeps its BOS and its end; then the answer loses its end
        completion = completion[: max(room - start, room // 2)]
        left_n = room - len(completion)
        if left_n < start:
            has_bos = context[0] == tokenizer.bos_token_id
            context = [*context[: int(has_bos)], *context[start - left_n + int(has_bos) :]]
    with torch.no_grad():
        logits = lm.model(torch.tensor([context + completion])).logits[0].double()
    places = range(len(context) - 1, len(context) + len(completion) - 1)
    probabilities = torch.softmax(logits, -1)
    of_tokens = [float(probabilities[place, token]) for place, token in zip(places, completion, strict=True)]
    right = [int(logits[place].argmax()) == token for place, token in zip(places, completion, strict=True)]
    found = (sum(of_tokens) / len(of_tokens), sum(right) / len(right), float(all(right)))
    return found, -sum(map(math.log2, of_tokens))


def scores_of(scored: Scored) -> dict[str, tuple[float, ...]]:
    found: dict[str, dict[str, float]] = {}
    for row in scored.table.to_pylist():
        found.setdefault(row["item_id"], {})[row["metric"]] = row["score"]
    return {item: tuple(one[metric] for metric in METRICS) for item, one in found.items()}


def assert_equal_to_recount(
    lm: LanguageModel, texts: list[tuple[str, str, str]], max_length: int, room: int, frame: Frame = FRAME
) -> Scored:
    scored = ItemScorer(lm, HELD_OUT, rows_of(texts, frame), max_length).score()
    found = scores_of(scored)
    again = {f"{n:04x}": recount(lm, prompt, answer, room, frame) for n, (_, prompt, answer) in enumerate(texts)}
    assert found.keys() == again.keys()
    for item, (scores, _) in again.items():
        assert found[item] == pytest.approx(scores, abs=1e-6), item
    return scored


@pytest.fixture
def lab_texts(pool: Pool) -> list[tuple[str, str, str]]:
    items = held_out_items("validation", pool.seed, pool.tasks)
    return [(item.task, item.prompt, item.response) for item in items]


def test_scores_equal_a_recount_with_a_small_model(load_lab: Load, lab_texts: list[tuple[str, str, str]]) -> None:
    lm = load_lab()
    scored = assert_equal_to_recount(lm, lab_texts, 2048, 64, BARE)
    bits = [recount(lm, prompt, answer, 64, BARE)[1] for _, prompt, answer in lab_texts]
    assert 0 < sum(exact for *_, exact in scores_of(scored).values()) < len(lab_texts)  # both verdicts occur
    expected = sum(bits) / sum(len(answer) for *_, answer in lab_texts)
    assert scored.more["bits_per_character"] == pytest.approx(expected, rel=1e-5)
    assert (scored.notes.asked_n, scored.notes.items_n, scored.notes.cut_prompts_n) == (
        len(lab_texts),
        len(lab_texts),
        0,
    )


@pytest.mark.full
def test_scores_equal_a_recount_with_a_real_model_on_50_items(shared_data: Path) -> None:
    """Dolly's first prompts; texts beyond the context of 512 tokens, and beyond a short `max_length`, are cut as in training."""
    lm = load(shared_data / "models" / "stories260K", dtype="float32", attention="sdpa")
    with gzip.open(shared_data / "dolly" / "databricks-dolly-15k.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(50), strict=False)]
    texts = [
        (row["category"], "\n\n".join(filter(None, (row["instruction"], row["context"]))), row["response"])
        for row in rows
    ]
    scored = assert_equal_to_recount(lm, texts, 2048, 512)
    assert 0 < scored.notes.cut_prompts_n < 50
    short = assert_equal_to_recount(lm, texts[:10], 48, 48)
    assert short.notes.cut_prompts_n > scored.notes.cut_prompts_n // 10


def test_the_table_names_every_item_and_metric(load_lab: Load, lab_texts: list[tuple[str, str, str]]) -> None:
    rows = rows_of(lab_texts)
    scored = ItemScorer(load_lab(), HELD_OUT, rows, 2048).score()
    table = scored.table.to_pylist()
    assert sorted({(row["task"], row["item_id"], row["metric"]) for row in table}) == sorted(
        (row.task, row.item_id, metric) for row in rows for metric in METRICS
    )
    assert {row["benchmark"] for row in table} == {"held_out"}
    hashes = {row.item_id: hashlib.sha256(row.prompt.encode()).hexdigest() for row in rows}
    assert all(row["prompt_hash"] == hashes[row["item_id"]] for row in table)
    outputs = scored.outputs.to_pylist()
    assert len(outputs) == len(rows) and all(
        "mean probability of the answer's tokens" in one["extracted"] for one in outputs
    )


def test_adapters_and_known_answers_give_the_same_scores_again(
    load_lab: Load, lab_adapters: dict[int, Path], lab_texts: list[tuple[str, str, str]]
) -> None:
    lm = load_lab()
    rows = rows_of(lab_texts)
    scorer, kept = ItemScorer(lm, HELD_OUT, rows, 2048), {}
    base = scorer.score(keep=kept.update)
    assert scorer.score(dict(list(kept.items())[:5])).table.equals(base.table)
    with loaded_adapters(lm, lab_adapters) as activate:
        activate(7)
        assert not scorer.score().table.equals(base.table)


def assert_equal_to_libraries(
    lm: LanguageModel, texts: list[tuple[str, str, str]], frame: Frame, new_n: int
) -> list[float]:
    """Compare written answers with transformers' `generate`, and their scores with calls of the libraries. Return all scores."""
    import sacrebleu
    import torch
    from rouge_score import rouge_scorer

    generated = {"max_new_tokens": new_n}
    benchmark = HeldOutBenchmark.model_validate({"name": "held_out", "per_task": 1, "generated": generated})
    scored = ItemScorer(lm, benchmark, rows_of(texts, frame), 2048).score()
    assert scored.notes.asked_n == len(texts)
    written = {row["item_id"]: row["text"] for row in scored.outputs.to_pylist() if row["question"] == 1}
    scores = {(row["item_id"], row["metric"]): row["score"] for row in scored.table.to_pylist()}
    assert len(scores) == 5 * len(texts)
    tokenizer: Any = lm.tokenizer
    for n, (_, prompt, answer) in enumerate(texts):
        item, ids = f"{n:04x}", tokenizer(f"{frame[0]}{prompt}{frame[1]}")["input_ids"]
        with torch.no_grad():
            found = lm.model.generate(
                torch.tensor([ids]), max_new_tokens=new_n, do_sample=False, pad_token_id=tokenizer.eos_token_id
            )
        assert written[item] == tokenizer.decode(found[0][len(ids) :], skip_special_tokens=True)
        assert scores[item, "chrf"] == sacrebleu.sentence_chrf(written[item], [answer]).score / 100
        rouge = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False).score(answer, written[item])
        assert scores[item, "rouge_l"] == rouge["rougeL"].fmeasure
    return [scores[item, metric] for item in written for metric in ("chrf", "rouge_l")]


def test_written_answers_are_scored_as_the_libraries_score_them(
    load_lab: Load, lab_texts: list[tuple[str, str, str]]
) -> None:
    found = assert_equal_to_libraries(load_lab(), lab_texts[::24], BARE, 6)
    assert max(found) == 1 and min(found) < 1


def test_scores_of_written_answers_leave_logging_as_it_is() -> None:
    before = list(logging.root.handlers)
    assert similarity("rouge_l", "The cat, Sat", "the cat sat down") == pytest.approx(2 * 3 / (3 + 4))
    assert similarity("chrf", "", "cat") == 0 == similarity("rouge_l", "", "cat")
    assert logging.root.handlers == before


def test_written_answers_of_a_real_model_are_scored_as_the_libraries_score_them(shared_data: Path) -> None:
    lm = load(shared_data / "models" / "stories260K", dtype="float32", attention="sdpa")
    texts = [
        ("qa", "What is a lion?", "A lion is a big cat."),
        ("qa", "Tell a story.", "Once there was a dog."),
        ("qa", "Hi", "猫"),
    ]
    found = assert_equal_to_libraries(lm, texts, FRAME, 16)
    assert found[-1] == 0 < max(found) < 1
    too_long = HeldOutBenchmark.model_validate(
        {"name": "held_out", "per_task": 1, "generated": {"max_new_tokens": 512}}
    )
    with pytest.raises(
        ValueError, match="`generated.max_new_tokens` of benchmark `held_out` is 512, but the model reads 512"
    ):
        ItemScorer(lm, too_long, rows_of(texts, FRAME), 2048)


def test_an_answer_without_room_for_a_prompt_is_refused(load_lab: Load) -> None:
    with pytest.raises(
        ValueError, match=r"item 0000: of prompt and answer, 1 and 0 tokens fit into 1; .* raise `tuning.max_length`"
    ):
        ItemScorer(load_lab(), HELD_OUT, [Row("0000", "copy", "copy: abcd>", "abcd")], 1)
