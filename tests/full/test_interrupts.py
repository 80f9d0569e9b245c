"""Ctrl-C and SIGTERM end a run with two workers at once and leave no process. The next run ends with the same results."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.full.test_kill import assert_same_results
from tests.home import MINIATURE, Home
from tests.interrupted import ENDS_WITHIN_S, stop

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("interrupts"), pytest.mark.timeout(1800)]
RUN = ("run", str(MINIATURE), "--workers", "2")
A_PART = ("--budget", "12")
# Seconds after the start of the first task; negative numbers count from the start of the process.
MOMENTS = (0.0, -0.8, -2.0, 4.0)
RANDOM_MOMENTS = tuple(-0.4 * (place // 4 + 1) if place % 4 == 3 else 0.7 * place for place in range(20))


@pytest.mark.parametrize(
    ("moments", "wanted"),
    [
        pytest.param(MOMENTS, A_PART, id="four"),
        pytest.param(RANDOM_MOMENTS, (), id="twenty", marks=pytest.mark.crash),
    ],
)
def test_signals_in_one_run_each_end_it_at_once_and_cost_no_result(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    computed: Home,
    moments: tuple[float, ...],
    wanted: tuple[str, ...],
) -> None:
    """Each attempt continues from what the earlier ones finished, so that the moments are spread over the whole run."""
    home, command = Home(tmp_path), (*RUN, *wanted)
    for place, after_s in enumerate(moments):
        number = signal.SIGTERM if place % 5 == 3 and after_s > 0 else signal.SIGINT
        stopped = stop(home, command, after_s, is_group=place % 2 == 0, number=number)
        assert stopped is not None, f"the run ended before moment {place}"
        assert not stopped.left, (place, stopped.left)
        assert stopped.wall_s < ENDS_WITHIN_S, (place, stopped.wall_s)
        if after_s < 0 and stopped.code == -signal.SIGINT:  # Python itself was still starting
            continue
        assert stopped.code == 130, (place, stopped.output)
        assert "Traceback" not in stopped.output and "resource_tracker" not in stopped.output, stopped.output
        assert stopped.output.count("stopped; ") == 1, stopped.output
        if after_s >= 0:
            assert "continues where it stopped" in stopped.output, stopped.output
    undisturbed = computed if wanted == A_PART else Home(tmp_path_factory.mktemp("undisturbed"))
    for one in {home, undisturbed} - {computed}:
        done = one.taskdiv(*command, timeout_s=900)
        assert done.returncode == 0, done.stderr
    assert_same_results(home, undisturbed)
