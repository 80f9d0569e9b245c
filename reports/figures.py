"""Figures of the results. Each public function returns a matplotlib Figure and writes no file."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import forecast_sentences, svg
from reports.analysis import Comparison, Section, TaskDifferences
from reports.forecast import Forecast
from reports.looks import End, Look, end_labels, is_uneven, looks, root_scale, width_beside
from reports.statistics import EQUIVALENCE_MARGIN, CurvePoint, Difference
from reports.svg import INK, MUTED, SURFACE
from reports.tiles import grid_labels, named, picked, tile
from reports.words import clean


def learning_curves(section: Section) -> Figure:
    """Draw mean score against log₂ budget with 95% bands. Each small dot is one seed.

    A mark is hollow if the strategy is shown to be below the leader at this budget. One strategy goes on with its forecast.
    """
    with svg.style():
        figure = Figure(figsize=(8.4, 4.6))
        names = [*section.curves, *(label for label, _ in _levels(section))]
        axes = figure.add_axes((0.075, 0.12, width_beside(names), 0.83))
        look = looks(section.named, section.reference)
        ticks = np.log2(section.budgets) if section.budgets else np.zeros(1)
        left, right = float(ticks[0]) - 0.12, float(ticks[-1]) + 0.12
        step = 0.012 * max(1.0, float(ticks[-1] - ticks[0]))
        ends = [
            _curve(
                axes,
                name,
                points,
                look[name],
                (place - (len(section.curves) - 1) / 2) * step,
                section.below_leader(name),
            )
            for place, (name, points) in enumerate(section.curves.items())
        ]
        marks = {float(tick): budget for tick, budget in zip(ticks, section.budgets, strict=False)}
        if ahead := forecast_sentences.continuation(section):
            place, colour = list(section.curves).index(ahead[0]), look[ahead[0]].colour
            ends[place] = _continued(axes, ahead[0], ahead[1], colour)
            right = max(right, ends[place].x + 0.12)
            marks |= {float(np.log2(one.budget_n)): one.budget_n for one in ahead[1]}
        ends += [_level(axes, label, line, right) for label, line in _levels(section)]
        axes.set_xlim(left, right)
        axes.set_xticks(list(marks) or [0.0], [f"{budget:,}" for budget in marks.values()] or [""])
        axes.set_xlabel("labels (log₂ scale)")
        axes.set_ylabel(f"{clean(section.scores.label, 32)}, mean over tasks")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.margins(y=0.06)
        _inside_scores(axes)
        end_labels(axes, ends)
        return figure


def _inside_scores(axes: Axes) -> None:
    low, high = axes.get_ylim()
    if low < -0.02:
        axes.set_ylim(-0.02, max(high, 0.1))
    if high > 1.02:
        axes.set_ylim(axes.get_ylim()[0], 1.02)


def _curve(
    axes: Axes, name: str, points: Sequence[CurvePoint], look: Look, shift: float, hollow: Collection[int]
) -> End:
    """Draw band, line and dots of one strategy, with hollow marks at the budgets `hollow`.

    `shift` moves the dots sideways, so that they do not cover other dots.
    """
    x = np.log2([point.budget_n for point in points])
    mean = np.array([point.mean.estimate for point in points])
    low, high = (np.array([getattr(point.mean, end) for point in points]) for end in ("low", "high"))
    colour, marker, dash = look
    if len(points) > 1:
        axes.fill_between(x, low, high, color=colour, alpha=0.09, linewidth=0)
    else:
        axes.vlines(x, low, high, color=colour, alpha=0.75, linewidth=2.5)
    axes.plot(x, mean, color=colour, marker=marker, linestyle=dash, markersize=5.5, markeredgecolor=SURFACE,
              markeredgewidth=0.8, zorder=4)  # fmt: skip
    is_hollow = np.array([point.budget_n in hollow for point in points])
    axes.plot(x[is_hollow], mean[is_hollow], color=colour, marker=marker, linestyle="", markersize=5.5,
              markerfacecolor=SURFACE, markeredgewidth=1.3, zorder=5)  # fmt: skip
    dots_x = np.concatenate([np.full(len(point.seed_means), at) for point, at in zip(points, x, strict=True)])
    dots_y = np.concatenate([point.seed_means for point in points])
    axes.plot(dots_x + shift, dots_y, linestyle="", marker=marker, markersize=2.6, color=colour, alpha=0.75,
              markeredgewidth=0, zorder=3)  # fmt: skip
    return End(name, float(x[-1]), float(mean[-1]), colour)


def _continued(axes: Axes, name: str, forecasts: Sequence[Forecast], colour: str) -> End:
    """Draw a thin dashed line with its band from the largest scored budget on, beside a line that separates it."""
    first = forecasts[0]
    x = np.log2([first.largest_n, *(one.budget_n for one in forecasts)])
    gains = np.array([(0.0, 0.0, 0.0), *((one.low, one.gain, one.high) for one in forecasts)]) + first.score
    axes.fill_between(x, gains[:, 0], gains[:, 2], color=colour, alpha=0.09, linewidth=0, zorder=1)
    axes.plot(x, gains[:, 1], color=colour, linestyle=(0, (2.0, 2.0)), linewidth=1, zorder=2)
    axes.axvline(x[0] + 0.06, color=MUTED, linewidth=0.7, linestyle=(0, (1.0, 2.0)))
    axes.text(x[0] + 0.1, 0.985, "forecast", transform=axes.get_xaxis_transform(), color=MUTED, fontsize=9, va="top")
    return End(name, float(x[-1]), float(gains[-1, 1]), colour)


def _level(axes: Axes, label: str, line: Difference, right: float) -> End:
    dash = (0, (1.0, 2.0)) if label == "base model" else (0, (6.0, 2.0, 1.0, 2.0))
    if np.isfinite(line.low):
        axes.axhspan(line.low, line.high, color=MUTED, alpha=0.08, linewidth=0)
    axes.axhline(line.estimate, color=MUTED, linestyle=dash, linewidth=1.2)
    return End(label, right, line.estimate, MUTED)


def _levels(section: Section) -> list[tuple[str, Difference]]:
    lines = [("base model", section.base), (f"full pool, {section.full_pool_n or 0:,} labels", section.full_pool)]
    return [(label, line) for label, line in lines if line is not None and np.isfinite(line.estimate)]


def forest(section: Section, areas: Sequence[Comparison]) -> Figure:
    """Draw paired differences with 95% intervals: areas under the curve first, then each budget."""
    reference, area_title, by_budget = section.reference, section.area_title, section.by_budget
    groups: list[tuple[str, list[Comparison]]] = []
    for other in dict.fromkeys(one.reference for one in areas):
        short = "area" if area_title.startswith("area") else "score"
        title = area_title if other == reference else f"{short}, against {clean(other, 28)}"
        groups.append((title, [one for one in areas if one.reference == other]))
    for budget in sorted({one.budgets for one in by_budget}):
        groups.append((f"{budget[0]:,} labels", [one for one in by_budget if one.budgets == budget]))
    return forest_of(groups, section.named, reference)


def forest_of(groups: Sequence[tuple[str, Sequence[Comparison]]], named: Sequence[str], reference: str) -> Figure:
    """Draw groups of paired differences with 95% intervals, each group under its title.

    `named` has all strategies in the order of their looks. Verdicts are beside the names, so that they are visible on a narrow
    screen without scrolling.
    """
    rows_n = sum(len(members) + 1.3 for _, members in groups)
    with svg.style():
        height = 0.235 * rows_n + 0.75
        figure = Figure(figsize=(8.4, height))
        axes = figure.add_axes((0.555, 0.5 / height, 0.42, 1 - 0.6 / height))
        look, y = looks(named, reference), 0.0
        axes.axvspan(-EQUIVALENCE_MARGIN, EQUIVALENCE_MARGIN, color=MUTED, alpha=0.1, linewidth=0)
        axes.axvline(0, color=MUTED, linewidth=1)
        for title, members in groups:
            axes.text(-1.32, y, title, transform=axes.get_yaxis_transform(), fontsize=9.5, color=INK, va="center",
                      fontweight="bold")  # fmt: skip
            y += 1
            for one in members:
                _forest_row(axes, one, look[one.strategy], y)
                y += 1
            y += 0.3
        axes.set_ylim(y - 0.5, -0.7)
        axes.margins(x=0.06)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        has_others = any(one.reference != reference for _, members in groups for one in members)
        heading = ", or whom the heading names" if has_others else ""
        sides = f"left: below, right: above {clean(reference, 28)}{heading}"
        axes.set_xlabel(f"difference in score ({sides})", loc="right")
        return figure


def _forest_row(axes: Axes, one: Comparison, look: Look, y: float) -> None:
    gap = one.difference
    axes.plot([gap.low, gap.high], [y, y], color=look.colour, linewidth=2, linestyle="-", solid_capstyle="butt")
    is_clear = one.verdict in ("better", "worse")
    axes.plot([gap.estimate], [y], color=look.colour, marker=look.marker, markersize=6.5, markeredgewidth=1.6,
              markerfacecolor=look.colour if is_clear else SURFACE)  # fmt: skip
    across = axes.get_yaxis_transform()
    axes.text(-1.295, y, clean(one.strategy, 34), transform=across, fontsize=9, color=look.colour, va="center")
    axes.text(-0.56, y, one.verdict, transform=across, fontsize=9, color=INK if is_clear else MUTED, va="center")


def task_heat_map(differences: TaskDifferences, marks: Mapping[str, str]) -> Figure:
    """Draw a tile for each strategy and task (`tiles.ROWS_MAX_N` tasks at most): blue if above the reference, else vermillion.

    `marks` maps tasks to words that are added to the names of these tasks.
    """
    tasks = picked(differences.tasks, differences.values)
    columns = [differences.tasks.index(task) for task in tasks]
    reach = float(np.abs(differences.values).max()) or 1.0
    with svg.style():
        width, height = 3.0 + 1.35 * len(differences.strategies), 0.235 * len(tasks) + 0.55
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((2.55 / width, 0.05 / height, 1 - 2.6 / width, 1 - 0.55 / height))
        for row, column in enumerate(columns):
            for place in range(len(differences.strategies)):
                value = float(differences.values[place, column])
                tile(axes, place, row, value / reach, f"{round(value, 2) + 0.0:+.2f}".replace("-", "−"))
        grid_labels(axes, differences.strategies, [named(task, marks) for task in tasks])
        return figure


def overlap_heat_map(strategies: Sequence[str], shares: Mapping[tuple[str, str], float]) -> Figure:
    """Draw for each pair of strategies the share of chosen prompts in common. The diagonal compares the seeds of one strategy."""
    names = [name for name in strategies if (name, name) in shares]
    with svg.style():
        width, height = 2.6 + 1.15 * len(names), 0.3 * len(names) + 0.55
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((2.35 / width, 0.05 / height, 1 - 2.4 / width, 1 - 0.55 / height))
        for row, first in enumerate(names):
            for place, second in enumerate(names):
                share = shares.get((first, second))
                if share is not None and math.isfinite(share):
                    tile(axes, place, row, share, f"{share:.2f}")
        grid_labels(axes, names, [clean(name, 26) for name in names])
        return figure


def allocation(
    counts: Mapping[str, Mapping[str, float]],
    task_sizes: Mapping[str, int],
    reference: str,
    strategies: Sequence[str],
    budget_n: int,
) -> Figure:
    """Draw the number of prompts chosen from each task against the task's size in the pool, at one budget.

    If one task gets many times as many prompts as the others, the vertical axis has a square-root scale, and the figure shows
    the name of that task and its number of prompts.
    """
    with svg.style():
        figure = Figure(figsize=(8.4, 3.9))
        axes = figure.add_axes((0.075, 0.14, width_beside([*counts, "in proportion to the pool"]), 0.82))
        look = looks(strategies, reference)
        sizes = np.array(sorted(task_sizes.values()), dtype=float)
        line = np.geomspace(max(1.0, sizes[0]), max(1.0, sizes[-1]), 60)  # many points, because it is curved
        axes.plot(line, line * budget_n / max(1.0, sizes.sum()), color=MUTED, linewidth=1, linestyle=(0, (1.0, 2.0)))
        ends = [End("in proportion to the pool", float(sizes[-1]), float(sizes[-1] * budget_n / sizes.sum()), MUTED)]
        largest: dict[str, float] = {}
        for name, by_task in counts.items():
            pairs = sorted((task_sizes[task], by_task.get(task, 0.0)) for task in task_sizes)
            x, y = np.array(pairs, dtype=float).T
            colour, marker, _ = look[name]
            axes.plot(x, y, linestyle="", marker=marker, color=colour, markersize=5, alpha=0.85, markeredgewidth=0)
            ends.append(End(name, float(x[-1]), float(y[-1]), colour))
            if is_uneven(list(by_task.values())):
                task = max(by_task, key=lambda one: (by_task[one], one))
                largest[task] = max(by_task[task], largest.get(task, 0.0))
        _size_axis(axes, sizes)
        scale = ""
        if largest:
            scale = f" ({root_scale(axes.yaxis, max(*largest.values(), float(line[-1] * budget_n / sizes.sum())))})"
            axes.set_ylim(top=1.2 * axes.get_ylim()[1])
        axes.set_ylim(bottom=0)
        for task, count in largest.items():
            axes.annotate(f"{clean(task, 24)}: {count:,.0f}", (task_sizes[task], count), xytext=(0, 6), color=MUTED,
                          textcoords="offset points", ha="center", va="bottom", fontsize=9)  # fmt: skip
        axes.set_ylabel(f"prompts chosen, of {budget_n:,}{scale}")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        end_labels(axes, ends)
        return figure


def _size_axis(axes: Axes, sizes: np.ndarray) -> None:
    axes.set_xscale("log", base=2)
    first, last = (np.log2(max(1.0, float(size))) for size in (sizes[0], sizes[-1]))
    ticks = [2.0**power for power in range(int(np.ceil(first)), int(last) + 1)] or [float(sizes[0])]
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.margins(x=0.04)
    axes.set_xlabel("prompts of the task in the pool (log₂ scale)")
