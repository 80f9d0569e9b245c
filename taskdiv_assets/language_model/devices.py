"""Which of several cards a process works on, where no engine has chosen one for it: the first that nobody else of ours holds.

Ray and Kubernetes show a process its own cards only. On one machine with several, the processes of `taskdiv run` and of
Dagster's runs all see them all, and each would take the first. So each holds a lock on one until it ends, however it ends.
"""

from __future__ import annotations

import fcntl
import functools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from taskdiv_assets.settings import machine

_held: list[IO[bytes]] = []  # open, and thereby locked, as long as this process lives


def take(names: Sequence[str], folder: Path) -> int:
    """Position of a card that no other process holds, which is ours from now on; where all are held, one that is shared.

    Args:
        names: of the cards, the same in every process that sees them.
        folder: for the locks, on this machine.
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
    """Leave the card to others, between two tasks of a process that lives on."""
    while _held:
        _held.pop().close()
    choose.cache_clear()


@functools.cache
def choose() -> int:
    """The card of this process, as torch counts them; training in several processes has given out its own."""
    import torch

    cards_n = torch.cuda.device_count()
    if cards_n < 2 or machine().local_rank is not None:
        return int(torch.cuda.current_device())
    names = [str(torch.cuda.get_device_properties(place).uuid) for place in range(cards_n)]
    place = take(names, Path(tempfile.gettempdir()) / f"taskdiv-cards-{os.getuid()}")
    torch.cuda.set_device(place)
    return place
