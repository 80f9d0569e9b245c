"""Choose the GPU of this process: the first GPU that no other process of this package has locked.

Ray and Kubernetes show a process its own GPUs only. On a machine with several GPUs, all processes of `taskdiv run` and Dagster
would use the first GPU. So each process locks one GPU until the process ends. If all GPUs are locked, processes share them.
"""

from __future__ import annotations

import fcntl
import functools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from taskdiv_assets.storage.machine import machine

_held: list[IO[bytes]] = []  # open lock files; a lock ends with its process


def take(names: Sequence[str], folder: Path) -> int:
    """Lock the first GPU whose file in `folder` is not locked, and return its index. If all are locked, lock none.

    Then the process id decides the index, so that the processes are spread over the GPUs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(names):
        file = (folder / name).open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        _held.append(file)
        return place
    return os.getpid() % len(names)


def release() -> None:
    while _held:
        _held.pop().close()
    choose.cache_clear()


@functools.cache
def choose() -> int:
    """Return torch's index of this process's GPU. Lock and select one of several GPUs, except in a training's worker."""
    import torch

    cards_n = torch.cuda.device_count()
    if cards_n < 2 or machine().local_rank is not None:
        return int(torch.cuda.current_device())
    names = [str(torch.cuda.get_device_properties(place).uuid) for place in range(cards_n)]
    place = take(names, Path(tempfile.gettempdir()) / f"taskdiv-cards-{os.getuid()}")
    torch.cuda.set_device(place)
    return place
