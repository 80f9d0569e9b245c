"""The numbers of the page, computed from stored results, in one section for each benchmark and metric.

This module decides which strategies are compared at which budgets, and which p-values are corrected together. `statistics`
computes the intervals.
"""

from typing import NamedTuple

import numpy as np

from data_contracts.cell_keys import FULL_POOL_STRATEGY
from reports import statistics
from reports.bills import Money
from reports.forecast import Outlook, outlook
from reports.power import detectable
from reports.results import Results
from reports.scores import ScoreSet
from reports.statistics import Arm, CurvePoint, Difference, Leader, Savings, Verdict
from reports.variance import FloatArray

WEIGHTED, PLAIN = "weighted_task_diversity", "task_diversity"
FULL_POOL = "full pool"  # name of this reference

Curves = dict[str, dict[int, Arm]]  # strategy → budget → scores


class Comparison(NamedTuple):
    """A strategy compared with a reference. With several budgets, the areas under the two curves are compared."""

    strategy: str
    reference: str
    budgets: tuple[int, ...]
    difference: Difference
    p_adjusted: float | None  # None for the primary comparison, which is not corrected
    verdict: Verdict
    detectable: (
        float  # true difference that a repetition would show in 80% of cases; NaN unless the verdict is "not separable"
    )


class TaskDifferences(NamedTuple):
    """Differences in score (strategy minus reference) by task at one budget, without intervals."""

    budget_n: int
    strategies: tuple[str, ...]
    tasks: tuple[str, ...]  # highest mean difference first
    values: FloatArray  # (strategies, tasks)


class Section(NamedTuple):
    """All numbers for one benchmark and one metric."""

    scores: ScoreSet
    reference: str
    named: tuple[str, ...]  # all strategies of the experiment, in the order of its file
    strategies: tuple[str, ...]  # strategies with scores
    budgets: tuple[int, ...]
    curves: dict[str, tuple[CurvePoint, ...]]
    base: Difference | None
    full_pool_n: int | None
    full_pool: Difference | None
    full_pool_gain: Difference | None  # full pool minus base model
    primary: Comparison | None
    primary_problem: str  # why the named primary comparison cannot be made; else empty
    areas: tuple[Comparison, ...]  # with the reference, and `WEIGHTED` with `PLAIN`; Holm-corrected together
    by_budget: tuple[Comparison, ...]  # with the reference; Holm-corrected together
    leaders: dict[int, Leader]
    savings_budget_n: int | None
    savings: dict[str, Savings]
    full_pool_savings: dict[str, Savings]
    against_full_pool: tuple[Comparison, ...]  # each strategy at its largest budget; Holm-corrected together
    by_task: TaskDifferences | None
    money: Money | None  # None if the experiment has no price
    outlooks: dict[str, Outlook]  # by strategy: the forecasts of the next budgets
    has_default_primary: bool = False  # the experiment file declares no primary comparison

    @property
    def says_nothing(self) -> str:
        """A sentence on why the scores cannot compare models, for example because all are 0; empty if there is no reason."""
        arms = [arm.scores for arm in self.scores.arms.values() if arm.scores.size]
        rows = np.concatenate(arms) if arms else np.zeros((0, 1))
        if not len(rows) or (rows != rows[0]).any():
            return ""
        if not rows.any():
            return "No model answered anything right: this benchmark cannot compare them."
        if (rows == 1).all():
            return "Every model answered everything right: this benchmark cannot compare them."
        return (
            "Every model has the same score on every item: this benchmark cannot compare them." if len(rows) > 1 else ""
        )

    def below_leader(self, strategy: str) -> frozenset[int]:
        """Return the budgets at which `strategy` is shown to be below the leader."""
        return frozenset(
            budget
            for budget, leader in self.leaders.items()
            if leader.can_tell and strategy in {name for name, *_ in leader.pairs} - {*leader.tied}
        )

    @property
    def area_title(self) -> str:
        """The compared quantity: a score if `primary` and all `areas` have the same single budget, else an area."""
        budgets = {one.budgets for one in (self.primary, *self.areas) if one is not None}
        if len(budgets) == 1 and len(only := budgets.pop()) == 1:
            return f"score at {only[0]:,} labels"
        return "area under the curve"

    @property
    def has_intervals_over_seeds(self) -> bool:
        return any(len(arm.seeds) > 1 for arm in self.scores.arms.values())


def sections(results: Results) -> tuple[Section, ...]:
    """Return one section for each benchmark and metric. The section of the primary comparison, if it exists, is first."""
    primary = results.experiment.primary
    first = (primary.benchmark, primary.metric) if primary else None
    ordered = sorted(results.score_sets, key=lambda one: (one.benchmark, one.metric) != first)
    return tuple(_section(results, one) for one in ordered)


def _section(results: Results, scores: ScoreSet) -> Section:
    curves_of = _curves(results, scores)
    tasks, names = scores.task_of_item, tuple(curves_of)
    reference = _reference(results, names)
    full = results.full_pool
    full_arm = scores.arms.get((FULL_POOL_STRATEGY, full.budget_n)) if full else None
    gain = statistics.compare(full_arm, scores.base, tasks) if full_arm and scores.base else None
    primary, problem = _primary(results, scores, curves_of)
    target_n = max(curves_of[reference]) if reference in curves_of else None
    budgets = tuple(sorted({budget for curve in curves_of.values() for budget in curve}))
    return Section(
        scores=scores,
        reference=reference,
        named=results.experiment.strategies,
        strategies=names,
        budgets=budgets,
        curves={name: statistics.learning_curve(curve, tasks) for name, curve in curves_of.items()},
        base=statistics.mean_score(scores.base, tasks) if scores.base else None,
        full_pool_n=full.budget_n if full else None,
        full_pool=statistics.mean_score(full_arm, tasks) if full_arm else None,
        full_pool_gain=gain,
        primary=primary,
        primary_problem=problem,
        areas=_areas(scores, curves_of, reference, primary),
        by_budget=_by_budget(scores, curves_of, reference),
        leaders={budget: statistics.tied_with_leader(_at(curves_of, budget), tasks) for budget in budgets},
        savings_budget_n=target_n,
        savings=_savings(scores, curves_of, curves_of[reference][target_n], skip=reference) if target_n else {},
        full_pool_savings=_savings(scores, curves_of, full_arm) if full_arm and gain and gain.low > 0 else {},
        against_full_pool=_against_full_pool(scores, curves_of, full_arm) if full_arm else (),
        by_task=_by_task(scores, curves_of, reference),
        money=results.money,
        outlooks={name: outlook(curve, tasks, results.budgets, results.pool_n) for name, curve in curves_of.items()},
        has_default_primary=results.experiment.primary is not None and results.experiment.primary.is_default,
    )


def _curves(results: Results, scores: ScoreSet) -> Curves:
    found = {
        name: {budget: scores.arms[name, budget] for budget in results.budgets if (name, budget) in scores.arms}
        for name in results.experiment.strategies
    }
    return {name: curve for name, curve in found.items() if curve}


def _at(curves_of: Curves, budget: int) -> dict[str, Arm]:
    return {name: curve[budget] for name, curve in curves_of.items() if budget in curve}


def _areas(scores: ScoreSet, curves_of: Curves, reference: str, primary: Comparison | None) -> tuple[Comparison, ...]:
    """Compare each strategy with the reference, and `WEIGHTED` with `PLAIN` if both have scores.

    The primary comparison is left out. A pair is left out if it has no common budgets, or if one of its strategies has no seed
    with scores at all these budgets.
    """
    pairs = [(name, reference) for name in curves_of if name != reference]
    if WEIGHTED in curves_of and PLAIN in curves_of and reference not in (WEIGHTED, PLAIN):
        pairs.append((WEIGHTED, PLAIN))
    pairs = [pair for pair in pairs if primary is None or pair != (primary.strategy, primary.reference)]
    return _corrected([area for pair in pairs if (area := _area(scores, curves_of, *pair)) is not None])


def _by_budget(scores: ScoreSet, curves_of: Curves, reference: str) -> tuple[Comparison, ...]:
    found = []
    for budget, arm in curves_of.get(reference, {}).items():
        others = {name: other for name, other in _at(curves_of, budget).items() if name != reference}
        found += [_compared(name, reference, (budget,), other, arm, scores) for name, other in others.items()]
    return _corrected(found)


def _reference(results: Results, names: tuple[str, ...]) -> str:
    """Return the reference of a section with the strategies `names`; empty if there are no strategies.

    The first of these that is in `names` becomes the reference: the strategy that the reader chose with `--reference`, the
    reference of the primary comparison, random, the first of `names`.
    """
    primary = results.experiment.primary
    wanted = [results.experiment.reference, *([primary.reference] if primary else [])]
    return next((name for name in [*wanted, "random", *names] if name in names), "")


def _primary(results: Results, scores: ScoreSet, curves_of: Curves) -> tuple[Comparison | None, str]:
    primary = results.experiment.primary
    if primary is None or (primary.benchmark, primary.metric) != (scores.benchmark, scores.metric):
        return None, ""
    problem = (
        f"The primary comparison, {primary.strategy} against {primary.reference}, cannot be made yet: "
        "there is no budget at which both are scored on a common seed."
    )
    found = _area(scores, curves_of, primary.strategy, primary.reference)
    return (None, problem) if found is None else (_with_detectable(found, 0), "")


def _area(scores: ScoreSet, curves_of: Curves, strategy: str, reference: str) -> Comparison | None:
    first, second = curves_of.get(strategy, {}), curves_of.get(reference, {})
    budgets = tuple(sorted(set(first) & set(second)))
    if not budgets or not (_shares_seeds(first, budgets) and _shares_seeds(second, budgets)):
        return None
    own, other = statistics.area_under_curve(first, budgets), statistics.area_under_curve(second, budgets)
    return _compared(strategy, reference, budgets, own, other, scores)


def _compared(
    strategy: str, reference: str, budgets: tuple[int, ...], own: Arm, other: Arm, scores: ScoreSet
) -> Comparison:
    gap = statistics.compare(own, other, scores.task_of_item)
    return Comparison(strategy, reference, budgets, gap, None, gap.verdict, float("nan"))


def _shares_seeds(curve: dict[int, Arm], budgets: tuple[int, ...]) -> bool:
    return bool(set.intersection(*(set(curve[budget].seeds) for budget in budgets)))


def _corrected(comparisons: list[Comparison]) -> tuple[Comparison, ...]:
    adjusted = statistics.holm([one.difference.p_value_cautious for one in comparisons])
    corrected_n = int(np.isfinite(adjusted).sum())
    return tuple(
        _with_detectable(
            one._replace(p_adjusted=float(p), verdict=statistics.verdict(one.difference, float(p))), corrected_n
        )
        for one, p in zip(comparisons, adjusted, strict=True)
    )


def _with_detectable(one: Comparison, comparisons_n: int) -> Comparison:
    is_needed = one.verdict == "not separable from noise"
    return one._replace(detectable=detectable(one.difference, comparisons_n)) if is_needed else one


def _savings(scores: ScoreSet, curves_of: Curves, target: Arm, skip: str = "") -> dict[str, Savings]:
    return {
        name: statistics.savings(curve, target, scores.task_of_item)
        for name, curve in curves_of.items()
        if name != skip and _shares_seeds(curve, tuple(curve))
    }


def _against_full_pool(scores: ScoreSet, curves_of: Curves, full_arm: Arm) -> tuple[Comparison, ...]:
    largest = [(name, max(curve), curve[max(curve)]) for name, curve in curves_of.items()]
    return _corrected([_compared(name, FULL_POOL, (budget,), arm, full_arm, scores) for name, budget, arm in largest])


def _by_task(scores: ScoreSet, curves_of: Curves, reference: str) -> TaskDifferences | None:
    own = curves_of.get(reference, {})
    shared = [budget for budget in own if len(_at(curves_of, budget)) > 1]
    if not shared:
        return None
    means = {name: statistics.task_means(arm, scores.task_of_item) for name, arm in _at(curves_of, max(shared)).items()}
    base_line = means.pop(reference)
    values = np.stack(list(means.values())) - base_line
    order = np.argsort(-values.mean(axis=0), kind="stable")
    return TaskDifferences(max(shared), tuple(means), tuple(scores.tasks[t] for t in order), values[:, order])
