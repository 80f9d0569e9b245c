"""Locks with a lease: they prevent two processes from doing the same work, and they expire if the owner dies.

A lock is a file in the folder `locks`. It names the owner, the owner's process, and the time of the owner's last heartbeat.
Another process takes the lock over in three cases:

- The owner was a process of this machine and is dead.
- The heartbeat is older than the lease (`LEASE_S`), or the file was unchanged for `LEASE_S`.
- The heartbeat is unusable (unreadable, or far in the future), and the file was unchanged for `NONSENSE_S`.

Clocks of two machines may differ. So an old heartbeat of another machine or container counts only after the file was unchanged
for `NONSENSE_S`. The lock of a result may have two owners for a short time, for example after a machine slept. Both then store
the same result.
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

LEASE_S = 180.0  # longer than a request that times out (remote.S3_OPTIONS: 60 s) and its retry
HEARTBEAT_S = 10.0
NONSENSE_S = 3 * HEARTBEAT_S  # how long a lock must stay unchanged if its heartbeat cannot be trusted
POLL_S = 0.5
SAID_S = 60.0  # time between two sentences about the same wait
TAKING_OVER_S = 10.0  # age at which the note of a process that takes a lock over is removed


@dataclass(frozen=True)
class Held:
    """Content of a lock file. Times are seconds since 1970 by the owner's clock."""

    owner: str  # `host:pid:…`; empty if the file cannot be read
    heartbeat: float = math.nan  # time of the last heartbeat; NaN if the file cannot be read
    since: float = math.nan  # time when the owner took the lock; NaN if unknown
    process: Process | None = None  # None if the owner is on another host or in another container

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse the content of a lock file. If the content cannot be read, return a lock without an owner."""
        try:
            raw = json.loads(data)
            owner, heartbeat, since = str(raw["owner"]), float(raw["heartbeat"]), float(raw.get("since", math.nan))
            boot, started = str(raw.get("boot", processes.boot())), str(raw.get("started", ""))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return cls("")
        host, _, rest = owner.partition(":")
        pid = rest.partition(":")[0]
        is_here = host == socket.gethostname() and not processes.is_elsewhere(boot)
        is_ours = is_here and pid.isdecimal() and len(pid) < 10
        return cls(owner, heartbeat, since, Process(int(pid), boot, started) if is_ours else None)

    @property
    def is_dead(self) -> bool:
        """True if the owner was a process of this host and is known to have ended."""
        return self.process is not None and not self.process.is_alive

    @property
    def is_nonsense(self) -> bool:
        """True if the owner or the heartbeat cannot be read, or the heartbeat is more than `LEASE_S` in the future."""
        return not self.owner or not math.isfinite(self.heartbeat) or self.heartbeat - time.time() > LEASE_S

    @property
    def is_over(self) -> bool:
        """True if the owner is dead, or the lease has ended by the clock of this machine."""
        return self.is_dead or (not self.is_nonsense and time.time() - self.heartbeat > LEASE_S)

    def left_s(self, unchanged_s: float) -> float:
        """Return the seconds until another process may take the lock over, if the owner sends no more heartbeats.

        `unchanged_s` is the time in seconds for which the content of the lock file has been the same.
        """
        if self.is_dead:
            return 0.0
        lease_s = 0.0 if self.is_nonsense else LEASE_S - max(unchanged_s, time.time() - self.heartbeat)
        is_by_our_clock = self.process is not None and not self.is_nonsense
        return max(lease_s, 0.0 if is_by_our_clock else NONSENSE_S - unchanged_s, 0.0)

    def wait(self, place: str, unchanged_s: float) -> str:
        """Return a sentence about the owner and the end of the wait. `place` is the lock's path; `unchanged_s` as in `left_s`."""
        left = f"in {spell(self.left_s(unchanged_s))}"
        host, _, rest = self.owner.partition(":")
        who = f"process {rest.partition(':')[0]} on {host}"
        since = f" since {_clock(self.since)}" if math.isfinite(self.since) else ""
        if self.is_nonsense:
            unreadable = f"the lock {place}, whose content cannot be read"
            early = f"{who}, which holds the lock {place}{since} with a heartbeat far from the present time"
            return f"waiting for {early if self.owner else unreadable}; it is taken over {left} unless it changes"
        return (
            f"waiting for {who}, which works on the same result{since} (lock {place}); the wait ends when it is done, "
            f"at once if it is killed on this machine, or {left} if it sends no more heartbeats"
        )


class Watched:
    """A timer that measures how long the content of a file has been the same, by the clock of this process."""

    def __init__(self) -> None:
        self._content = b""
        self._since_s = time.monotonic()

    def unchanged_s(self, content: bytes) -> float:
        """Return the time in seconds for which all calls have received the same `content`."""
        if content != self._content:
            self._content, self._since_s = content, time.monotonic()
        return time.monotonic() - self._since_s


@contextmanager
def hold(store: Store, identity: str, *, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a lock while the block runs. Wait first if another process has the lock.

    `identity` is the name of the lock file, often the identity of a result. `on_wait` receives a sentence about the owner and the
    end of the wait: when the wait begins, for every new owner, and every minute.
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
    """Return the owners that may be alive, sorted: their process runs on this host, or their lease has not ended."""
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
        time.sleep(POLL_S * random.uniform(0.5, 1.5))  # random, so that waiting processes try at different times


def _taken_over(store: Store, identity: str, dead: bytes, owner: str, since: float, watched: Watched) -> bool:
    """Take over a lock whose content is `dead`. Return False if the content has changed, or if a note file exists already.

    This process first creates a note file whose name contains a hash of the lock's content, so only one process can proceed. It
    then reads the lock again, and replaces the lock only if its content is still `dead`. Then it removes the note file. It
    also removes a note file whose writer died.
    """
    name = f"{identity}.{hashlib.sha256(dead).hexdigest()[:16]}.taking-over"
    if not store.put_new(_content(owner, since), "locks", name):
        note = store.get("locks", name) or b""
        if note and (Held.parse(note).is_dead or watched.unchanged_s(note) >= TAKING_OVER_S):
            store.remove_own(note, "locks", name)  # the writer of the note died, so other processes may try
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
        except Exception:  # a storage library may raise any exception; the next heartbeat is long before the lease ends
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
