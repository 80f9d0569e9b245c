"""Copies of what lies on an object store, in a local folder with a bound: the least recently used leave first.

Under `$TASKDIV_CACHE`, for each entry:

    entries/<key>/       the copy, whole: it is downloaded beside and renamed
    entries/<key>.lock   held (flock) by who uses or makes the entry; its time is that of the last use
    partial/<key>.<…>/   a download in progress, or what a killed one left

Users hold the lock together, who downloads or removes holds it alone, and the kernel lets go of what a dead process held. So
an entry in use is never removed, two processes that want one at once download it once, and nobody sees a part of it. What
is fetched, and from where, is decided by the callers (`store`, `remote`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from taskdiv_assets.settings import machine
from taskdiv_assets.storage import progress, room

# Two 7B models in 16 bits (13.5 GB each, a base and a proxy), embeddings of 100,000 prompts (0.8 GB), and room for adapters.
DEFAULT_GB = 40.0
DISK_SHARE = 0.5  # of the disk at most, unless the bound is given: a worker's disk is often smaller, and not ours alone
GB = 10**9

Download = Callable[[Path], None]  # fills an empty folder

_pinned: dict[Path, int] = {}  # lock file → descriptor that this process keeps until it ends
_held: dict[tuple[Path, int], int] = {}  # lock file and thread → how many of its blocks hold it now
_guard = threading.Lock()


class _Entry(NamedTuple):
    used_at: float
    bytes_n: int
    lock: Path


def folder() -> Path:
    """`$TASKDIV_CACHE`, else a folder of this user's below the system's temporary one.

    Raises:
        ValueError: that one is another user's, who may have put anything there.
    """
    if given := machine().cache:
        return Path(given)
    ours = Path(tempfile.gettempdir()) / f"taskdiv-cache-{os.getuid()}"
    ours.mkdir(mode=0o700, exist_ok=True)
    if ours.lstat().st_uid != os.getuid():
        raise ValueError(f"{ours} is another user's; set $TASKDIV_CACHE to a folder of yours")
    return ours


def bound_bytes(root: Path) -> int:
    """Return how many bytes the cache may hold: `$TASKDIV_CACHE_GB`, else 40 GB or half of its disk, whichever is less.

    Raises:
        ValueError: the variable is not a number above 0.
    """
    bound_gb = machine().cache_gb
    if bound_gb is None:
        return round(min(DEFAULT_GB * GB, DISK_SHARE * shutil.disk_usage(root).total))
    return round(bound_gb * GB)


def pinned(key: str, bytes_n: int, download: Download) -> Path:
    """An entry that stays for as long as this process lives, unless a block of this thread holds it already.

    For what is read again and again, or mapped into memory: base models, embeddings. Where entries are read one after
    another, as adapters are, `held` lets go of each; a call inside such a block belongs to the block.

    Args:
        key: names the content, so other content has another; also the name of a folder.
        bytes_n: how much it will take.
        download: called only if the entry is not there.
    """
    lock = _lock_of(key)
    with _guard:
        is_kept = lock in _pinned or (lock, threading.get_ident()) in _held
    if is_kept and _path_of(lock).is_dir():
        return _path_of(lock)
    with _guard:
        gone = _pinned.pop(lock, None)
    if gone is not None:  # somebody removed the folder: with our own lock held we would wait for ourselves
        os.close(gone)
    descriptor = _take(lock, bytes_n, download)
    with _guard:
        before = _pinned.get(lock)
        _pinned[lock] = descriptor
    if before is not None:
        os.close(before)
    return _path_of(lock)


@contextmanager
def held(key: str, bytes_n: int, download: Download) -> Iterator[Path]:
    """An entry that stays for as long as the block runs; arguments as for `pinned`."""
    lock = _lock_of(key)
    block = (lock, threading.get_ident())
    descriptor = _take(lock, bytes_n, download)
    with _guard:
        _held[block] = _held.get(block, 0) + 1
    try:
        yield _path_of(lock)
    finally:
        with _guard:
            _held[block] -= 1
            if not _held[block]:
                del _held[block]
        os.close(descriptor)
        _make_room(lock.parent.parent, 0)


def _lock_of(key: str) -> Path:
    return folder().resolve() / "entries" / f"{key}.lock"


def _path_of(lock: Path) -> Path:
    return lock.with_suffix("")


def _take(lock: Path, bytes_n: int, download: Download) -> int:
    """Lock an entry together with other users, made first where it is not there; returns the lock's descriptor."""
    root, path = lock.parent.parent, _path_of(lock)
    lock.parent.mkdir(parents=True, exist_ok=True)
    bound_bytes(root)  # a bad setting is told before anything is downloaded
    while True:
        descriptor = _locked(lock, fcntl.LOCK_SH)
        if path.is_dir():
            os.utime(descriptor)
            return descriptor
        os.close(descriptor)
        descriptor = _locked(lock, fcntl.LOCK_EX)  # waits while another downloads it
        try:
            if not path.is_dir():
                _remove_partial(root, path.name)
                _make_room(root, bytes_n)
                _fill(root, path, bytes_n, download)
        finally:
            os.close(descriptor)  # a lock cannot become a shared one in one step: look again


def _fill(root: Path, path: Path, bytes_n: int, download: Download) -> None:
    room.require(root, bytes_n, f"the copy of {path.name}")
    temporary = root / "partial" / f"{path.name}.{uuid.uuid4().hex}"
    temporary.mkdir(parents=True)
    try:
        download(temporary)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _locked(lock: Path, mode: int) -> int:
    """Descriptor of a locked lock file that is still the one of that name: who removes an entry removes it too.

    Raises:
        BlockingIOError: `mode` says not to wait, and another holds it.
    """
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _wait(descriptor, mode, lock)
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        except FileNotFoundError:
            pass  # removed between the two looks
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _wait(descriptor: int, mode: int, lock: Path) -> None:
    """Lock a file; say so where another process has to finish first."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        if mode & fcntl.LOCK_NB:
            raise
        progress.note(f"waiting for another process of this machine, which fetches or removes {lock.stem}")
        fcntl.flock(descriptor, mode)


def _make_room(root: Path, bytes_n: int) -> None:
    """Remove entries that nobody uses, the least recently used first, until `bytes_n` more fit; else as many as there are.

    What is larger than the bound is fetched all the same, for work must go on, and removed once nobody uses it.
    """
    bound = bound_bytes(root)
    turn = _locked(root / "making-room.lock", fcntl.LOCK_EX)  # two at once would each remove enough
    try:
        entries = sorted(_entries(root))
        total = sum(entry.bytes_n for entry in entries) + bytes_n
        for entry in entries:
            if total <= bound:
                break
            total -= entry.bytes_n if _removed(root, entry.lock) else 0
        for partial in (root / "partial").glob("*"):
            _removed(root, root / "entries" / f"{partial.name.rpartition('.')[0]}.lock", is_partial=True)
    finally:
        os.close(turn)


def _entries(root: Path) -> Iterator[_Entry]:
    for path in (root / "entries").iterdir():
        if path.is_dir():
            lock = path.with_name(f"{path.name}.lock")
            try:
                used_at = lock.stat().st_mtime
                bytes_n = sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
            except FileNotFoundError:  # removed meanwhile, or a lock file that somebody deleted
                used_at, bytes_n = 0.0, 0
            yield _Entry(used_at, bytes_n, lock)


def _removed(root: Path, lock: Path, *, is_partial: bool = False) -> bool:
    """Remove an entry, or what a killed download of it left; False if somebody uses it."""
    try:
        descriptor = _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        path = _path_of(lock)
        _remove_partial(root, path.name)
        if not is_partial and path.is_dir():  # out of the way first: what is killed in the middle is no entry any more
            leaving = root / "partial" / f"{path.name}.{uuid.uuid4().hex}"
            leaving.parent.mkdir(exist_ok=True)
            path.rename(leaving)
            shutil.rmtree(leaving, ignore_errors=True)
        if not path.exists():
            lock.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    return True


def _remove_partial(root: Path, key: str) -> None:
    """Remove downloads of an entry that were killed; called by who holds its lock alone, so none is going on."""
    for left in (root / "partial").glob(f"{key}.*"):
        shutil.rmtree(left, ignore_errors=True)
