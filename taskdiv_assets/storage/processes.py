"""Identity of a process on this machine, so that a dead process is not confused with a later one that has the same number."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import psutil

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE = Path("/proc/self/ns/pid")  # containers of one machine share a boot id, but not process numbers
_SEPARATOR = "."  # between the boot id and the namespace
_START_FIELD = 19  # index in /proc/PID/stat, counted after the name: start of the process in ticks since the boot


class Process(NamedTuple):
    """A process of this machine.

    Attributes:
        pid: its number.
        boot: identifies the boot of the machine and the namespace of the number, as `boot` returns it; after another boot, the
            same number belongs to another process.
        started: its start in ticks since the boot, which does not depend on the clock; empty if unknown.
    """

    pid: int
    boot: str
    started: str = ""

    @property
    def is_alive(self) -> bool:
        """True if the process exists and is not a zombie. A process of another container is not visible, and counts as alive."""
        if not is_same_start(self.boot):
            return False
        if is_elsewhere(self.boot):
            return True
        try:
            if psutil.Process(self.pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return False
        except psutil.NoSuchProcess:  # also raised for other users' processes if /proc hides them
            if not _has_number(self.pid):
                return False
        except psutil.AccessDenied:  # exists, and belongs to another user
            pass
        now = started(self.pid)
        return not self.started or not now or now == self.started


def this() -> Process:
    """Return the calling process."""
    return Process(os.getpid(), boot(), started(os.getpid()))


def boot() -> str:
    """Return a mark of the machine's boot and of the namespace of process numbers; empty if the system does not provide it.

    Earlier versions marked the boot only.
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
    """Return True if a mark belongs to this boot of the machine."""
    return mark.partition(_SEPARATOR)[0] == boot().partition(_SEPARATOR)[0]


def is_elsewhere(mark: str) -> bool:
    """Return True if a mark belongs to another container on this boot of the machine, whose processes are not visible here."""
    theirs, ours = mark.partition(_SEPARATOR)[2], boot().partition(_SEPARATOR)[2]
    return is_same_start(mark) and bool(theirs and ours) and theirs != ours


def started(pid: int) -> str:
    """Return the start of a process in ticks since the boot; empty if unknown, or if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return fields[_START_FIELD] if len(fields) > _START_FIELD else ""


def _has_number(pid: int) -> bool:
    """Return True if a process has this number, including another user's process that /proc hides."""
    if pid <= 0:  # a group of processes
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
