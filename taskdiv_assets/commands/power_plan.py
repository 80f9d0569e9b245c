"""Lines of `taskdiv plan` on what the run can show: the detectable difference between two strategies, before any score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskdiv_assets.commands.benchmark_plan import BenchmarkPlan
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.storage.store import Store

if TYPE_CHECKING:
    from reports.power import Design

# The variances of the demo's primary comparison (weighted_task_diversity minus random; 3 seeds, 960 items, 24 tasks): item, seed,
# rest, as `reports.power.design_of` splits them. The area under the curve over three budgets, and the mean of single budgets.
DEMO = (0.004953, 0.00008717, 0.07012, 24, 3, 960)
DEMO_AT_ONE_BUDGET = (0.009007, 0.0001099, 0.1307, 24, 3, 960)


def lines(
    experiment: Experiment, benchmarks: Sequence[BenchmarkPlan], variance_of: str, difference: float | None
) -> list[str]:
    """Return the lines; none if the experiment compares nothing, for example without a benchmark.

    Raises:
        ValueError: `variance_of` has no scored primary comparison with two or more seeds.
    """
    if len(experiment.strategies) < 2 or experiment.base_model is None or not benchmarks:
        return []
    has_curve = len(experiment.budgets) > 1
    design, source = _design(variance_of, has_curve)
    name = experiment.primary.benchmark if experiment.primary else benchmarks[0].name
    asked_n = next((one.asked_n for one in benchmarks if one.name == name), None)
    items_n, seeds_n = asked_n or design.items_n, len(experiment.seeds)
    items = f"{items_n:,} items of {name}" + ("" if asked_n else f" (their number is not known yet; as in {source})")
    if seeds_n < 2:
        return [f"to be shown: no difference; `seeds` has one seed, and a verdict needs two or more ({items})"]
    if items_n <= design.tasks_n:
        return [f"to be shown: not known; {items} are too few for the {design.tasks_n:,} tasks of {source}"]
    from reports.power import detectable_with

    least = detectable_with(design, seeds_n, items_n)
    known = f"by the variance of {source}"
    over = "on average over the budgets" if has_curve else "at one budget"
    size = f"a difference of about {least:.3f} or more {over}" if least < 1 else "no difference that scores can have"
    found = [f"to be shown with {seeds_n} seeds and {items}: {size}, in 80% of such runs, {known}"]
    if not variance_of:
        found.append("  another pool or model has another variance; name a scored experiment with --variance-of")
    return [*found, *_needed(design, difference, seeds_n, items_n)]


def _needed(design: Design, difference: float | None, seeds_n: int, items_n: int) -> list[str]:
    if difference is None:
        return []
    from reports.power import needed_items, needed_seeds

    more_seeds, more_items = needed_seeds(design, difference, items_n), needed_items(design, difference, seeds_n)
    seeds = "no number of seeds is enough" if more_seeds is None else f"{more_seeds:,} seeds"
    items = "no number of items is enough" if more_items is None else f"{more_items:,} items"
    return [f"a difference of {difference:g} needs {seeds} with {items_n:,} items; with {seeds_n} seeds: {items}"]


def _design(variance_of: str, has_curve: bool) -> tuple[Design, str]:
    """Return the variances for an area under the curve or, without a curve, for single budgets, and their source."""
    from reports.power import Design, design_of, mean_design

    if not variance_of:
        return Design(*(DEMO if has_curve else DEMO_AT_ONE_BUDGET)), "the demo"
    from reports import analysis, results

    store = Store(variance_of)
    try:
        sections = analysis.sections(results.load(store.url))
    except FileNotFoundError:
        raise ValueError(
            f"--variance-of {variance_of}: no such experiment is stored; expected one that `taskdiv experiments list` shows"
        ) from None
    primary = sections[0].primary if sections else None
    design = None if primary is None else design_of(primary.difference)
    if design is not None and primary is not None and not has_curve:
        pair = (primary.strategy, primary.reference)
        of_budgets = [
            design_of(one.difference) for one in sections[0].by_budget if (one.strategy, one.reference) == pair
        ]
        design = mean_design([one for one in of_budgets if one is not None])
    if design is None:
        raise ValueError(
            f"--variance-of {variance_of}: its primary comparison is not scored with two or more common seeds; "
            "name another experiment, or leave the option out"
        )
    return design, variance_of
