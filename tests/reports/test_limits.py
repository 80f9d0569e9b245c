"""Extreme inputs of a report: none, one of each, ties, scores without information, and the largest sizes, scaled down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from lxml import etree

import reports
from tests.reports.make_results import Recipe, make_results

SMALL: dict[str, Any] = {"tasks": ("copy", "flip"), "items_per_task": 4, "budgets": (16, 32), "seeds": (0, 1)}
Change = Callable[[pa.Table], pa.Table]


def every(value: float) -> Change:
    return lambda table: with_scores(table, np.full(table.num_rows, value))


def with_scores(table: pa.Table, scores: np.ndarray) -> pa.Table:
    return table.set_column(table.column_names.index("score"), "score", [scores])


def only(benchmark: str, strategies: tuple[str, ...]) -> Callable[[Path, pa.Table], pa.Table]:
    """Return a change that removes one benchmark's rows, but not those of the base and of `strategies`."""

    def change(path: Path, table: pa.Table) -> pa.Table:
        is_kept = path.parent.name in strategies or path.name == "base_scores.parquet"
        return table if is_kept else table.filter(pc.not_equal(table["benchmark"], benchmark))

    return change


RECIPES = {
    "small": Recipe(**SMALL),
    "no_budgets": Recipe(**{**SMALL, "budgets": ()}, full_pool_seeds=()),
    "no_strategies": Recipe(**{**SMALL, "strategies": ()}, full_pool_seeds=(), has_primary=False),
    "nothing_tuned": Recipe(**SMALL, full_pool_seeds=(), has_base=False, has_scores=False, has_allocations=False),
    "no_effects_no_scores": Recipe(**SMALL, has_scores=False, has_effects=False),
    "one_cell": Recipe(**{**SMALL, "budgets": (16,)}, strategies=("random",), full_pool_seeds=(), has_primary=False),
    "one_cell_alone": Recipe(
        **{**SMALL, "budgets": (16,)}, strategies=("min_margin",), full_pool_seeds=(), has_base=False
    ),
    "one_seed": Recipe(**{**SMALL, "seeds": (7,)}),
    "one_task": Recipe(**{**SMALL, "tasks": ("copy",)}),
    "one_task_one_item_one_seed": Recipe(tasks=("copy",), items_per_task=1, budgets=(1,), seeds=(0,)),
    "one_prompt_budgets": Recipe(**{**SMALL, "budgets": (1, 2)}),
    "many_seeds": Recipe(**{**SMALL, "seeds": tuple(range(12)), "budgets": (16,)}),
    "many_budgets": Recipe(
        **{**SMALL, "budgets": tuple(2**power for power in range(10))}, strategies=("random", "min_margin")
    ),
    "some_strategies": Recipe(**SMALL, benchmarks=("lab", "bbh")),
}
CHANGES: dict[str, Change] = {
    "all_nan": every(np.nan),
    "all_zero": every(0.0),
    "all_one": every(1.0),
    "all_half": every(0.5),
    "beyond": every(1.5),
    "infinite": every(np.inf),
    "one_nan": lambda table: with_scores(
        table, np.where(np.arange(table.num_rows) == 1, np.nan, np.asarray(table["score"]))
    ),
    "one_right": lambda table: with_scores(table, (np.arange(table.num_rows) == 0).astype(float)),
    "the_same_for_all": lambda table: with_scores(table, (np.arange(table.num_rows) % 3 == 0).astype(float)),
    "no_rows": lambda table: table.slice(0, 0),
    "one_row": lambda table: table.slice(0, 1),
}


def changed(folder: Path, change: Callable[[Path, pa.Table], pa.Table]) -> Path:
    """Change a folder's tables of scores, and return the folder."""
    for path in [*folder.glob("tables/benchmark_scores/**/*.parquet"), *folder.glob("tables/base_scores.parquet")]:
        pq.write_table(change(path, pq.read_table(path)), path)
    return folder


def assert_whole(html: str) -> None:
    """Check that the page has every section, that its pictures are valid XML, and that all its numbers are finite."""
    root = etree.fromstring(html.removeprefix("<!DOCTYPE html>").encode(), etree.XMLParser(resolve_entities=False))
    sections = [one.get("id") for one in root.iter("section")]
    assert sections == [one.get("href").strip("#") for one in root.find(".//nav").iter("a")]
    text = " ".join(" ".join(root.find(".//main").itertext()).split())
    words = {word.strip("().,;:[]+−%") for word in text.split()}
    assert not words & {"nan", "inf", "NaN", "Infinity", "None", "-0.000", "nat"}
    for picture in root.iter("{http://www.w3.org/2000/svg}svg"):
        assert not [
            one for one in picture.iter(etree.Element) for value in one.attrib.values() if "nan" in value.split()
        ]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] if n % 2 else []) for n, name in enumerate(RECIPES)]
)
def test_what_is_least_makes_a_page(tmp_path: Path, name: str) -> None:
    folder = make_results(tmp_path, RECIPES[name])
    if name == "some_strategies":
        changed(folder, only("bbh", ("random", "min_margin")))
    assert_whole(reports.render(str(folder)).html)


@pytest.mark.parametrize(
    "seeds", [pytest.param((0,), id="one_seed", marks=pytest.mark.full), pytest.param((0, 1, 2), id="three_seeds")]
)
@pytest.mark.parametrize("name", CHANGES)
def test_scores_that_say_nothing_make_a_page(tmp_path: Path, name: str, seeds: tuple[int, ...]) -> None:
    recipe = Recipe(**{**SMALL, "seeds": seeds, "strategies": ("random", "min_margin", "weighted_task_diversity")})
    folder = changed(make_results(tmp_path, recipe), lambda path, table: CHANGES[name](table))
    assert_whole(reports.render(str(folder)).html)


@pytest.mark.parametrize(
    "asset",
    [
        "raw_pool",
        "task_labels",
        "task_confidence",
        "confidence_comparison",
        "confidence_accuracy",
        "allocation",
        "adapter",
    ],
)
@pytest.mark.parametrize(
    "is_empty", [pytest.param(True, id="empty", marks=pytest.mark.full), pytest.param(False, id="absent")]
)
def test_any_table_may_be_empty_or_absent(tmp_path: Path, asset: str, is_empty: bool) -> None:
    folder = make_results(tmp_path, Recipe(**{**SMALL, "strategies": ("random", "weighted_task_diversity")}))
    for path in [*folder.glob(f"tables/{asset}.parquet"), *folder.glob(f"tables/{asset}/**/*.parquet")]:
        if is_empty:
            pq.write_table(pq.read_table(path).slice(0, 0), path)
        else:
            path.unlink()
    assert_whole(reports.render(str(folder)).html)


LARGE = Recipe(
    name="flan",
    reader="table",
    tasks=(*(f"mmlu_subject_number_{place}" for place in range(57)), *(f"bbh_task_number_{place}" for place in range(27))),
    items_per_task=245,  # 57 × 245 of MMLU's 14,042 and 27 × 245 of BBH's 6,511
    strategies=(
        "random", "least_confidence", "mean_entropy", "mean_margin", "min_margin", "max_token_uncertainty", "k_center",
        "facility_location", "dpp", "task_diversity", "weighted_task_diversity", "complement_weighted_task_diversity",
        "weighted_task_diversity_min_margin",
    ),
    budgets=(500, 1000, 2000, 4000, 8000),
    seeds=(0, 1, 2, 3, 4),
    benchmarks=("mmlu", "bbh"),
    benchmark_tasks={"mmlu": slice(0, 57), "bbh": slice(57, 84)},
)  # fmt: skip
TARGET_BYTES, LIMIT_BYTES = 1_000_000, 2_000_000


@pytest.mark.full
def test_the_largest_report_is_small(tmp_path: Path) -> None:
    """13 strategies at 5 budgets with 5 seeds on 84 tasks: 6.7 million scores."""
    html = Path(reports.build(str(make_results(tmp_path, LARGE)))).read_text(encoding="utf-8")
    assert_whole(html)
    assert len(html.encode()) <= LIMIT_BYTES
    assert len(html.encode()) <= TARGET_BYTES
