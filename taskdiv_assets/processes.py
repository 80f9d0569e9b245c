"""Which process of this machine it is, so that a dead one is never taken for another that got its number later."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import psutil

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_START_FIELD = 19  # of /proc/PID/stat, counted behind the name: the start of the process in ticks since the boot


class Process(NamedTuple):
    """A process of this machine.

    Attributes:
        pid: its number.
        boot: of the machine when it was started: after another boot, what has its number is another process.
        started: when it was started, in ticks since the boot, which setting a clock does not change; empty if not known.
    """

    pid: int
    boot: str
    started: str = ""

    @property
    def is_alive(self) -> bool:
        """True if it is still there, and not only waits to be collected by its parent."""
        if self.boot != boot():
            return False
        try:
            if psutil.Process(self.pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return False
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:  # there, and another user's
            pass
        now = started(self.pid)
        return not self.started or not now or now == self.started


def this() -> Process:
    """Return the calling process."""
    return Process(os.getpid(), boot(), started(os.getpid()))


def boot() -> str:
    """Return what is another after every start of the machine; empty where the system does not say."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def started(pid: int) -> str:
    """Return the start of a process in ticks since the boot; empty where the system does not say, or there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return fields[_START_FIELD] if len(fields) > _START_FIELD else ""
