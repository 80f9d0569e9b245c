"""Pictures of an allocation with one very large count: small counts stay distinguishable, and the large count is labelled."""

from __future__ import annotations

import numpy as np
import pytest

from reports import figures
from reports.lists import list_figures
from reports.looks import is_uneven

SIZES = {f"task{i}": 40 * (i + 1) for i in range(12)}


def allocated(largest: float) -> dict[str, dict[str, float]]:
    counts = {task: 5.0 + i for i, task in enumerate(SIZES)}
    return {"random": counts, "min_margin": counts | {"task11": largest}}


def heights(figure: object, name: str) -> np.ndarray:
    """Return the heights of one strategy's marks, as shares of the axes' height."""
    (axes,) = figure.axes  # type: ignore[attr-defined]
    figure.canvas.draw()  # type: ignore[attr-defined]
    line = [one for one in axes.lines if len(one.get_xdata()) == len(SIZES)][1 if name == "min_margin" else 0]
    points = axes.transData.transform(np.column_stack(line.get_data()))
    return np.asarray(axes.transAxes.inverted().transform(points)[:, 1])


def test_small_counts_do_not_vanish_beside_one_of_400() -> None:
    figure = figures.allocation(allocated(400.0), SIZES, "random", list(allocated(0)), 512)
    at = heights(figure, "min_margin")
    assert at[:-1].min() > 0.08 and at[:-1].max() - at[:-1].min() > 0.06 and at[-1] < 1
    texts = [one.get_text() for one in figure.axes[0].texts]
    assert "task11: 400" in texts and "square-root scale" in figure.axes[0].get_ylabel()


def test_an_even_allocation_keeps_its_linear_axis() -> None:
    figure = figures.allocation(allocated(17.0), SIZES, "random", list(allocated(0)), 512)
    assert figure.axes[0].get_yscale() == "linear" and "scale" not in figure.axes[0].get_ylabel()


@pytest.mark.parametrize(("largest", "scale"), [(78.0, "function"), (3.0, "linear")])
def test_shares_by_task_before_any_score_are_readable_too(largest: float, scale: str) -> None:
    own = np.array([2.0] * 11 + [largest])
    shares = {list_figures.POOL: np.full(12, 100 / 12), "min_margin": own}
    figure = list_figures.by_task(shares, list(SIZES), "random", ["random", "min_margin"])
    assert figure.axes[0].get_xscale() == scale
    if scale == "function":
        figure.canvas.draw()
        to_share = figure.axes[0].transData + figure.axes[0].transAxes.inverted()
        assert to_share.transform((2.0, 0))[0] > 0.1


def test_no_counts_are_not_uneven() -> None:
    assert not is_uneven([]) and not is_uneven([0, 0, 5]) and is_uneven([0, 1, 1, 11])
