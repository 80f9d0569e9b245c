"""A full or read-only disk, missing rights, damaged run databases and settings: one sentence each."""

from __future__ import annotations

import errno
import os
import pickle
import sqlite3
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
import sqlalchemy
import typer
from typer.testing import CliRunner

from reports import writing
from taskdiv_assets.cli import app
from taskdiv_assets.commands import consoles, output_errors, worker_process, workers
from taskdiv_assets.orchestration import instance, troubles
from taskdiv_assets.storage import files, room
from taskdiv_assets.storage.store import Store
from tests.home import Home

DISK = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE]


@pytest.mark.parametrize("number", DISK, ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize("has_place", [True, False])
def test_every_trouble_of_a_disk_is_one_sentence_that_says_what_to_do(
    empty_home: Home, capsys: pytest.CaptureFixture[str], number: int, has_place: bool
) -> None:
    place = Path(os.environ["TASKDIV_HOME"]) / "x" / "tables" / "raw_pool.parquet"
    with pytest.raises(typer.Exit) as ended, consoles.plain_errors():
        raise OSError(number, os.strerror(number), *([str(place)] if has_place else []))
    assert ended.value.exit_code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "Traceback" not in said and "[Errno" not in said
    if has_place and number not in (errno.EMFILE, errno.ENFILE):
        assert str(place) in said and "$TASKDIV_HOME" in said
    if number in (errno.ENOSPC, errno.EDQUOT):
        assert "is full" in said and "the same command continues from there" in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"), "is full"),
        (
            RuntimeError("[enforce fail at inline_container.cc:863] . PytorchStreamWriter failed: file write failed"),
            "is full",
        ),
        (pa.ArrowException("[Errno 30] Error. Detail: Read-only file system"), "mounted read-only"),
        (
            sqlalchemy.exc.OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full")),
            "is full",
        ),
        (
            sqlalchemy.exc.OperationalError(
                "INSERT", {}, sqlite3.OperationalError("attempt to write a readonly database")
            ),
            "mounted read-only",
        ),
        (
            sqlalchemy.exc.OperationalError("INSERT", {}, sqlite3.OperationalError("disk I/O error")),
            "input/output error",
        ),
        (
            sqlalchemy.exc.OperationalError("INSERT", {}, sqlite3.OperationalError("database is locked")),
            "are locked by another",
        ),
        (sqlite3.OperationalError("unable to open database file"), "this user may not write there"),
        (sqlite3.OperationalError("unable to open database file"), "too many files open"),
        (sqlite3.OperationalError("no such column: runs.x"), "dagster instance migrate"),
        (sqlite3.OperationalError("no such table: runs"), "dagster instance migrate"),
        (sqlite3.DatabaseError("database disk image is malformed"), "are damaged"),
    ],
)
def test_libraries_that_keep_the_text_alone_are_understood(empty_home: Home, error: Exception, said: str) -> None:
    try:
        raise error from getattr(error, "orig", None)
    except Exception as caught:
        assert said in (troubles.sentence(caught) or "")


def test_records_that_cannot_be_looked_at_are_not_said_to_be_damaged(
    empty_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = instance.home_folder()
    (folder / "history").mkdir(parents=True)
    (folder / "history" / "runs.db").touch()

    def refused(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite3, "connect", refused)
    said = troubles.sentence(sqlite3.OperationalError("unable to open database file")) or ""
    assert "damaged" not in said and "move" not in said and str(folder) in said

    def without_handles(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "glob", without_handles)
    assert "too many files open" in (troubles.sentence(sqlite3.OperationalError("unable to open database file")) or "")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("row 3 says: No space left on device"),
        KeyError("x"),
        FileNotFoundError(2, "No such file", "x"),
        OSError("ours"),
    ],
)
def test_other_errors_keep_their_own_words(error: Exception) -> None:
    assert troubles.sentence(error) is None
    error.__context__ = PermissionError(errno.EACCES, "Permission denied", "x")
    assert troubles.sentence(error) is None or isinstance(error, KeyError)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("history/runs.db", b"garbage" * 999),
        ("history/runs/index.db", None),
        ("schedules/schedules.db", b"garbage" * 999),
    ],
)
def test_a_damaged_run_database_is_named_with_what_to_move_away(
    made_home: Home, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None
) -> None:
    path = instance.home_folder() / name
    whole = path.read_bytes()
    for other in path.parent.glob(f"{path.name}-*"):
        other.unlink()
    path.write_bytes(content or whole[:5000])
    with pytest.raises(typer.Exit), consoles.plain_errors(), instance.open_instance() as opened:
        opened.get_latest_materialization_event(instance_key())
        opened.schedule_storage.all_instigator_state()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(path) in said and "move" in said and "run the same command" in said


def instance_key() -> object:
    from dagster import AssetKey

    return AssetKey("x")


@pytest.fixture
def made_home(empty_home: Home) -> Home:
    with instance.open_instance():
        return empty_home


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "dagster.yaml:1 is not valid YAML"),
        ("- a\n", "holds a list, expected settings"),
        ("hello", "holds a str, expected settings"),
        ("\x00", "U+0000 may not be in it"),
        ("a: &a [*a]", "the alias *a is inside"),
        ("conc: {}\n", 'Received unexpected config entry "conc"'),
        ("storage: 5\n", "Dagster refuses"),
        ("concurrency: {pools: {default_limit: x}}\n", "Dagster refuses"),
    ],
)
def test_a_garbled_dagster_yaml_is_named_with_what_is_wrong(
    empty_home: Home, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path = instance.home_folder() / "dagster.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    with pytest.raises(typer.Exit), consoles.plain_errors(), instance.open_instance():
        pass
    found = capsys.readouterr().err
    assert found.count("\n") == 1 and said in found and str(path) in found
    assert "move it away and run `taskdiv home-folder`" in found


def test_what_does_not_fit_is_refused_before_it_is_copied_with_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, store = tmp_path / "model", Store("x", str(tmp_path / "home"))
    local.mkdir()
    (local / "model.safetensors").write_bytes(b"x" * 1000)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2_100_000, "total": 10**10}))
    store.write_folder("a" * 32, local)  # fits
    with (local / "large").open("wb") as file:
        file.truncate(13_500_000_000)
    monkeypatch.setattr("taskdiv_assets.storage.store.sha256_file", lambda path: "")
    with pytest.raises(room.NoRoomError, match=r"needs 13.5 GB, and the disk of .* has 2.1 MB free") as caught:
        store.write_folder("b" * 32, local)
    assert "free some space there" in (troubles.sentence(caught.value) or "")
    assert not (tmp_path / "home/x/folders" / ("b" * 32)).exists()


def test_a_full_disk_in_a_worker_is_a_sentence_for_the_terminal(
    empty_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlalchemy.exc.OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(worker_process, "execute", full)
    error = worker_process._run("x", workers.Task("pool", ("raw_pool",), None))
    assert isinstance(error, RuntimeError) and "is full" in str(pickle.loads(pickle.dumps(error)))


def test_a_write_that_fails_leaves_the_old_content_and_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, source = Store("x", str(tmp_path)), tmp_path / "source"
    source.write_bytes(b"new")
    store.put(b"old", "a")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    for write in (
        lambda: store.put(b"new", "a"),
        lambda: store.put_file(source, "a"),
        lambda: store.put_new(b"new", "b"),
    ):
        with pytest.raises(OSError, match="No space"):
            write()
        assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["a"]
    assert store.get("a") == b"old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_page_that_cannot_be_written_is_named_with_another_output(
    empty_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "out" / "results.csv"
    path.parent.mkdir()

    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", refused)
    local = fsspec.filesystem("file")
    with pytest.raises(OSError, match=r"results\.csv") as caught:
        writing.put(local, str(path), b"x")
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert (troubles.sentence(caught.value) or "").startswith(str(path))
    with pytest.raises(ValueError, match=r"choose another --output$") as said, output_errors.writing_output("out"):
        writing.put(local, str(path), b"x")
    assert troubles.sentence(said.value) is None and f"{path} cannot be written ({os.strerror(number)})" in str(
        said.value
    )
    with pytest.raises(OSError, match=r"results\.csv"), output_errors.writing_output(""):
        writing.put(local, str(path), b"x")
    assert list(path.parent.iterdir()) == []


def test_an_output_that_is_a_file_is_refused_before_anything_is_made(empty_home: Home, tmp_path: Path) -> None:
    file = tmp_path / "afile"
    file.touch()
    for output in (file, file / "below"):
        result = CliRunner().invoke(app, ["report", "demo", "--output", str(output)])
        assert result.exit_code == 2
        assert f"{file} is a file, not a folder; choose another --output" in result.stderr.replace("\n", "")
    output_errors.check_output(str(tmp_path / "new" / "folder"))
    output_errors.check_output("memory://x")
