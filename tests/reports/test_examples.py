"""Examples: prompts by strategy, and outputs of models side by side, from folders as the graph writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import reports
from reports import results
from reports.examples import ALL
from tests.reports.make_results import Recipe, make_results

SMALL: dict[str, Any] = {"tasks": ("copy", "flip"), "items_per_task": 2, "budgets": (32, 64), "seeds": (0, 1)}
ITEMS = [("copy", "copy-0"), ("copy", "copy-1"), ("flip", "flip-0"), ("flip", "flip-1")]
# Right answers of base, random and weighted: one item of each pattern that is shown.
RIGHT = {"base": (0, 0, 0, 1), "random": (0, 1, 0, 1), "weighted_task_diversity": (1, 0, 0, 1)}


def folder_of(root: Path, identity: str, name: str, text: str) -> None:
    """Write the outputs of one model, as the stage `benchmark_scores` stores them, and change its scores in the tables."""
    folder = root / "folders" / identity
    folder.mkdir(parents=True)
    tasks, items = zip(*ITEMS, strict=True)
    common = {"task": tasks, "item_id": items}
    path = root / "tables" / ("base_scores.parquet" if name == "base" else f"benchmark_scores/{name}/64.parquet")
    table = pq.read_table(path)
    right = [
        float(RIGHT[name][ITEMS.index(item)]) for item in zip(*(table[key].to_pylist() for key in common), strict=True)
    ]
    stored = table.set_column(table.column_names.index("score"), "score", [right])
    pq.write_table(stored.replace_schema_metadata(table.schema.metadata), path)
    outputs = {
        **common,
        "question": pa.array([0] * 4, pa.int32()),
        "text": [f"{text} {n}" for n in range(4)],
        "nats": [None] * 4,
        "is_greedy": [None] * 4,
    }
    pq.write_table(pa.table(outputs), folder / "outputs.parquet")
    (folder / "manifest.json").write_text(json.dumps({"notes": {}}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return results with outputs of three models."""
    asked = {"lab": {"asked_n": 6, "items_n": 6, "scores": {"base": "b", "0": "r"}, "questions": "q"}}
    made = make_results(tmp_path, Recipe(**SMALL, asked=asked))
    path = made / "tables/benchmark_scores/weighted_task_diversity/64.parquet"
    table = pq.read_table(path)
    footer = json.loads(table.schema.metadata[b"taskdiv"])
    footer["notes"]["asked"]["lab"]["scores"] = {"0": "w"}
    pq.write_table(table.replace_schema_metadata({"taskdiv": json.dumps(footer)}), path)
    pool = made / "tables/raw_pool.parquet"
    stored = pq.read_table(pool)
    texts = pa.array([f"prompt {prompt_id}" for prompt_id in stored["prompt_id"].to_pylist()])
    place = stored.schema.get_field_index("prompt")
    pq.write_table(stored.set_column(place, "prompt", texts).replace_schema_metadata(stored.schema.metadata), pool)
    for identity, name in (("b", "base"), ("r", "random"), ("w", "weighted_task_diversity")):
        folder_of(made, identity, name, f"<i>{name}</i> says")
    tasks, items = zip(*ITEMS, strict=True)
    questions = {
        "task": tasks,
        "item_id": items,
        "question": pa.array([0] * 4, pa.int32()),
        "prompt": [f"{'worked example ' * 100}Q{n}?" for n in range(4)],
        "answer": pa.array([None] * 4, pa.string()),
        "target": [f"T{n}" for n in range(4)],
    }
    (made / "folders" / "q").mkdir()
    pq.write_table(pa.table(questions), made / "folders" / "q" / "questions.parquet")
    return made


def test_items_of_every_pattern_are_shown_with_what_each_model_said(folder: Path) -> None:
    found = results.load(str(folder))
    shown = found.examples.outputs
    assert found.examples.outputs_budget_n == 64
    assert [(one.kind, one.target) for one in shown] == [
        ("weighted_task_diversity (seed 0) right, random (seed 0) wrong", "T0"),
        ("random (seed 0) right, weighted_task_diversity (seed 0) wrong", "T1"),
        ("all wrong", "T2"),
        ("all right", "T3"),
    ]
    first = shown[0]
    assert [(said.model, said.text, said.score) for said in first.said] == [
        ("base", "<i>base</i> says 0", 0.0),
        ("random (seed 0)", "<i>random</i> says 0", 0.0),
        ("weighted_task_diversity (seed 0)", "<i>weighted_task_diversity</i> says 0", 1.0),
    ]
    page = reports.render(str(folder)).html
    assert "&lt;i&gt;base&lt;/i&gt; says 0" in page and "<i>base</i>" not in page
    assert "worked example Q0?" in page and page.count("worked example") < 4 * 60  # the end of each prompt


def test_prompts_only_one_strategy_chose_have_the_lowest_ranks_of_its_order(folder: Path) -> None:
    found = results.load(str(folder))
    shown = found.examples.prompts
    chosen = {}
    for path in sorted((folder / "tables/allocation").glob("*/64.parquet")):
        table = pq.read_table(path).to_pylist()
        seed = min(row["selection_seed"] for row in table)
        chosen[path.parent.name] = [row["prompt_id"] for row in table if row["selection_seed"] == seed]
    texts = {row["prompt"]: row["prompt_id"] for row in pq.read_table(folder / "tables/raw_pool.parquet").to_pylist()}
    for name, own in chosen.items():
        others = {prompt_id for other, ids in chosen.items() if other != name for prompt_id in ids}
        alone = [prompt_id for prompt_id in own if prompt_id not in others]
        assert [texts[one.prompt] for one in shown if one.chosen_by == name] == alone[:3]
    common = set.intersection(*map(set, chosen.values()))
    assert {texts[one.prompt] for one in shown if one.chosen_by == ALL} <= common


def test_what_is_missing_or_torn_is_named_and_nothing_else_is_lost(folder: Path) -> None:
    (folder / "folders/w/outputs.parquet").write_bytes(b"PAR1 torn")
    found = results.load(str(folder))
    assert found.examples.outputs == () and found.examples.prompts
    assert any(problem.startswith("outputs of lab cannot be shown (Arrow") for problem in found.problems)
    for path in (folder / "folders").rglob("*"):
        if path.is_file():
            path.unlink()
    assert results.load(str(folder)).examples.outputs == ()
    assert "Examples to read" in reports.render(str(folder)).html
