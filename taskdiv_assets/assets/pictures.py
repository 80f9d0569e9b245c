"""Small pictures for the metadata of assets in Dagster's pages. The report's own figures are in `reports`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN_N = 60
POINTS_KEPT_N = 200
BLUE = "#0072B2"
COLOURS = (BLUE, "#D55E00", "#009E73", "#CC79A7")


def bars(
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    title: str,
    errors: Sequence[float] | None = None,
) -> bytes:
    """Horizontal bars, the first `SHOWN_N` names from the top; PNG bytes."""
    figure, axes = _figure(height_in=1.0 + 0.2 * min(len(names), SHOWN_N))
    shown = [_plain(name) for name in names[:SHOWN_N]]
    for label, values in series.items():
        bar_errors = list(errors[:SHOWN_N]) if errors is not None else None
        axes.barh(range(len(shown)), list(values[:SHOWN_N]), xerr=bar_errors, color=BLUE, label=label)
    axes.set_yticks(range(len(shown)), shown, fontsize=8)
    axes.invert_yaxis()
    more = "" if len(names) <= SHOWN_N else f" (first {SHOWN_N} of {len(names)})"
    axes.set_title(f"{title}{more}", fontsize=9, loc="left")
    return _png(figure)


def lines(series: Mapping[str, Sequence[float]], x_label: str, y_label: str) -> bytes:
    """One line per series over the share of its length; PNG bytes."""
    figure, axes = _figure(height_in=2.8)
    for index, (label, values) in enumerate(series.items()):
        axes.plot(np.linspace(0, 1, len(values)), values, color=COLOURS[index % len(COLOURS)], label=label, lw=1)
    axes.set_xlabel(x_label, fontsize=8)
    axes.set_ylabel(y_label, fontsize=8)
    axes.legend(fontsize=8, frameon=False)
    return _png(figure)


class Band(NamedTuple):
    """One curve of a learning curve's picture."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]  # NaN where it is not known
    high: Sequence[float]


def curves(series: Mapping[str, Band], levels: Mapping[str, float], x_label: str, y_label: str) -> bytes:
    """Curves with bands on a logarithmic axis, named at their right ends, and horizontal levels; PNG bytes."""
    figure, axes = _figure(height_in=3.4)
    for index, (name, band) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.12, lw=0)
        axes.plot(band.x, band.y, "osD^v"[index % 5] + "-", color=colour, ms=4, lw=1.2)
        axes.annotate(
            _plain(name), (band.x[-1], band.y[-1]), fontsize=7, xytext=(5, 0), textcoords="offset points", va="center"
        )
    for name, level in levels.items():
        axes.axhline(level, color="#777777", lw=0.8, ls="--")
        axes.annotate(_plain(name), (0.01, level), xycoords=("axes fraction", "data"), fontsize=7, va="bottom")
    axes.set_xscale("log", base=2)
    ticks = sorted({x for band in series.values() for x in band.x})
    axes.set_xticks(ticks, [f"{x:,.0f}" for x in ticks])
    axes.margins(x=0.25 if series else 0.05)
    axes.set_xlabel(x_label, fontsize=8)
    axes.set_ylabel(y_label, fontsize=8)
    return _png(figure)


def scatter(points: Mapping[str, tuple[float, float]], x_label: str, y_label: str) -> bytes:
    """A named mark for each (x, y), both shares, with the line on which they are equal; PNG bytes."""
    figure, axes = _figure(height_in=4.5)
    axes.plot([0, 1], [0, 1], color="#999999", lw=0.8, ls="--")
    for name, (x, y) in points.items():
        axes.plot(x, y, "o", color=BLUE, ms=4)
        if len(points) <= SHOWN_N:
            axes.annotate(_plain(name), (x, y), fontsize=6, xytext=(3, 2), textcoords="offset points")
    axes.set_xlabel(x_label, fontsize=8)
    axes.set_ylabel(y_label, fontsize=8)
    return _png(figure)


def thin(values: Sequence[float]) -> list[float]:
    """At most `POINTS_KEPT_N` of a curve's values, evenly, rounded: what a picture needs."""
    step = max(1, -(-len(values) // POINTS_KEPT_N))
    return [round(value, 4) for value in values[::step]]


def _figure(height_in: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, height_in), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure, axes


def _plain(name: str) -> str:
    """A name from outside as plain text: `$` would start a formula."""
    return name[:48].replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()
