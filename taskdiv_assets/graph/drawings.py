"""Functions that draw small pictures for the metadata of assets in Dagster's UI. They return PNG bytes.

Dagster stores a picture with each materialisation, so pictures have few colours and a low resolution (`DPI`). Names come from
users: they are drawn as plain text and cut at `NAME_N` characters. The report's figures are in `reports`.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taskdiv_assets.graph.markdown import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 80
COLOURS_N = 64  # number of colours of a stored picture, including the shades between the drawn colours
SHOWN_N = 60
SPOTS_NAMED_N = 12
NAME_N = 40  # largest number of characters of a name that are drawn
POINTS_KEPT_N = 200
BINS_N = 40
WIDE = 20.0  # ratio of the largest value to the median from which an axis is logarithmic
BLUE = "#0072B2"
COLOURS = (BLUE, "#D55E00", "#009E73", "#CC79A7")
MORE_COLOURS = (*COLOURS, "#E69F00", "#56B4E9", "#F0E442")
GREY = "#BBBBBB"

Numbers = NDArray[np.number[Any]]


def bars(
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    title: str,
    errors: Sequence[float] | None = None,
    levels: Mapping[str, float] | None = None,
) -> bytes:
    """Draw a horizontal bar with its value as text for each of the first `SHOWN_N` names. Return b"" if `names` is empty.

    Several series (label -> one value per name) are stacked; the text is their sum. `errors` are half the lengths of error
    lines. `levels` (label -> value) are vertical lines. If `is_wide` is true for the sums, points on a logarithmic axis replace
    the bars.
    """
    if not names:
        return b""
    shown_n = min(len(names), SHOWN_N)
    figure, axes = _figure(height_in=1.0 + 0.2 * shown_n)
    shown = {label: np.array(values[:shown_n], dtype=np.float64) for label, values in series.items()}
    totals = np.sum(list(shown.values()), axis=0)
    is_log = is_wide(totals)
    half = np.zeros(shown_n) if errors is None else np.array(errors[:shown_n], dtype=np.float64)
    if is_log:
        _marks_along(axes, totals, half)
    else:
        _bars_along(axes, shown, half)
    for name, level in (levels or {}).items():
        axes.axvline(level, color="#555555", lw=0.8, ls="--")
        _name(axes, name, (level, 1), xycoords=("data", "axes fraction"), fontsize=7, xytext=(0, 2), va="bottom")
    _names(axes, names[:shown_n])
    if len(series) > 1 and not is_log:
        _legend(axes)
    more = f"\nfirst {SHOWN_N} of {len(names):,}: {len(names) - SHOWN_N:,} more" if len(names) > SHOWN_N else ""
    _labels(axes, "", "", f"{title}{', on a logarithmic axis' if is_log else ''}{more}")
    return _png(figure)


def _bars_along(axes: Axes, shown: Mapping[str, Numbers], errors: Numbers) -> None:
    ends = np.zeros(len(errors))
    half = errors if np.any(errors) else None
    for (label, values), colour in zip(shown.items(), cycle(MORE_COLOURS), strict=False):
        axes.barh(range(len(values)), values, left=ends, xerr=half, color=colour, label=_plain(label))
        ends = ends + np.nan_to_num(values)
    _numbers(axes, ends + np.nan_to_num(errors), np.sum(list(shown.values()), axis=0))
    if (longest := float(np.max(ends, initial=0))) > 0:
        axes.set_xlim(right=1.12 * longest)  # space for the numbers


def _marks_along(axes: Axes, totals: Numbers, errors: Numbers) -> None:
    low, high = np.log(totals.min()), np.log(totals.max())
    span = high - low
    left, right = np.exp([max(low - 0.1 * span, -705), min(high + 0.2 * span, 705)])  # space for the numbers
    _log_axis(axes)
    axes.set_xlim(left, right)
    axes.hlines(range(len(totals)), left, totals, color=GREY, lw=0.8)
    axes.hlines(range(len(totals)), np.maximum(totals - errors, left), totals + errors, color="black", lw=1)
    axes.plot(totals, range(len(totals)), "o", color=BLUE, ms=4)
    _numbers(axes, totals, totals)


def _names(axes: Axes, names: Sequence[str]) -> None:
    """Write names left of the axis as texts. Drawing them as tick labels would take twice the time."""
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.3, -0.7)
    for y, name in enumerate(names):
        text = axes.text(-0.01, y, _plain(name), fontsize=8, ha="right", va="center", parse_math=False)
        text.set_transform(axes.get_yaxis_transform())


def _numbers(axes: Axes, ends: Numbers, values: Numbers) -> None:
    for y, (x, value) in enumerate(zip(ends, values, strict=True)):
        axes.text(x, y, f"  {_number(value)}", fontsize=7, va="center", in_layout=False, parse_math=False)


def lines(series: Mapping[str, Sequence[float]], x_label: str, y_label: str) -> bytes:
    """Draw one line per series. The x positions of a line's values are evenly spaced from 0 to 1."""
    figure, axes = _figure(height_in=2.8)
    for (label, values), colour in zip(series.items(), cycle(COLOURS), strict=False):
        axes.plot(np.linspace(0, 1, len(values)), values, color=colour, label=_plain(label), lw=1)
    _labels(axes, x_label, y_label)
    if series:
        _legend(axes)
    return _png(figure)


def histogram(
    parts: Mapping[str, Numbers], x_label: str, y_label: str, title: str, limits: tuple[float, float] | None = None
) -> bytes:
    """Draw a histogram with stacked parts (label -> values). Values that are not finite are left out.

    `limits` is the range of the x-axis. It is ignored if the axis is logarithmic or a value is outside this range.
    """
    finite = {label: values[np.isfinite(values)] for label, values in parts.items()}
    finite = {label: values for label, values in finite.items() if len(values)}
    figure, axes = _figure(height_in=2.8)
    if finite:
        together = np.concatenate(list(finite.values()))
        edges, is_log = bin_edges(together, limits)
        bottom = np.zeros(len(edges) - 1)
        for (label, values), colour in zip(finite.items(), cycle(MORE_COLOURS), strict=False):
            heights, _ = np.histogram(values, edges)
            axes.bar(edges[:-1], heights, np.diff(edges), bottom, align="edge", color=colour, label=_plain(label))
            bottom += heights
        if is_log:
            _log_axis(axes)
        axes.set_xlim(edges[0], edges[-1])
    if len(finite) > 1:
        _legend(axes, reverse=True)
    _labels(axes, x_label, y_label, title)
    return _png(figure)


def areas(
    x: Numbers,
    shares: Mapping[str, Numbers],
    x_label: str,
    y_label: str,
    title: str,
    others: tuple[str, Numbers] | None = None,
) -> bytes:
    """Draw the shares of at most 7 names as stacked areas over a logarithmic x-axis.

    `x`, (k,), is positive and ascending. `shares` maps each name to its shares at `x`, (k,). `others` is one more name with its
    shares, drawn in grey at the top. All shares at one x must add up to 1.
    """
    figure, axes = _figure(height_in=3.2)
    parts = [(name, share, colour) for (name, share), colour in zip(shares.items(), MORE_COLOURS, strict=False)]
    names, heights, colours = zip(*parts, *([(*others, GREY)] if others else []), strict=True)
    axes.stackplot(x, heights, colors=colours, labels=[_plain(name) for name in names], edgecolor="white", lw=0.4)
    _log_axis(axes)
    axes.set_xlim(x[0], max(x[-1], x[0] + 1))
    axes.set_ylim(0, 1)
    _legend(axes, reverse=True)
    _labels(axes, x_label, y_label, title)
    return _png(figure)


def steps(edges: Numbers, shares: Mapping[str, Numbers], x_label: str, y_label: str, title: str) -> bytes:
    """Draw the outlines of histograms with the bin edges `edges`, (bins + 1,).

    `shares` maps the name of a histogram to the share of its values in each bin, (bins,).
    """
    figure, axes = _figure(height_in=2.8)
    for (label, values), colour in zip(shares.items(), cycle(COLOURS), strict=False):
        axes.stairs(values, edges, color=colour, label=_plain(label), lw=1.4)
    _legend(axes)
    _labels(axes, x_label, y_label, title)
    return _png(figure)


class Band(NamedTuple):
    """One curve with a band around it. Values of `low` and `high` that are not known are NaN."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def curves(series: Mapping[str, Band], levels: Mapping[str, float], x_label: str, y_label: str) -> bytes:
    """Draw curves with bands over a logarithmic x-axis, and `levels` (name -> y) as horizontal lines with their names."""
    figure, axes = _figure(height_in=3.4)
    for (name, band), colour, marker in zip(series.items(), cycle(COLOURS), cycle("osD^v"), strict=False):
        axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.12, lw=0)
        axes.plot(band.x, band.y, f"{marker}-", color=colour, ms=4, lw=1.2)
        _name(axes, name, (band.x[-1], band.y[-1]), fontsize=7, xytext=(5, 0), va="center")
    for name, level in levels.items():
        axes.axhline(level, color="#777777", lw=0.8, ls="--")
        _name(axes, name, (0.01, level), xycoords=("axes fraction", "data"), fontsize=7, xytext=(0, 0), va="bottom")
    axes.set_xscale("log", base=2)
    ticks = sorted({x for band in series.values() for x in band.x})
    axes.set_xticks(ticks, [f"{x:,.0f}" for x in ticks])
    axes.margins(x=0.25 if series else 0.05)
    _labels(axes, x_label, y_label)
    return _png(figure)


def scatter(points: Mapping[str, tuple[float, float]], x_label: str, y_label: str) -> bytes:
    """Draw a dot for each point (x, y) in [0, 1], and the line x = y. Names are drawn if there are at most `SHOWN_N` points."""
    figure, axes = _figure(height_in=4.5)
    axes.plot([0, 1], [0, 1], color="#999999", lw=0.8, ls="--")
    axes.plot(*np.array([*points.values()], dtype=np.float64).reshape(-1, 2).T, "o", color=BLUE, ms=4)
    for name, place in points.items() if len(points) <= SHOWN_N else ():
        _name(axes, name, place, fontsize=6, xytext=(3, 2))
    _labels(axes, x_label, y_label)
    return _png(figure)


class Spot(NamedTuple):
    """A named circle on a map."""

    name: str
    x: float
    y: float
    size: float  # relative area


def spots(places: Sequence[Spot], title: str) -> bytes:
    """Draw a map of at least one circle. The names of the `SPOTS_NAMED_N` largest are beside them. The axes have no unit."""
    import matplotlib as mpl

    from reports.confidence.point_labels import Label, label_marks
    from reports.found.found_map import circle_areas

    figure, axes = _figure(height_in=5.0)
    order = sorted(places, key=lambda place: -place.size)  # small circles are drawn over large ones
    areas = circle_areas(np.array([place.size for place in order], np.float64))
    marks = np.array([(place.x, place.y) for place in order])
    axes.scatter(marks[:, 0], marks[:, 1], s=areas, color=BLUE, alpha=0.45, edgecolors="white", lw=0.8)
    axes.margins(0.15)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    _labels(axes, "", "", title)
    if (layout := figure.get_layout_engine()) is not None:  # names are placed in the final axes
        layout.execute(figure)
        figure.set_layout_engine(None)
    named = zip(order[:SPOTS_NAMED_N], np.sqrt(areas / np.pi), strict=False)
    labels = [Label(_plain(place.name), place.x, place.y, "black", max(0.0, radius - 4)) for place, radius in named]
    with mpl.rc_context({"text.parse_math": False}):
        label_marks(axes, labels, marks, np.zeros((0, 2)))
    return _png(figure)


def thin(values: Sequence[float]) -> list[float]:
    """Return every k-th value of a curve, at most `POINTS_KEPT_N` values, rounded to 4 decimals."""
    step = max(1, -(-len(values) // POINTS_KEPT_N))
    return [round(value, 4) for value in values[::step]]


def counted(column: pa.ChunkedArray) -> dict[str, int]:
    """Return the count of each value of a column, the most frequent value first. Nulls are counted as "(none)"."""
    entries = column.value_counts().to_pylist()
    found = [("(none)" if entry["values"] is None else str(entry["values"]), entry["counts"]) for entry in entries]
    return dict(sorted(found, key=lambda entry: (-entry[1], entry[0])))


def is_wide(values: Numbers) -> bool:
    """Return True if there are at least 3 values, all positive and finite, and the largest is at least `WIDE` times the median.

    >>> is_wide(np.array([24, 100, 600])), is_wide(np.array([3, 3, 3, 500])), is_wide(np.array([0, 1, 900]))
    (False, True, False)
    """
    finite = values[np.isfinite(values)]
    if len(finite) < 3 or len(finite) < len(values) or finite.min() <= 0:
        return False
    return bool(finite.max() / np.median(finite) >= WIDE)


def bin_edges(values: Numbers, limits: tuple[float, float] | None) -> tuple[NDArray[np.float64], bool]:
    """Return the edges of at most `BINS_N` bins, and whether they are logarithmic.

    Linear edges divide the range `limits` if this range contains all values. In all other cases, the edges are halfway between
    integers if `values` has an integer type.

    >>> bin_edges(np.array([3, 4, 4, 6]), None)
    (array([2.5, 3.5, 4.5, 5.5, 6.5]), False)
    """
    low, high = float(values.min()), float(values.max())
    is_whole, is_log = np.issubdtype(values.dtype, np.integer), is_wide(values)
    if is_log:
        edges = np.geomspace(low, high, BINS_N + 1)
        if is_whole:
            edges = np.unique(np.rint(edges)) - 0.5
            edges[-1] += 1
        return edges, True
    if limits is not None and limits[0] <= low and high <= limits[1]:
        return np.linspace(*limits, BINS_N + 1), False
    if is_whole:
        step = -(-(int(high) - int(low) + 1) // BINS_N)
        return np.arange(low, high + step + 0.5, step) - 0.5, False
    return np.histogram_bin_edges(values, BINS_N), False


def _figure(height_in: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, height_in), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure, axes


def _log_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: _number(value))


def _labels(axes: Axes, x_label: str, y_label: str, title: str = "") -> None:
    axes.set_xlabel(x_label, fontsize=8, parse_math=False)
    axes.set_ylabel(y_label, fontsize=8, parse_math=False)
    if title:  # a title of the figure, not of the axes: long names can move the axes far to the right
        axes.figure.suptitle(title, x=0.01, ha="left", fontsize=9, parse_math=False)


def _name(axes: Axes, name: str, place: tuple[float, float], **looks: Any) -> None:
    axes.annotate(_plain(name), place, textcoords="offset points", parse_math=False, **looks)


def _legend(axes: Axes, *, reverse: bool = False) -> None:
    handles, labels = axes.get_legend_handles_labels()
    step = -1 if reverse else 1
    legend = axes.legend(
        handles[::step], labels[::step], fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1)
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _plain(name: str) -> str:
    """Return a name on one line, cut at `NAME_N` characters. A first `_` gets a space before it: Matplotlib hides such names."""
    line = one_line(name) or "(blank)"
    cut = line if len(line) <= NAME_N else f"{line[: NAME_N - 1]}…"
    return f" {cut}" if cut.startswith("_") else cut


def _number(value: float) -> str:
    if not np.isfinite(value):
        return ""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def _png(figure: Figure) -> bytes:
    """Return a figure as a PNG with `COLOURS_N` colours. The file is about a third as large as with all colours."""
    from PIL import Image

    drawn, buffer = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a character that the font lacks is drawn as a box
        if (layout := figure.get_layout_engine()) is not None:  # otherwise, savefig draws everything twice
            layout.execute(figure)
            figure.set_layout_engine(None)
        figure.savefig(drawn, format="png", dpi=DPI, pil_kwargs={"compress_level": 0})
    image = Image.open(drawn).convert("RGB")
    image.quantize(COLOURS_N, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(buffer, "png")
    return buffer.getvalue()
