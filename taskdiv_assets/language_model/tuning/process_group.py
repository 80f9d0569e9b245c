"""Run one training in several processes, each with its own GPU if there are GPUs. torchrun starts the processes.

The request and the result are files of one folder. Each step's examples are divided among the processes by length (see `share`),
and DistributedDataParallel averages the gradients. Results differ from those of one process by rounding only. So the number of
processes (`$TASKDIV_TRAINING_PROCESSES`) is recorded, but it is not a part of an identity.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskdiv_assets.language_model.loading import release_memory
from taskdiv_assets.language_model.tuning.checkpoints import Keeper
from taskdiv_assets.language_model.tuning.trainer import DivergedError, OnStep
from taskdiv_assets.storage.machine import machine

if TYPE_CHECKING:
    from taskdiv_assets.language_model.tuning import Base, Example, TuningResult
    from taskdiv_assets.tuning_settings import Tuning

REQUEST, RESULT, FAILURE, CHECKPOINT = "request.json", "result.json", "failure.json", "checkpoint.safetensors"
SHOWN_LINES_N = 15
WORKERS_VARIABLE = "TASKDIV_TUNING_WORKERS"  # number of processes of one training


def command(folder: Path, processes_n: int) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes_n)]
    return [*launcher, "-m", "taskdiv_assets.language_model.tuning.worker", str(folder)]


def tune_in_processes(
    base: Base,
    examples: Sequence[Example],
    tuning: Tuning,
    *,
    processes_n: int,
    seed: int,
    out: Path,
    folder: Path,  # empty; for requests and results
    on_step: OnStep | None = None,
    keeper: Keeper | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> TuningResult:
    """Train as `tune` does, in several processes.

    Raises:
        ValueError: `tune` raised a ValueError in the first process, or there are fewer GPUs than processes. If memory ran out,
            this is a plain ValueError, not its subclass FullMemoryError.
        DivergedError: in the first process, the loss or the trained weights are not finite.
        RuntimeError: the processes ended without a result, for example because another process failed. The message has the last
            lines of their output.
    """
    from taskdiv_assets.language_model.tuning import TuningResult

    last = keeper.read() if keeper else None
    if last is not None:
        shutil.copyfile(last, folder / CHECKPOINT)
    request = {
        "base": [str(base.folder), base.dtype, base.attention, base.hub],
        "examples": examples,
        "tuning": tuning.model_dump(mode="json"),
        "seed": seed,
        "out": str(out),
        "checkpoints": [keeper.every_s, keeper.of] if keeper else None,
        "parent": os.getpid(),
    }
    (folder / REQUEST).write_text(json.dumps(request))
    log(f"training in {processes_n} processes")
    release_memory()  # the first process needs the GPU memory that this one held
    lines = _follow(processes_n, folder, on_step, keeper, log)
    if (folder / FAILURE).exists():
        failure = json.loads((folder / FAILURE).read_text())
        if failure["losses"] is not None:
            raise DivergedError(failure["message"], failure["losses"])
        raise ValueError(failure["message"])
    if not (folder / RESULT).exists():
        raise RuntimeError("the training processes ended without a result:\n" + "\n".join(lines[-SHOWN_LINES_N:]))
    result = json.loads((folder / RESULT).read_text())
    return TuningResult(**{**result, "losses": tuple(result["losses"])})


def _follow(
    processes_n: int, folder: Path, on_step: OnStep | None, keeper: Keeper | None, log: Callable[[str], None]
) -> list[str]:
    """Run the processes and pass on their messages. Return all other lines that they write."""
    others: list[str] = []
    quiet = {"OMP_NUM_THREADS": machine().threads, "TORCHELASTIC_ERROR_FILE": os.devnull}
    env = {**os.environ, **quiet, WORKERS_VARIABLE: str(processes_n)}
    line, pipe = command(folder, processes_n), subprocess.PIPE
    with subprocess.Popen(line, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=env) as running:
        assert running.stdout is not None
        try:
            for text in running.stdout:
                message = _message_of(text)
                if message is None:
                    others.append(text.rstrip())
                elif "step" in message and on_step:
                    on_step(*message["step"])
                elif "checkpoint" in message and keeper:
                    copy = folder / "copy.safetensors"
                    shutil.copyfile(folder / CHECKPOINT, copy)
                    keeper.write(copy)
                elif "log" in message:
                    log(message["log"])
        except BaseException:
            running.terminate()
            raise
    return others


def _message_of(text: str) -> Mapping[str, Any] | None:
    """Return the message in a line of a worker, a JSON object under the key `taskdiv`; None for any other line."""
    try:
        message = json.loads(text)["taskdiv"]
    except (ValueError, TypeError, KeyError):
        return None
    return message if isinstance(message, dict) else None
