"""Cards from facts: the metadata that the hub's library reads from cards, and names with special characters."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData

from reports.statistics import Arm, seed_means
from taskdiv_assets.cards.facts import (
    BaseFacts,
    MeanScore,
    ModelFacts,
    PoolSource,
    SelectionFacts,
    TaskCount,
    TrainingFacts,
    mean_scores,
)
from taskdiv_assets.cards.rendering import data_card, model_card, size_category
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.markdown import block, one_line, text

HOSTILE = [
    "---\nlicense: mit\n---",
    "a | b | c",
    "``` code `span` ````",
    "<script>alert(1)</script> & <b>",
    "colon: value # and a comment",
    "[link](javascript:x) ![i](y) *bold* _it_ ~~s~~ $x$",
    "\\| back\\slash \\",
    "- item\r\n# head\u2028---\x85---\x00\x1b[31m\u202eevil",
    "'single' \"double\" {brace: [x]}",
    "x" * 5_000,
]
HUB = BaseFacts("b" * 32, "owner/base-7b", True, "abc123", "bfloat16")
LOCAL = BaseFacts("b" * 32, "my-model", False, None, "float32")
TUNING: dict[str, object] = {"method": "lora", "rank": 16, "alpha": 32, "learning_rate": 2e-4, "quantization": None}


def training(base: BaseFacts = HUB, **changes: Any) -> TrainingFacts:
    facts = TrainingFacts(
        training_seed=3,
        selection_seed=3,
        pairs="d" * 32,
        base=base,
        pool=PoolSource("dolly", "owner/pool", "def456", "train"),
        tuning=TUNING,
        prompt_template="### {prompt}\n",
        has_chat_template=False,
        examples_n=1_000,
        trained_tokens_n=123_456,
        final_loss=1.23456,
        steps_n=63,
        cut_n=2,
        choices={"packing": "one example a row"},
        environment={"python": "3.11", "gpu": "Some GPU", "versions": {"torch": "2.13"}, "platform": "/home/me"},
    )
    return facts._replace(**changes)


SCORES = (MeanScore(3, "bbh", "exact_match", 0.41251234567, 6_511, 27), MeanScore(3, "lab", "exact_match", 0.5, 240, 6))


def model(**changes: Any) -> ModelFacts:
    facts = ModelFacts(
        experiment="mine",
        purpose="study",
        identity="c" * 32,
        training=training(),
        cells=(Cell(1_000, "random"), Cell(1_000, "task_diversity")),
        scores=SCORES,
        base_scores=(MeanScore(None, "bbh", "exact_match", 0.3141, 6_511, 27),),
        splits={"lab": "test"},
    )
    return facts._replace(**changes)


def selection(**changes: Any) -> SelectionFacts:
    facts = SelectionFacts(
        experiment="mine",
        purpose="campaign",
        strategy="task_diversity",
        budget_n=10,
        identity="e" * 32,
        selection_seeds=(0, 1),
        pool=PoolSource("table", sha256=("f" * 64, "0" * 64)),
        rows_read_n=110,
        drops={"duplicate_prompt": 7, "no_answer_class": 3},
        repairs={"blank_response": 4},
        duplicates="drop",
        duplicates_n=7,
        prompts_under_two_tasks_n=1,
        tasks=(TaskCount("b", 60, (4, 5)), TaskCount("a", 40, (6, 5))),
        labels_how={"column": 100},
        answered_n=(10, 8),
    )
    return facts._replace(**changes)


def matter(card: str) -> dict[str, Any]:
    """Return the front matter: the text between the first two lines of dashes."""
    lines = card.split("\n")
    assert lines[0] == "---"
    found: dict[str, Any] = yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    return found


def rows_of(card: str) -> list[list[str]]:
    """Return the cells of every table row, split at pipes without a backslash."""
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in card.split("\n") if line.startswith("|")]


def row(card: str, name: str) -> list[str]:
    return next(cells for cells in ([cell.strip() for cell in row] for row in rows_of(card)) if cells[0] == name)


class TestModelCard:
    def test_the_hubs_library_reads_it(self) -> None:
        card = ModelCard(model_card(model()))
        assert isinstance(card.data, ModelCardData)
        assert (card.data.library_name, card.data.pipeline_tag) == ("peft", "text-generation")
        assert card.data.base_model == "owner/base-7b" and card.data.datasets == ["owner/pool"]
        assert card.data["base_model_relation"] == "adapter"
        assert (card.data.license, card.data.license_name) == ("other", "to-be-chosen")
        found = {(entry.dataset_type, entry.metric_type): entry for entry in card.data.eval_results or []}
        assert found["bbh", "exact_match"].metric_value == 0.412512
        assert found["lab", "exact_match"].dataset_split == "test"
        assert found["bbh", "exact_match"].dataset_name == "BIG-Bench Hard"
        # Written out again and read again, it says the same.
        assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()

    def test_what_stands_in_it(self) -> None:
        card = model_card(model())
        assert row(card, "bbh") == ["bbh", "–", "exact\\_match", "0.4125", "0.3141", "6,511", "27"]
        assert row(card, "lab") == ["lab", "test", "exact\\_match", "0.5000", "–", "240", "6"]
        assert row(card, "random")[1] == row(card, "task\\_diversity")[1] == "1,000"
        assert row(card, "hash of the data")[1] == f"`{'d' * 32}`"
        assert row(card, "loss of the last step")[1] == "1.2346 nats a completion token"
        assert row(card, "rank")[1] == "16" and row(card, "learning rate")[1] == "0.0002"
        assert row(card, "revision")[1] == "abc123" and row(card, "torch")[1] == "2.13"
        assert row(card, "pool")[1] == "owner/pool at revision def456, split train, read as dolly"
        assert 'from_pretrained("owner/base-7b", revision="abc123", dtype="bfloat16")' in card
        assert "quantization" not in card and "/home" not in card
        assert "yours to fill in" in card.split("license: other")[0]

    def test_a_base_that_is_not_on_the_hub_is_not_named_to_it(self) -> None:
        card = model_card(model(training=training(LOCAL)))
        assert "base_model" not in matter(card) and "base_model_relation" not in matter(card)
        assert '"path/to/the/base/model"' in card and row(card, "name")[1] == "my-model"

    def test_a_fully_tuned_model(self) -> None:
        card = model_card(model(training=training(tuning={"method": "full", "learning_rate": 1e-5})))
        assert matter(card)["library_name"] == "transformers"
        assert matter(card)["base_model_relation"] == "finetune"
        assert "PeftModel" not in card and "LoRA" not in card and "rank" not in [r[0].strip() for r in rows_of(card)]

    def test_without_scores_and_cells_it_says_so(self) -> None:
        card = model_card(model(scores=(), base_scores=(), cells=()))
        assert "model-index" not in matter(card)
        assert "Not scored yet." in card and "None: no selection" in card

    @pytest.mark.parametrize("name", HOSTILE)
    def test_no_name_breaks_out_of_its_place(self, name: str) -> None:
        base = HUB._replace(source=name, revision=name)
        pool = PoolSource("dolly", name, name, name)
        facts = training(base, pool=pool, prompt_template=f"{name}{{prompt}}", choices={name: name})
        scores = (MeanScore(3, name, name, 0.5, 10, 2),)
        hostile = model(training=facts, experiment=name, purpose=name, scores=scores, cells=(Cell(5, name),))
        card, plain = model_card(hostile), model_card(model(scores=scores, cells=(Cell(5, "s"),)))
        check_hostile(card, plain, name)
        assert matter(card)["base_model"] == one_line(name)
        assert ModelCard(card).data.eval_results[0].dataset_type == one_line(name)

    @pytest.mark.parametrize("name", HOSTILE)
    def test_the_code_that_loads_it_is_still_code(self, name: str) -> None:
        card = model_card(model(training=training(HUB._replace(source=name, revision=name))))
        code = re.search(r"^(`{3,})python\n(.*?)\n\1$", card, re.DOTALL | re.MULTILINE)
        assert code is not None
        compile(code.group(2), "card", "exec")


class TestDataCard:
    def test_the_hubs_library_reads_it(self) -> None:
        card = DatasetCard(data_card(selection(pool=PoolSource("dolly", "owner/pool", "def", "train"))))
        assert isinstance(card.data, DatasetCardData)
        assert card.data.task_categories == ["text-generation"] and card.data.size_categories == ["n<1K"]
        assert card.data.license == "other" and card.data.source_datasets == ["owner/pool"]
        assert DatasetCard(str(card)).data.to_dict() == card.data.to_dict()

    def test_what_stands_in_it(self) -> None:
        card = data_card(selection())
        assert row(card, "rows dropped")[1] == "duplicate prompt: 7 rows; no answer class: 3 rows"
        assert row(card, "cells set to null")[1] == "blank response: 4 cells"
        assert row(card, "rows read")[1] == "110" and row(card, "prompts in the pool")[1] == "100"
        assert row(card, "rows that repeat an earlier prompt")[1] == "7, all dropped except the first"
        assert row(card, "how the tasks were found")[1] == "column: 100 prompts"
        assert row(card, "b") == ["b", "60", "4.5", "45.0%", "7.5%", "4", "5"]
        assert row(card, "1") == ["1", "10", "8", "2"]
        assert row(card, "source")[1] == f"read as table from files with sha256 `{'f' * 64}`, `{'0' * 64}`"
        assert card.index("| b ") < card.index("| a "), "the largest task first"

    def test_one_list(self) -> None:
        tasks = (TaskCount("a", 40, (10,)), TaskCount("b", 60, (0,)))
        card = data_card(selection(selection_seeds=(0,), answered_n=(0,), tasks=tasks, drops={}))
        assert row(card, "a") == ["a", "40", "10", "100.0%", "25.0%"]
        assert row(card, "0") == ["0", "10", "0", "10"] and row(card, "rows dropped")[1] == "none"

    @pytest.mark.parametrize("name", HOSTILE)
    def test_no_name_breaks_out_of_its_place(self, name: str) -> None:
        task, pool = TaskCount(name, 100, (5, 5)), PoolSource("dolly", name, name, name)
        card = data_card(selection(tasks=(task,), experiment=name, purpose=name, drops={name: 1}, pool=pool))
        plain = data_card(selection(tasks=(task._replace(task="t"),), pool=PoolSource("dolly", "a", "b", "c")))
        check_hostile(card, plain, name)
        DatasetCard(card)

    @pytest.mark.parametrize(
        ("n", "expected"), [(1, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (123_456, "100K<n<1M")]
    )
    def test_sizes(self, n: int, expected: str) -> None:
        assert size_category(n) == expected


def check_hostile(card: str, plain: str, name: str) -> None:
    """Check that a card with hostile names has the same structure as a card with plain names."""
    assert matter(card)["license"] == "other" and matter(card).keys() == matter(plain).keys()
    assert [len(row) for row in rows_of(card)] == [len(row) for row in rows_of(plain)]
    body = without_blocks(card)
    assert [line[:3] for line in body if line.startswith("#")] == [
        line[:3] for line in without_blocks(plain) if line.startswith("#")
    ]
    assert not re.search(r"<\s*/?\s*[a-zA-Z]", "\n".join(body)), "no HTML outside code blocks"
    assert not [c for c in card if not c.isprintable() and c != "\n"]


def without_blocks(card: str) -> list[str]:
    body = card.split("\n---\n", 1)[1]
    return re.sub(r"^(`{3,})\w*\n.*?\n\1$", "", body, flags=re.DOTALL | re.MULTILINE).split("\n")


@pytest.mark.parametrize("name", HOSTILE)
def test_text_is_shown_as_it_is(name: str) -> None:
    """Read back by the rules of CommonMark (escapes, entities), the text is the name on one line."""
    shown = text(name).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert re.sub(r"\\([\\`*_\[\]|~$#])", r"\1", shown) == one_line(name)


def test_a_block_is_not_ended_by_what_stands_in_it() -> None:
    assert block("```\n````\n---").split("\n")[0] == "`````"


def test_means_are_those_of_the_report() -> None:
    """Two definitions: arrow's groups over rows, and the report's macro mean over a (seeds, items) array."""
    rng = np.random.default_rng(0)
    tasks = np.array([0, 0, 0, 1, 2, 2])
    scores = rng.random((2, 6))
    rows = [
        {"training_seed": s, "benchmark": "lab", "task": f"t{tasks[i]}", "item_id": str(i), "metric": "m", "score": scores[s, i]}
        for s in range(2)
        for i in range(6)
    ]  # fmt: skip
    found = mean_scores(pa.Table.from_pylist(rows))
    assert [(e.training_seed, e.items_n, e.tasks_n) for e in found] == [(0, 6, 3), (1, 6, 3)]
    assert [e.mean for e in found] == pytest.approx(seed_means(Arm(scores, (0, 1)), tasks), rel=1e-12)
    base = pa.table({**pa.Table.from_pylist(rows[:6]).to_pydict(), "training_seed": pa.array([None] * 6, pa.int64())})
    assert [e.training_seed for e in mean_scores(base)] == [None]


def test_a_source_is_never_a_path() -> None:
    pool = Pool(reader="dolly", path=["/home/me/a.jsonl", "/home/me/b.jsonl"])
    inputs = {f"source/{i}": f"hash{i}" for i in range(12)}
    source = PoolSource.of(pool, inputs)
    assert source.sha256 == tuple(f"hash{i}" for i in range(12)), "in reading order"
    assert "/home" not in str(source)
    many = row(data_card(selection(pool=source)), "source")[1]
    assert "from 12 files" in many and "hash3" not in many
