"""Processes on a machine with several cards: each process takes a free card, and frees it however the process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from taskdiv_assets.language_model import devices as cards

HOLD = """
import sys, time
from pathlib import Path
from taskdiv_assets.language_model.devices import take
print(take(sys.argv[2:], Path(sys.argv[1])), flush=True)
time.sleep(60)
"""
NAMES = ("GPU-aa", "GPU-bb", "GPU-cc")


def holder(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Return a process that holds a card, and the number of the card."""
    running = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *NAMES], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    return running, int(running.stdout.readline())


def test_each_has_its_own_and_a_killed_one_leaves_it_to_the_next(tmp_path: Path) -> None:
    holders = [holder(tmp_path / "cards") for _ in NAMES]
    try:
        assert [place for _, place in holders] == [0, 1, 2]
        shared, place = holder(tmp_path / "cards")  # more processes than cards: one is shared
        holders.append((shared, place))
        assert 0 <= place < len(NAMES)
        middle = holders[1][0]
        os.kill(middle.pid, signal.SIGKILL)
        middle.wait()
        holders.append(holder(tmp_path / "cards"))
        assert holders[-1][1] == 1
    finally:
        for running, _ in holders:
            running.kill()
            running.wait()


def test_a_process_that_lives_on_lets_go_between_tasks(tmp_path: Path) -> None:
    assert cards.take(NAMES, tmp_path / "cards") == 0
    other, place = holder(tmp_path / "cards")
    try:
        assert place == 1
        cards.release()
        third, place = holder(tmp_path / "cards")
        third.kill()
        third.wait()
        assert place == 0
    finally:
        other.kill()
        other.wait()
