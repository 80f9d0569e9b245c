"""The page's part on prompts that match an item of a benchmark, compared with counts by a second implementation."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import reports
from reports import contamination_texts, results
from reports.contamination_numbers import InList, InPool
from tests.reports.make_results import Recipe, make_results

pytestmark = pytest.mark.usefixtures("without_pictures")

SMALL: dict[str, Any] = {
    "tasks": ("copy", "flip"),
    "items_per_task": 6,
    "budgets": (8, 300),
    "strategies": ("random", "task_diversity"),
    "benchmarks": ("lab", "bbh"),
    "has_effects": False,
}
PAIRS = tuple(("bbh", item, prompt) for item in (0, 7) for prompt in range(item, 560, 7))


def change_notes(folder: Path, change: Any) -> None:
    path = folder / "tables/contamination.parquet"
    table = pq.read_table(path)
    footer = json.loads(table.schema.metadata[b"taskdiv"])
    change(footer["notes"])
    pq.write_table(table.replace_schema_metadata({"taskdiv": json.dumps(footer)}), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("matches"), Recipe(**SMALL, matches=PAIRS))


def test_each_list_has_its_counts(folder: Path) -> None:
    found = results.load(str(folder))
    shown = contamination_texts.part(found)
    assert shown is not None
    pairs = pq.read_table(folder / "tables/contamination.parquet").to_pylist()
    expected = []
    for budget in SMALL["budgets"]:
        for strategy in SMALL["strategies"]:
            chosen = pq.read_table(folder / f"tables/allocation/{strategy}/{budget}.parquet").to_pylist()
            counts = []
            for seed in (0, 1, 2):
                own = {row["prompt_id"] for row in chosen if row["selection_seed"] == seed}
                hit = [pair for pair in pairs if pair["prompt_id"] in own]
                counts.append((len({one["prompt_id"] for one in hit}), len({one["item_id"] for one in hit})))
            prompts_n, items_n = (statistics.mean(column) for column in zip(*counts, strict=True))
            expected.append(("bbh", strategy, f"{budget:,}", prompts_n, prompts_n / budget, items_n))
    pool, *lists = shown.table.rows
    assert pool[:4] == ("bbh", "the whole pool", f"{found.pool_n:,}", str(len({one["prompt_id"] for one in pairs})))
    assert [row[:3] for row in lists] == [row[:3] for row in expected]
    for row, numbers in zip(lists, expected, strict=True):
        said = (float(row[3]), float(row[4].rstrip("%")) / 100, float(row[5]))
        assert said == pytest.approx(numbers[3:], abs=0.051)
    most = max(row[4] for row in expected)
    assert any(f"at most {most:.1%} of a list" in text for text in shown.sentences)
    assert "No prompt of the pool matches an item of lab (12 items)." in shown.sentences


def test_the_part_is_on_the_page_under_methods(folder: Path) -> None:
    html = reports.render(str(folder)).html
    assert html.index('id="methods"') < html.index("Benchmark items in the pool") < html.index('id="paper-caption"')
    assert "Chosen prompts that match an item of a benchmark" in html


def test_pairs_without_a_row_make_the_items_a_lower_bound(tmp_path: Path) -> None:
    made = make_results(tmp_path, Recipe(**SMALL, matches=PAIRS))
    before = contamination_texts.part(results.load(str(made)))
    change_notes(made, lambda notes: notes["benchmarks"]["bbh"].update(matches_n=10**7))
    after = contamination_texts.part(results.load(str(made)))
    assert before is not None and after is not None
    assert set(after.sentences) - set(before.sentences) == {contamination_texts.NOT_EVERY_PAIR}


@pytest.mark.parametrize("notes", [None, [], {"bbh": 1}, {"bbh": {"items_n": "many"}}], ids=str)
def test_notes_that_cannot_be_used_are_named(tmp_path: Path, notes: object) -> None:
    made = make_results(tmp_path, Recipe(**SMALL))
    change_notes(made, lambda all_notes: all_notes.update(benchmarks=notes))
    found = results.load(str(made))
    assert found.matches is None and any(text.startswith("contamination cannot be used") for text in found.problems)


def test_without_the_table_the_page_says_that_nothing_was_compared(tmp_path: Path) -> None:
    made = make_results(tmp_path, Recipe(**SMALL))
    (made / "tables/contamination.parquet").unlink()
    html = reports.render(str(made)).html
    assert "The pool was not compared with the benchmarks’ items" in html and "Not stored: contamination" in html


def test_a_list_without_a_match_is_said() -> None:
    counts = InPool(items_n=1, matched_items_n=1, prompts_n=1, equal_prompts_n=1, matches_n=1, rows_n=1)
    said = contamination_texts.of_pool("bbh", counts, {("random", 8): InList(0, 0)})
    assert (
        said == "1 prompt of the pool matches 1 of 1 item of bbh (1 with the same words). No list contains one of them."
    )
