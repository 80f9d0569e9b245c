"""Send a signal to a running `taskdiv`, and record its time to end, its output, and the processes that it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import NamedTuple

import psutil

from tests.home import Home

ENDS_WITHIN_S = 15.0  # 2 to 4 s on two idle cores


class Stopped(NamedTuple):
    """The end of a run after its signal."""

    code: int
    wall_s: float
    output: str
    left: list[int]  # processes of it that are still there


def stop(
    home: Home, arguments: tuple[str, ...], after_s: float, *, is_group: bool, number: int = signal.SIGINT
) -> Stopped | None:
    """Start a run, wait for its first task and then `after_s`, and send the signal. Return None if the run had ended by then.

    Args:
        home: home of the run.
        arguments: arguments of `taskdiv`.
        after_s: seconds after the first task was started. A negative number counts from the start of the process instead.
        is_group: True sends the signal to the whole process group, as a terminal does; False to the process of the command alone.
        number: number of the signal.
    """
    with (home.folder / "out.txt").open("w+") as file:
        running = home.start(*arguments, stdout=file)
        began = time.monotonic()
        while after_s >= 0 and "started" not in (home.folder / "out.txt").read_text() and running.poll() is None:
            time.sleep(0.05)
        time.sleep(abs(after_s))
        family = [running.pid, *(child.pid for child in _descendants(running.pid))]
        if running.poll() is not None:
            return None
        sent = time.monotonic()
        (os.killpg if is_group else os.kill)(running.pid, number)
        try:
            running.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            raise AssertionError(f"did not end {60} s after the signal, {sent - began:.1f} s after its start") from None
        wall_s = time.monotonic() - sent
        time.sleep(0.1)
        left = [pid for pid in family if _is_there(pid)]
    return Stopped(running.returncode, wall_s, (home.folder / "out.txt").read_text(), left)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _is_there(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
