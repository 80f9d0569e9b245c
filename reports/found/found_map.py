"""The map of found tasks: circles, of which near ones have similar prompts."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from reports import svg
from reports.confidence.point_labels import Label, label_marks
from reports.found.found_numbers import FoundTask
from reports.svg import BLUE, INK, SURFACE
from reports.variance import FloatArray
from reports.words import clean

DRAWN_MAX_N = 300
NAMED_MAX_N = 12
NAME_LENGTH_N = 30
AREA_MAX, AREAS_MAX = 900.0, 40_000.0  # square points: of the largest circle, and of all circles of a figure together


def circle_areas(sizes: FloatArray) -> FloatArray:  # (n,) → (n,) square points
    """Return the areas of circles. They are proportional to `sizes`, and neither one circle nor all together are too large.

    >>> circle_areas(np.array([30.0, 10.0])).tolist()
    [900.0, 300.0]
    """
    return np.asarray(sizes * min(AREA_MAX / sizes.max(), AREAS_MAX / sizes.sum()))


def task_map(tasks: Sequence[FoundTask]) -> Figure:
    """Draw a circle for each of the `DRAWN_MAX_N` largest tasks, and the names of the `NAMED_MAX_N` largest."""
    drawn = sorted(tasks, key=lambda one: -one.prompts_n)[:DRAWN_MAX_N]  # small circles are drawn over large ones
    places = np.array([one.place for one in drawn])
    areas = circle_areas(np.array([max(1, one.prompts_n) for one in drawn], float))
    with svg.style():
        figure = Figure(figsize=(8.4, 5.2))
        axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
        axes.scatter(places[:, 0], places[:, 1], s=areas, color=BLUE, alpha=0.45, edgecolors=SURFACE, linewidths=0.8)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.margins(0.12)
        axes.set_aspect("equal", adjustable="datalim")
        axes.apply_aspect()  # sets the limits, which the names need
        named = drawn[:NAMED_MAX_N]
        radii = np.sqrt(areas / np.pi)
        labels = [
            Label(clean(one.task, NAME_LENGTH_N), *one.place, INK, max(0.0, float(radius) - 4))
            for one, radius in zip(named, radii, strict=False)
        ]
        label_marks(axes, labels, places, np.zeros((0, 2)))
        return figure
