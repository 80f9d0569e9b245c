"""The texts that are compared with a pool: their ids are those of the questions, and they are the source's own texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from taskdiv_assets.benchmarks import bbh, harness, item_texts, mmlu
from taskdiv_assets.benchmarks.item_texts import asked_text
from taskdiv_assets.benchmarks.questions import questions
from taskdiv_assets.experiment.benchmark_settings import BbhBenchmark, HarnessBenchmark, LabBenchmark, MmluBenchmark
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.pools.lab import held_out_items

POOL = Pool(reader="lab", tasks=["first", "max"], largest_n=40, smallest_n=10)
TASK: dict[str, Any] = {
    "task": "ours",
    "output_type": "generate_until",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "ours.jsonl"}},
    "test_split": "test",
    "doc_to_text": "Read this.\n{{passage}}\nQuestion: {{question}}\nAnswer:",
    "doc_to_target": "answer",
    "num_fewshot": 2,
    "fewshot_split": "test",
    "metric_list": [{"metric": "exact_match"}],
}
ROWS = [
    {"passage": f"A long passage, number {n}.", "question": "Why?", "answer": "an answer " * 9} for n in (1, 2, 2, 3)
]


@pytest.fixture
def own(tmp_path: Path) -> HarnessBenchmark:
    (tmp_path / "ours.yaml").write_text(yaml.safe_dump(TASK))
    (tmp_path / "ours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return HarnessBenchmark(name="ours", folder=str(tmp_path), metrics=("exact_match",))


@pytest.mark.parametrize("extent", [{}, {"limit": 2}, {"sample": 3}], ids=str)
def test_an_own_task_gives_the_longest_text_of_its_row_in_the_prompt(
    own: HarnessBenchmark, extent: dict[str, int]
) -> None:
    benchmark = own.model_copy(update=extent)
    found = item_texts(benchmark, POOL)
    items = questions(harness.suite(benchmark), benchmark).items
    assert [(one.task, one.item_id, one.text) for one in found] == [
        (item.task, item.item_id, item.doc["passage"]) for item in items
    ]
    assert len({one.item_id for one in found}) == len(found) == next(iter(extent.values() or [4]))


def test_the_labs_items_are_compared_without_the_template() -> None:
    found = item_texts(LabBenchmark(name="lab"), POOL)
    items = held_out_items("test", POOL.seed, POOL.tasks)
    assert [tuple(one) for one in found] == [(item.task, item.item_id, item.prompt) for item in items]


@pytest.mark.parametrize(
    ("doc", "prompt", "expected"),
    [
        (
            {"question": " Why so? ", "choices": ["a long choice here", "b"]},
            "Why so?\nA. a long choice here",
            "Why so?",
        ),
        ({"question": {"stem": "Why so?", "n": 1}, "label": "x"}, "Q: Why so?", "Why so?"),
        ({"sentence": "He _ it.", "option1": "saw"}, 1, "He _ it."),  # winogrande gives the number of a choice
        ({"a": "x"}, "written by code", "written by code"),
        ({"a": ""}, "", ""),
        ("a plain row", "a plain row", "a plain row"),
    ],
)
def test_the_text_of_a_row(doc: Any, prompt: object, expected: str) -> None:
    assert asked_text(doc, prompt) == expected


def test_mmlu_gives_its_questions_without_choices(shared_data: Path) -> None:
    source = shared_data / "mmlu/mmlu.parquet"
    benchmark = MmluBenchmark(name="mmlu", source=str(source), tasks=("anatomy", "virology"), sample=40)
    found = item_texts(benchmark, POOL)
    items = questions(mmlu.suite(benchmark), benchmark).items
    assert [tuple(one) for one in found] == [(one.task, one.item_id, one.doc["question"].strip()) for one in items]
    known = {row["question"].strip() for row in pq.read_table(source, columns=["question"]).to_pylist()}
    assert len(found) == 40 and {one.text for one in found} <= known


def test_bbh_gives_its_inputs_and_numbers_repeated_rows(shared_data: Path) -> None:
    """Options are part of the input: in two tasks all items differ only by them."""
    source = shared_data / "bbh/bbh.parquet"
    benchmark = BbhBenchmark(name="bbh", source=str(source), tasks=("snarks", "ruin_names"))
    found = item_texts(benchmark, POOL)
    items = questions(bbh.suite(benchmark), benchmark).items
    assert [tuple(one) for one in found] == [(one.task, one.item_id, one.doc["input"].strip()) for one in items]
    assert all("Options:" in one.text for one in found)
