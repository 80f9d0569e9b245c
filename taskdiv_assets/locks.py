"""A lock with a lease: two who want one result at once are kept apart, and a dead owner holds nobody up for long.

The lock is a small file, `locks/<identity>`, made only if there is none, with its owner and heartbeat. Whoever finds a
heartbeat older than the lease takes the lock over; of several who find it, one does. Results are found by identity, so
should two owners ever overlap (a machine asleep for a minute), the work is done twice and the result is the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from taskdiv_assets.store import Store

LEASE_S = 180.0  # longer than one request that stalls (remote.S3_OPTIONS: 60 s) and its second try
HEARTBEAT_S = 10.0
POLL_S = 0.5
TAKING_OVER_S = 10.0


@contextmanager
def hold(store: Store, identity: str, *, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock of one identity while the block runs; waits while another process holds it.

    Args:
        store: the experiment's store.
        identity: what is being made.
        on_wait: told once who holds the lock, when there is somebody to wait for.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    _acquire(store, identity, owner, on_wait)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(store, identity, owner, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        _release(store, identity, owner)


def holders(store: Store) -> list[str]:
    """Owners of the locks of an experiment whose heartbeat is younger than the lease, and that are not known to be dead."""
    found = []
    for name in store.names("locks"):
        data = store.get("locks", name)
        owner, since = _owner(data), _heartbeat(data)
        if owner is not None and since is not None and time.time() - since < LEASE_S and not _is_dead(owner):
            found.append(owner)
    return sorted(set(found))


def _release(store: Store, identity: str, owner: str) -> None:
    data = store.get("locks", identity)
    if data is not None and _owner(data) == owner:
        store.remove_own(data, "locks", identity)


def _acquire(store: Store, identity: str, owner: str, on_wait: Callable[[str], None] | None) -> None:
    told = False
    unreadable_since: float | None = None
    while not store.put_new(_content(owner), "locks", identity):
        data = store.get("locks", identity)
        if data is None:
            continue
        try:
            held = json.loads(data)
            age_s, holder = time.time() - float(held["heartbeat"]), str(held["owner"])
            unreadable_since = None
        except (ValueError, KeyError, TypeError):  # being written, or its writer died in the middle
            unreadable_since = unreadable_since or time.monotonic()
            age_s, holder = time.monotonic() - unreadable_since, "unknown"
        if (age_s > LEASE_S or _is_dead(holder)) and _taken_over(store, identity, data, owner):
            return
        if on_wait is not None and not told:
            on_wait(holder)
            told = True
        time.sleep(POLL_S * random.uniform(0.5, 1.5))  # waiters that began together do not come back together


def _taken_over(store: Store, identity: str, dead: bytes, owner: str) -> bool:
    """Put our name where a dead owner's stands; False if somebody else did, or is doing so.

    One who takes over holds a file named after what stands there, and looks again once it has it: what was changed in the
    meantime is not touched.
    """
    name = f"{identity}.{hashlib.sha256(dead).hexdigest()[:16]}.taking-over"
    if not store.put_new(_content(owner), "locks", name):
        note = store.get("locks", name)
        since = _heartbeat(note)
        if note is not None and since is not None and time.time() - since > TAKING_OVER_S:
            store.remove_own(note, "locks", name)  # its owner died in the middle: others may try
        return False
    try:
        if store.get("locks", identity) != dead:
            return False
        store.put(_content(owner), "locks", identity)
        return True
    finally:
        store.remove("locks", name)


def _heartbeat(data: bytes | None) -> float | None:
    try:
        return None if data is None else float(json.loads(data)["heartbeat"])
    except (ValueError, KeyError, TypeError):
        return None


def _beat(store: Store, identity: str, owner: str, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        try:
            if _owner(store.get("locks", identity)) != owner:
                return
            store.put(_content(owner), "locks", identity)
        except Exception:  # whatever a store's library raises: it may answer at the next beat, well within the lease
            continue


def _content(owner: str) -> bytes:
    return json.dumps({"owner": owner, "heartbeat": time.time()}).encode()


def _owner(data: bytes | None) -> str | None:
    try:
        return None if data is None else str(json.loads(data)["owner"])
    except (ValueError, KeyError, TypeError):
        return None


def _is_dead(holder: str) -> bool:
    """True if the holder ran on this host and its process is gone: no need to wait for the lease."""
    host, _, rest = holder.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    return not is_alive(int(pid))


def is_alive(pid: int) -> bool:
    """True if a process of this host is still there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
