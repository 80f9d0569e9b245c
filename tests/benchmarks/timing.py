"""Processor seconds of calls in this process, and wall or processor seconds of new interpreters."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from tests.benchmarks.fresh import ROOT


def best_of(call: Callable[[], object], repeats_n: int = 5) -> float:
    """Return the fewest processor seconds of a call."""
    best = np.inf
    for _ in range(repeats_n):
        started = time.process_time()
        call()
        best = min(best, time.process_time() - started)
    return best


def paired(ours: Callable[[], object], other: Callable[[], object], repeats_n: int = 5) -> tuple[float, float]:
    """Return the fewest wall seconds of both sides, which take turns."""
    best = [np.inf, np.inf]
    for _ in range(repeats_n):
        for side, call in enumerate((ours, other)):
            started = time.perf_counter()
            call()
            best[side] = min(best[side], time.perf_counter() - started)
    return best[0], best[1]


def fresh_interpreter(statement: str) -> None:
    """Run a statement in a new process, as Dagster does when it loads a code location."""
    subprocess.run([sys.executable, "-c", statement], cwd=ROOT, check=True, capture_output=True)


def fresh_interpreter_s(statement: str) -> float:
    """Return the processor seconds of a statement in a new process, including imports."""
    told = f"import time; {statement}; print(time.process_time())"
    ran = subprocess.run([sys.executable, "-c", told], cwd=ROOT, check=True, capture_output=True, text=True)
    return float(ran.stdout.split()[-1])
