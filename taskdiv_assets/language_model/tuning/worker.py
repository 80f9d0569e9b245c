"""One of several training processes, started by torchrun (see `process_group`): python -m … FOLDER."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskdiv_assets.language_model.tuning import Base, DivergedError, Example, HubName, Keeper, tune
from taskdiv_assets.language_model.tuning.process_group import CHECKPOINT, FAILURE, REQUEST, RESULT
from taskdiv_assets.storage.machine import machine
from taskdiv_assets.storage.processes import Process, boot, started
from taskdiv_assets.tuning_settings import Tuning

WATCH_S = 2.0


def main(folder: Path) -> int:
    """Run the training that `folder` requests, and return the exit status: 0, or 1 after a ValueError or DivergedError.

    Only the first process writes the result, or the message of its error. Such an error of another process shows only in the
    exit status.
    """
    import torch

    request = json.loads((folder / REQUEST).read_text())
    threading.Thread(target=_end_with, args=(int(request["parent"]),), daemon=True).start()
    is_first = machine().rank == "0"

    def log(text: str) -> None:
        if is_first:
            tell(log=text)

    path, dtype, attention, hub = request["base"]
    try:
        _take_device()
        result = tune(
            Base(Path(path), dtype, attention, HubName(*hub) if hub else None),
            [Example(*row) for row in request["examples"]],
            Tuning.model_validate(request["tuning"]),
            seed=request["seed"],
            out=Path(request["out"]),
            on_step=(lambda *step: tell(step=step)) if is_first else None,
            keeper=_keeper(folder, request["checkpoints"], log),
            log=log,
        )
    except (ValueError, DivergedError) as error:
        if is_first:
            losses = error.losses if isinstance(error, DivergedError) else None
            (folder / FAILURE).write_text(json.dumps({"message": str(error), "losses": losses}))
        return 1
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if is_first:
        (folder / RESULT).write_text(json.dumps(result._asdict()))
    return 0


def tell(**what: Any) -> None:
    """Send a message to the process that started this one."""
    sys.stdout.write(json.dumps({"taskdiv": what}) + "\n")
    sys.stdout.flush()


def _take_device() -> None:
    """Select this process's own GPU; raise ValueError if there are too few GPUs. Without any GPU, use one CPU thread.

    All processes of the machine raise the error, since only the first one can report it.
    """
    import torch

    ours = machine()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    elif int(ours.local_world_size or 1) > torch.cuda.device_count():
        raise ValueError(
            f"$TASKDIV_TRAINING_PROCESSES asks for {ours.local_world_size} processes, and there are "
            f"{torch.cuda.device_count()} GPUs; each process needs one of its own"
        )
    else:
        torch.cuda.set_device(int(ours.local_rank or 0))


def _keeper(folder: Path, checkpoints: tuple[float, str] | None, log: Callable[[str], None]) -> Keeper | None:
    """Return a keeper of checkpoints in `folder`; None if `checkpoints` is None. All processes read, and the first one writes."""
    if checkpoints is None:
        return None
    every_s, of = checkpoints
    file = folder / CHECKPOINT

    def write(path: Path) -> None:
        path.replace(file)
        tell(checkpoint=True)

    return Keeper(lambda: file if file.exists() else None, write, every_s, of, log)


def _end_with(parent: int) -> None:
    """End this process soon after the process `parent` has ended."""
    asked = Process(parent, boot(), started(parent))
    while asked.is_alive:
        time.sleep(WATCH_S)
    os._exit(137)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
