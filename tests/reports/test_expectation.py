"""Whether an expectation was met: each kind of clause with each verdict, and free text, which is not judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports import analysis, expectation, provenance, results
from tests.reports.make_results import Recipe, make_results

pytestmark = pytest.mark.usefixtures("without_pictures")

NAMES = ("random", "task_diversity", "weighted_task_diversity")
SMALL: dict[str, Any] = {
    "tasks": ("copy", "flip"), "items_per_task": 8, "budgets": (16, 32), "strategies": NAMES, "full_pool_seeds": (),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[results.Results, Any]:
    found = results.load(str(make_results(tmp_path_factory.mktemp("expected"), Recipe(**SMALL))))
    return found, analysis.sections(found)


def with_verdict(section: Any, pair: tuple[str, str], verdict: str, budgets: tuple[int, ...]) -> Any:
    """Return the section with another verdict for one comparison, in every place that holds it."""

    def changed(one: Any) -> Any:
        is_it = one and (one.strategy, one.reference) == pair and one.budgets == budgets
        return one._replace(verdict=verdict) if is_it else one

    kept = {name: tuple(map(changed, getattr(section, name))) for name in ("areas", "by_budget")}
    return section._replace(primary=changed(section.primary), **kept)


@pytest.mark.parametrize(
    ("clause", "verdict", "said"),
    [
        ("task_diversity above random", "better", "came true (better"),
        ("task_diversity above random", "worse", "did not come true (worse"),
        ("task_diversity above random", "not separable from noise", "not shown (not separable"),
        ("task_diversity above random", "too few seeds to say", "not known (too few"),
        ("random below task_diversity", "better", "came true (worse"),  # the same, said from the other side
        ("random above task_diversity", "better", "did not come true (worse"),
        ("task_diversity not separable from random", "not separable from noise", "came true (not separable"),
        ("task_diversity is not separable from random", "better", "did not come true (better"),
    ],
)
@pytest.mark.parametrize("budget", ["", " at 32", " at 32 labels with 3 seeds"])
def test_a_clause_is_set_beside_its_verdict(made: Any, clause: str, verdict: str, said: str, budget: str) -> None:
    found, sections = made
    budgets = (32,) if budget else (16, 32)
    section = with_verdict(sections[0], ("task_diversity", "random"), verdict, budgets)
    text = expectation.outcome(f"Expected: {clause}{budget}.", found, [section])
    assert text.startswith(f"“{clause}{budget}”: {said}") and "free text" not in text


def test_the_sign_follows_the_side_that_is_named(made: Any) -> None:
    found, sections = made
    one = next(one for one in sections[0].areas if (one.strategy, one.reference) == ("task_diversity", "random"))
    gap = one.difference._replace(estimate=0.1, low=0.05, high=0.2)
    section = sections[0]._replace(primary=None, areas=(one._replace(difference=gap, verdict="better"),))
    said = [
        expectation.outcome(f"Expected: {clause}", found, [section])
        for clause in ("task_diversity above random", "random below task_diversity")
    ]
    assert said == [
        "“task_diversity above random”: came true (better, +0.100 [+0.050 to +0.200]).",
        "“random below task_diversity”: came true (worse, −0.100 [−0.200 to −0.050]).",
    ]
    uncorrected = section._replace(areas=(section.areas[0]._replace(verdict="not separable from noise"),))
    held = expectation.outcome("Expected: task_diversity above random", found, [uncorrected])
    assert "not shown (not separable from noise, +0.100" in held and "only before correction" in held


def test_it_and_the_beginning_of_a_name_are_understood() -> None:
    text = "Expected: task_diversity above random at 1,024; weighted not separable from it with 3 seeds."
    read, is_all = expectation.clauses(text, NAMES)
    assert is_all and [(one.strategy, one.reference, one.budget_n) for one in read] == [
        ("task_diversity", "random", 1024),
        ("weighted_task_diversity", "task_diversity", None),
    ]
    ambiguous = (*NAMES, "weighted_task_diversity_min_margin")
    assert [one.strategy for one in expectation.clauses(text, ambiguous)[0]] == ["task_diversity"]


@pytest.mark.parametrize(
    "text", ["more than on Dolly's eight", "the paper claims 80% less", "it above it", "a above b"]
)
def test_free_text_is_not_judged_and_the_primary_comparison_follows(made: Any, text: str) -> None:
    found, sections = made
    said = expectation.outcome(f"Expected: {text}.", found, sections)
    assert said.startswith("It is free text, which this page does not judge. The primary comparison came out: ")
    assert sections[0].primary.verdict in said
    half = expectation.outcome(f"Expected: task_diversity above random; {text}.", found, sections)
    assert half.startswith("“task_diversity above random”: ") and "The rest of it is free text" in half


def test_what_is_not_compared_or_not_scored_is_said(made: Any) -> None:
    found, sections = made
    said = expectation.outcome("Expected: task_diversity above random at 99.", found, sections)
    assert said == "“task_diversity above random at 99”: not known, because this comparison is not made here."
    assert expectation.outcome("", found, sections) == ""
    assert "no stored score can" in expectation.outcome("Expected: task_diversity above random.", found, [])


def test_the_question_and_the_expectation_are_told_apart() -> None:
    text = "# Does it?\n# Expected: task_diversity above random.\n# Cost: little\nname: demo\n"
    assert provenance.question(text) == (
        "Does it?",
        "Expected: task_diversity above random.",
    )
    assert provenance.question("# Does it?\nname: demo") == ("Does it?", "")


def test_the_page_says_it_at_the_top(tmp_path: Path) -> None:
    import reports

    folder = make_results(tmp_path, Recipe(**SMALL))
    file = folder / "experiment.yaml"
    file.write_text("# Why?\n# Expected: task_diversity above random.\n" + file.read_text())
    html = reports.render(str(folder)).html
    assert (
        html.index("Expected: task_diversity above random.")
        < html.index("“task_diversity above random”:")
        < html.index('<section id="savings"')
    )


def test_another_number_of_seeds_than_expected_is_said(made: Any) -> None:
    found, sections = made
    seeds_n = sections[0].areas[0].difference.seeds_n
    clause = "task_diversity above random with {} seeds"
    other = expectation.outcome(f"Expected: {clause.format(10)}.", found, sections)
    assert f", with {seeds_n} seeds, not 10)" in other
    assert "seeds, not" not in expectation.outcome(f"Expected: {clause.format(seeds_n)}.", found, sections)


def test_a_long_question_cuts_no_expectation_off(made: Any) -> None:
    found, sections = made
    clauses = " ".join(["task_diversity above random;"] * 20)
    text = "# " + "why " * 200 + "\n# Expected: " + clauses + "\nname: x\n"
    asked, expected = provenance.question(text)
    assert asked.startswith("why why") and expected == f"Expected: {clauses}"
    assert expectation.outcome(expected, found, sections).count("“task_diversity above random”") == 20
