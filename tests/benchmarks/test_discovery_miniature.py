"""The comparison with BERTopic in miniature, without BERTopic: ours is measured, and the table counts outliers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import discovery
from tests.benchmarks.discovery import Side
from tests.benchmarks.scale import Scale
from tests.evidence.discovered import sources


def test_without_bertopic_ours_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "PYTHON", tmp_path / "missing")
    monkeypatch.setattr(discovery, "sources", lambda: {"lab": sources()["lab"]})
    part = discovery.part(Scale(tmp_path, discovery_prompts_n=300))
    assert discovery.MISSING in part.body and "300 prompts of the lab, 24 true tasks" in part.body
    (row,) = [line.split(" | ") for line in part.body.splitlines() if line.startswith("| ours")]
    assert row[0] == "| ours, 24 tasks looked for" and row[2] == "0%"
    assert row[3] == row[4] and row[6] == "1.00"  # no outliers; a swap changes nothing


def test_outliers_are_counted_and_left_out_of_one_column() -> None:
    true = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    half = np.array([0, 0, 0, 1, 1, 1, -1, -1])
    peer = Side("BERTopic", [half, half], half, 1.0, 10)
    poor = Side("ours", [np.zeros(8, int)] * 2, true, 2.0, 20)
    rows = discovery.table([peer, poor], true).splitlines()[2:]
    assert rows[0] == "| BERTopic | 2 | 25% | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | 1.0 | 10 |"
    assert rows[1] == "| ours | 1 | 0% | 0.00 | 0.00 | 0.00 | 0.00 | 1.00 | 2.0 | 20 |"
