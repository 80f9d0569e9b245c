"""Which process of this machine it is, so that a dead one is never taken for another that got its number later."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import psutil

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE = Path("/proc/self/ns/pid")  # containers of one machine have one boot id, and numbers of their own
_SEPARATOR = "."  # between the boot id and the namespace
_START_FIELD = 19  # of /proc/PID/stat, counted behind the name: the start of the process in ticks since the boot


class Process(NamedTuple):
    """A process of this machine.

    Attributes:
        pid: its number.
        boot: mark of the machine's start and of the namespace of its number, as `boot` returns it: after another start, what
            has its number is another process.
        started: when it was started, in ticks since the boot, which setting a clock does not change; empty if not known.
    """

    pid: int
    boot: str
    started: str = ""

    @property
    def is_alive(self) -> bool:
        """True if it is still there, and not only waits to be collected by its parent.

        A process of another container cannot be seen, and counts as alive.
        """
        if not is_same_start(self.boot):
            return False
        if is_elsewhere(self.boot):
            return True
        try:
            if psutil.Process(self.pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return False
        except psutil.NoSuchProcess:  # also said of other users' processes where /proc hides them
            if not _has_number(self.pid):
                return False
        except psutil.AccessDenied:  # there, and another user's
            pass
        now = started(self.pid)
        return not self.started or not now or now == self.started


def this() -> Process:
    """Return the calling process."""
    return Process(os.getpid(), boot(), started(os.getpid()))


def boot() -> str:
    """Return a mark of the machine's start and of the namespace of process numbers; empty where the system does not say.

    Earlier versions marked the start alone.
    """
    try:
        start = BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
    try:
        return f"{start}{_SEPARATOR}{NAMESPACE.stat().st_ino}"
    except OSError:
        return start


def is_same_start(mark: str) -> bool:
    """Return True if a mark is of this start of the machine."""
    return mark.partition(_SEPARATOR)[0] == boot().partition(_SEPARATOR)[0]


def is_elsewhere(mark: str) -> bool:
    """Return True if a mark is of another container on this start of the machine: its processes cannot be seen from here."""
    theirs, ours = mark.partition(_SEPARATOR)[2], boot().partition(_SEPARATOR)[2]
    return is_same_start(mark) and bool(theirs and ours) and theirs != ours


def started(pid: int) -> str:
    """Return the start of a process in ticks since the boot; empty where the system does not say, or there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return fields[_START_FIELD] if len(fields) > _START_FIELD else ""


def _has_number(pid: int) -> bool:
    """Return True if a process has this number, also another user's that /proc does not show."""
    if pid <= 0:  # a group of processes
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
