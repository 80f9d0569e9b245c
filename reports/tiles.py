"""Parts of heat maps: coloured tiles with values, and names of rows and columns."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from reports.looks import two_lines
from reports.svg import BLUE, INK, VERMILLION
from reports.variance import FloatArray
from reports.words import clean

ROWS_MAX_N = 60  # tasks in one figure; its table has more


def tile(axes: Axes, column: int, row: int, strength: float, text: str) -> None:
    """Draw one tile with text. `strength`, in −1..1, sets the colour: blue if at least 0, else vermillion; pale near 0."""
    colour = BLUE if strength >= 0 else VERMILLION
    alpha = round(0.04 + 0.4 * abs(strength), 2)
    box = Rectangle((column + 0.03, row + 0.04), 0.94, 0.92, facecolor=colour, alpha=alpha, linewidth=0, clip_on=False)
    axes.add_artist(box).set_clip_path(None)
    axes.text(column + 0.5, row + 0.52, text, ha="center", va="center", fontsize=9, color=INK)


def grid_labels(axes: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    """Set the limits, and write the names of columns at the top and of rows on the left."""
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(rows), 0)
    axes.set_xticks(np.arange(len(columns)) + 0.5, [two_lines(name) for name in columns])
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=INK, labelsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)


def picked(
    names: Sequence[str],
    values: FloatArray,  # (columns, names)
    rows_n: int = ROWS_MAX_N,
) -> list[str]:
    """Return all names or, if there are more than `rows_n`, those with the largest absolute values. Keep their order."""
    if len(names) <= rows_n:
        return list(names)
    largest = set(np.argsort(-np.abs(values).max(axis=0), kind="stable")[:rows_n].tolist())
    return [name for place, name in enumerate(names) if place in largest]


def named(task: str, marks: Mapping[str, str]) -> str:
    """Return a task's name for a figure, shortened and followed by the words that `marks` has for this task."""
    return clean(task, 22) + (f" ({marks[task]})" if task in marks else "")
