"""The figure of score against cost: a mark for each strategy and budget, and a line through the marks that no other beats."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import svg
from reports.analysis import FULL_POOL, Section
from reports.looks import End, Look, end_labels, looks, width_beside
from reports.svg import MUTED, SURFACE
from reports.words import clean

if TYPE_CHECKING:
    from reports.cost_points import Point

TICKS_MAX_N = 8


def score_against_cost(section: Section, points: "tuple[Point, ...]", title: str) -> Figure:
    """Draw the points. `title` names the horizontal axis: the cost with its currency."""
    with svg.style():
        figure = Figure(figsize=(8.4, 4.2))
        names = list(dict.fromkeys(one.name for one in points))
        axes = figure.add_axes((0.075, 0.13, width_beside(names), 0.82))
        look = looks(section.named, section.reference) | {FULL_POOL: Look(MUTED, "o", (0, ()))}
        line = sorted((one.cost, one.score) for one in points if one.is_unbeaten)
        axes.plot(*zip(*line, strict=True), drawstyle="steps-post", color=MUTED, linewidth=1.2, zorder=1)
        ends = [_marks(axes, name, [one for one in points if one.name == name], look[name]) for name in names]
        scale = _cost_axis(axes, np.array([one.cost for one in points]))
        axes.set_xlabel(f"{title}{scale}")
        axes.set_ylabel(f"{clean(section.scores.label, 32)}, mean over tasks")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.margins(y=0.08)
        axes.autoscale_view(scalex=False)
        end_labels(axes, ends)
        return figure


def _marks(axes: Axes, name: str, own: "list[Point]", look: Look) -> End:
    x, y = [one.cost for one in own], [one.score for one in own]
    axes.plot(x, y, color=look.colour, linestyle=look.dash, linewidth=0.9, alpha=0.75, zorder=2)
    for one in own:
        face = look.colour if one.is_unbeaten else SURFACE
        axes.plot([one.cost], [one.score], linestyle="", marker=look.marker, color=look.colour, markersize=6.5,
                  markeredgewidth=1.4, markerfacecolor=face, zorder=3)  # fmt: skip
    return End(name, x[-1], y[-1], look.colour)


def _cost_axis(axes: Axes, costs: np.ndarray) -> str:
    """Set the horizontal scale, and return words for the axis that name a logarithmic scale; empty for a linear one.

    The scale is logarithmic if all costs are positive and span a factor of 4 or more.
    """
    low, high = float(costs.min()), float(costs.max())
    if low <= 0 or high < 4 * low:
        margin = 0.06 * (high - low or abs(high) or 1.0)
        axes.set_xlim(low - margin, high + margin)
        return ""
    axes.set_xscale("log")
    edge = (high / low) ** 0.05
    axes.set_xlim(low / edge, high * edge)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**power for power in range(-3, 13) for m in steps]
        ticks = [tick for tick in ticks if low / edge <= tick <= high * edge]
        if len(ticks) <= TICKS_MAX_N:
            break
    axes.set_xticks(ticks, [f"{tick:,.10g}" for tick in ticks])
    axes.minorticks_off()
    return " (log scale)"
