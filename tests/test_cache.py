"""The bounded cache of an object store's files: files in use stay, the longest unused go, and nobody sees a partial file."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from taskdiv_assets.storage import disk_cache as cache
from taskdiv_assets.storage.store import Store

MB = 10**6


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TASKDIV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TASKDIV_CACHE_GB", "0.01")  # 10 MB
    return tmp_path / "cache"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    fsspec.filesystem("memory").store.clear()
    made = Store("x", "memory://results")
    assert not made.is_local
    return made


def filled(size_n: int, text: bytes = b"x") -> Callable[[Path], None]:
    return lambda folder: (folder / "file").write_bytes(text * size_n) and None


def entries(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "entries").iterdir() if path.is_dir())


def fetch(key: str, size_n: int = 4 * MB) -> None:
    with cache.held(key, size_n, filled(size_n)) as folder:
        assert (folder / "file").stat().st_size == size_n
    time.sleep(0.02)  # times of use differ


def add_folder(store: Store, identity: str, data: bytes, local: Path) -> None:
    local.mkdir(parents=True, exist_ok=True)
    (local / "a.bin").write_bytes(data)
    store.write_folder(identity, local)


class TestBound:
    def test_the_least_recently_used_leave_first(self, root: Path) -> None:
        fetch("a")
        fetch("b")
        fetch("a")  # used again
        fetch("c")
        assert entries(root) == ["a", "c"]
        assert sorted(path.name for path in (root / "entries").glob("*.lock")) == ["a.lock", "c.lock"]

    def test_what_is_used_stays_and_leaves_afterwards(self, root: Path) -> None:
        with cache.held("a", 4 * MB, filled(4 * MB)), cache.held("b", 4 * MB, filled(4 * MB)):
            fetch("c")
            assert entries(root) == ["a", "b"]  # c had to go: nobody used it any more
            with cache.held("c", 4 * MB, filled(4 * MB)):
                assert entries(root) == ["a", "b", "c"]
        assert len(entries(root)) == 2

    def test_a_folder_over_the_bound_is_fetched_and_dropped_after_use(self, root: Path) -> None:
        fetch("small", MB)
        with cache.held("large", 20 * MB, filled(20 * MB)) as folder:
            assert (folder / "file").stat().st_size == 20 * MB
        assert "large" not in entries(root)

    def test_a_pinned_entry_stays_until_its_process_ends(self, root: Path) -> None:
        program = (
            "import sys; from tests.test_cache import *\n"
            "cache.pinned('a', 9 * MB, filled(9 * MB)); print('pinned', flush=True); sys.stdin.read()"
        )
        child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline() == b"pinned\n"
        fetch("b")
        assert entries(root) == ["a"]
        child.send_signal(signal.SIGKILL)  # the kernel lets go
        child.communicate()
        fetch("b")
        assert entries(root) == ["b"]

    def test_what_is_fetched_inside_a_block_belongs_to_the_block(self, root: Path) -> None:
        with cache.held("a", 9 * MB, filled(9 * MB)) as folder:
            assert cache.pinned("a", 9 * MB, filled(9 * MB)) == folder
        fetch("b")
        assert entries(root) == ["b"]

    @pytest.mark.parametrize("text", ["much", "-1", "0", "nan", "inf"])
    def test_a_bound_that_is_none_is_one_sentence(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TASKDIV_CACHE_GB", text)
        with pytest.raises(ValueError, match=rf"\$TASKDIV_CACHE_GB is '{text}'; expected gigabytes above 0"):
            fetch("a")

    def test_unless_given_it_is_40_gb_or_half_of_the_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("TASKDIV_CACHE_GB")
        usage = type(cache.shutil.disk_usage(tmp_path))
        for total, bound in ((1000 * cache.GB, 40 * cache.GB), (20 * cache.GB, 10 * cache.GB)):
            monkeypatch.setattr(cache.shutil, "disk_usage", lambda _, total=total: usage(total, 0, total))
            assert cache.bound_bytes(tmp_path) == bound


class TestWholeness:
    def test_a_removal_that_is_killed_leaves_no_part_of_an_entry(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetch("a", 8 * MB)

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("taskdiv_assets.storage.disk_cache.shutil.rmtree", killed)
            with pytest.raises(KeyboardInterrupt):
                fetch("b", 8 * MB)
        assert "a" not in entries(root), "half of an entry would be served as whole"
        fetch("a", 8 * MB)

    def test_a_pinned_folder_that_somebody_removed_is_fetched_again(self, root: Path) -> None:
        """In a process of its own, which would wait for itself; with a time limit."""
        program = (
            "import shutil, sys; from pathlib import Path; from taskdiv_assets.storage import disk_cache as cache; "
            "fill = lambda folder: (folder / 'file').write_bytes(b'x') and None; "
            "shutil.rmtree(cache.pinned('a', 1, fill)); print((cache.pinned('a', 1, fill) / 'file').read_bytes())"
        )
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        assert found.stdout.strip() == "b'x'"

    def test_a_failed_download_leaves_nothing(self, root: Path) -> None:
        def fail(folder: Path) -> None:
            (folder / "file").write_bytes(b"half")
            raise ConnectionError("dropped")

        with pytest.raises(ConnectionError, match="dropped"), cache.held("a", 1, fail):
            pass
        assert entries(root) == [] and not list((root / "partial").iterdir())
        fetch("a", 1)

    def test_what_a_killed_download_left_is_removed(self, root: Path) -> None:
        for key in ("a", "b"):
            (root / "partial" / f"{key}.0123").mkdir(parents=True)
        fetch("a", 1)
        assert not list((root / "partial").iterdir())

    def test_a_download_in_progress_is_no_left_over(self, root: Path) -> None:
        def download(folder: Path) -> None:
            thread = threading.Thread(target=fetch, args=("b", 1))
            thread.start()
            thread.join()
            (folder / "file").write_bytes(b"x")

        with cache.held("a", 1, download) as folder:
            assert (folder / "file").read_bytes() == b"x"

    def test_four_processes_download_once_and_see_it_whole(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("fork")
        downloads, wrong, started = context.Value("i", 0), context.Value("i", 0), time.monotonic() + 0.3
        workers = [context.Process(target=_fetch_slowly, args=(started, downloads, wrong)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
        assert (downloads.value, wrong.value) == (1, 0)

    def test_many_processes_over_a_small_bound_never_lose_what_they_hold(self, root: Path) -> None:
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=_fetch_at_random, args=(seed,)) for seed in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
        assert sum(file.stat().st_size for file in root.rglob("file")) <= 10 * MB
        assert not list((root / "partial").iterdir())


def _fetch_slowly(started: float, downloads: Any, wrong: Any) -> None:
    def download(folder: Path) -> None:
        with downloads.get_lock():
            downloads.value += 1
        for number in range(5):
            (folder / str(number)).touch()
            time.sleep(0.05)

    time.sleep(max(0.0, started - time.monotonic()))
    with cache.held("a", 1, download) as folder:
        if len(list(folder.iterdir())) != 5:
            wrong.value += 1


def _fetch_at_random(seed: int) -> None:
    import random

    draw = random.Random(seed)
    for _ in range(40):
        key = draw.choice("abcdef")
        with cache.held(key, 3 * MB, filled(3 * MB)) as folder:
            time.sleep(draw.random() / 100)
            assert (folder / "file").stat().st_size == 3 * MB


class TestFoldersOfAStore:
    def test_a_folder_is_fetched_once(self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        add_folder(store, "f" * 32, b"abc", tmp_path / "made")
        with store.fetched("f" * 32) as folder:
            assert (folder / "a.bin").read_bytes() == b"abc" and (folder / "manifest.json").is_file()
        monkeypatch.setattr(store.fs, "get_file", None)
        assert (store.fetch_folder("f" * 32) / "a.bin").read_bytes() == b"abc"

    def test_two_stores_and_two_contents_never_mix(self, store: Store, tmp_path: Path) -> None:
        other = Store("x", "memory://elsewhere")
        add_folder(store, "f" * 32, b"abc", tmp_path / "made")
        add_folder(other, "f" * 32, b"xyz", tmp_path / "made")
        first = store.fetch_folder("f" * 32)
        assert (other.fetch_folder("f" * 32) / "a.bin").read_bytes() == b"xyz"
        add_folder(store, "f" * 32, b"new", tmp_path / "made")
        assert (store.fetch_folder("f" * 32) / "a.bin").read_bytes() == b"new"
        assert (first / "a.bin").read_bytes() == b"abc"  # who holds the old one keeps it

    @pytest.mark.parametrize("damaged", [b"abd", b"ab"])
    def test_what_is_not_as_the_manifest_says_is_one_sentence(
        self, store: Store, tmp_path: Path, damaged: bytes
    ) -> None:
        add_folder(store, "f" * 32, b"abc", tmp_path / "made")
        store.put(damaged, "folders", "f" * 32, "a.bin")
        with pytest.raises(ConnectionError, match="a.bin: .* bytes came that are not the 3 of the manifest") as error:
            store.fetch_folder("f" * 32)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..", "", ".", "manifest.json", "a\\..\\x"])
    def test_a_manifest_that_leads_elsewhere_is_refused(self, store: Store, root: Path, name: str) -> None:
        store.put(b"abc", "folders", "x")
        entry = {"bytes": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
        store.put(json.dumps({"files": {name: entry}}).encode(), "folders", "f" * 32, "manifest.json")
        with pytest.raises(ValueError, match="which is no file of that folder"):
            store.fetch_folder("f" * 32)
        assert not root.exists()

    def test_one_file_of_a_folder(self, store: Store, tmp_path: Path, root: Path) -> None:
        with pytest.raises(FileNotFoundError, match="missing or unfinished"):
            store.read_file("f" * 32, "a.bin")
        add_folder(store, "f" * 32, b"abc", tmp_path / "made")
        assert store.read_file("f" * 32, "a.bin") == b"abc" and not root.exists()


def test_a_lock_is_that_of_its_name(root: Path) -> None:
    """Who waits for a lock whose entry is removed meanwhile holds a file that is there no more: it takes the new one."""
    fetch("a", 1)
    lock = root / "entries" / "a.lock"
    descriptor = os.open(lock, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    waiting = threading.Thread(target=fetch, args=("a", 1))
    waiting.start()
    time.sleep(0.2)
    lock.unlink()
    os.close(descriptor)
    waiting.join(10)
    assert not waiting.is_alive() and lock.exists() and entries(root) == ["a"]
