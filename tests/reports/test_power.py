"""Detectable differences: the rules of the verdict turned round, and the stated power against drawn scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import power, statistics, variance
from reports.cautious_p_values import cautious_p_value
from reports.difference import Parts, interval_of
from reports.power import ALPHA, Repeated, design_of, detectable, detectable_with, needed_items, needed_seeds
from reports.statistics import Arm
from reports.variance import Part
from tests.evidence.stated_power import LAB, powered


def a_part(df: st.SearchStrategy[float]) -> st.SearchStrategy[Part]:
    return st.builds(Part, st.floats(1e-7, 1e-2), df)


@settings(max_examples=60)
@given(
    a_part(st.floats(5, 900)),
    st.lists(a_part(st.sampled_from([1.0, 2.0, 4.0, 9.0])), min_size=1, max_size=2),
    a_part(st.floats(5, 4000)),
    a_part(st.floats(5, 900)),
    st.sampled_from([0, 1, 4, 12]),
)
def test_the_threshold_is_where_the_verdict_turns(
    items: Part, seeds: list[Part], residual: Part, unseen: Part, comparisons_n: int
) -> None:
    """The rules are written for many repetitions at once. `variance` and `cautious_p_values` have them for one."""
    whole = variance.with_unseen(variance.total(items, variance.add(*seeds), residual), unseen)
    many = [Repeated(np.full(2, part.variance), part.df) for part in (items, residual, *seeds)]
    limit = float(power.threshold(many[0], many[1], tuple(many[2:]), unseen, comparisons_n)[0])
    p_values = [interval_of(limit, whole, 0.95)[2]]
    if comparisons_n:
        p_values.append(cautious_p_value(limit, items, tuple(seeds), residual, unseen))
    assert max(p_values) == pytest.approx(ALPHA / max(1, comparisons_n), rel=1e-3)


def gap(shift: float = 0.0, seeds_n: int = 5, seed: int = 0) -> statistics.Difference:
    generator = np.random.default_rng(seed)
    tasks = np.repeat(np.arange(6), 20)
    rows = generator.normal(0.5, 0.2, (2, seeds_n, 120)) + generator.normal(0, 0.03, (2, seeds_n, 1))
    first, second = (Arm(one, tuple(range(seeds_n))) for one in rows)
    return statistics.compare(Arm(first.scores + shift, first.seeds), second, tasks)


def test_it_depends_on_the_variance_alone_and_grows_with_the_comparisons() -> None:
    alone = detectable(gap())
    assert detectable(gap(0.3)) == pytest.approx(alone, rel=1e-9), "the estimate has no part in it"
    assert alone < detectable(gap(), 1) < detectable(gap(), 4) < detectable(gap(), 60)
    assert detectable(gap(), power=0.6) < alone < detectable(gap(), power=0.95)
    assert detectable(gap(seeds_n=10)) < alone < detectable(gap(seeds_n=3))


def test_one_seed_has_no_detectable_difference() -> None:
    assert np.isnan(detectable(gap(seeds_n=1))) and design_of(gap(seeds_n=1)) is None


def test_the_stated_power_holds() -> None:
    """300 draws of the lab's noise: 80% within three standard errors. docs/STATISTICS.md has 1,000 draws of many settings."""
    found = powered(LAB, 5, 0, 300, np.random.default_rng(3)).shown
    assert abs(found.value - 0.8) < 3 * 0.0231


class TestPlanned:
    design = design_of(gap())
    assert design is not None

    def test_the_same_numbers_give_about_the_same_difference(self) -> None:
        assert detectable_with(self.design, 5, 120) == pytest.approx(detectable(gap()), rel=0.15)

    def test_more_seeds_and_items_show_less(self) -> None:
        sizes = [detectable_with(self.design, seeds_n, 120) for seeds_n in (2, 3, 5, 10, 40)]
        assert sizes == sorted(sizes, reverse=True)
        assert detectable_with(self.design, 5, 1200) < detectable_with(self.design, 5, 120)

    def test_the_needed_numbers_are_the_smallest_that_are_enough(self) -> None:
        seeds_n = needed_seeds(self.design, 0.03, 120)
        assert seeds_n is not None
        assert detectable_with(self.design, seeds_n, 120) <= 0.03 < detectable_with(self.design, seeds_n - 1, 120)
        items_n = needed_items(self.design, 0.06, 10)
        assert items_n is None or detectable_with(self.design, 10, items_n) <= 0.06

    def test_seeds_alone_cannot_remove_the_items(self) -> None:
        few = self.design._replace(item=1.0)
        assert needed_seeds(few, 0.001, 120) is None

    def test_it_refuses_what_gives_no_verdict(self) -> None:
        for seeds_n, items_n in ((1, 120), (5, 6)):
            with pytest.raises(ValueError, match="at least 2 seeds and more than 6 items"):
                detectable_with(self.design, seeds_n, items_n)


def test_parts_are_what_a_comparison_has() -> None:
    parts = gap().parts
    assert isinstance(parts, Parts) and len(parts.seeds) == 1
