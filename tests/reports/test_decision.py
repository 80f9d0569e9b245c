"""The decision: which list the page sends out for which results, in words that a lead reads at once."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports import analysis, decision, results
from reports.analysis import Section
from reports.bills import Money
from reports.decision import Decision, decide
from reports.results import Results
from reports.scores import ScoreSet
from reports.statistics import Arm
from tests.reports.make_results import Recipe, make_results

pytestmark = pytest.mark.usefixtures("without_pictures")

BUDGETS = (64, 128, 256, 512)
TASKS = np.repeat(np.arange(12), 20)
WORDS_MAX_N = 30
READING_EASE_MIN = 50


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Results whose scores the tests replace."""
    recipe = Recipe(
        tasks=tuple(f"task{place}" for place in range(12)),
        items_per_task=2,
        strategies=("random", "task_diversity", "weighted_task_diversity"),
        budgets=BUDGETS,
        full_pool_seeds=(),
    )
    return results.load(str(make_results(tmp_path_factory.mktemp("decision"), recipe)))


def decided(
    stored: Results, levels: dict[str, tuple[float, ...]], seeds_n: int = 5, money: Money | None = None
) -> tuple[Decision, Section]:
    """Decide with a true mean for each strategy and budget, and little noise."""
    generator = np.random.default_rng(5)
    hard = generator.normal(0, 0.1, len(TASKS))
    arms = {
        (name, budget): Arm(level + hard + generator.normal(0, 0.15, (seeds_n, len(TASKS))), tuple(range(seeds_n)))
        for name, own in levels.items()
        for budget, level in zip(BUDGETS, own, strict=True)
    }
    scores = ScoreSet("lab", "exact_match", tuple(f"t{n}" for n in range(12)), TASKS, arms, 0, (), "exact_match")
    found = stored._replace(score_sets=(scores,), money=money)
    sections = analysis.sections(found)
    made = decide(found, sections)
    assert made is not None
    return made, sections[0]


RANDOM = (0.5, 0.56, 0.62, 0.68)
BETTER = (0.56, 0.62, 0.68, 0.74)
BEST = (0.66, 0.72, 0.78, 0.84)
WORSE = (0.4, 0.45, 0.5, 0.55)


class TestSendOut:
    def test_the_primary_strategy_with_the_labels_it_saves(self, stored: Results) -> None:
        made, section = decided(stored, {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": BETTER})
        assert section.primary is not None and section.primary.strategy == "weighted_task_diversity"
        assert made.action == "Send out the list of weighted_task_diversity." and made.verdict == "send out"
        found = re.fullmatch(
            r"(\d+) of its labels score as high as 512 random ones \(95% sure: at most (\d+)\)\.", made.evidence[0]
        )
        assert found is not None and 220 < int(found[1]) < 300 and int(found[1]) < int(found[2]) < 512

    def test_what_the_labels_cost(self, stored: Results) -> None:
        levels = {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": BETTER}
        made, _ = decided(stored, levels, money=Money(1.2, "EUR", True, {}, ()))
        labels_n = int(made.evidence[0].split()[0])
        assert (
            made.evidence[1]
            == f"{labels_n} × 1.20 EUR = {1.2 * labels_n:.2f} EUR instead of 614.40 EUR, if no answer were known."
        )
        free = Money(1.2, "EUR", False, {"weighted_task_diversity": tuple(range(0, 100, 2))}, ())
        made, _ = decided(stored, levels, money=free)
        assert made.evidence[1].startswith("They cost ") and made.evidence[1].endswith(" instead of 614.40 EUR.")
        dear = Money(1.2, "EUR", False, {"random": tuple(range(500))}, ())
        made, _ = decided(stored, levels, money=dear)
        assert made.action == "Send out the list of weighted_task_diversity, if the higher price is worth it."
        assert made.evidence[1].startswith("But they cost more: ") and made.evidence[1].endswith(
            " instead of 14.40 EUR."
        )
        made, _ = decided(stored, levels, money=Money(0.0, "EUR", True, {}, ()))
        assert not any("EUR" in one for one in made.evidence)

    def test_the_higher_score_if_savings_are_not_settled(self, stored: Results) -> None:
        late = (0.5, 0.56, 0.6, 0.69)
        made, _ = decided(stored, {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": late})
        assert made.verdict == "keep"
        little = tuple(value + 0.022 for value in RANDOM)
        made, section = decided(stored, {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": little})
        assert section.primary is not None and section.primary.verdict == "better"
        saved = section.savings["weighted_task_diversity"]
        if saved.high_n is None or saved.high_n >= 512:
            assert made.evidence[0].startswith("On average over 64 to 512 labels, weighted_task_diversity scores 0.0")
            assert made.evidence[1] == "How many labels it saves is not settled."

    def test_a_leader_that_leaves_the_primary_strategy_behind(self, stored: Results) -> None:
        made, section = decided(stored, {"random": RANDOM, "task_diversity": BEST, "weighted_task_diversity": BETTER})
        assert section.leaders[512].is_single
        assert made.action == "Send out the list of task_diversity."
        assert "weighted_task_diversity is better than random too, but this list scores higher still." in made.evidence
        assert "picked by its scores" in made.evidence[-1]

    def test_a_strategy_that_was_not_declared(self, stored: Results) -> None:
        made, _ = decided(stored, {"random": RANDOM, "task_diversity": BETTER, "weighted_task_diversity": WORSE})
        assert made.action == "Send out the list of task_diversity."
        assert any(one.startswith("This was not the primary comparison") for one in made.evidence)

    def test_it_says_where_the_choice_matters_less(self, stored: Results) -> None:
        meeting = (0.62, 0.66, 0.67, 0.68)
        made, section = decided(
            stored, {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": meeting}
        )
        assert made.verdict == "send out" and "random" in (section.leaders[512].name, *section.leaders[512].tied)
        assert any(one.endswith("not shown to beat random: the choice matters less there.") for one in made.changes)
        assert "Fewer than 64 or more than 512 labels: not tried." in made.changes
        assert "Another learning rate or template: not tried." in made.changes


class TestKeep:
    def test_nothing_separates(self, stored: Results) -> None:
        made, section = decided(
            stored, {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": RANDOM}, seeds_n=3
        )
        assert made.action == "Buy at random." and made.verdict == "keep"
        assert section.primary is not None
        if made.evidence[0] == "No strategy is shown to beat random.":
            assert f"a true difference of {section.primary.detectable:.3f} in 80% of cases." in made.evidence[1]

    def test_it_names_the_seeds_that_would_show_the_difference(self, stored: Results) -> None:
        near = tuple(value + 0.012 for value in RANDOM)
        made, section = decided(
            stored, {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": near}, seeds_n=3
        )
        assert section.primary is not None
        if section.primary.verdict == "not separable from noise" and section.primary.difference.estimate > 0:
            assert made.changes[0].startswith(("More seeds: about ", "More items: "))

    def test_worse_than_the_reference(self, stored: Results) -> None:
        made, _ = decided(stored, {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": WORSE})
        assert made.action == "Buy at random."
        said = r"On average over 64 to 512 labels, weighted_task_diversity scores 0\.\d+ lower than random \(95%: 0\.\d+ to 0\.\d+\)\."
        assert re.fullmatch(said, made.evidence[0])


class TestDepends:
    """The average over the budgets and the largest budget, or two benchmarks, show the opposite."""

    def test_a_list_that_is_worse_at_the_largest_budget(self, stored: Results) -> None:
        low, high = (0.4, 0.5, 0.6, 0.6), (0.6, 0.65, 0.66, 0.66)
        levels = {"random": (0.4, 0.5, 0.6, 0.74), "task_diversity": low, "weighted_task_diversity": high}
        made, section = decided(stored, levels)
        assert section.primary is not None and section.primary.verdict == "better"
        assert made.action == "The best list depends on the number of labels." and made.verdict == "depends"
        assert " higher than random" in made.evidence[0] and " lower than random" in made.evidence[1]
        assert made.evidence[1].startswith("At 512 labels, weighted_task_diversity scores 0.")

    def test_a_list_that_is_better_at_the_largest_budget_alone(self, stored: Results) -> None:
        levels = {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": (0.44, 0.52, 0.62, 0.76)}
        made, section = decided(stored, levels)
        assert section.primary is not None and section.primary.verdict != "better"
        assert made.verdict == "depends" and made.evidence[0] == "On average, no strategy is shown to beat random."
        assert made.evidence[1].startswith("At 512 labels, weighted_task_diversity scores 0.")

    def test_another_benchmark(self, stored: Results) -> None:
        _, first = decided(stored, {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": BETTER})
        _, second = decided(stored, {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": WORSE})
        assert first.primary is not None and second.primary is not None
        other = second._replace(scores=second.scores._replace(benchmark="mmlu"), areas=(second.primary, *second.areas))
        both = decide(stored, (first, other))
        assert both is not None and both.action == "The best list depends on the benchmark."
        assert both.evidence[-2] == "This is by lab (exact_match)." and both.evidence[-1].startswith(
            "mmlu (exact_match): "
        )
        same = decide(stored, (first, first))
        assert same is not None and same.verdict == "send out" and same.evidence[-1] == "This is by lab (exact_match)."


class TestNoDecision:
    def test_another_reference_of_the_reader(self, stored: Results) -> None:
        levels = {"random": RANDOM, "task_diversity": BETTER, "weighted_task_diversity": RANDOM}
        chosen = stored._replace(experiment=stored.experiment.model_copy(update={"reference": "task_diversity"}))
        made, _ = decided(chosen, levels)
        assert made.verdict == "no decision" and "The page without --reference decides." in made.evidence[0]

    def test_one_seed_is_luck(self, stored: Results) -> None:
        levels = {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": BEST}
        made, _ = decided(stored, levels, seeds_n=1)
        assert made.verdict == "no decision" and "from luck" in made.evidence[0]

    def test_a_strategy_alone(self, stored: Results) -> None:
        made, _ = decided(stored, {"random": RANDOM})
        assert made.verdict == "no decision" and made.changes

    def test_no_scores(self, tmp_path: Path) -> None:
        found = results.load(str(make_results(tmp_path, Recipe(has_scores=False, items_per_task=2))))
        assert decide(found, analysis.sections(found)) is None


CASES: dict[str, dict[str, Any]] = {
    "send": {"levels": {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": BETTER}},
    "other": {"levels": {"random": RANDOM, "task_diversity": BETTER, "weighted_task_diversity": WORSE}},
    "higher": {"levels": {"random": RANDOM, "task_diversity": BEST, "weighted_task_diversity": BETTER}},
    "keep": {"levels": {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": RANDOM}, "seeds_n": 3},
    "worse": {"levels": {"random": RANDOM, "task_diversity": RANDOM, "weighted_task_diversity": WORSE}},
    "one seed": {"levels": {"random": RANDOM, "weighted_task_diversity": BEST}, "seeds_n": 1},
}


@pytest.mark.parametrize("case", CASES)
def test_it_reads_easily(stored: Results, case: str) -> None:
    """No sentence has more than 30 words, and Flesch's reading ease is 50 or more, with one short name for each strategy."""
    made, section = decided(stored, **CASES[case], money=Money(1.2, "EUR", True, {}, ()))
    from reports.sentences import in_short, leader_at_largest

    said = [made.action, *made.evidence, *made.changes, leader_at_largest(section)]
    said += [in_short(one) for one in (section.primary, *section.areas) if one is not None]
    text = re.sub(r"\w*_diversity|random", "Ann", " ".join(one for one in said if one))
    sentences = [one for one in re.split(r"(?<=[a-z)]\.)\s+", text) if one]
    counts = [len(re.findall(r"[\w×=%.,]+", one)) for one in sentences]
    assert max(counts) <= WORDS_MAX_N
    assert reading_ease(sentences) >= READING_EASE_MIN, text


def reading_ease(sentences: list[str]) -> float:
    """Return Flesch's reading ease (J. Appl. Psychol. 32 (1948) 221), with one syllable for each group of vowels."""
    every = [word for one in sentences for word in re.findall(r"[A-Za-z]+", one)]
    syllables_n = sum(max(1, len(re.findall(r"[aeiouy]+", re.sub(r"e$|es$|ed$", "", word.lower())))) for word in every)
    return 206.835 - 1.015 * len(every) / len(sentences) - 84.6 * syllables_n / len(every)


def test_the_page_and_its_claims_say_the_same(tmp_path: Path) -> None:
    import reports

    folder = make_results(tmp_path, Recipe(seeds=(0, 1, 2, 3, 4), items_per_task=10))
    found = results.load(str(folder))
    made = decide(found, analysis.sections(found))
    assert made is not None
    rendered = reports.render(str(folder))
    assert rendered.claims[0] == {"topic": "Decision", "text": made.text, "verdict": made.verdict, "short": ""}
    place = rendered.html.index(made.action)
    assert place < rendered.html.index('id="b0-curves-title"') < rendered.html.index("Primary comparison")


def test_the_difference_that_would_have_been_seen() -> None:
    one = analysis.Comparison("a", "b", (64,), None, None, "not separable from noise", 0.031)  # type: ignore[arg-type]
    assert decision.seen(one) == "such a run shows a true difference of 0.031 in 80% of cases."
    assert decision.seen(one._replace(p_adjusted=1.0)).endswith("of cases, after correction for several comparisons.")
    assert decision.seen(one._replace(detectable=1.5)).startswith("no difference is large enough")
    assert decision.seen(one._replace(detectable=float("nan"))).startswith("no difference is large enough")
