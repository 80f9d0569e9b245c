"""Identification of processes on this machine by number, boot and start time.

A process number alone is not enough: the system gives the number of a dead process to a later process. A mark is a text that
identifies a boot of the machine and a namespace of process numbers. By default, each container has its own namespace.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import psutil

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE = Path("/proc/self/ns/pid")  # containers of one machine have the same boot id, but separate process numbers
_SEPARATOR = "."  # between the boot id and the namespace
_START_FIELD = 19  # index of the start time in /proc/PID/stat, counted after the process name; ticks since the boot


class Process(NamedTuple):
    """A process of this machine."""

    pid: int
    boot: str  # mark, as from the function `boot`
    started: str = ""  # ticks since the boot; empty if unknown. Unlike a clock time, this never changes

    @property
    def is_alive(self) -> bool:
        """True if the process exists and is not a zombie. A process of another container is invisible, and counts as alive."""
        if not is_same_start(self.boot):
            return False
        if is_elsewhere(self.boot):
            return True
        try:
            if psutil.Process(self.pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return False
        except psutil.NoSuchProcess:  # psutil also raises this error for processes of other users if /proc hides them
            if not _has_number(self.pid):
                return False
        except psutil.AccessDenied:  # the process exists and belongs to another user
            pass
        now = started(self.pid)
        return not self.started or not now or now == self.started


def this() -> Process:
    return Process(os.getpid(), boot(), started(os.getpid()))


def boot() -> str:
    """Return the mark of the machine's current boot and of this process's PID namespace; empty if the system has no boot id.

    A mark is the boot id, followed by the namespace. It is only the boot id on a system without namespaces, and in files that
    earlier versions of this project wrote.
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
    """Return True if a mark belongs to this boot of the machine, but to another namespace, as in another container."""
    theirs, ours = mark.partition(_SEPARATOR)[2], boot().partition(_SEPARATOR)[2]
    return is_same_start(mark) and bool(theirs and ours) and theirs != ours


def started(pid: int) -> str:
    """Return the start time of a process in ticks since the boot; empty if unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return fields[_START_FIELD] if len(fields) > _START_FIELD else ""


def _has_number(pid: int) -> bool:
    """Return True if any process has this number, including processes of other users that /proc hides."""
    if pid <= 0:  # os.kill would address a group of processes
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
