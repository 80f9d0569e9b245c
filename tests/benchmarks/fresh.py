"""One side of a comparison in its own process, so that it does not use the memory, caches or compiled code of another side.

A side is a function (inputs, depth) → picks. The process loads the inputs, and runs the side once on a few rows, because of
imports and numba's compilation. Then it records its memory and starts the clock. The clock measures the user and system time of
the process. With one thread, this equals the wall time on an idle machine, and other processes change it less.

    python -m tests.benchmarks.fresh MODULE:FUNCTION INPUTS DEPTH ROWS RESULT
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import data

ROOT = Path(__file__).resolve().parents[2]
WARM_ROWS, WARM_DEPTH = 400, 20


class Outcome(NamedTuple):
    """The time, the memory and the picks of one side."""

    seconds: float  # of processor time
    wall_s: float
    warm_s: float  # a second call on a few rows: what is paid at every call, such as compilation
    extra_mib: float  # highest resident memory during the call, above that before it
    picks: NDArray[Any]


class Side(NamedTuple):
    """A side to run: a function of a module in tests.benchmarks."""

    function: str  # "k_center.plain_loop"
    inputs: Path
    depth: int
    rows_n: int | None = None  # the first rows of the inputs; all by default
    turns_n: int = 3


def take_turns(sides: Sequence[Side]) -> list[Outcome]:
    """Return the fastest run of each side. First all sides run once, then all sides with a second turn, and so on."""
    best: list[Outcome | None] = [None] * len(sides)
    for turn in range(max(side.turns_n for side in sides)):
        for i, side in enumerate(sides):
            if turn < side.turns_n:
                found, old = run(side), best[i]
                best[i] = found if old is None or found.seconds < old.seconds else old
    return [outcome for outcome in best if outcome is not None]


def run(side: Side) -> Outcome:
    """Run a side in a new interpreter. If it fails, raise RuntimeError with the end of its stderr."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.npz"
        arguments = [side.function, str(side.inputs), str(side.depth), str(side.rows_n or 0), str(result)]
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.fresh", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(
                f"{side.function} at depth {side.depth} ended with {done.returncode}: {done.stderr[-2000:]}"
            )
        with np.load(result) as found:
            seconds, wall_s, warm_s, extra_mib = (float(found[name]) for name in Outcome._fields[:-1])
            outcome = Outcome(seconds, wall_s, warm_s, extra_mib, found["picks"])
    at = f"depth {side.depth:,}" + (f", {side.rows_n:,} rows" if side.rows_n else "")
    print(
        f"  {side.function} on {side.inputs.stem}, {at}: {outcome.seconds:.3f} s of {outcome.wall_s:.3f}, +{outcome.extra_mib:.0f} MiB",
        flush=True,
    )
    return outcome


def _measure(function: str, inputs: Path, depth: int, rows_n: int | None) -> Outcome:
    module, _, name = function.partition(".")
    side = getattr(importlib.import_module(f"tests.benchmarks.{module}"), name)
    few = data.load(inputs, WARM_ROWS)
    side(few, WARM_DEPTH)
    started = time.process_time()
    side(few, WARM_DEPTH)
    warm_s = time.process_time() - started
    full = data.load(inputs, rows_n)
    _forget_peak()
    before_mib = _memory_mib("VmRSS")
    started, started_wall = time.process_time(), time.perf_counter()
    picks = side(full, depth)
    seconds, wall_s = time.process_time() - started, time.perf_counter() - started_wall
    return Outcome(seconds, wall_s, warm_s, _memory_mib("VmHWM") - before_mib, np.asarray(picks))


def _forget_peak() -> None:
    """Reset the peak of the memory. A child process inherits the peak of its parent, and loading has its own peak."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _memory_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


if __name__ == "__main__":
    function, inputs, depth, rows_n, result = sys.argv[1:]
    outcome = _measure(function, Path(inputs), int(depth), int(rows_n) or None)
    np.savez(result, **outcome._asdict())
