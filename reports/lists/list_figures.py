"""Figures of the chosen prompts compared with the pool, by task or by length."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from reports import svg
from reports.looks import End, end_labels, is_uneven, looks, root_scale, width_beside
from reports.svg import MUTED, SURFACE
from reports.variance import FloatArray, IntArray
from reports.words import clean

POOL = "the pool"
TASKS_MAX_N = 30  # readable rows of one figure; only the largest tasks are drawn
BINS_MIN_N = 4


def by_task(
    shares: Mapping[str, FloatArray],  # by strategy name or POOL: (T,) percent, in the order of `tasks`
    tasks: Sequence[str],
    reference: str,
    strategies: Sequence[str],
) -> Figure:
    """Draw the share of each task in the pool and in the choice of each strategy, one row for each task."""
    with svg.style():
        legend_n = 1 + (len(shares) - 1) // 3
        top, height = 0.16 + 0.22 * legend_n, 0.27 * len(tasks) + 0.75 + 0.22 * legend_n
        figure = Figure(figsize=(8.4, height))
        axes = figure.add_axes((0.26, 0.55 / height, 0.71, 1 - (0.55 + top) / height))
        look, rows = looks(strategies, reference), np.arange(len(tasks))
        names = [name for name in shares if name != POOL]
        axes.barh(rows, shares[POOL], height=0.62, color=MUTED, alpha=0.22, linewidth=0, label=POOL)
        for place, name in enumerate(names):
            colour, marker, _ = look[name]
            shift = 0.0 if len(names) == 1 else (place / (len(names) - 1) - 0.5) * 0.5
            axes.plot(shares[name], rows + shift, linestyle="", marker=marker, color=colour, markersize=6,
                      markeredgecolor=SURFACE, markeredgewidth=0.6, label=clean(name, 36))  # fmt: skip
        axes.set_yticks(rows, [clean(task, 26) for task in tasks])
        axes.set_ylim(len(tasks) - 0.4, -0.6)
        most = max(float(np.max(own)) for own in shares.values())
        scale = f" ({root_scale(axes.xaxis, most)})" if any(is_uneven(own.tolist()) for own in shares.values()) else ""
        axes.set_xlim(0, 1.05 * most or 1)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"share of all prompts, %{scale}")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(3, len(shares)), frameon=False, borderpad=0,
                    borderaxespad=0.3, handletextpad=0.5, columnspacing=1.4)  # fmt: skip
        return figure


def lengths(values: Mapping[str, IntArray], reference: str, strategies: Sequence[str]) -> Figure:
    """Draw the share of prompts by length: the pool as an area, each strategy as a line. `values[""]` is the pool."""
    edges = length_edges(values[""])
    centres = np.sqrt(edges[:-1] * edges[1:])
    with svg.style():
        figure = Figure(figsize=(8.4, 3.7))
        names = [name for name in values if name]
        axes = figure.add_axes((0.075, 0.15, width_beside([*names, POOL]), 0.81))
        look, pool = looks(strategies, reference), shares_by_length(values[""], edges)
        axes.stairs(pool, edges, fill=True, color=MUTED, alpha=0.22, linewidth=0)
        ends = [End(POOL, float(centres[-1]), float(pool[-1]), MUTED)]
        for name in names:
            colour, marker, dash = look[name]
            own = shares_by_length(values[name], edges)
            axes.plot(centres, own, color=colour, marker=marker, linestyle=dash, markersize=5, markeredgecolor=SURFACE,
                      markeredgewidth=0.6)  # fmt: skip
            ends.append(End(name, float(centres[-1]), float(own[-1]), colour))
        axes.set_xscale("log", base=2)
        ticks = [edge for edge in edges if float(np.log2(edge)).is_integer()]
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("characters of a prompt (log₂ scale)")
        axes.set_ylabel("share of prompts, %")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        end_labels(axes, ends)
        return figure


def length_edges(values: IntArray) -> FloatArray:
    """Return the edges of length bins: powers of two. If that gives fewer than four bins, each bin is divided into four.

    >>> length_edges(np.array([20, 300])).tolist()
    [16.0, 32.0, 64.0, 128.0, 256.0, 512.0]
    """
    low = int(np.floor(np.log2(max(1, int(values.min())))))
    high = max(low + 1, int(np.floor(np.log2(max(1, int(values.max()))))) + 1)
    steps_n = high - low if high - low >= BINS_MIN_N else (high - low) * BINS_MIN_N
    return np.asarray(2.0 ** np.linspace(low, high, steps_n + 1), dtype=np.float64)


def shares_by_length(values: IntArray, edges: FloatArray) -> FloatArray:
    """Return the percentage of prompts in each bin; all 0 if there are no prompts."""
    counts, _ = np.histogram(np.maximum(values, 1), edges)
    return np.asarray(100 * counts / max(1, len(values)), dtype=np.float64)
