"""A report's sentences on how a benchmark was asked: each appears where it is true, and only there."""

from pathlib import Path
from typing import Any

import pytest

from reports import analysis, asked, experiment_view, results
from tests.reports.make_results import Recipe, make_results

SMALL: dict[str, Any] = {
    "tasks": ("copy", "flip"),
    "items_per_task": 6,
    "budgets": (16,),
    "strategies": ("random", "task_diversity"),
}
WHOLE = {"asked_n": 12, "items_n": 12, "cut_prompts_n": 0, "unread_n": 0, "sampling_error": None}
TABLES_N = 4  # two cells, the full pool, the base
JUDGE = {"model": "j", "calls": 10}


def said(
    folder: Path, note: dict[str, Any], name: str = "bbh", metric: str = "exact_match", **settings: Any
) -> tuple[str, ...]:
    recipe = Recipe(
        **SMALL,
        benchmarks=(name,),
        metric=metric,
        benchmark_settings={name: settings},
        asked={name: {**WHOLE, **note}},
        has_primary=False,
    )
    found = results.load(str(make_results(folder, recipe)))
    (section,) = analysis.sections(found)
    return asked.sentences(found, section)


def test_a_benchmark_that_was_asked_whole_needs_no_sentence(tmp_path: Path) -> None:
    assert said(tmp_path, {}) == ()


def test_a_sample_is_called_one_with_what_it_costs(tmp_path: Path) -> None:
    (sentence,) = said(tmp_path, {"items_n": 90, "sampling_error": 0.0312}, sample=12)
    assert sentence == (
        "The benchmark asked a sample of 12 of 90 items, drawn by hash, equally many from each task where possible, which adds "
        "to a mean a standard error of up to 0.031; the intervals here include it."
    )


def test_the_first_items_are_no_sample(tmp_path: Path) -> None:
    (sentence,) = said(tmp_path, {"items_n": 90}, limit=6)
    assert (
        sentence
        == "The benchmark asked the first items of each task, 12 of 90 items. They are not a random sample, so the rest may differ."
    )


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"limit": 12}, "The benchmark asked the first instructions, 12 of 90 items. They are not a random sample"),
        ({"sample": 12}, "The benchmark asked a sample of 12 of 90 items, drawn by hash."),
    ],
)
def test_instructions_are_no_tasks(tmp_path: Path, settings: dict[str, int], start: str) -> None:
    (sentence,) = said(tmp_path, {"items_n": 90}, "alpaca_eval", "win_rate", judge=JUDGE, **settings)
    assert sentence.startswith(start)


def test_cut_prompts_and_unread_answers_are_counted_over_all_tables(tmp_path: Path) -> None:
    cut, unread = said(tmp_path, {"cut_prompts_n": 2, "unread_n": 3})
    assert cut.startswith(f"{2 * TABLES_N} prompts (over all models and seeds) did not fit")
    assert unread.startswith(f"In {3 * TABLES_N} written answers (over all models and seeds)")


def test_what_a_judge_left_open_is_neither_won_nor_lost(tmp_path: Path) -> None:
    kinds = {"judged": 10, "refused": 1, "failed": 1}
    (sentence,) = said(tmp_path, {"verdicts": kinds}, "alpaca_eval", "win_rate", judge=JUDGE)
    assert sentence == (
        "Over all models and seeds there are 40 preferences of the judge; 4 refused and 4 failed: left out for all seeds, "
        "neither won nor lost."
    )


def test_a_rate_that_length_could_not_be_taken_out_of_is_not_called_controlled(tmp_path: Path) -> None:
    note = {"plain_for_length": {"every preference is on one side": 1, "the difference is the same": 2}}
    metric = "length_controlled_win_rate"
    _, sentence = said(tmp_path / "a", note, "alpaca_eval", metric, judge=JUDGE)
    assert sentence.startswith(f"For {3 * TABLES_N} models (over all seeds) length could not be controlled for")
    assert said(tmp_path / "b", note, "alpaca_eval", "win_rate", judge=JUDGE) == ()


def test_models_that_only_guess_are_called_so(tmp_path: Path) -> None:
    (sentence,) = said(tmp_path, {}, "mmlu", "acc")
    assert sentence.startswith("Guessing scores 0.250")


def test_a_benchmark_without_a_judge_is_skipped_and_its_primary_comparison_too(tmp_path: Path) -> None:
    recipe = Recipe(**SMALL, benchmark_settings={"alpaca_eval": {}})
    found = results.load(str(make_results(tmp_path, recipe)))
    ((text, advice),) = asked.skipped(found)
    assert text.startswith("alpaca_eval is not scored: no judge is configured") and "primary" not in text
    assert "judge: {model: …, calls: …}" in advice
    primary = experiment_view.Primary(strategy="task_diversity", benchmark="alpaca_eval", metric="win_rate")
    named = found.experiment.model_copy(update={"primary": primary})
    ((text, _),) = asked.skipped(found._replace(experiment=named))
    assert text.endswith("The primary comparison uses it, so it is not made.")


def test_with_a_judge_nothing_is_skipped(tmp_path: Path) -> None:
    recipe = Recipe(**SMALL, benchmark_settings={"alpaca_eval": {"judge": JUDGE}})
    assert asked.skipped(results.load(str(make_results(tmp_path, recipe)))) == []


def test_answers_that_blanks_make_wrong_are_counted(tmp_path: Path) -> None:
    (sentence,) = said(tmp_path, {"blanks_n": 3})
    assert sentence == (
        f"{3 * TABLES_N} written answers (over all models and seeds) would be right without the blanks around them: "
        "the standard task compares them too. `strip: true` in the benchmark ignores them."
    )


def test_a_benchmark_that_deviates_from_the_stock_task_says_so(tmp_path: Path) -> None:
    (sentence,) = said(tmp_path, {"blanks_n": 1}, strip=True)
    assert (
        "which the standard task does not do: 4 answers" in sentence
        and "Do not compare these scores with published ones" in sentence
    )
    (bare,) = said(tmp_path / "none", {}, strip=True)
    assert "which the standard task does not do." in bare
