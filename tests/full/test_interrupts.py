"""Ctrl-C and SIGTERM at 20 moments of a run with two workers: it ends at once, leaves nothing, and resumes to the same results."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.full.test_kill import adapter_hashes, tables
from tests.home import MINIATURE, Home
from tests.interrupted import ENDS_WITHIN_S, Stopped, stop

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("kill")]
RUN = ("run", str(MINIATURE), "--workers", "2")
MOMENTS_N = 20


@pytest.mark.timeout(1800)
def test_twenty_signals_in_one_run_each_end_it_at_once_and_cost_no_result(tmp_path: Path, miniature: Home) -> None:
    """Each attempt goes on from what the ones before it finished, so that the moments spread over the whole run."""
    home = Home(tmp_path)
    found: list[Stopped] = []
    for place in range(MOMENTS_N):
        after_s = -0.4 * (place // 4 + 1) if place % 4 == 3 else 0.7 * place
        number = signal.SIGTERM if place % 5 == 4 and after_s > 0 else signal.SIGINT
        stopped = stop(home, RUN, after_s, is_group=place % 2 == 0, number=number)
        assert stopped is not None, f"the run ended before moment {place}"
        found.append(stopped)
        assert not stopped.left, (place, stopped.left)
        assert stopped.wall_s < ENDS_WITHIN_S, (place, stopped.wall_s)
        if after_s < 0 and stopped.code == -signal.SIGINT:  # Python itself was still starting
            continue
        assert stopped.code == 130, (place, stopped.output)
        assert "Traceback" not in stopped.output and "resource_tracker" not in stopped.output, stopped.output
        assert stopped.output.count("stopped; ") == 1, stopped.output
    print("seconds from signal to end:", *(f"{one.wall_s:.2f}" for one in found))
    done = home.taskdiv(*RUN)
    assert done.returncode == 0, done.stderr
    assert list(tables(home)) == list(tables(miniature))
    for name, table in tables(miniature).items():
        assert tables(home)[name].equals(table), name
    assert adapter_hashes(home) == adapter_hashes(miniature)
