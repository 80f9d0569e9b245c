"""Figures of confidence: by task, against accuracy, and the labels that other definitions and sources would move."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import svg
from reports.confidence import confidence_numbers as numbers
from reports.confidence.confidence_numbers import Comparison
from reports.confidence.point_labels import Label, label_marks
from reports.reader import TaskAccuracy, TaskConfidence
from reports.svg import BLUE, INK, LINE, MUTED, SURFACE, VERMILLION
from reports.tiles import ROWS_MAX_N, grid_labels, named, picked, tile
from reports.variance import FloatArray
from reports.words import clean

LABELLED_MAX_N = 8  # names in one scatter plot
INTERVALS_MAX_N = 150  # tasks; a larger plot has intervals only for trap tasks and confident-and-wrong tasks
MOVED_MAX_N = 30  # rows of the picture of moved labels
NAME_LENGTH_N = 36  # characters of a variant's name above a column


def confidence(rows: Sequence[TaskConfidence], accuracy: Mapping[str, float], marks: Mapping[str, str]) -> Figure:
    """Draw the mean confidence of each task, and the base model's score if known.

    Of more than `ROWS_MAX_N` tasks, only the least confident ones are drawn. A task of which only a sample was scored has a 95%
    interval, if the interval can be estimated.
    """
    chosen = sorted(rows, key=lambda row: (row.mean, row.task))[:ROWS_MAX_N]
    with svg.style():
        height = 0.215 * len(chosen) + 0.95
        figure = Figure(figsize=(8.4, height))
        axes = figure.add_axes((0.24, 0.5 / height, 0.73, 1 - 0.9 / height))
        for y, row in enumerate(chosen):
            _task_row(axes, row, y, accuracy.get(row.task))
        axes.set_yticks(range(len(chosen)), [named(row.task, marks) for row in chosen])
        axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=9)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(chosen) - 0.4, -0.6)
        axes.set_xlim(-0.015, 1.02)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        top = 1 + 0.16 / (height - 0.9)
        what = "● mean confidence on the pool" + ("" if numbers.is_all_scored(rows) else ", 95% interval")
        axes.text(0.0, top, what, transform=axes.transAxes, color=BLUE, fontsize=9.5)
        if accuracy:
            what = "◇ base model’s score on the benchmark"
            axes.text(0.54, top, what, transform=axes.transAxes, color=VERMILLION, fontsize=9.5)
        return figure


def _task_row(axes: Axes, row: TaskConfidence, y: float, score: float | None) -> None:
    if score is not None:
        axes.plot([row.mean, score], [y, y], color=LINE, linewidth=1.2, zorder=1)
        axes.plot([score], [y], marker="D", markersize=5.5, color=VERMILLION, markerfacecolor=SURFACE,
                  markeredgewidth=1.4, zorder=2)  # fmt: skip
    reach = numbers.half_width(row)
    if reach is not None:
        ends = [max(0.0, row.mean - reach), min(1.0, row.mean + reach)]
        axes.plot(ends, [y, y], color=BLUE, linewidth=2, alpha=0.75, zorder=3)
    axes.plot([row.mean], [y], marker="o", markersize=5.5, color=BLUE, zorder=4)


def against_being_right(rows: Sequence[TaskAccuracy], marks: Mapping[str, str]) -> Figure:
    """Draw accuracy against mean confidence, one mark for each task.

    The figure names two groups of tasks: the first `LABELLED_MAX_N` of the tasks that are confident and wrong, and every task in
    `marks` that is not confident and wrong. With more than `INTERVALS_MAX_N` tasks, only tasks in `marks` and tasks that are
    confident and wrong have 95% intervals.
    """
    wrong = numbers.confident_and_wrong(rows)
    others = [row for row in rows if row not in wrong]
    traps = [row for row in others if row.task in marks]
    is_few = len(rows) <= INTERVALS_MAX_N
    with svg.style():
        figure = Figure(figsize=(8.4, 4.7))
        axes = figure.add_axes((0.075, 0.115, 0.9, 0.8))
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.04, 1.04)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (1.0, 2.0)), zorder=4)
        _intervals(axes, others if is_few else traps, BLUE)
        _intervals(axes, wrong, VERMILLION)
        _marks(axes, others, BLUE, "o", 5.5 if is_few else 3.0)
        _marks(axes, wrong, VERMILLION, "D", 5.5)
        axes.set_xlabel("mean confidence on validation items")
        axes.set_ylabel("share answered right")
        axes.grid()
        axes.set_axisbelow(True)
        _legend(axes, is_few, bool(wrong))
        labels = [Label(named(row.task, marks), *_place(row), VERMILLION) for row in wrong[:LABELLED_MAX_N]]
        labels += [Label(named(row.task, marks), *_place(row), INK) for row in traps]
        drawn = [*wrong, *(others if is_few else traps)]
        lines = np.concatenate([_along_intervals(drawn), np.linspace((0, 0), (1, 1), 80)])
        label_marks(axes, labels, np.array([_place(row) for row in rows]), lines)
        return figure


def _place(row: TaskAccuracy) -> tuple[float, float]:
    return row.mean_confidence, row.accuracy


def _along_intervals(rows: Sequence[TaskAccuracy]) -> FloatArray:  # (12 · n, 2) points
    heights = [np.linspace(row.accuracy_low, row.accuracy_high, 12) for row in rows]
    places = [np.full(12, row.mean_confidence) for row in rows]
    return np.stack([np.ravel(places), np.ravel(heights)], axis=1)


def _intervals(axes: Axes, rows: Sequence[TaskAccuracy], colour: str) -> None:
    x = [value for row in rows for value in (row.mean_confidence, row.mean_confidence, np.nan)]
    y = [value for row in rows for value in (row.accuracy_low, row.accuracy_high, np.nan)]
    axes.plot(x, y, color=colour, linewidth=1, alpha=0.75, linestyle="-", zorder=2)


def _marks(axes: Axes, rows: Sequence[TaskAccuracy], colour: str, marker: str, size: float) -> None:
    x, y = np.array([_place(row) for row in rows]).reshape(-1, 2).T
    face = SURFACE if marker == "o" and size > 4 else colour
    axes.plot(x, y, linestyle="", marker=marker, markersize=size, color=colour, markerfacecolor=face,
              markeredgewidth=1.3 if size > 4 else 0.0, alpha=1.0 if size > 4 else 0.75, zorder=3)  # fmt: skip


def _legend(axes: Axes, has_intervals: bool, has_wrong: bool) -> None:
    task = "○ a task, 95% interval" if has_intervals else "● a task"
    texts = [(task, BLUE), ("· · as often right as confident", MUTED)]
    texts += [("◆ confident and wrong", VERMILLION)] if has_wrong else []
    for place, (text, colour) in enumerate(texts):
        axes.text(0.31 * place, 1.035, text, transform=axes.transAxes, color=colour, fontsize=9.5)


def moved(found: Comparison, marks: Mapping[str, str]) -> Figure:
    """Draw how many more labels (fewer, if negative) each other variant gives to each task than the chosen variant does.

    The numbers are for the largest budget. Of more than `MOVED_MAX_N` tasks, those with the largest changes are drawn.
    """
    values = numbers.moved_labels(found)
    rows, reach = picked(found.tasks, values, MOVED_MAX_N), float(np.abs(values).max()) or 1.0
    with svg.style():
        width, height = 2.6 + 1.15 * len(values), 0.235 * len(rows) + 0.55
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((2.35 / width, 0.05 / height, 1 - 2.4 / width, 1 - 0.55 / height))
        for row, task in enumerate(rows):
            for column, value in enumerate(values[:, found.tasks.index(task)]):
                strength = float(np.sign(value) * np.sqrt(abs(value) / reach))  # the root keeps small values visible
                tile(axes, column, row, strength, f"{value:+,.0f}".replace("-", "−") if value else "0")
        columns = [clean(one.name, NAME_LENGTH_N) for one in found.effects[1:]]
        grid_labels(axes, columns, [named(task, marks) for task in rows])
        return figure
