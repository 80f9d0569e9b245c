"""The look of each strategy in all figures, and the placement of names beside lines.

The reference and up to thirteen other strategies have different markers, so that colour is not their only distinction. Up to
sixteen others have different pairs of colour and dash.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis

from reports.svg import BLUE, GREEN, INK, PURPLE, VERMILLION
from reports.words import clean

_COLOURS, _MARKERS = (BLUE, VERMILLION, GREEN, PURPLE), "sD^vPX<>hp*d8"
_DASHES: tuple[tuple[int, tuple[float, ...]], ...] = (
    (0, ()),
    (0, (5.0, 1.6)),
    (0, (1.5, 1.5)),
    (0, (6.0, 1.5, 1.5, 1.5)),
)
_NAME_LENGTH_N = 36  # letters of a name beside its line; our longest name has 34
UNEVEN = 10  # times the median: larger values hide small ones on a linear axis
_LABEL_GAP = 0.054  # height of a line of text as a share of the axes' height


class Look(NamedTuple):
    """Colour, marker and dash of one strategy in all figures."""

    colour: str
    marker: str
    dash: tuple[int, tuple[float, ...]]


class End(NamedTuple):
    """The name of a line and the position of its end in data units."""

    name: str
    x: float
    y: float
    colour: str


def looks(strategies: Sequence[str], reference: str) -> dict[str, Look]:
    """Return a look for each strategy by its position in `strategies`. The reference has the colour of the text."""
    found = {reference: Look(INK, "o", (0, (4.0, 2.0)))}
    for i, name in enumerate(name for name in strategies if name != reference):
        found[name] = Look(_COLOURS[i % 4], _MARKERS[i % len(_MARKERS)], _DASHES[(i // 4) % len(_DASHES)])
    return found


def spread(positions: Sequence[float], gap: float, low: float = 0.0, high: float = 1.0) -> list[float]:
    """Move positions so that neighbours are at least `gap` apart. Keep their order, and keep them in low..high if they fit.

    >>> spread([0.5, 0.5, 0.9], 0.1)
    [0.45, 0.55, 0.9]
    """
    order = sorted(range(len(positions)), key=lambda i: (positions[i], i))
    groups: list[list[int]] = []
    centres: list[float] = []
    for index in order:
        groups.append([index])
        centres.append(min(max(positions[index], low), high))
        while len(groups) > 1 and centres[-1] - centres[-2] < gap * (len(groups[-1]) + len(groups[-2])) / 2 - 1e-12:
            merged = groups[-2] + groups[-1]
            half = gap * (len(merged) - 1) / 2
            centre = sum(positions[i] for i in merged) / len(merged)
            groups[-2:], centres[-2:] = [merged], [max(min(centre, high - half), low + half)]
    placed = list(positions)
    for group, centre in zip(groups, centres, strict=True):
        for rank, index in enumerate(group):
            placed[index] = round(centre + (rank - (len(group) - 1) / 2) * gap, 9)
    return placed


def width_beside(names: Sequence[str]) -> float:
    """Return the width of the axes, as a share of a figure 8.4 inches wide, that leaves room for `names` on the right.

    The axes are assumed to start at 0.075 of the figure's width.
    """
    longest = max((min(len(name), _NAME_LENGTH_N) for name in names), default=0)
    return min(0.66, 0.885 - 0.0092 * longest)  # a letter of 9.5 points is about 0.6 as wide as high


def end_labels(axes: Axes, ends: Sequence[End]) -> None:
    """Write the names of `ends` on the right of the axes, with thin lines to the ends. Set the limits of the axes before."""
    if not ends:
        return
    to_share = axes.transData + axes.transAxes.inverted()
    starts = [to_share.transform((end.x, end.y)) for end in ends]
    heights = spread([float(start[1]) for start in starts], min(_LABEL_GAP, 1 / len(ends)))
    for end, (x, y), height in zip(ends, starts, heights, strict=True):
        # The thin line starts beside the mark, so that it does not touch it.
        axes.plot([x + 0.008, 1.012, 1.03], [y, y, height], transform=axes.transAxes, color=end.colour, linewidth=0.7,
                  alpha=0.75, clip_on=False, linestyle="-")  # fmt: skip
        axes.text(1.037, height, clean(end.name, _NAME_LENGTH_N), transform=axes.transAxes, color=end.colour, fontsize=9.5,
                  va="center", ha="left")  # fmt: skip


def two_lines(name: str) -> str:
    """Break a name of more than 15 characters after the underscore nearest to its middle. Cut every name to 36 characters."""
    name = clean(name, 36)
    breaks = [i for i, letter in enumerate(name) if letter == "_"]
    if len(name) <= 15 or not breaks:
        return name
    middle = min(breaks, key=lambda i: abs(i - len(name) / 2))
    return f"{name[: middle + 1]}\n{name[middle + 1 :]}"


def is_uneven(values: Sequence[float]) -> bool:
    """Return whether the largest value exceeds UNEVEN times the median of the positive values.

    The median of an even number of values is here the larger of the two middle values.

    >>> is_uneven([20, 22, 24]), is_uneven([5, 5, 5, 400])
    (False, True)
    """
    above = sorted(value for value in values if value > 0)
    return bool(above) and above[-1] > UNEVEN * above[len(above) // 2]


def root_scale(axis: Axis, most: float) -> str:
    """Set a square-root scale, on which 5 and 400 are both readable, with round ticks up to `most`. Return the scale's name."""
    setter = axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale
    setter("function", functions=(lambda value: np.sqrt(np.maximum(value, 0)), np.square))
    steps = [m * 10.0**power for power in range(-1, 7) for m in (1, 2, 5)]
    ticks = [0.0]
    for step in [step for step in steps if step <= most]:
        if np.sqrt(step / most) - np.sqrt(ticks[-1] / most) > 0.07:
            ticks.append(step)
    axis.set_ticks(ticks, [f"{tick:,g}" for tick in ticks])
    return "square-root scale"
