"""Locks with a lease: they keep two processes from making the same result, and a dead owner does not block others for long.

A lock is a small file, `locks/<identity>`, created only if it does not exist, with its owner and heartbeat. Another process
takes it over as soon as the owner is known to be dead (a process of this machine), when the heartbeat is older than the lease,
or when the file has not changed for a bounded time. Clocks of two machines may differ, so a heartbeat of another machine counts
only after the file was unchanged for a while. A file that cannot be read has no heartbeat. Of several processes that try, one
takes the lock over. Results are found by identity: if two owners ever overlap (a machine that slept for a minute), the work is
done twice with the same result.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from taskdiv_assets.storage import processes
from taskdiv_assets.storage.processes import Process
from taskdiv_assets.storage.progress import spell
from taskdiv_assets.storage.store import Store

LEASE_S = 180.0  # longer than a request that stalls (remote.S3_OPTIONS: 60 s) and its retry
HEARTBEAT_S = 10.0
NONSENSE_S = 3 * HEARTBEAT_S  # without a change, for heartbeats that prove nothing: unreadable, or by another clock
POLL_S = 0.5
SAID_S = 60.0  # between two notes about a wait
TAKING_OVER_S = 10.0


@dataclass(frozen=True)
class Held:
    """Content of a lock file.

    Attributes:
        owner: `host:pid:…`; empty if the file cannot be read.
        heartbeat: seconds since 1970 by the owner's clock; NaN if the file cannot be read.
        since: when the owner took the lock; NaN if unknown.
        process: of this host; None if the owner is on another host or in another container.
    """

    owner: str
    heartbeat: float = math.nan
    since: float = math.nan
    process: Process | None = None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a lock file; content that cannot be read has no owner."""
        try:
            raw = json.loads(data)
            owner, heartbeat, since = str(raw["owner"]), float(raw["heartbeat"]), float(raw.get("since", math.nan))
            boot, started = str(raw.get("boot", processes.boot())), str(raw.get("started", ""))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return cls("")
        host, _, rest = owner.partition(":")
        pid = rest.partition(":")[0]
        is_here = (
            host == socket.gethostname() and not processes.is_elsewhere(boot) and pid.isdecimal() and len(pid) < 10
        )
        return cls(owner, heartbeat, since, Process(int(pid), boot, started) if is_here else None)

    @property
    def is_dead(self) -> bool:
        """True if the owner was a process of this host and is gone, so that nobody needs to wait for the lease."""
        return self.process is not None and not self.process.is_alive

    @property
    def is_nonsense(self) -> bool:
        """True if the heartbeat cannot be read, or is further in the future than clocks differ."""
        return not self.owner or not math.isfinite(self.heartbeat) or self.heartbeat - time.time() > LEASE_S

    @property
    def is_over(self) -> bool:
        """True if the lease has ended by the clock of this machine, or the owner is dead."""
        return self.is_dead or (not self.is_nonsense and time.time() - self.heartbeat > LEASE_S)

    def left_s(self, unchanged_s: float) -> float:
        """Return the seconds until the lock is taken over, if the file was unchanged for `unchanged_s` and stays unchanged."""
        if self.is_dead:
            return 0.0
        lease_s = 0.0 if self.is_nonsense else LEASE_S - max(unchanged_s, time.time() - self.heartbeat)
        is_by_our_clock = self.process is not None and not self.is_nonsense
        return max(lease_s, 0.0 if is_by_our_clock else NONSENSE_S - unchanged_s, 0.0)

    def wait(self, place: str, unchanged_s: float) -> str:
        """Return a sentence: who holds the lock, since when, and when the wait ends."""
        left = f"in {spell(self.left_s(unchanged_s))}"
        if not self.owner:
            return (
                f"waiting for the lock {place}, whose content cannot be read; it is taken over {left} unless it changes"
            )
        host, _, rest = self.owner.partition(":")
        who = f"process {rest.partition(':')[0]} on {host}"
        since = f" since {_clock(self.since)}" if math.isfinite(self.since) else ""
        if self.is_nonsense:
            return (
                f"waiting for {who}, which holds the lock {place}{since} with a heartbeat far from the present time; "
                f"it is taken over {left} unless it changes"
            )
        return (
            f"waiting for {who}, which works on the same result{since} (lock {place}); the wait ends when it is done, "
            f"at once if it is killed on this machine, or {left} if it sends no more heartbeats"
        )


class Watched:
    """Measures how long the content of a file has been the same, by the clock of the process that checks it."""

    def __init__(self) -> None:
        self._content = b""
        self._since_s = time.monotonic()

    def unchanged_s(self, content: bytes) -> float:
        """Return the seconds since the file was first seen with this content."""
        if content != self._content:
            self._content, self._since_s = content, time.monotonic()
        return time.monotonic() - self._since_s


@contextmanager
def hold(store: Store, identity: str, *, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock of one identity while the block runs; wait while another process holds it.

    Args:
        store: the experiment's store.
        identity: of the result that is being made.
        on_wait: receives a sentence about the owner and the end of the wait: at once, for every new owner, and every minute.
    """
    owner = f"{socket.gethostname()}:{processes.this().pid}:{uuid.uuid4().hex[:8]}"
    since = _acquire(store, identity, owner, on_wait)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(store, identity, owner, since, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        _release(store, identity, owner)


def holders(store: Store) -> list[str]:
    """Return the owners of an experiment's locks that may be alive: by their process on this host, or by their heartbeat."""
    found = set()
    for name in store.names("locks"):
        held = Held.parse(store.get("locks", name) or b"")
        is_alive = held.process is not None and held.process.is_alive
        if is_alive or not (held.is_nonsense or held.is_over):
            found.add(held.owner)
    return sorted(found)


def _release(store: Store, identity: str, owner: str) -> None:
    data = store.get("locks", identity)
    if data is not None and Held.parse(data).owner == owner:
        store.remove_own(data, "locks", identity)


def _acquire(store: Store, identity: str, owner: str, on_wait: Callable[[str], None] | None) -> float:
    lock, note = Watched(), Watched()
    said, said_s = "", -math.inf
    while True:
        since = time.time()
        if store.put_new(_content(owner, since), "locks", identity):
            return since
        data = store.get("locks", identity)
        if data is None:
            continue
        held, unchanged_s = Held.parse(data), lock.unchanged_s(data)
        if held.left_s(unchanged_s) <= 0 and _taken_over(store, identity, data, owner, since, note):
            return since
        if on_wait is not None and (held.owner != said or time.monotonic() - said_s >= SAID_S):
            on_wait(held.wait(store.locate("locks", identity), unchanged_s))
            said, said_s = held.owner, time.monotonic()
        time.sleep(POLL_S * random.uniform(0.5, 1.5))  # processes that began to wait together do not try again together


def _taken_over(store: Store, identity: str, dead: bytes, owner: str, since: float, watched: Watched) -> bool:
    """Replace a dead owner; return False if another process did so, or is doing so.

    The process that takes over holds a file named after the content of the lock, and reads the lock again once it has that
    file: a lock that has changed in the meantime is not touched.
    """
    name = f"{identity}.{hashlib.sha256(dead).hexdigest()[:16]}.taking-over"
    if not store.put_new(_content(owner, since), "locks", name):
        note = store.get("locks", name) or b""
        if note and (Held.parse(note).is_dead or watched.unchanged_s(note) >= TAKING_OVER_S):
            store.remove_own(note, "locks", name)  # its owner died while taking over: others may try
        return False
    try:
        if store.get("locks", identity) != dead:
            return False
        store.put(_content(owner, since), "locks", identity)
        return True
    finally:
        store.remove("locks", name)


def _beat(store: Store, identity: str, owner: str, since: float, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        try:
            if Held.parse(store.get("locks", identity) or b"").owner != owner:
                return
            store.put(_content(owner, since), "locks", identity)
        except Exception:  # a store's library may raise anything; the next heartbeat is well within the lease
            continue


def _content(owner: str, since: float) -> bytes:
    ours = processes.this()
    said = {"owner": owner, "heartbeat": time.time(), "since": since, "boot": ours.boot, "started": ours.started}
    return json.dumps(said).encode()


def _clock(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "an unknown time"
