"""Cut answers, cut training examples and matched items by strategy, compared with pandas and scipy.stats."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.stats import chi2_contingency

import reports
from reports import arms_checked, results
from reports.arms_checked import Checked, Share, p_of_equal_shares
from tests.reports.make_results import Recipe, make_results

pytestmark = pytest.mark.usefixtures("without_pictures")

SMALL: dict[str, Any] = {
    "tasks": ("copy", "flip"),
    "items_per_task": 30,
    "strategies": ("random", "task_diversity"),
    "budgets": (8, 300),
    "benchmarks": ("lab", "bbh"),
    "has_effects": False,
}
PAIRS = tuple(("bbh", item, prompt) for item in range(20) for prompt in range(item, 560, 20))
# By strategy and benchmark: generated answers of three seeds, and those that ran into the limit.
WRITTEN = {"random": {"lab": (180, 6), "bbh": (0, 0)}, "task_diversity": {"lab": (180, 60), "bbh": (0, 0)}}
CUT = {"random": {"0": 3, "1": 2, "2": 4}, "task_diversity": {"0": 2, "1": 5, "2": 0}}
Notes = dict[str, Any]


def change(folder: Path, asset: str, strategy: str, budget: int, edit: Callable[[Notes], object]) -> None:
    path = folder / f"tables/{asset}/{strategy}/{budget}.parquet"
    table = pq.read_table(path)
    footer = json.loads(table.schema.metadata[b"taskdiv"])
    edit(footer["notes"])
    pq.write_table(table.replace_schema_metadata({"taskdiv": json.dumps(footer)}), path)


def asked_of(written: Mapping[str, tuple[Any, Any]]) -> Notes:
    scores = {"0": "a", "1": "b", "2": "c"}
    return {name: {"scores": scores, "written_n": n, "cut_answers_n": cut} for name, (n, cut) in written.items()}


def make(root: Path, budget: int = 300, written: Mapping[str, Any] = WRITTEN, **changes: Any) -> Path:
    folder = make_results(root, Recipe(**(SMALL | changes), matches=PAIRS))
    for strategy in SMALL["strategies"]:
        asked = asked_of(written[strategy])
        change(folder, "benchmark_scores", strategy, budget, lambda notes, asked=asked: notes.update(asked=asked))
        cut = {"cut_examples_n": CUT[strategy]}
        change(folder, "adapter", strategy, budget, lambda notes, cut=cut: notes.update(cut))
    return folder


def rows_of(found: Checked | None) -> dict[str, arms_checked.Row]:
    assert found is not None
    return {row.what: row for row in found.rows}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("checked"))


def test_each_share_equals_its_count_in_pandas(folder: Path) -> None:
    found = arms_checked.checked(results.load(str(folder)))
    assert found is not None and found.budget_n == 300
    rows = rows_of(found)
    answers, examples, lab, bbh = rows.values()
    assert list(rows) == [
        "lab: answers that ran into the limit",
        "training examples that were cut",
        "lab: items that match a chosen prompt",
        "bbh: items that match a chosen prompt",
    ]  # answers to bbh are choices
    pairs = pd.read_parquet(folder / "tables/contamination.parquet")
    p_values = []
    for strategy in SMALL["strategies"]:
        written_n, cut_n = WRITTEN[strategy]["lab"]
        assert answers.shares[strategy].value == cut_n / written_n
        adapters = pd.read_parquet(folder / f"tables/adapter/{strategy}/300.parquet")
        of_examples = adapters["training_seed"].astype(str).map(CUT[strategy]) / adapters["examples_n"]
        assert examples.shares[strategy].value == pytest.approx(of_examples.mean(), abs=1e-15)
        chosen = pd.read_parquet(folder / f"tables/allocation/{strategy}/300.parquet")
        hit = chosen.merge(pairs[pairs["benchmark"] == "bbh"], on="prompt_id", suffixes=("", "_item"))
        by_seed = (
            hit.groupby("selection_seed")["item_id"].nunique().reindex(chosen["selection_seed"].unique(), fill_value=0)
        )
        assert bbh.shares[strategy].value == pytest.approx(by_seed.mean() / 60, abs=1e-15)
        assert lab.shares[strategy].value == 0
    for row in (answers, examples, bbh):
        table = [[one.part_n, one.all_n - one.part_n] for one in row.shares.values()]
        equal = len({tuple(pair) for pair in table}) == 1
        p_values.append(1.0 if equal else float(chi2_contingency(table, correction=False).pvalue))
    ordered = sorted([*p_values, 1.0])  # the row of lab has no match
    holm = [
        max(min(1.0, p * (4 - place)) for place, p in enumerate(ordered[: ordered.index(own) + 1])) for own in p_values
    ]
    assert [row.p_adjusted for row in (answers, examples, bbh)] == pytest.approx(holm, rel=1e-9)
    assert answers.shares["random"] == Share(2, 60)  # of one seed: seeds do not multiply the evidence


@pytest.mark.parametrize(
    "table", [[(3, 97), (9, 91)], [(0.5, 20), (7, 30), (2.25, 11)], [(1, 511)] * 12 + [(40, 472)]], ids=str
)
def test_the_p_value_is_that_of_scipy_stats(table: list[tuple[float, float]]) -> None:
    own = p_of_equal_shares([Share(part_n, part_n + rest_n) for part_n, rest_n in table])
    assert own == pytest.approx(float(chi2_contingency(table, correction=False).pvalue), rel=1e-9)


def test_a_difference_is_named_at_the_top_and_in_the_table(folder: Path) -> None:
    html = reports.render(str(folder)).html
    assert html.index("strategies differ in cut answers") < html.index('id="answer"')
    assert "3.3% (random) to 33.3% (task_diversity)" in html
    place = html.index("Cut texts and contamination by strategy")
    assert html.index('id="methods"') < place < html.index('id="paper-caption"')
    assert arms_checked.EARLIER not in html


def test_equal_shares_and_gaps_below_two_points_give_no_badge(tmp_path: Path) -> None:
    none = {name: {"lab": (30_000, 300 + 500 * place), "bbh": (30_000, 900)} for place, name in enumerate(WRITTEN)}
    found = results.load(str(make(tmp_path, written=none)))
    row = next(iter(rows_of(arms_checked.checked(found)).values()))
    assert row.p_adjusted < 1e-9 and row.gap < arms_checked.LEAST_GAP and row.verdict == "no difference shown"
    assert arms_checked.badges(found) == []


def test_results_of_earlier_versions_say_that_the_count_is_not_stored(tmp_path: Path) -> None:
    made = make_results(tmp_path, Recipe(**SMALL))
    (made / "tables/contamination.parquet").unlink()
    found = results.load(str(made))
    shown = arms_checked.part(found)
    assert shown is not None and arms_checked.EARLIER in shown.sentences
    assert [row[1] for row in shown.table.rows] == ["not stored"] * 4
    assert {cell for row in shown.table.rows for cell in row[4:]} == {"not stored"}
    assert arms_checked.badges(found) == []


@pytest.mark.parametrize("counts", [(180, 181), (180, -1), ("180", 3), (None, None), (0, 0)], ids=str)
def test_impossible_counts_are_left_out(tmp_path: Path, counts: tuple[Any, Any]) -> None:
    made = make(tmp_path, written=WRITTEN | {"random": {"lab": counts, "bbh": (0, 0)}})
    row = rows_of(arms_checked.checked(results.load(str(made))))["lab: answers that ran into the limit"]
    assert list(row.shares) == ["task_diversity"] and row.verdict == "not compared"


def test_the_budget_is_the_largest_that_most_strategies_share(tmp_path: Path) -> None:
    made = make(tmp_path, budget=8, missing=frozenset({("random", 300)}))
    found = arms_checked.checked(results.load(str(made)))
    assert found is not None and (found.budget_n, found.strategies) == (8, ("random", "task_diversity"))


def test_without_scores_there_is_no_part(tmp_path: Path) -> None:
    found = results.load(str(make_results(tmp_path, Recipe(**SMALL, has_scores=False))))
    assert arms_checked.part(found) is None and arms_checked.badges(found) == []
