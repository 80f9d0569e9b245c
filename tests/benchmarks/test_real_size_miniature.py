"""The benchmark of a real model with a tiny one in its place: its sides agree, and its tables say what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskdiv_assets.experiment import LabModel
from taskdiv_assets.language_model.lab_model import train
from taskdiv_assets.pools.lab import pool_items
from tests.benchmarks import real_size, tuners, tuning
from tests.benchmarks.evaluating import Measured
from tests.benchmarks.scale import Scale
from tests.benchmarks.tuners import Timed

TASKS = ["copy", "first", "last"]
SMALL = Scale(Path(), real_steps_n=2, real_batch_n=4, real_items_n=12, real_settings_n=2)


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str]]:
    return [(item.prompt, item.response) for item in pool_items(9, TASKS, 12, 8)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    train(LabModel(steps=10, hidden_size=32, layers=1), TASKS, tmp_path)
    monkeypatch.setattr(real_size, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_training_and_likelihoods(rows: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuners, "measure", lambda *asked: tuners.timed(*asked[:4]))  # in this process
    _, table = real_size._training(rows, SMALL)
    assert table.count("| plain loop |") == 2 and "256 tokens, 1,024 a pass" in table
    about, table, *_ = real_size._likelihoods(rows, SMALL)
    assert table.count("HFLM, batch size") == 5 and table.count("the best") == 1
    assert "12 answers" in about and "were left out (none)." in about


def test_the_targets_of_training() -> None:
    def found(name: str, seconds: float, peak_mib: float) -> tuning.Found:
        timed = Timed(seconds, (1.0, 3.0), (2.0, 1.0), 800, 1000, peak_mib, {})
        return tuning.Found(tuning.Side(name, "", tuning.LAB), [timed])

    ours, plain = real_size._training_rows("512 tokens", found("ours", 12, 1300), found("plain loop", 10, 1000))
    assert ours[4:7] == ["1.20", "1,300", "1.30"] and ours[-1] == "**no**, **no**"
    assert plain[2:4] == ["10.0", "2.0"] and plain[7] == "0e+00"
    ours, _ = real_size._training_rows("512 tokens", found("ours", 11, 1200), found("plain loop", 10, 1000))
    assert ours[-1] == "yes, yes"


def test_the_target_of_likelihoods_is_for_the_best_batch_size() -> None:
    found = [Measured(name, [seconds], 1e-4) for name, seconds in (("ours", 6), ("again", 5), ("1", 12), ("4", 9.6))]
    table = real_size.likelihood_table(found)
    assert "| 4, the best | 9.6 | 0.62 | 1e-04 | ours ≤ 0.6 | **no** |" in table
    assert "| 1 | 12.0 | 0.50 | 1e-04 |  |  |" in table
