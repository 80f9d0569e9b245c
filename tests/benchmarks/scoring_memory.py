"""How much memory scoring takes above the model: each way in a process of its own, the peak of resident memory.

    python -m tests.benchmarks.scoring_memory WAY STEPS RESULT

The process first scores two prompts for two tokens, so that imports and the libraries' own buffers are not counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.benchmarks import scorers
from tests.benchmarks.fresh import ROOT, _forget_peak, _memory_mib
from tests.benchmarks.random_llama import WIDE_VOCABULARY, build, random_prompts

ROWS, PROMPT_TOKENS = 64, 32  # of one length, so that all stand in one batch


class Extra(NamedTuple):
    """What one way took, and found."""

    mib: float
    columns: scorers.Columns


def measure(way: str, steps_n: int, *, has_holes: bool = True) -> Extra:
    """One way in a new interpreter. RuntimeError with its last words where it fails.

    Args:
        way: a function of `scorers`.
        steps_n: new tokens.
        has_holes: False: freed arrays of a megabyte and more go back to the system at once.
    """
    variables = {**os.environ} | ({} if has_holes else {"MALLOC_MMAP_THRESHOLD_": "1000000"})
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.npz"
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tests.benchmarks.scoring_memory",
            way,
            str(steps_n),
            str(result),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=variables)
        if done.returncode:
            raise RuntimeError(f"memory of {way} ended with {done.returncode}: {done.stderr[-2000:]}")
        with np.load(result) as found:
            columns = {name: found[name] for name in found.files}
    extra = Extra(float(columns.pop("extra_mib")), columns)
    print(
        f"  memory of {way}, {steps_n} steps: +{extra.mib:.0f} MiB" + ("" if has_holes else " without holes"),
        flush=True,
    )
    return extra


def _in_this_process(way: str, steps_n: int, result: Path) -> None:
    import torch

    torch.set_num_threads(1)
    lm = build(WIDE_VOCABULARY, "cpu")
    prompts = random_prompts([PROMPT_TOKENS] * ROWS, WIDE_VOCABULARY.vocabulary)
    score: scorers.Way = getattr(scorers, way)
    score(lm, prompts[:2], 2)
    _forget_peak()
    before_mib = _memory_mib("VmRSS")
    columns = score(lm, prompts, steps_n)
    np.savez(result, extra_mib=_memory_mib("VmHWM") - before_mib, **columns)


if __name__ == "__main__":
    _in_this_process(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
