"""Forecasts: exact recovery, equivariance, wider further away, a second definition, and the coverage of intervals."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from data_contracts.footer import Footer
from reports import analysis, forecast, numbers, results, writing
from reports.bills import Bill, Money
from reports.forecast import Forecast, outlook
from reports.forecast_sentences import claim, extra_cost, strategy_of, table
from reports.statistics import Arm
from taskdiv_assets.commands import forecast_plan
from taskdiv_assets.storage.store import Store
from tests.evidence import drawn_curves
from tests.evidence.forecasts import held, left_out
from tests.reports.make_results import Recipe, make_results
from tests.reports.test_decision import READING_EASE_MIN, WORDS_MAX_N, reading_ease

BUDGETS = (64, 128, 256, 512)
TASKS = np.repeat(np.arange(4), 10)


def a_curve(means: tuple[float, ...], spread: float = 1e-5, seed: int = 0, seeds_n: int = 3) -> dict[int, Arm]:
    """Return scores with these exact means, and noise of the given standard deviation around them."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(len(means), seeds_n, len(TASKS)))
    rows = spread * (rows - rows.mean(axis=(1, 2), keepdims=True)) + np.array(means)[:, None, None]
    return {budget: Arm(one, tuple(range(seeds_n))) for budget, one in zip(BUDGETS, rows, strict=False)}


def law(exponent: float) -> tuple[float, ...]:
    return tuple(float(0.9 - 2 * n**-exponent) for n in (*BUDGETS, 768, 1024))


@pytest.fixture
def without_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the variance of unseen items, which has a scale of its own and is far above the noise of these tests."""
    monkeypatch.setattr(forecast.variance, "with_unseen", lambda whole, _: whole)


@pytest.mark.usefixtures("without_unseen")
@pytest.mark.parametrize("exponent", [0.3, 0.7, 1.2])
def test_a_power_law_without_noise_is_continued(exponent: float) -> None:
    means = law(exponent)
    made = forecast.forecast(a_curve(means[:4], 1e-7), TASKS, (768, 1024))
    rise = means[3] - means[0]
    assert [one.gain for one in made] == pytest.approx([mean - means[3] for mean in means[4:]], abs=0.03 * rise)


@pytest.mark.usefixtures("without_unseen")
@pytest.mark.parametrize("exponent", [0.3, 0.7])
def test_the_best_law_is_that_of_scipy(exponent: float) -> None:
    """Without room for a departure, the median is the least-squares power law, which `curve_fit` finds in another way."""
    means = np.array(law(exponent)[:4]) + np.array([0.0002, -0.0003, 0.0002, -0.0001])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast, "DEPARTURES", np.zeros(1))
        patch.setattr(forecast, "EXPONENTS", np.arange(-50, 201) / 100)
        [made] = forecast.forecast(a_curve(tuple(means), 1e-7), TASKS, (1024,))
    (a, b, c), _ = curve_fit(lambda n, a, b, c: a - b * n**-c, BUDGETS, means, p0=(0.9, 2.0, 0.5), maxfev=20_000)
    fitted = a - b * 1024.0**-c - means[-1]
    assert made.gain == pytest.approx(fitted, abs=0.005 * (means[-1] - means[0]))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.2, 0.8), min_size=4, max_size=4),
    st.floats(0.01, 0.2),
    st.floats(-5, 5),
    st.sampled_from([0.25, 4.0]),
)
def test_shift_scale_and_unit_of_labels_do_not_matter(
    means: list[float], spread: float, shift: float, factor: float
) -> None:
    """`a_curve` leaves 0..1, so nothing is cut. The variance of unseen items has a scale of its own: it is set to 0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast.variance, "with_unseen", lambda whole, _: whole)
        own = a_curve(tuple(means), max(0.5, spread))
        own = {budget: Arm(arm.scores - 2, arm.seeds) for budget, arm in own.items()}
        first = forecast.forecast(own, TASKS, (768, 1024))
        other = {3 * budget: Arm(shift - 9 + factor * arm.scores, arm.seeds) for budget, arm in own.items()}
        second = forecast.forecast(other, TASKS, (3 * 768, 3 * 1024))
    for one, two in zip(first, second, strict=True):
        assert (two.gain, two.low, two.high) == pytest.approx(
            (factor * one.gain, factor * one.low, factor * one.high), abs=1e-5 * factor
        )


@pytest.mark.usefixtures("without_unseen")
def test_further_away_is_wider_and_more_seeds_are_narrower() -> None:
    made = forecast.forecast(a_curve(law(0.5)[:4], 0.2), TASKS, (600, 700, 800, 900, 1024))
    widths = [one.high - one.low for one in made]
    assert widths == sorted(widths)
    few, many = (
        forecast.forecast(a_curve(law(0.5)[:4], 0.2, seeds_n=seeds_n), TASKS, (1024,))[0] for seeds_n in (3, 30)
    )
    assert many.high - many.low < few.high - few.low


def test_scores_stay_between_0_and_1() -> None:
    generator = np.random.default_rng(1)
    shares = (0.5, 0.8, 0.97)
    curve = {
        n: Arm((generator.random((3, 40)) < share).astype(float), (0, 1, 2))
        for n, share in zip(BUDGETS, shares, strict=False)
    }
    [one] = forecast.forecast(curve, TASKS, (512,))
    assert -one.score <= one.low <= one.gain <= one.high <= 1 - one.score


@pytest.mark.parametrize(
    ("curve", "pool_n", "said"),
    [
        (a_curve((0.5, 0.6)), None, "needs scores at 3 budgets; there are scores at 2"),
        (a_curve((0.5, 0.6, 0.7), seeds_n=1), None, "needs 2 seeds that all budgets have; they have 1"),
        (a_curve((0.5, 0.6, 0.7)), 256, "has all 256 prompts of the pool"),
    ],
)
def test_too_few_points(curve: dict[int, Arm], pool_n: int | None, said: str) -> None:
    found = outlook(curve, TASKS, (), pool_n)
    assert not found.forecasts and said in found.problem


def test_equal_scores_everywhere_expect_nothing_and_keep_a_width() -> None:
    curve = {n: Arm(np.ones((3, 400)), (0, 1, 2)) for n in BUDGETS}
    [one] = forecast.forecast(curve, np.repeat(np.arange(4), 100), (768,))
    assert one.gain == pytest.approx(0, abs=1e-6) and one.low < 0 <= one.high


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.01, 0.03, "cannot tell"), (0.001, 0.03, "gain expected"), (-0.03, 0.019, "little to gain")],
)
def test_verdicts(low: float, high: float, verdict: str) -> None:
    assert Forecast(512, 768, 0.01, low, high, 4, 3, 40, 0.6).verdict == verdict


def test_coverage_in_short() -> None:
    """120 draws of the lab's noise. docs/STATISTICS.md has 1,000 of ten shapes."""
    found = held(drawn_curves.SHAPES[0], drawn_curves.LADDERS[1], 120, np.random.default_rng(5))
    assert min(one.value for one in (*found.measured, *found.true)) > 0.95 - 3 * 0.02


def test_every_next_budget_of_a_curve_is_left_out_once() -> None:
    curve = a_curve(law(0.5)[:4], 0.1)
    found = list(left_out({"random": curve}, TASKS))
    assert [(one.budgets_n, one.made.budget_n) for one in found] == [(3, 512)]


class TestPage:
    @pytest.fixture(scope="class")
    def section(self, tmp_path_factory: pytest.TempPathFactory) -> analysis.Section:
        folder = make_results(tmp_path_factory.mktemp("forecast"), Recipe(items_per_task=6))
        found = analysis.sections(results.load(str(folder)))[0]
        return found._replace(money=Money(1.2, "EUR", True, {}, ()))

    def test_the_claim_reads_easily_and_says_the_cost(self, section: analysis.Section) -> None:
        text, verdict, short = claim(section)
        name = strategy_of(section)
        one = section.outlooks[name].forecasts[0]
        assert short.startswith(f"{one.more_n:,} more labels of {name}: ") and f"{1.2 * one.more_n:,.2f} EUR" in short
        assert verdict == one.verdict and f"{section.outlooks[name].forecasts[-1].budget_n:,} in total" in text
        plain = re.sub(r"\w*_diversity|random", "Ann", short)
        sentences = re.split(r"(?<=[a-z0-9R]\.)\s+", plain)
        assert max(len(re.findall(r"[\w×=%.,]+", sentence)) for sentence in sentences) <= WORDS_MAX_N
        assert reading_ease(sentences) >= READING_EASE_MIN

    def test_rows_and_table_have_every_strategy(self, section: analysis.Section) -> None:
        rows = list(numbers._forecasts(section))
        shown = table(section, "forecasts")
        assert shown is not None and len(shown.rows) == len(rows) == 2 * len(section.strategies)
        assert {row.verdict for row in rows} <= {"cannot tell", "gain expected", "little to gain"}
        assert all(row.low is not None and row.low <= (row.estimate or 0.0) <= (row.high or 0.0) for row in rows)

    def test_stop_is_said_only_if_every_next_budget_has_little_to_gain(self, section: analysis.Section) -> None:
        name = strategy_of(section)
        little = tuple(one._replace(low=-0.01, high=0.01) for one in section.outlooks[name].forecasts)
        for made, is_said in ((little, True), ((little[0], little[1]._replace(high=0.05)), False)):
            changed = section._replace(
                outlooks={**section.outlooks, name: section.outlooks[name]._replace(forecasts=made)}
            )
            assert ("stop here" in claim(changed)[2]) is is_said

    def test_the_cost_of_a_list_that_is_not_made_is_a_bound(self) -> None:
        one = Forecast(512, 768, 0.01, 0.0, 0.03, 4, 3, 40, 0.6)
        made = Money(2.0, "EUR", False, {"random": (600,)}, (Bill("random", 768, 767, None),))
        assert extra_cost(made, "random", one) == "510.00 EUR"
        assert extra_cost(made._replace(bills=()), "random", one) == "at most 510.00 EUR"


def test_the_page_has_the_forecast_and_the_plan_says_the_same(tmp_path: Path, without_pictures: None) -> None:
    import reports

    folder = make_results(tmp_path, Recipe(items_per_task=4, seeds=(0, 1)))
    store = Store(folder.name, str(tmp_path))
    assert forecast_plan.lines(store) == []
    made = reports.render(str(folder))
    assert "What more labels may bring" in made.html
    [said] = [one for one in made.claims if one["topic"] == "More labels"]
    footer = Footer("strategy_report", notes={"claims": [*made.claims, said | {"verdict": "no forecast"}]})
    writing.write(made._replace(pictures=()), str(folder / "report"), asdict(footer))
    assert forecast_plan.lines(store) == [f"more labels (stored report): {said['short']}"]
