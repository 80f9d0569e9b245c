"""Our temporary files: those of dead processes are removed, those of living processes and of other programs stay."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from taskdiv_assets.commands import running
from taskdiv_assets.commands.workers import Event
from taskdiv_assets.storage import temporary
from taskdiv_assets.storage.store import Store

UUID = "0123456789abcdef" * 2


def abandoned(folder: Path, *, host: str | None = None) -> Path:
    """Write a file as a killed writer leaves it: with a name of ours, and without a lock."""
    path = folder / f"model.safetensors.{host or temporary._host()}-{UUID[:24]}.tmp"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 1000)
    return path


def test_the_half_of_a_killed_writer_is_removed_at_once(tmp_path: Path) -> None:
    path = abandoned(tmp_path / "folders" / "a")
    assert temporary.sweep(tmp_path) == (1, 1000) and not path.exists()
    assert temporary.sweep(tmp_path) == (0, 0)


def test_what_is_being_written_stays_and_gets_its_name(tmp_path: Path) -> None:
    with temporary.beside(str(tmp_path / "a")) as (name, file):
        assert temporary.sweep(tmp_path) == (0, 0) and name.exists()
        file.write(b"whole")
        file.flush()
        name.replace(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"whole" and len(list(tmp_path.iterdir())) == 1


def test_a_sweep_between_the_making_of_a_file_and_its_lock_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, made = fcntl.flock, list[Path]()

    def swept(file: IO[bytes], operation: int) -> None:
        if not made:
            made.extend(tmp_path.iterdir())
            handle = os.open(made[0], os.O_RDWR)
            flock(handle, fcntl.LOCK_EX)
            threading.Timer(0.1, lambda: (made[0].unlink(), os.close(handle))).start()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", swept)
    with temporary.beside(str(tmp_path / "a")) as (name, file):
        time.sleep(0.2)  # the sweep is over by now
        assert made == [name] and name.exists() and name.stat().st_ino == os.fstat(file.fileno()).st_ino


def test_files_of_others_stay_whatever_they_are_called(tmp_path: Path) -> None:
    names = [
        "notes.tmp",
        "a.tmp",
        f"{UUID}.tmp",
        "model.safetensors",
        f"a.{UUID[:24]}.tmp",
        f"a.{UUID}.tmp.csv",
        f"a.{UUID}.TMP",
    ]
    for name in names:
        (tmp_path / name).write_text("of a user")
    (tmp_path / f"link.{UUID}.tmp").symlink_to(tmp_path / "notes.tmp")
    os.mkfifo(tmp_path / f"pipe.{UUID}.tmp")
    assert temporary.sweep(tmp_path).files_n == 0
    assert {*names} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("is_old", [True, False])
@pytest.mark.parametrize("is_earlier", [True, False], ids=["of an earlier version", "of another host"])
def test_what_may_be_written_without_a_lock_that_is_seen_here_goes_once_it_is_old(
    tmp_path: Path, is_old: bool, is_earlier: bool
) -> None:
    path = tmp_path / f"a.{UUID}.tmp" if is_earlier else abandoned(tmp_path, host="0" * 8)
    path.write_bytes(b"x")
    if is_old:
        os.utime(path, (time.time() - temporary.OLD_S - 10,) * 2)
    assert temporary.sweep(tmp_path).files_n == int(is_old) and path.exists() != is_old


def test_a_run_removes_what_killed_ones_left_and_says_how_much(tmp_path: Path) -> None:
    store, heard = Store("x", str(tmp_path)), list[Event]()
    abandoned(Path(store.path("folders", "a")))
    running.remove_unfinished(store, heard.append)
    assert [event.name for event in heard] == ["removed 1 unfinished file of killed runs (0.0 MB)"]
    running.remove_unfinished(store, heard.append)
    assert len(heard) == 1


def test_a_folder_of_a_dead_process_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary.folder("work-") as mine:
        dead = mine.with_name("work-dead")
        dead.mkdir()
        (dead / "large").write_bytes(b"x")
        dead.with_suffix(".lock").touch()
        (mine.parent / "of a user").mkdir()
        with temporary.folder("work-") as other:
            assert mine.is_dir() and other.is_dir() and not dead.exists()
    assert [path.name for path in mine.parent.iterdir()] == ["of a user"]


@pytest.mark.full
def test_a_writer_that_is_killed_in_the_middle_leaves_what_the_next_sweep_removes(tmp_path: Path) -> None:
    code = f"""
import time
from taskdiv_assets.storage import temporary
with temporary.beside({str(tmp_path / "model")!r}) as (name, file), temporary.folder("work-") as folder:
    file.write(b"half" * 9999); file.flush(); print(folder, flush=True); time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        folder = Path(writer.stdout.readline().strip())
        assert folder.is_dir() and temporary.sweep(tmp_path).files_n == 0
        writer.send_signal(signal.SIGKILL)
    assert temporary.sweep(tmp_path).files_n == 1 and list(tmp_path.iterdir()) == []
    temporary.sweep_folders(folder.parent)
    assert not folder.exists()
