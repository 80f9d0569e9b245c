"""Local copies of remote files, in a folder of limited size. The least recently used copies are removed first.

    entries/<key>/       a complete copy; it was downloaded to `partial/` and then renamed
    entries/<key>.lock   locked (flock) while a process reads or downloads the entry; its mtime is the time of the last use
    partial/<key>.<…>/   a download or a removal in progress, or what a killed process left of it

Readers take a shared lock; a download or a removal takes an exclusive lock. The kernel releases the locks of a dead process. So
an entry in use is never removed, an entry that two processes need is downloaded once, and no process sees an incomplete copy.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from taskdiv_assets.storage import progress, room, temporary
from taskdiv_assets.storage.machine import machine
from taskdiv_assets.storage.room import GB

# Enough for two 7B models in 16 bits (base and proxy, 13.5 GB each), embeddings of 100,000 prompts (0.8 GB), and adapters.
DEFAULT_GB = 40.0
DISK_SHARE = 0.5  # largest share of the disk by default: a worker's disk is often small, and other programs use it too

Download = Callable[[Path], None]  # function that downloads an entry into an empty folder

_pinned: dict[Path, int] = {}  # lock file → descriptor that stays open until this process ends
_held: dict[tuple[Path, int], int] = {}  # (lock file, thread) → number of `held` blocks that use the entry now
_guard = threading.Lock()


def folder() -> Path:
    """Return the cache folder: `$TASKDIV_CACHE`, or a private folder of this user (`temporary.own_folder`)."""
    given = machine().cache
    return Path(given) if given else temporary.own_folder("cache", "TASKDIV_CACHE")


def bound_bytes(root: Path) -> int:
    """Return the size limit of the cache in bytes: `$TASKDIV_CACHE_GB`, or the smaller of 40 GB and half of the disk's size."""
    bound_gb = machine().cache_gb
    if bound_gb is None:
        return round(min(DEFAULT_GB * GB, DISK_SHARE * shutil.disk_usage(root).total))
    return round(bound_gb * GB)


def pinned(key: str, bytes_n: int, download: Download) -> Path:
    """Return the path of an entry that stays until this process ends. Download the entry first if it does not exist.

    `key` is a valid folder name that identifies the content. `download` receives an empty folder and puts `bytes_n` bytes into
    it. If this thread is in a `held` block of the same entry, and the entry was not pinned before, the entry stays only until
    that block ends. Use this function for content that is read repeatedly or memory-mapped, such as base models.
    """
    lock = _lock_of(key)
    with _guard:
        is_kept = lock in _pinned or (lock, threading.get_ident()) in _held
    if is_kept and _path_of(lock).is_dir():
        return _path_of(lock)
    with _guard:
        gone = _pinned.pop(lock, None)
    if gone is not None:  # somebody deleted the folder; this process must release its lock, or it would wait for itself
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
    """Yield the path of an entry that stays while the block runs, for content that is read once. For arguments, see `pinned`."""
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
    """Return the descriptor of an entry's lock file, with a shared lock on it. Download the entry first if it does not exist."""
    root, path = lock.parent.parent, _path_of(lock)
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = _locked(lock, fcntl.LOCK_SH)
        if path.is_dir():
            os.utime(descriptor)
            return descriptor
        os.close(descriptor)
        descriptor = _locked(lock, fcntl.LOCK_EX)  # waits while another process downloads the entry
        try:
            if not path.is_dir():
                _remove_partial(root, path.name)
                _make_room(root, bytes_n)
                room.require(root, bytes_n, f"the copy of {path.name}")
                _fill(root / "partial" / f"{path.name}.{uuid.uuid4().hex}", path, download)
        finally:
            os.close(descriptor)  # flock cannot make this lock a shared one atomically, so the loop checks again


def _fill(partial: Path, path: Path, download: Download) -> None:
    partial.mkdir(parents=True)
    try:
        download(partial)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _locked(lock: Path, mode: int) -> int:
    """Lock a lock file and return its descriptor. Try again if another process deletes the file before it is locked."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _wait(descriptor, mode, lock)
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        except FileNotFoundError:
            pass  # another process deleted the lock file
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _wait(descriptor: int, mode: int, lock: Path) -> None:
    """Lock a file. If another process has the lock, raise BlockingIOError if `mode` contains LOCK_NB, else wait.

    The wait is shown in the terminal.
    """
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        if mode & fcntl.LOCK_NB:
            raise
        progress.note(f"waiting for another process of this machine, which is fetching or removing {lock.stem}")
        fcntl.flock(descriptor, mode)


def _make_room(root: Path, bytes_n: int) -> None:
    """Remove unused entries, the least recently used first, until `bytes_n` more bytes fit or no unused entry is left.

    Also remove the incomplete folders of killed downloads and removals. If the bytes still exceed the size limit, the caller
    downloads them all the same, because the work needs them.
    """
    bound = bound_bytes(root)
    turn = _locked(root / "making-room.lock", fcntl.LOCK_EX)  # two concurrent processes would remove too many entries
    try:
        entries = sorted(_entries(root))
        total = bytes_n + sum(size for _, size, _ in entries)
        for _, size, lock in entries:
            if total <= bound:
                break
            total -= size if _removed(root, lock) else 0
        for partial in (root / "partial").glob("*"):
            _removed(root, root / "entries" / f"{partial.name.rpartition('.')[0]}.lock", is_partial=True)
    finally:
        os.close(turn)


def _entries(root: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield the time of the last use, the size in bytes and the lock file of each entry."""
    for path in (root / "entries").iterdir():
        if path.is_dir():
            lock = path.with_name(f"{path.name}.lock")
            try:
                used_at = lock.stat().st_mtime
                bytes_n = sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
            except FileNotFoundError:  # another process removed the entry, or somebody deleted the lock file
                used_at, bytes_n = 0.0, 0
            yield used_at, bytes_n, lock


def _removed(root: Path, lock: Path, *, is_partial: bool = False) -> bool:
    try:
        descriptor = _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        path = _path_of(lock)
        _remove_partial(root, path.name)
        if not is_partial and path.is_dir():  # renamed first, so a kill during the removal leaves no incomplete entry
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
    """Remove the incomplete folders of an entry. The caller has the exclusive lock, so no process is downloading the entry."""
    for left in (root / "partial").glob(f"{key}.*"):
        shutil.rmtree(left, ignore_errors=True)
