"""The store and its locks: writes are complete or absent, tables are found by identity, a lock has one owner at a time."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.footer import Footer, Rejected
from data_contracts.table_paths import table_parts
from taskdiv_assets.storage import identity, locks, processes
from taskdiv_assets.storage.room import NoRoomError
from taskdiv_assets.storage.store import DamagedError, Store, file_entry


def footer(asset: str = "ranking", key: str | None = "random") -> Footer:
    return Footer(asset, key, "i" * 32, {"raw_pool.prompts": "p"}, 1, "run", "2026-01-01", "2026-01-02", 1.5)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("x", str(tmp_path))


@pytest.mark.parametrize(
    ("asset", "key", "path"),
    [
        ("raw_pool", None, "tables/raw_pool.parquet"),
        ("ranking", "random", "tables/ranking/random.parquet"),
        ("allocation", "128|random", "tables/allocation/random/128.parquet"),
        ("strategy_report", None, "report/results.parquet"),
    ],
)
def test_tables_lie_where_the_design_says(store: Store, tmp_path: Path, asset: str, key: str | None, path: str) -> None:
    store.write_table(pa.table({"a": [1]}), footer(asset, key))
    assert (tmp_path / "x" / path).is_file()
    stored = store.read_table(asset, key)
    assert stored.table["a"].to_pylist() == [1]
    assert stored.footer == footer(asset, key) == store.read_footer(asset, key)


def test_a_failed_write_leaves_the_old_table_and_no_trace(store: Store, tmp_path: Path) -> None:
    store.write_table(pa.table({"a": [1]}), footer())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(OSError):
        (tmp_path / "x" / "blocked").write_text("a file where a folder should be")
        store.put(b"data", "blocked", "file")
    (tmp_path / "x" / "blocked").unlink()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_success_removes_the_note_of_an_earlier_rejection(store: Store) -> None:
    store.write_rejected(Rejected("ranking", "random"))
    assert [name for name, _ in store.rejections()] == ["tables/ranking/random.rejected.json"]
    store.write_table(pa.table({"a": [1]}), footer())
    assert store.rejections() == []


def test_what_is_missing_says_what_to_run(store: Store) -> None:
    assert store.read_footer("ranking", "random") is None
    with pytest.raises(FileNotFoundError, match="taskdiv run x"):
        store.read_table("ranking", "random")


def test_a_table_of_somebody_else_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "x" / "tables" / "raw_pool.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match="not a whole Parquet file"):
        store.read_footer("raw_pool")
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(ValueError, match="no `taskdiv` footer"):
        store.read_footer("raw_pool")


def test_a_folder_without_its_manifest_is_not_there(store: Store, tmp_path: Path) -> None:
    local = tmp_path / "made"
    (local / "sub").mkdir(parents=True)
    (local / "sub" / "a.bin").write_bytes(b"abc")
    manifest = store.write_folder("f" * 32, local, note=1)
    assert manifest["files"]["sub/a.bin"]["bytes"] == 3
    assert store.read_manifest("f" * 32) == manifest
    assert (store.fetch_folder("f" * 32) / "sub" / "a.bin").read_bytes() == b"abc"
    store.remove("folders", "f" * 32, "manifest.json")
    assert store.read_manifest("f" * 32) is None
    with pytest.raises(FileNotFoundError, match="unfinished"):
        store.fetch_folder("f" * 32)


def test_a_folder_put_file_by_file_is_there_once_it_is_finished(store: Store, tmp_path: Path) -> None:
    store.put(b"abc", "folders", "f" * 32, "a.bin")
    store.put(b"left by a killed run", "folders", "f" * 32, "b.bin")
    assert store.read_manifest("f" * 32) is None and not store.is_whole("f" * 32)
    manifest = store.finish_folder("f" * 32, {"a.bin": file_entry(b"abc")}, note=1)
    assert store.is_whole("f" * 32) and store.read_manifest("f" * 32) == manifest
    local = tmp_path / "made"
    local.mkdir()
    (local / "a.bin").write_bytes(b"abc")
    assert store.write_folder("f" * 32, local, note=1) == manifest
    store.put(b"ab", "folders", "f" * 32, "a.bin")
    assert not store.is_whole("f" * 32)


def test_a_file_that_is_being_written_is_not_listed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs of one experiment, one lists the budgets while the other writes one down; or was killed doing so."""
    seen: list[list[str]] = []
    link = os.link

    def looking(source: Path, target: str) -> None:
        assert len(list(Path(target).parent.iterdir())) == 2
        seen.append(store.names("budgets"))
        link(source, target)

    store.put_new(b"{}", "budgets", "16")
    monkeypatch.setattr(os, "link", looking)
    store.put_new(b"{}", "budgets", "24")
    assert seen == [["16"]] and store.names("budgets") == ["16", "24"]


def test_put_new_puts_nothing_where_something_is(store: Store) -> None:
    assert store.put_new(b"1", "locks", "a")
    assert not store.put_new(b"2", "locks", "a")
    assert store.get("locks", "a") == b"1"
    assert store.names("locks") == ["a"]  # no temporary file is left


KEYS_N, RACERS_N, APART_S = 150, 3, 0.01


def _at_once(started: float, number: int) -> None:
    """Return at the same moment in every process. A barrier would release one process after the other."""
    while time.monotonic() < started + number * APART_S:
        pass


def _race(root: str, mark: int, started: float, won: Any) -> None:
    store = Store("x", root)
    for key in range(KEYS_N):
        _at_once(started, key)
        if store.put_new(f"{mark}".encode() * 1000, "race", str(key)):
            won.put((key, mark))
        seen = store.get("race", str(key))
        assert seen is not None and len(seen) == 1000, "a part of a file was seen"


def test_put_new_has_one_winner_of_several_who_start_together(store: Store, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    won, started = context.Queue(), time.monotonic() + 0.5
    racers = [context.Process(target=_race, args=(str(tmp_path), mark, started, won)) for mark in range(RACERS_N)]
    for racer in racers:
        racer.start()
    winners = [won.get(timeout=60) for _ in range(KEYS_N)]
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    assert won.empty()
    assert sorted(key for key, _ in winners) == list(range(KEYS_N))
    for key, mark in winners:
        assert store.get("race", str(key)) == f"{mark}".encode() * 1000


ROUNDS_N = 15


def _inherit(root: str, started: float, inside: Any, most: Any) -> None:
    store = Store("x", root)
    for number in range(ROUNDS_N):
        _at_once(started, 20 * number)
        with locks.hold(store, str(number)):
            with inside.get_lock():
                inside[number] += 1
                most.value = max(most.value, inside[number])
            time.sleep(0.02)
            with inside.get_lock():
                inside[number] -= 1


def test_one_of_several_who_find_a_dead_owner_takes_over(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "POLL_S", 0.02)
    monkeypatch.setattr(locks, "NONSENSE_S", 0.1)
    for number in range(ROUNDS_N):
        dead = {"owner": f"elsewhere:{number}:abc", "heartbeat": time.time() - locks.LEASE_S - 1}
        store.put(json.dumps(dead).encode(), "locks", str(number))
    context = multiprocessing.get_context("fork")
    started, inside, most = time.monotonic() + 0.5, context.Array("i", ROUNDS_N), context.Value("i", 0)
    heirs = [context.Process(target=_inherit, args=(str(tmp_path), started, inside, most)) for _ in range(RACERS_N)]
    for heir in heirs:
        heir.start()
    for heir in heirs:
        heir.join(120)
        assert heir.exitcode == 0
    assert most.value == 1
    assert store.names("locks") == []


def test_a_take_over_that_died_in_the_middle_holds_nobody_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = json.dumps({"owner": "elsewhere:1:abc", "heartbeat": time.time() - locks.LEASE_S - 1}).encode()
    store.put(dead, "locks", "one")
    monkeypatch.setattr(locks, "NONSENSE_S", 0.1)
    monkeypatch.setattr(locks, "TAKING_OVER_S", 0.2)
    name = f"one.{hashlib.sha256(dead).hexdigest()[:16]}.taking-over"
    store.put(json.dumps({"owner": "elsewhere:2:abc", "heartbeat": time.time()}).encode(), "locks", name)
    with locks.hold(store, "one"):
        assert b"elsewhere" not in (store.get("locks", "one") or b"")
    assert store.names("locks") == []


def test_identity_depends_on_content_alone() -> None:
    def make(**changes: object) -> str:
        values: dict[str, object] = {
            "kind": "a",
            "code_version": 1,
            "settings": {"x": 0.1, "y": None},
            "inputs": {"b": "c"},
        }
        return identity.identity(**{**values, **changes})

    assert make() == make(settings={"y": None, "x": 0.1})
    assert len({make(), make(kind="b"), make(code_version=2), make(settings={"x": 0.2}), make(inputs={})}) == 5
    with pytest.raises(ValueError):
        make(settings={"x": float("nan")})


def _count(root: str, times_n: int) -> None:
    store = Store("x", root)
    for _ in range(times_n):
        with locks.hold(store, "one"):
            value = int(store.get("counter") or b"0")
            time.sleep(0.005)
            store.put(str(value + 1).encode(), "counter")


def test_a_lock_keeps_three_processes_apart(store: Store, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count, args=(str(tmp_path), 6)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert store.get("counter") == b"18"
    assert store.names("locks") == []


def test_the_lock_of_a_dead_process_is_taken_over_at_once(store: Store) -> None:
    worker = multiprocessing.get_context("spawn").Process(target=_die_with_lock, args=(str(Path(store.path()).parent),))
    worker.start()
    worker.join(60)
    assert store.names("locks") == ["one"]
    started = time.monotonic()
    with locks.hold(store, "one"):
        pass
    assert time.monotonic() - started < locks.LEASE_S / 2


def _die_with_lock(root: str) -> None:
    with locks.hold(Store("x", root), "one"):
        os._exit(9)


def test_a_stale_heartbeat_of_another_host_may_be_taken_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "NONSENSE_S", 0.1)
    old = {"owner": "elsewhere:1:abc", "heartbeat": time.time() - locks.LEASE_S - 1}
    store.put(json.dumps(old).encode(), "locks", "one")
    with locks.hold(store, "one"):
        assert b"elsewhere" not in (store.get("locks", "one") or b"")


def test_a_fresh_heartbeat_is_waited_for_and_its_owner_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "NONSENSE_S", 0.5)
    fresh = {"owner": "elsewhere:1:abc", "heartbeat": time.time() - locks.LEASE_S + 2}
    store.put(json.dumps(fresh).encode(), "locks", "one")
    said: list[str] = []
    started = time.monotonic()
    with locks.hold(store, "one", on_wait=said.append):
        assert time.monotonic() - started > 1.5
    assert len(said) == 1
    assert said[0].startswith(
        f"waiting for process 1 on elsewhere, which works on the same result (lock {store.path()}/locks/one)"
    )
    assert "the wait ends when it is done" in said[0] and "or in 2 s if it sends no more heartbeats" in said[0]


def ours(**changes: object) -> dict[str, object]:
    """Return the content of a lock that a living process of this host holds, with changes."""
    process = processes.this()
    owner = f"{socket.gethostname()}:{changes.pop('pid', process.pid)}:abc"
    said = {
        "owner": owner,
        "heartbeat": time.time(),
        "since": time.time(),
        "boot": process.boot,
        "started": process.started,
    }
    return {**said, **changes}


@pytest.mark.parametrize(
    "dead",
    [
        {"pid": 2**22 + 1},  # above what the kernel gives out
        {"boot": "of another start of the machine"},
        {"started": "1"},  # its number is another process's now
        {"pid": 2**22 + 1, "heartbeat": time.time() + 1e6},
        {"pid": 2**22 + 1, "heartbeat": float("nan")},
    ],
)
def test_the_lock_of_a_dead_process_of_this_host_is_taken_over_at_once(store: Store, dead: dict[str, object]) -> None:
    store.put(json.dumps(ours(**dead)).encode(), "locks", "one")
    assert locks.holders(store) == []
    started = time.monotonic()
    with locks.hold(store, "one"):
        assert locks.holders(store)
    assert time.monotonic() - started < 6


NOT_TRUE = [
    *(
        b"",
        b"garbage",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"owner": "x"}',
        b'{"owner": 1, "heartbeat": []}',
        b"[" * 100_000,
    ),
    *(
        json.dumps({"owner": "elsewhere:1:abc", "heartbeat": beat}).encode()
        for beat in (1e12, float("inf"), float("nan"))
    ),
    json.dumps({"owner": "elsewhere:1:abc", "heartbeat": 10**400}).encode(),
]


@pytest.mark.parametrize("data", NOT_TRUE, ids=range(len(NOT_TRUE)))
def test_a_lock_without_a_heartbeat_that_can_be_true_is_waited_for_a_bounded_time_and_not_in_silence(
    store: Store, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "NONSENSE_S", 0.2)
    monkeypatch.setattr(locks, "POLL_S", 0.05)
    store.put(data, "locks", "one")
    assert locks.holders(store) == []
    said: list[str] = []
    started = time.monotonic()
    with locks.hold(store, "one", on_wait=said.append):
        assert 0.2 <= time.monotonic() - started < 6
    assert len(said) == 1 and "it is taken over in 0 s unless it changes" in said[0] and "locks/one" in said[0]
    assert store.names("locks") == []


@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_a_lock_that_changes_is_not_taken_over_whatever_its_clock_says(
    store: Store, ahead_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner's clock is an hour ahead or behind, and it is alive."""
    monkeypatch.setattr(locks, "NONSENSE_S", 0.4)
    monkeypatch.setattr(locks, "POLL_S", 0.05)
    end = time.monotonic() + 1.2

    def alive() -> None:
        while time.monotonic() < end:
            store.put(
                json.dumps({"owner": "elsewhere:1:abc", "heartbeat": time.time() + ahead_s}).encode(), "locks", "one"
            )
            time.sleep(0.1)

    alive_thread = threading.Thread(target=alive)
    alive_thread.start()
    time.sleep(0.05)
    with locks.hold(store, "one"):
        assert time.monotonic() >= end
    alive_thread.join()


def test_a_clock_that_runs_a_little_ahead_is_no_reason_to_take_over(store: Store) -> None:
    store.put(json.dumps({"owner": "elsewhere:1:abc", "heartbeat": time.time() + 60}).encode(), "locks", "one")
    held = locks.Held.parse(store.get("locks", "one") or b"")
    assert locks.holders(store) == ["elsewhere:1:abc"] and not held.is_nonsense
    assert held.left_s(unchanged_s=0) > locks.LEASE_S - 1 and held.left_s(unchanged_s=locks.LEASE_S) == 0


@pytest.mark.parametrize(
    "note",
    [b"garbage", json.dumps({"owner": "e:1:a", "heartbeat": time.time() + 1e6}).encode()],
    ids=["garbage", "future"],
)
def test_a_take_over_that_left_nonsense_holds_nobody_up(
    store: Store, note: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "TAKING_OVER_S", 0.1)
    monkeypatch.setattr(locks, "POLL_S", 0.05)
    dead = json.dumps(ours(pid=2**22 + 1)).encode()
    store.put(dead, "locks", "one")
    store.put(note, "locks", f"one.{hashlib.sha256(dead).hexdigest()[:16]}.taking-over")
    with locks.hold(store, "one"):
        pass
    assert store.names("locks") == []


def test_a_take_over_under_way_by_a_clock_that_is_behind_is_left_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "TAKING_OVER_S", 0.3)
    dead = json.dumps(ours(pid=2**22 + 1)).encode()
    name = f"one.{hashlib.sha256(dead).hexdigest()[:16]}.taking-over"
    store.put(dead, "locks", "one")
    store.put(json.dumps({"owner": "elsewhere:2:abc", "heartbeat": time.time() - 3600}).encode(), "locks", name)
    watched = locks.Watched()
    assert not locks._taken_over(store, "one", dead, "us", time.time(), watched)
    assert name in store.names("locks")
    time.sleep(0.4)
    assert not locks._taken_over(store, "one", dead, "us", time.time(), watched)
    assert name not in store.names("locks")
    assert locks._taken_over(store, "one", dead, "us", time.time(), watched)


def test_a_lock_of_another_container_is_waited_for_like_one_of_another_host(store: Store) -> None:
    start, _, namespace = processes.boot().partition(".")
    said = json.dumps(ours(pid=2**22 + 1, boot=f"{start}.{int(namespace) + 1}")).encode()
    held = locks.Held.parse(said)
    assert held.process is None and not held.is_dead and held.left_s(unchanged_s=0) > locks.LEASE_S - 1
    store.put(said, "locks", "one")
    assert locks.holders(store) == [held.owner]
    earlier = locks.Held.parse(json.dumps(ours(pid=2**22 + 1, boot=start)).encode())  # no namespace in its mark
    assert earlier.is_dead


def test_the_whole_files_of_an_unfinished_folder_need_no_room_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "made"
    local.mkdir()
    for name, size in (("a", 1000), ("b", 600), ("c", 10)):
        (local / name).write_bytes(name.encode() * size)
    store.put_file(local / "a", "folders", "one", "a")
    store.put(b"x" * 10, "folders", "one", "c")  # of the same size, and another content
    usage = shutil.disk_usage(tmp_path)
    free_n = [609]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free_n[0]))
    with pytest.raises(NoRoomError, match="storing 2 files of a model"):
        store.write_folder("one", local)
    free_n[0] = 610
    store.write_folder("one", local)
    assert store.is_whole("one") and store.read_file("one", "c") == b"c" * 10


def damaged(store: Store, how: str) -> None:
    """Store a table, and cut or overwrite its file, or change bits of its description or its rows."""
    store.write_table(pa.table({"a": list(range(10_000)), "b": [str(n) for n in range(10_000)]}), footer())
    path = Path(store.path(*table_parts("ranking", "random")))
    data = bytearray(path.read_bytes())
    footer_n = int.from_bytes(data[-8:-4], "little")
    if how == "empty":
        data = bytearray()
    elif how == "cut":
        del data[len(data) // 2 :]
    elif how == "description":
        data[-footer_n - 8 : -footer_n + 56] = b"\xff" * 64
    elif how == "length":
        data[-8:-4] = b"\xff\xff\xff\x7f"
    elif how == "rows":
        data[40:400] = b"\xff" * 360
    else:
        place = data.index(b'"rules"')
        data[place : place + 4] = b"\x00\x00\x00\x00"
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["empty", "cut", "description", "length", "rows", "notes"])
def test_a_damaged_table_is_named_with_the_command_that_makes_it_again(store: Store, how: str) -> None:
    damaged(store, how)
    path = store.path(*table_parts("ranking", "random"))
    with pytest.raises(DamagedError) as caught:
        (store.read_footer if how == "notes" else store.read_table)("ranking", "random")
    assert str(caught.value).startswith(f"{path} is damaged (") and "remove it, and `taskdiv run" in str(caught.value)
    if how != "rows":
        (found,) = store.read_footers([("ranking", "random")])
        assert isinstance(found, DamagedError)


@pytest.mark.parametrize("data", [b"", b"garbage", b"[]", b"\xff", b"[" * 100_000])
def test_a_garbled_manifest_is_named_with_the_command_that_makes_it_again(store: Store, data: bytes) -> None:
    store.put(data, "folders", "f" * 32, "manifest.json")
    with pytest.raises(
        DamagedError, match=r"manifest\.json is damaged .*; remove .*, and `taskdiv run x` makes it again"
    ):
        store.read_manifest("f" * 32)
