"""The memory that scoring needs in addition to the model. Each way runs in its own process; the peak of resident memory counts.

    python -m tests.benchmarks.scoring_memory WAY STEPS RESULT

The process first scores two prompts with two new tokens, so that imports and the buffers of libraries are not counted.
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
    """The memory and the columns of one way."""

    mib: float
    columns: scorers.Columns


def measure(way: str, steps_n: int, *, has_holes: bool = True) -> Extra:
    """Run one way in a new interpreter. If it fails, raise RuntimeError with the end of its stderr.

    Args:
        way: a function of `scorers`.
        steps_n: number of new tokens.
        has_holes: if False, freed arrays of a megabyte or more are returned to the system at once.
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
