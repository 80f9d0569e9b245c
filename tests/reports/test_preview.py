"""The parts of the report that the UI shows: its claims and its main curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import reports
from taskdiv_assets.assets import strategy_report as report
from tests.reports.make_results import Recipe, make_results

SMALL: dict[str, Any] = {"tasks": ("copy", "flip"), "items_per_task": 6, "budgets": (16, 32), "seeds": (0, 1)}


def notes_of(rendered: reports.Rendered) -> dict[str, Any]:
    """Return the notes that the stage stores."""
    return {"claims": rendered.claims, "first": rendered.first, "full_pool_n": rendered.full_pool_n}


def test_base_and_full_pool_are_lines_and_no_points_of_a_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = reports.render(str(make_results(tmp_path, Recipe(**SMALL))))
    drawn: list[tuple[Any, ...]] = []
    monkeypatch.setattr(report, "curves", lambda *arguments: drawn.append(arguments) or b"")
    report.main_curve(rendered.table, notes_of(rendered))
    ((bands, levels, *_),) = drawn
    assert set(levels) == {"base", "full pool"}
    assert {tuple(band.x) for band in bands.values()} == {(16, 32)} and "random" in bands


@pytest.mark.parametrize("changes", [{}, {"budgets": (16,), "full_pool_seeds": ()}, {"has_base": False}])
def test_a_picture_is_made_of_whatever_there_is(tmp_path: Path, changes: dict[str, Any]) -> None:
    rendered = reports.render(str(make_results(tmp_path, Recipe(**SMALL | changes))))
    assert report.main_curve(rendered.table, notes_of(rendered)).startswith(b"\x89PNG")


def test_without_scores_there_is_no_picture(tmp_path: Path) -> None:
    rendered = reports.render(str(make_results(tmp_path, Recipe(**SMALL, has_scores=False))))
    assert report.main_curve(rendered.table, notes_of(rendered)) == b""


def test_claims_are_text_and_no_markdown() -> None:
    claim = {"topic": "a*b", "verdict": "<i>", "text": "x_y [z](javascript:1) `c`"}
    assert report.answer({"claims": [claim]}) == (r"- **a\*b** (&lt;i&gt;): x\_y \[z\]\(javascript:1\) \`c\`")
