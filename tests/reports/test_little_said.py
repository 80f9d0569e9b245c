"""Claims do not exceed the evidence: equal scores, one budget, missing cells, crossings at a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import reports
from reports import analysis, results, sentences, statistics, words, writing
from reports.confidence import confidence_sentences as of_confidence
from reports.reader import ComparedTask, TaskAccuracy
from reports.statistics import Arm, Leader
from tests.reports.make_results import Recipe, make_results
from tests.reports.test_limits import changed, every
from tests.reports.test_report_page import parsed

pytestmark = pytest.mark.usefixtures("without_pictures")

SMALL: dict[str, Any] = {"tasks": ("copy", "flip"), "items_per_task": 8, "seeds": (0, 1, 2)}
STRATEGIES = ("random", "min_margin", "weighted_task_diversity")


def page_text(html: str) -> str:
    """Return the page's text without its methods, which explain words that this page may not use, and its provenance."""
    sections = (one for one in parsed(html).iter("section") if one.get("id") not in ("methods", "provenance"))
    return " ".join(" ".join("".join(one.itertext()) for one in sections).split())


@pytest.mark.parametrize(
    ("value", "said"), [(0.0, "No model answered anything right"), (1.0, "Every model answered everything right")]
)
def test_a_benchmark_where_all_scores_are_the_same_compares_nothing(tmp_path: Path, value: float, said: str) -> None:
    recipe = Recipe(**SMALL, budgets=(16, 32), strategies=STRATEGIES)
    folder = changed(make_results(tmp_path, recipe), lambda path, table: every(value)(table))
    made = reports.render(str(folder))
    assert made.claims[0]["text"].startswith(f"There is no decision yet. {said}")
    assert made.claims[1]["text"].startswith(said) and "this benchmark cannot compare them" in page_text(made.html)
    assert made.claims[1]["verdict"] == "nothing to compare"
    text = page_text(made.html)
    assert "equivalent" not in text and "reaches" not in text and "identical scores" not in text
    assert {"mean", "area", "labels_to_match"} <= set(made.table["quantity"].to_pylist())  # what is stored stays


def test_one_budget_has_no_area_and_no_labels_saved(tmp_path: Path) -> None:
    recipe = Recipe(**SMALL, budgets=(60,), strategies=STRATEGIES, full_pool_seeds=())
    made = reports.render(str(make_results(tmp_path, recipe)))
    text = page_text(made.html).lower()
    assert "area under the curve" not in text and "score at 60 labels" in text
    assert "open at both ends" not in text and "60 to 60" not in text
    assert "Labels saved" not in {claim["topic"] for claim in made.claims}


def test_two_budgets_keep_the_area(tmp_path: Path) -> None:
    recipe = Recipe(**SMALL, budgets=(16, 32), strategies=STRATEGIES, full_pool_seeds=())
    made = reports.render(str(make_results(tmp_path, recipe)))
    assert "area under the curve" in page_text(made.html)
    assert "Labels saved" in {claim["topic"] for claim in made.claims}


def test_the_best_is_counted_among_the_scored(tmp_path: Path) -> None:
    missing = frozenset((name, budget) for name in ("k_center", "dpp", "facility_location") for budget in (16, 32))
    recipe = Recipe(**SMALL, budgets=(16, 32), strategies=("random", "weighted_task_diversity", "k_center", "dpp", "facility_location"),
                    missing=missing, full_pool_seeds=())  # fmt: skip
    section = analysis.sections(results.load(str(make_results(tmp_path, recipe))))[0]
    assert "of the 2 of 5 scored strategies" in sentences.best_by_budget(section)
    clear = Leader("random", (), True, section.leaders[32].pairs)
    said = sentences.best_by_budget(section._replace(leaders={32: clear}))
    assert "is best of the 2 of 5 scored strategies" in said and said.endswith("separates from the others of them.")


class TestConfidentAndWrong:
    rows = (TaskAccuracy("flip", 20, 0.9, 0.1, 0.0, 0.3, 0.1), TaskAccuracy("omen", 20, 0.9, 0.1, 0.0, 0.3, 0.1))

    @staticmethod
    def compared(**labels: int) -> tuple[ComparedTask, ...]:
        return tuple(
            ComparedTask("chosen", "mean_probability", 100, task, True, 0.9, count_n, None, None, 0.0, 1.0)
            for task, count_n in labels.items()
        )

    @pytest.mark.parametrize(
        ("labels", "said"),
        [
            ({"flip": 10, "omen": 20, "copy": 70}, "weighting by confidence gives them few labels."),
            ({"flip": 10, "omen": 60, "copy": 30}, "weighting by confidence gives few labels of flip."),
            ({"flip": 40, "omen": 50, "copy": 10}, ""),
            ({}, ""),
        ],
        ids=["both", "one", "none", "not_known"],
    )
    def test_few_labels_are_said_only_below_the_even_share(self, labels: dict[str, int], said: str) -> None:
        text = of_confidence.against_being_right(self.rows, self.compared(**labels))
        assert text.endswith(said or "right 0.10).") and ("few labels" in text) == bool(said)


def test_a_crossing_at_the_first_budget_is_at_most_that_budget_in_spite_of_rounding() -> None:
    generator = np.random.default_rng(0)
    scores = (generator.random((3, 40)) < 0.5).astype(float)
    tasks = np.repeat(np.arange(2), 20)
    curve = {60: Arm(scores, (0, 1, 2)), 120: Arm(scores, (0, 1, 2))}
    one = statistics.savings(curve, Arm(scores, (0, 1, 2)), tasks)
    assert one.labels_n is not None and one.labels_n != 60 and one.labels_n == pytest.approx(60)
    assert one.is_reached_at_first and words.labels_needed(one) == "at most 60"
    csv = writing.as_csv(pa.table({"name": ["a"], "estimate": [one.labels_n], "low": pa.array([None], pa.float64())}))
    assert csv.decode().splitlines()[1] == '"a",60,'
