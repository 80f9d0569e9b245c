"""The report's statistics, compared with plain definitions and tested by simulation."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

import reports.savings as savings_module
from data_contracts.shared_statistics import wilson
from reports import statistics, variance
from reports.cautious_p_values import cautious_p_value
from reports.statistics import Arm, compare
from reports.variance import Part, strata

FloatArray = NDArray[np.float64]
NOTHING = Part(0.0, 1.0)


def random_scores(
    seed: int, seeds_n: int = 3, sizes: tuple[int, ...] = (4, 7, 5)
) -> tuple[FloatArray, NDArray[np.int64]]:
    tasks = np.repeat(np.arange(len(sizes)), sizes)
    generator = np.random.default_rng(seed)
    item = generator.normal(size=len(tasks))
    return (generator.normal(size=(seeds_n, len(tasks))) + item + generator.normal(size=(seeds_n, 1))), tasks


def test_the_parts_equal_an_analysis_of_variance_written_out() -> None:
    scores, tasks = random_scores(1)
    seeds_n, tasks_n = len(scores), 3
    items_part, residual_part = 0.0, 0.0
    for task in range(tasks_n):
        block = scores[:, tasks == task]
        size, grand = block.shape[1], block.mean()
        between_items = sum((block[:, i].mean() - grand) ** 2 for i in range(size)) / (size - 1)
        interaction = sum(
            (block[s, i] - block[s].mean() - block[:, i].mean() + grand) ** 2
            for s, i in product(range(seeds_n), range(size))
        ) / ((size - 1) * (seeds_n - 1))
        items_part += between_items / size / tasks_n**2
        residual_part += interaction / (size * seeds_n) / tasks_n**2
    means = [np.mean([scores[s, tasks == task].mean() for task in range(tasks_n)]) for s in range(seeds_n)]
    seeds_part = sum((mean - np.mean(means)) ** 2 for mean in means) / (seeds_n - 1) / seeds_n
    groups = variance.strata(tasks)
    assert variance.item_part(scores.mean(axis=0), groups).variance == pytest.approx(items_part)
    assert variance.seed_part(scores, groups).variance == pytest.approx(seeds_part)
    assert variance.residual_part(scores, groups).variance == pytest.approx(residual_part)
    whole = variance.total(
        *(
            variance.item_part(scores.mean(0), groups),
            variance.seed_part(scores, groups),
            variance.residual_part(scores, groups),
        )
    )
    assert whole.variance == pytest.approx(max(items_part + seeds_part - residual_part, items_part, seeds_part))


def test_one_task_and_one_seed_is_a_one_sample_t_test() -> None:
    """Scores without skew: items that were not seen then add hardly anything."""
    half = np.random.default_rng(2).normal(0, 1, size=(1, 50))
    scores = 0.3 + np.concatenate([half, -half], axis=1)
    got = statistics.paired_difference(scores, np.zeros((1, 100)), np.zeros(100, np.int64))
    want = stats.ttest_1samp(scores[0], 0)
    interval = want.confidence_interval()
    expected = (interval.low, interval.high, want.pvalue, 99)
    assert (got.low, got.high, got.p_value, got.df) == pytest.approx(expected, rel=1e-3)
    assert not got.has_seed_uncertainty and got.verdict == "too few seeds to say"


def test_seeds_that_move_all_items_together_are_a_one_sample_t_test_over_seeds() -> None:
    """Of 4,000 items that all agree, items that were not seen add a ten-thousandth to the variance."""
    shifts = np.array([0.1, 0.25, 0.3, 0.2])
    scores = np.repeat(shifts[:, None], 4000, axis=1)
    got = statistics.paired_difference(scores, np.zeros_like(scores), np.arange(4000) // 1000)
    want = stats.ttest_1samp(shifts, 0)
    assert (got.low, got.high) == pytest.approx(tuple(want.confidence_interval()), rel=1e-3)
    assert got.p_value == pytest.approx(want.pvalue, rel=1e-3) and got.df == pytest.approx(3, rel=1e-3)
    assert got.verdict == "better"


def test_tasks_weigh_the_same_whatever_their_size() -> None:
    tasks = np.array([0] * 9 + [1])
    scores = np.array([[1.0] * 9 + [0.0]])
    assert statistics.paired_difference(scores, np.zeros((1, 10)), tasks).estimate == 0.5


def test_identical_arms_have_an_interval_and_do_not_separate() -> None:
    scores, tasks = random_scores(3)
    got = statistics.paired_difference(scores, scores, tasks)
    assert (got.estimate, got.p_value) == (0, 1) and got.high == -got.low > 3 / 16
    assert got.is_identical and got.verdict == "not separable from noise"


def test_means_that_agree_by_luck_give_no_certainty() -> None:
    """Two seeds, two items, one right each: items and seeds agree to the last digit, and the scores still vary."""
    got = statistics.paired_difference(np.eye(2), np.zeros((2, 2)), np.zeros(2, np.int64))
    assert got.estimate == 0.5 and got.low < 0 < got.high and got.p_value_cautious > 0.05
    assert got.verdict == "not separable from noise"


def test_swapping_the_arms_flips_the_sign_only() -> None:
    (a, tasks), (b, _) = random_scores(4), random_scores(5)
    there, back = statistics.paired_difference(a, b, tasks), statistics.paired_difference(b, a, tasks)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    base = Arm(b[:1])
    there, back = (
        statistics.compare(Arm(a, (0, 1, 2)), base, tasks),
        statistics.compare(base, Arm(a, (0, 1, 2)), tasks),
    )
    assert (there.estimate, there.low, there.high) == pytest.approx((-back.estimate, -back.high, -back.low))


def test_a_single_item_per_task_still_gives_an_interval_and_a_single_item_none() -> None:
    tasks = np.array([0, 1, 1, 1])
    scores = np.array([[0.0, 1, 0, 1], [0, 1, 1, 0]])
    assert np.isfinite(statistics.paired_difference(scores, np.zeros((2, 4)), tasks).low)
    every = statistics.paired_difference(scores, np.zeros((2, 4)), np.arange(4))
    assert every.standard_error >= np.sqrt(scores.mean(0).var(ddof=1) / 4)
    alone = statistics.paired_difference(np.ones((1, 1)), np.zeros((1, 1)), np.zeros(1, np.int64))
    assert np.isnan(alone.low) and alone.verdict == "too few seeds to say"


def test_the_pairing_follows_the_seeds() -> None:
    (a, tasks), (b, _) = random_scores(6), random_scores(7)
    paired = statistics.compare(Arm(a, (0, 1, 2)), Arm(b, (0, 1, 2)), tasks)
    assert paired == statistics.paired_difference(a, b, tasks)
    common = statistics.compare(Arm(a, (0, 1, 2)), Arm(b, (1, 2, 3)), tasks)
    assert common == statistics.paired_difference(a[1:], b[:2], tasks) and common.seeds_n == 2
    apart = statistics.compare(Arm(a, (0, 1, 2)), Arm(b, (7, 8, 9)), tasks)
    assert apart == statistics.paired_difference(a, b, tasks, pairing="none")
    borrowed = statistics.compare(Arm(a, (0, 1, 2)), Arm(b[:1], (0,)), tasks)
    assert borrowed.is_borrowed and borrowed.has_seed_uncertainty
    alone = statistics.compare(Arm(a[:1], (0,)), Arm(b[:1], (0,)), tasks)
    assert not alone.has_seed_uncertainty


@pytest.mark.parametrize(
    ("a", "b", "pairing", "words"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), "seeds", r"shape \(2, 3\); expected \(seeds, 4\)"),
        (np.zeros((2, 4)), np.zeros((3, 4)), "seeds", "2 seeds and b 3"),
        (np.zeros((2, 4)), np.zeros((2, 4)), "fixed", "one row"),
        (np.full((2, 4), np.nan), np.zeros((2, 4)), "seeds", "8 scores that are not numbers"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    a: FloatArray, b: FloatArray, pairing: statistics.Pairing, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        statistics.paired_difference(a, b, np.zeros(4, np.int64), pairing=pairing)


# Coverage. docs/STATISTICS.md has more settings and draws: .93 to .97, and up to .985 with three seeds that have no effect.
# 1,000 draws of a fixed seed add a standard error of .007; hence .92 to .99.
@pytest.mark.parametrize(
    ("seeds_n", "item_sd", "seed_sd", "task_seed_sd", "rest_sd"),
    [
        (3, 0.3, 0.0, 0.0, 0.4),
        (3, 0.3, 0.03, 0.02, 0.4),
        (5, 0.3, 0.02, 0.03, 0.3),
        (3, 0.1, 0.06, 0.0, 0.1),
        (10, 0.2, 0.01, 0.05, 0.5),
    ],
)
def test_intervals_cover_the_truth(
    seeds_n: int, item_sd: float, seed_sd: float, task_seed_sd: float, rest_sd: float
) -> None:
    generator, tasks, draws_n = np.random.default_rng(8), np.repeat(np.arange(8), 20), 1000
    covered = 0
    for _ in range(draws_n):
        scores = 0.1 + item_sd * generator.normal(size=160) + seed_sd * generator.normal(size=(seeds_n, 1))
        scores = (
            scores
            + task_seed_sd * generator.normal(size=(seeds_n, 8))[:, tasks]
            + rest_sd * generator.normal(size=(seeds_n, 160))
        )
        got = statistics.paired_difference(scores, np.zeros((1, 160)), tasks, pairing="fixed")
        covered += got.low <= 0.1 <= got.high
    assert 0.92 <= covered / draws_n <= 0.99


def test_unpaired_seeds_cover_the_truth() -> None:
    generator, tasks, draws_n, covered = np.random.default_rng(9), np.repeat(np.arange(8), 20), 1000, 0
    for _ in range(draws_n):
        item = 0.3 * generator.normal(size=160)
        a, b = (item + 0.03 * generator.normal(size=(n, 1)) + 0.3 * generator.normal(size=(n, 160)) for n in (4, 3))
        got = statistics.paired_difference(a, b, tasks, pairing="none")
        covered += got.low <= 0 <= got.high
    assert 0.92 <= covered / draws_n <= 0.99


def test_area_under_curve_matches_the_trapezoids_written_out() -> None:
    arms = {budget: Arm(random_scores(budget)[0], (0, 1, 2)) for budget in (128, 256, 1024)}
    low, middle, high = (arms[budget].scores for budget in (128, 256, 1024))
    want = (1 * (low + middle) / 2 + 2 * (middle + high) / 2) / 3  # widths 1 and 2 in log₂
    assert np.allclose(statistics.area_under_curve(arms).scores, want)
    assert np.allclose(statistics.area_under_curve(arms, [256]).scores, middle)
    arms[256] = arms[256].at((0, 2))
    assert statistics.area_under_curve(arms).seeds == (0, 2)


def test_holm_equals_its_step_down_definition() -> None:
    values = np.random.default_rng(10).uniform(0, 0.1, size=7)
    for alpha in np.linspace(0.001, 0.5, 50):
        rejected: set[int] = set()
        for step, index in enumerate(np.argsort(values)):
            if values[index] > alpha / (7 - step):
                break
            rejected.add(int(index))
        assert {int(i) for i in np.flatnonzero(statistics.holm(list(values)) <= alpha)} == rejected
    got = statistics.holm([0.01, float("nan"), 0.04])
    assert got[[0, 2]] == pytest.approx([0.02, 0.04]) and np.isnan(got[1])
    assert len(statistics.holm([])) == 0


def straight_curve(
    levels: dict[int, float], seeds_n: int = 4, noise: float = 0.05
) -> tuple[dict[int, Arm], NDArray[np.int64]]:
    """Return arms whose macro means are exactly `levels`: the noise is centred over seeds and items."""
    tasks = np.repeat(np.arange(4), 10)
    generator = np.random.default_rng(11)
    arms = {}
    for budget, level in levels.items():
        rest = generator.normal(0, noise, size=(seeds_n, 40)) + generator.normal(0, 0.01, size=(seeds_n, 1))
        arms[budget] = Arm(level + rest - rest.mean(), tuple(range(seeds_n)))
    return arms, tasks


def test_savings_finds_the_first_crossing_of_the_line() -> None:
    curve, tasks = straight_curve({128: 0.4, 256: 0.6, 512: 0.8})
    reference, _ = straight_curve({512: 0.7})
    got = statistics.savings(curve, reference[512], tasks)
    assert got.low_n is not None and got.labels_n is not None and got.high_n is not None
    assert got.labels_n == pytest.approx(256 * 2**0.5)
    assert 128 < got.low_n < got.labels_n < got.high_n < 512


def test_the_savings_set_is_where_the_interval_holds_zero() -> None:
    curve, tasks = straight_curve({128: 0.4, 512: 0.8}, noise=0.2)
    target = straight_curve({512: 0.6})[0][512]
    got = statistics.savings(curve, target, tasks)
    assert got.low_n is not None and got.high_n is not None
    for budget, is_inside in (
        (got.low_n * 1.03, True),  # the grid's steps are 2% here, and the ends lie outside the set
        (got.low_n * 0.999, False),
        (got.high_n * 0.93, True),
        (got.high_n * 1.001, False),
    ):
        share = np.log2(budget / 128) / 2
        between = Arm((1 - share) * curve[128].scores + share * curve[512].scores, (0, 1, 2, 3))
        difference = statistics.compare(between, target, tasks)
        assert (difference.low <= 0 <= difference.high) == is_inside


def test_savings_may_be_open_or_not_reached() -> None:
    curve, tasks = straight_curve({128: 0.4, 256: 0.5})

    def aim(level: float) -> statistics.Savings:
        return statistics.savings(curve, straight_curve({512: level})[0][512], tasks)

    far, near, low = aim(0.9), aim(0.505), aim(0.2)
    assert not far.is_reached and far.is_empty and far.high_n is None
    assert not near.is_reached and not near.is_empty and near.high_n is None and near.low_n is not None
    assert low.is_reached_at_first and low.low_n is None and low.high_n == 128


def test_the_reference_needs_its_own_largest_budget() -> None:
    curve, tasks = straight_curve({128: 0.4, 256: 0.5, 512: 0.7})
    assert statistics.savings(curve, curve[512], tasks).labels_n == pytest.approx(512)


def test_nobody_is_crowned_inside_overlapping_intervals() -> None:
    tasks = np.repeat(np.arange(4), 10)
    high, _ = straight_curve({1: 0.8, 2: 0.795, 3: 0.3}, noise=0.1)
    best = statistics.tied_with_leader({"a": high[1], "b": high[2], "c": high[3]}, tasks)
    assert best.name == "a" and best.tied == ("b",) and not best.is_single
    assert statistics.tied_with_leader({"a": high[1], "c": high[3]}, tasks).is_single
    alone = statistics.tied_with_leader({"a": high[1].at((0,)), "c": high[3].at((0,))}, tasks)
    assert not alone.can_tell and not alone.is_single


def test_the_leader_is_found_on_the_seeds_that_all_have() -> None:
    """By all its seeds, `a` has the higher mean; on the seeds that both have, `b` is clearly better."""
    generator = np.random.default_rng(4)
    tasks = np.repeat(np.arange(4), 30)
    base = generator.normal(0.5, 0.05, (7, 120))
    a = Arm(base + np.array([0.4, 0.4, 0.4, 0, 0, 0, 0])[:, None], tuple(range(7)))
    b = Arm(base[3:] + 0.1 + generator.normal(0, 0.02, (4, 120)), (3, 4, 5, 6))
    assert a.scores.mean() > b.scores.mean()
    leader = statistics.tied_with_leader({"a": a, "b": b}, tasks)
    assert leader.name == "b" and leader.is_single


def test_a_learning_curve_is_the_mean_at_each_budget_cut_to_scores() -> None:
    arms, tasks = straight_curve({256: 0.999, 128: 0.5}, noise=0.2)
    points = statistics.learning_curve(arms, tasks)
    assert [point.budget_n for point in points] == [128, 256]
    assert points[0].mean.estimate == pytest.approx(0.5)
    assert points[0].seed_means.mean() == pytest.approx(0.5)
    assert points[1].mean.high > 1  # these scores leave 0..1, as pseudo-values of length control do
    inside = {budget: arm._replace(scores=np.clip(arm.scores, 0, 1)) for budget, arm in arms.items()}
    assert statistics.learning_curve(inside, tasks)[1].mean.high <= 1
    far = statistics.mean_score(Arm(np.array([[-0.5, 0.1, 0.3], [-0.6, 0.2, 0.2]]), (0, 1)), np.zeros(3, int))
    assert far.low < far.estimate < 0 < far.high


def test_one_arm_alone_is_not_the_best_of_any() -> None:
    arms, tasks = straight_curve({1: 0.5}, noise=0.1)
    best = statistics.tied_with_leader({"a": arms[1]}, tasks)
    assert best.name == "a" and not best.can_tell and not best.is_single and best.pairs == ()


def part(df: float) -> st.SearchStrategy[Part]:
    return st.builds(Part, st.floats(0, 10), st.just(df))


@given(part(30), part(4), part(120))
def test_the_variance_is_never_below_items_or_seeds_and_the_df_belong_to_what_is_in_it(
    items: Part, seeds: Part, residual: Part
) -> None:
    whole = variance.total(items, seeds, residual)
    assert whole.variance >= max(items.variance, seeds.variance) and whole.df >= 1
    if max(items.variance, seeds.variance) <= 1e-12 * residual.variance:
        assert whole == residual
    elif seeds.variance <= min(residual.variance, items.variance):
        assert whole == pytest.approx(items)  # five seeds show no effect: the items' own interval
    with_three = variance.total(items, seeds._replace(df=2.0), residual)
    assert with_three.variance == whole.variance
    # A tenth of 1 / df is that of the seeds, 1 / 2.
    assert with_three == whole == residual or with_three.df <= 20 + 1e-9


@settings(max_examples=50)
@given(st.floats(0.01, 20), st.floats(0.001, 5), st.floats(0.0, 5), st.floats(0, 5), st.integers(1, 12))
def test_the_cautious_p_value_is_where_banerjees_reach_meets_the_estimate(
    estimate: float, items: float, seeds: float, residual: float, df: int
) -> None:
    """Second definition: the reach at that p, by scipy's own quantiles, is the estimate; alone, the parts are t tests."""
    p_value = cautious_p_value(estimate, Part(items, 50), (Part(seeds, df),), Part(residual, 50 * df), NOTHING)
    alone = 2 * stats.t.sf(estimate / np.sqrt(items), 50)
    assert p_value >= alone * (1 - 1e-6)
    if 1e-12 < p_value < 0.9 and p_value > alone * (1 + 1e-5):
        reach = stats.t.isf(p_value / 2, 50) ** 2 * max(0, items - residual) + stats.t.isf(p_value / 2, df) ** 2 * seeds
        assert np.sqrt(reach) == pytest.approx(estimate, rel=1e-4)
    assert (
        p_value
        <= cautious_p_value(estimate * 0.9, Part(items, 50), (Part(seeds, df),), Part(residual, 50 * df), NOTHING)
        + 1e-9
    )


def test_the_cautious_p_value_of_seeds_alone_is_a_t_test_over_seeds() -> None:
    shifts, tasks = np.array([0.1, 0.25, 0.3, 0.2]), np.arange(4000) // 1000
    scores = np.repeat(shifts[:, None], 4000, axis=1)
    got = statistics.paired_difference(scores, np.zeros_like(scores), tasks)
    assert got.p_value_cautious == pytest.approx(stats.ttest_1samp(shifts, 0).pvalue, rel=1e-3)
    one_seed = statistics.paired_difference(scores[:1], scores[1:2], tasks)
    assert one_seed.p_value_cautious == one_seed.p_value
    same = statistics.paired_difference(scores, scores, tasks)
    assert same.p_value_cautious == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.sampled_from(["seeds", "none"]))
def test_the_cautious_p_value_is_never_below_the_intervals_own(
    seed: int, seeds_n: int, pairing: statistics.Pairing
) -> None:
    (a, tasks), (b, _) = random_scores(seed, seeds_n), random_scores(seed + 1, seeds_n)
    got = statistics.paired_difference(a, b, tasks, pairing=pairing)
    assert 0 < got.p_value <= got.p_value_cautious <= 1
    assert (got.p_value < 0.05) == (got.low > 0 or got.high < 0)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.floats(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilsons_interval_inverts_the_score_test(counts: tuple[float, int], level: float) -> None:
    """At each inner end the score test is just on the edge; the ends hold the share and stay within 0..1."""
    share, n, z = counts[0] / counts[1], counts[1], float(stats.norm.ppf(0.5 + level / 2))
    low, high = map(float, wilson(share, n, z))
    assert 0 <= low <= share <= high <= 1 and low < high
    for end in (low, high):
        if 1e-6 < end < 1 - 1e-6:
            assert abs(share - end) / np.sqrt(end * (1 - end) / n) == pytest.approx(z, rel=1e-4)
    mirrored = wilson((n - counts[0]) / n, n, z)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 20), (1, 20), (13, 20), (20, 20), (5, 5)])
def test_wilsons_interval_is_scipys(k: int, n: int) -> None:
    want = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k / n, n) == pytest.approx((want.low, want.high), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 4), (float("nan"), 4)])
def test_wilsons_interval_refuses_what_is_no_count(k: float, n: int) -> None:
    with pytest.raises(ValueError, match=r"expected shares in 0..1 of at least one item"):
        wilson(k / max(1, n), n)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 3), st.sampled_from([0.05, 0.1]))
def test_equivalence_is_the_narrower_interval_within_the_margin(seed: int, margin: float, alpha: float) -> None:
    """Two one-sided tests at alpha reject exactly where the interval at 1 − 2 alpha lies within ±margin."""
    (a, tasks), (b, _) = random_scores(seed, 4), random_scores(seed + 1, 4)
    got = statistics.equivalence(statistics.paired_difference(a, b, tasks), margin, alpha)
    narrower = statistics.paired_difference(a, b, tasks, level=1 - 2 * alpha)
    assert (got.low, got.high) == pytest.approx((narrower.low, narrower.high))
    assert got.is_shown == (-margin < narrower.low and narrower.high < margin) == (got.p_value < alpha)
    back = statistics.equivalence(statistics.paired_difference(b, a, tasks), margin, alpha)
    assert back.p_value == pytest.approx(got.p_value)


def test_equivalence_in_words_and_what_cannot_show_it() -> None:
    scores, tasks = random_scores(12, sizes=(200, 200))
    same = statistics.paired_difference(scores, scores, tasks)
    assert statistics.equivalence(same).verdict == "equivalent within ±0.02"
    far = statistics.paired_difference(scores + 0.5, scores, tasks)
    assert statistics.equivalence(far).verdict == "not shown"
    one_seed = statistics.paired_difference(scores[:1], scores[:1], tasks)
    assert not statistics.equivalence(one_seed).is_shown
    alone = statistics.paired_difference(np.ones((1, 1)), np.zeros((1, 1)), np.zeros(1, np.int64))
    got = statistics.equivalence(alone)
    assert np.isnan(got.p_value) and got.verdict == "not shown"
    for margin in (0.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="margin is"):
            statistics.equivalence(same, margin)


@pytest.mark.parametrize(
    ("target_seeds", "sizes"), [((0, 1, 2), (3, 5)), ((7,), (3, 5)), ((0,), (1, 4)), ((0, 2), (2, 2))]
)
def test_points_between_budgets_are_those_of_the_scores_written_out(target_seeds, sizes) -> None:
    """Labels saved are found by sums that are quadratic between two budgets; here every point's scores are made and compared."""
    random = np.random.default_rng(len(target_seeds))
    tasks = np.repeat(np.arange(len(sizes)), sizes)
    rows = [random.random((3, len(tasks))) for _ in range(3)]
    target = Arm(random.random((len(target_seeds), len(tasks))), target_seeds)
    curve = {budget: Arm(scores, (0, 1, 2)) for budget, scores in zip((8, 16, 64), rows, strict=True)}
    shared = tuple(sorted({0, 1, 2} & set(target_seeds)))
    own = [curve[budget].at(shared).scores if len(shared) > 1 else curve[budget].scores for budget in (8, 16, 64)]
    factor = 1 if len(shared) > 1 else 4
    against = target.at(shared).scores if len(shared) > 1 else target.scores
    found = savings_module._along(own, against, strata(tasks), 0.95, factor)
    logs = np.log2([8.0, 16.0, 64.0])
    grid = savings_module._grid(logs)
    assert len(found) == len(grid)
    for gap, point in zip(found, grid, strict=True):
        arm = Arm(savings_module._interpolate(rows, logs, point), (0, 1, 2))
        plain = compare(arm, target, tasks)
        assert (gap.estimate, gap.low, gap.high) == pytest.approx((plain.estimate, plain.low, plain.high), abs=1e-12)
        assert (gap.has_seed_uncertainty, gap.seeds_n) == (plain.has_seed_uncertainty, plain.seeds_n)


def test_a_mean_that_cannot_be_estimated_has_no_interval() -> None:
    """One item: not 0 to 1, which would say that something is known."""
    mean = statistics.mean_score(Arm(np.array([[1.0]])), np.array([0]))
    assert np.isnan(mean.low) and np.isnan(mean.high) and mean.estimate == 1.0
