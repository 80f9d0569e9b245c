"""Placement of names in a scatter plot so that they cover few marks and lines. A thin line joins a name to a distant mark.

The font of the reader's browser is unknown, so a wide font is assumed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from reports.variance import FloatArray

FONT_SIZE = 9.0  # points
_LETTER_WIDTH, _LINE_HEIGHT = 0.65, 1.3  # multiples of the font size
_KEEP = 2.0  # points of free space between a name and marks or lines
_STEPS = (9.0, 22.0, 36.0, 52.0, 70.0, 90.0, 115.0, 140.0)  # points from the mark
_UPWARDS = (0.0, 0.7, -0.7, 1.0, -1.0)  # vertical part of a step
# Costs, in points of distance between name and mark: covering another name; each point outside the frame; covering a mark; a
# thin line that crosses a name or another thin line; covering a point of a line.
_NAME, _OUTSIDE, _MARK, _CROSSING, _LINE = 1e6, 1e4, 200.0, 150.0, 15.0


class Label(NamedTuple):
    """A name and the position of its mark in data units."""

    text: str
    x: float
    y: float
    colour: str
    radius: float = 0.0  # of a large mark, in points; the name starts outside it


class _Place(NamedTuple):
    mark: tuple[float, float]
    left: float
    low: float
    right: float
    high: float

    @property
    def anchor(self) -> tuple[float, float]:
        return (self.left if self.left >= self.mark[0] else self.right), (self.low + self.high) / 2

    def overlaps(self, other: "_Place") -> bool:
        return other.left < self.right and self.left < other.right and other.low < self.high and self.low < other.high

    def holds(self, points: FloatArray, margin: float = 0.0) -> FloatArray:  # (n, 2) → (n,) of 0 and 1
        low, high = (self.left - margin, self.low - margin), (self.right + margin, self.high + margin)
        return np.asarray(((points > low) & (points < high)).all(axis=1), dtype=np.float64)


def label_marks(
    axes: Axes,
    labels: Sequence[Label],
    marks: FloatArray,  # (n, 2) all marks, in data units
    lines: FloatArray,  # (m, 2) points along lines that should not be covered
) -> None:
    """Write each name near its mark, the rightmost mark first. The caller must set the axes' limits and position before."""
    to_points = 72.0 / axes.figure.dpi
    points = axes.transData.transform(np.concatenate([marks, lines])) * to_points
    weights = np.repeat([_MARK, _LINE], [len(marks), len(lines)])
    frame = axes.get_window_extent()
    inside = (frame.x0 * to_points, frame.y0 * to_points, frame.x1 * to_points, frame.y1 * to_points)
    taken: list[_Place] = []
    for label in sorted(labels, key=lambda label: (-label.x, label.y, label.text)):
        x, y = axes.transData.transform((label.x, label.y)) * to_points
        places = _places((float(x), float(y)), label)
        taken.append(min(places, key=lambda place: _cost(place, points, weights, taken, inside)))
        _draw(axes, label, taken[-1], to_points)


def _draw(axes: Axes, label: Label, place: _Place, to_points: float) -> None:
    x, y = axes.transData.inverted().transform(np.array(place.anchor) / to_points)
    if np.hypot(*np.subtract(place.anchor, place.mark)) > label.radius + 1.6 * _STEPS[0]:
        axes.plot([label.x, x], [label.y, y], color=label.colour, linewidth=0.7, alpha=0.75, linestyle="-", zorder=2)
    side = "left" if place.left >= place.mark[0] else "right"
    axes.text(x, y, label.text, color=label.colour, fontsize=FONT_SIZE, va="center", ha=side)


def _places(mark: tuple[float, float], label: Label) -> list[_Place]:
    width, half = len(label.text) * FONT_SIZE * _LETTER_WIDTH, FONT_SIZE * _LINE_HEIGHT / 2
    found = []
    for step in _STEPS:
        for up in _UPWARDS if step < _STEPS[2] else _UPWARDS[1:]:  # a long horizontal line would cross other marks
            across, y = (label.radius + step) * (1 - 0.6 * abs(up)), mark[1] + up * (label.radius + step)
            found.append(_Place(mark, mark[0] + across, y - half, mark[0] + across + width, y + half))
            found.append(_Place(mark, mark[0] - across - width, y - half, mark[0] - across, y + half))
    return found


def _cost(
    place: _Place,
    points: FloatArray,  # (k, 2)
    weights: FloatArray,  # (k,)
    taken: Sequence[_Place],
    inside: tuple[float, float, float, float],
) -> float:
    left, low, right, high = inside
    outside = max(0.0, left - place.left) + max(0.0, place.right - right)
    outside += max(0.0, low - place.low) + max(0.0, place.high - high)
    names = sum(place.overlaps(other) for other in taken)
    crossings = sum(
        other.holds(_leader(place)).any() + place.holds(_leader(other)).any() + _cross(place, other) for other in taken
    )
    covered = float(weights @ place.holds(points, _KEEP))
    way = float(np.hypot(*np.subtract(place.anchor, place.mark)))
    return _NAME * names + _OUTSIDE * outside + _CROSSING * crossings + covered + way


def _leader(place: _Place) -> FloatArray:  # (16, 2) points on the way from the mark to the name
    return np.linspace(place.mark, place.anchor, 16)


def _cross(first: _Place, second: _Place) -> bool:
    def side(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    a, b, c, d = first.mark, first.anchor, second.mark, second.anchor
    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
