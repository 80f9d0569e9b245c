"""The section on variants: its numbers by a second definition, verdicts in words, what is missing, and the page without variants."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import reports
from reports import results, robustness, statistics
from reports.robustness import Check
from tests.reports.make_results import Recipe, make_results

pytestmark = pytest.mark.usefixtures("without_pictures")

PAIR = ("weighted_task_diversity", "random")
SMALL = Recipe(tasks=("copy", "reverse", "flip"), strategies=("random", "weighted_task_diversity"), budgets=(64, 128))
SECTION = {
    "half_rate": {"tuning": {"learning_rate": "x0.5"}},
    "other_template": {"prompt_template": "Q: {prompt}\nA:", "budget": 64},
    "first_token": {"confidence": {"column": "first_probability"}},
}


def name_variants(folder: Path, section: object = SECTION) -> None:
    path = folder / "experiment.yaml"
    path.write_text(f"{path.read_text()}{yaml.safe_dump({'robustness': section}, sort_keys=False)}")


def vary(
    folder: Path, name: str, budget: int, change: Callable[[np.ndarray], np.ndarray], strategy: str = PAIR[0]
) -> None:
    """Store the scores of a variant: those of the experiment, changed by `change` for one strategy."""
    for one in PAIR:
        source = folder / f"tables/benchmark_scores/{one}/{budget}.parquet"
        table = pq.read_table(source, partitioning=None)
        if one == strategy:
            table = table.set_column(
                table.column_names.index("score"), "score", pa.array(change(table["score"].to_numpy()))
            )
        target = folder / f"variants/{name}/tables/benchmark_scores/{one}/{budget}.parquet"
        target.parent.mkdir(parents=True)
        pq.write_table(table, target)


def scores(path: Path) -> pd.Series:
    table = pq.read_table(path, partitioning=None).to_pandas()
    return table.set_index(["training_seed", "task", "item_id"])["score"].sort_index()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return results with two variants that were run, one in which the difference is turned round, and one that was not run."""
    found = make_results(tmp_path_factory.mktemp("robust"), SMALL)
    name_variants(found)
    vary(found, "half_rate", 128, lambda values: np.zeros_like(values))
    vary(found, "other_template", 64, lambda values: np.ones_like(values))
    return found


def checks(folder: Path) -> dict[str, Check]:
    return {one.variant.name: one for one in robustness.checks(results.load(str(folder)))}


def test_the_numbers_equal_those_of_the_tables_written_out(folder: Path) -> None:
    found = checks(folder)
    for name, budget in (("half_rate", 128), ("other_template", 64)):
        own = [scores(folder / f"variants/{name}/tables/benchmark_scores/{one}/{budget}.parquet") for one in PAIR]
        of_file = [scores(folder / f"tables/benchmark_scores/{one}/{budget}.parquet") for one in PAIR]
        gaps = {"own": own[0] - own[1], "of_file": of_file[0] - of_file[1]}
        gaps["change"] = gaps["own"] - gaps["of_file"]
        for what, gap in gaps.items():
            wide = gap.unstack("training_seed").sort_index()
            tasks = pd.factorize(wide.index.get_level_values("task"))[0]
            expected = statistics.paired_difference(wide.to_numpy().T, np.zeros(wide.shape).T, tasks)
            mean = gap.groupby(level=["training_seed", "task"]).mean().mean()
            one = getattr(found[name], what)
            assert one.estimate == pytest.approx(mean, abs=1e-12) == expected.estimate
            assert (one.low, one.high, one.verdict) == (
                pytest.approx(expected.low, abs=1e-12), pytest.approx(expected.high, abs=1e-12), expected.verdict,
            )  # fmt: skip


def test_verdicts_and_the_summary_say_what_holds(folder: Path) -> None:
    found = checks(folder)
    assert found["half_rate"].own is not None and found["half_rate"].own.verdict == "worse"
    assert found["half_rate"].outcome == "does not hold"
    assert found["other_template"].own is not None and found["other_template"].own.verdict == "better"
    assert found["first_token"].outcome == "not run yet" and found["first_token"].own is None
    holds_n = sum(one.outcome == "holds" for one in found.values())
    assert robustness.summary(results.load(str(folder))) == f"holds in {holds_n} of 2 variants, 1 not run yet"


def test_the_page_has_a_row_for_each_variant_and_the_command_for_the_missing_one(folder: Path) -> None:
    page = reports.render(str(folder)).html
    section = page.partition('<section id="robustness"')[2].partition("</section>")[0]
    assert section.count("<tr>") == 4 and "x0.5 (0.001 instead of 0.002)" in section
    assert "“Q: {prompt} A:”; at 64 labels" in section and "not corrected" in section
    assert "first_token: it has no stored scores." in section and "<code>taskdiv run demo</code>" in section
    assert '<a href="#robustness">Robustness</a>' in page


def test_without_variants_the_page_says_not_tried(tmp_path: Path) -> None:
    folder = make_results(tmp_path, SMALL)
    page = reports.render(str(folder)).html
    section = page.partition('<section id="robustness"')[2].partition("</section>")[0]
    assert "Not tried. The experiment file names no variant" in section and "<table" not in section
    assert robustness.summary(results.load(str(folder))) == "not tried"


def test_scores_that_are_out_of_date_are_left_out(folder: Path) -> None:
    excluded = {"variants/half_rate/benchmark_scores/128|random": "variant half_rate: made from an older pool"}
    found = results.load(str(folder), excluded)
    assert found.variants[0].why_missing == "its stored scores come from other settings or inputs"
    assert "variant half_rate: made from an older pool" in found.stale


def test_one_seed_gives_no_verdict(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Recipe(**{**vars(SMALL), "seeds": (0,)}))
    name_variants(folder, {"half_rate": SECTION["half_rate"]})
    vary(folder, "half_rate", 128, lambda values: values)
    found = results.load(str(folder))
    assert robustness.checks(found)[0].outcome == "too few seeds to say"
    assert robustness.summary(found) == "1 variant with too few seeds to say"


def test_a_variant_without_any_right_answer_confirms_nothing(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Recipe(**{**vars(SMALL), "tasks": ("copy",), "items_per_task": 3}))
    name_variants(folder, {"rate": SECTION["half_rate"]})
    vary(folder, "rate", 128, np.zeros_like)
    for one in PAIR:  # both arms
        path = folder / f"variants/rate/tables/benchmark_scores/{one}/128.parquet"
        table = pq.read_table(path, partitioning=None)
        pq.write_table(
            table.set_column(table.column_names.index("score"), "score", pa.array(np.zeros(len(table)))), path
        )
    found = robustness.checks(results.load(str(folder)))[0]
    assert found.of_file is not None and found.of_file.verdict == "not separable from noise"
    assert found.outcome == "not separable here"


def test_a_training_that_diverged_is_named_but_not_after_the_variant_was_edited(tmp_path: Path) -> None:
    folder = make_results(tmp_path, SMALL)
    name_variants(folder, {"rate": {"tuning": {"learning_rate": "x8"}}})
    (folder / "failures").mkdir()
    note = {
        "message": "loss is NaN",
        "cell": "128|random",
        "variant": {"name": "rate", "changes": SECTION["half_rate"]},
    }
    (folder / "failures/a.json").write_text(json.dumps(note))
    (folder / "failures/b.json").write_text("{")
    assert results.load(str(folder)).variants[0].why_missing == "it has no stored scores"
    note["variant"] = {"name": "rate", "changes": {"tuning": {"learning_rate": "x8"}}}
    (folder / "failures/a.json").write_text(json.dumps(note))
    assert results.load(str(folder)).variants[0].why_missing == "its training diverged: loss is NaN"


def test_hostile_variants_stay_in_their_place(tmp_path: Path) -> None:
    folder = make_results(tmp_path, SMALL)
    section = {
        "../up": {"tuning": {"epochs": 1}},
        "<b>\u202e": {"prompt_template": "<script>{prompt}" + "x" * 5000},
        "none": 3,
    }
    name_variants(folder, section)
    page = reports.render(str(folder)).html
    section_html = page.partition('<section id="robustness"')[2].partition("</section>")[0]
    assert "<script>" not in section_html and "\u202e" not in section_html and len(section_html) < 6000
    assert [one.scores for one in results.load(str(folder)).variants] == [None] * 3


def test_a_broken_table_of_a_variant_is_a_sentence(tmp_path: Path) -> None:
    folder = make_results(tmp_path, SMALL)
    name_variants(folder, {"half_rate": SECTION["half_rate"]})
    path = folder / "variants/half_rate/tables/benchmark_scores/random/128.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no table")
    found = results.load(str(folder))
    assert found.variants[0].scores is None
    assert any("half_rate: tables/benchmark_scores/random/128.parquet cannot be read" in one for one in found.problems)
