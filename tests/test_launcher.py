"""Runs whose process has gone: a real instance, real processes that are killed, and Dagster's own monitoring."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterRunStatus
from dagster._core.launcher import WorkerStatus
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from taskdiv_assets.commands import orphans
from taskdiv_assets.commands.workers import Event
from taskdiv_assets.orchestration import instance as home
from taskdiv_assets.orchestration.run_launcher import HOST_TAG, host_tag, process_of
from taskdiv_assets.storage.processes import Process, boot, this
from tests.golden import variables_of
from tests.home import Home

# A run that holds the model's pool slot until it is killed.
SLEEPER = """
import sys, time
import dagster as dg
from taskdiv_assets.orchestration.instance import ACCELERATOR_POOL
from taskdiv_assets.orchestration.run_launcher import host_tag

@dg.op(pool=ACCELERATOR_POOL)
def sleep():
    print("holding", flush=True)
    time.sleep(300)

@dg.job
def sleeper():
    sleep()

with dg.DagsterInstance.get() as instance:
    sleeper.execute_in_process(instance=instance, tags=host_tag())
"""


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a Dagster home with databases. Creating these takes seconds."""
    empty = Home(tmp_path_factory.mktemp("databases"))
    with variables_of(empty), home.open_instance(1):
        return empty.folder / "dagster"


@pytest.fixture
def instance(empty_home: Home, databases: Path) -> Iterator[dg.DagsterInstance]:
    shutil.copytree(databases, empty_home.folder / "dagster")
    with home.open_instance(1) as made:
        yield made


@pytest.fixture
def sleeper(instance: dg.DagsterInstance) -> Iterator[subprocess.Popen[str]]:
    """Start a process that stays in the middle of a step."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        cwd=Path(__file__).resolve().parent.parent,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "holding\n"
    yield process
    process.kill()
    process.wait()


def the_run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    (run,) = instance.get_runs()
    return run


def health(instance: dg.DagsterInstance) -> WorkerStatus:
    return instance.run_launcher.check_run_worker_health(the_run(instance)).status


def claimed(instance: dg.DagsterInstance) -> int:
    return int(instance.event_log_storage.get_concurrency_info("accelerator").active_slot_count)


def monitor(instance: dg.DagsterInstance) -> None:
    with create_test_daemon_workspace_context(EmptyWorkspaceTarget(), instance) as context:
        assert not [error for error in execute_run_monitoring_iteration(context, logging.getLogger()) if error]


def test_monitoring_leaves_a_living_run_and_ends_a_killed_one(
    instance: dg.DagsterInstance, sleeper: subprocess.Popen[str]
) -> None:
    assert process_of(instance, the_run(instance)) is not None and health(instance) == WorkerStatus.RUNNING
    monitor(instance)
    assert the_run(instance).status == DagsterRunStatus.STARTED and claimed(instance) == 1

    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()
    assert health(instance) == WorkerStatus.NOT_FOUND
    monitor(instance)
    run = the_run(instance)
    assert run.status == DagsterRunStatus.FAILURE
    events = [record.message for record in instance.all_logs(run.run_id)]
    assert any(f"its process {sleeper.pid}" in message and "killed" in message for message in events)


def test_taskdiv_run_ends_what_was_killed_and_frees_its_slot(
    instance: dg.DagsterInstance, sleeper: subprocess.Popen[str]
) -> None:
    assert not orphans.end_orphans(instance) and claimed(instance) == 1
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()
    assert len(orphans.end_orphans(instance)) == 1
    assert the_run(instance).status == DagsterRunStatus.FAILURE and claimed(instance) == 0


def test_a_run_of_another_host_counts_as_running(instance: dg.DagsterInstance, sleeper: subprocess.Popen[str]) -> None:
    """Its process cannot be seen from here: a wrong verdict would end a run that is well."""
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()
    instance.add_run_tags(the_run(instance).run_id, {HOST_TAG: "elsewhere"})
    assert process_of(instance, the_run(instance)) is None and health(instance) == WorkerStatus.RUNNING
    assert not orphans.end_orphans(instance)


def test_a_number_of_before_the_last_boot_is_another_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        assert Process(living.pid, boot()).is_alive
        assert not Process(living.pid, "of another start of the machine").is_alive
        living.communicate(b"\n")
    assert not Process(living.pid, boot()).is_alive


def test_a_living_process_that_proc_hides_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mounted with hidepid=2, /proc does not show other users' processes: signals still tell them from no process."""

    def hidden(pid: int) -> psutil.Process:
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(psutil, "Process", hidden)
    assert Process(os.getpid(), boot()).is_alive
    assert not Process(2**22 + 1, boot()).is_alive
    assert not Process(10**20, boot()).is_alive and not Process(0, boot()).is_alive

    def refused(pid: int, number: int) -> None:
        raise PermissionError(pid, number)

    monkeypatch.setattr(os, "kill", refused)
    assert Process(os.getpid(), boot()).is_alive


def test_marks_of_earlier_versions_are_understood_and_other_containers_are_not_judged() -> None:
    start, _, namespace = boot().partition(".")
    assert Process(os.getpid(), start).is_alive and not Process(2**22 + 1, start).is_alive
    assert Process(2**22 + 1, f"{start}.{int(namespace) + 1}").is_alive
    assert not Process(os.getpid(), f"another start.{namespace}").is_alive


def test_a_run_in_another_container_counts_as_running(instance: dg.DagsterInstance) -> None:
    start, _, namespace = boot().partition(".")
    holding(instance, Process(2**22 + 1, f"{start}.{int(namespace) + 1}"))
    assert not orphans.end_orphans(instance) and claimed(instance) == 1


def test_a_look_that_fails_is_said_once_and_tried_again(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, heard = [0.0], list[Event]()
    watch = orphans.Watch(instance, heard.append, clock=lambda: now[0])
    holding(instance, Process(2**22 + 1, boot()))
    get_runs = instance.get_runs

    def locked(*_: object) -> list[dg.DagsterRun]:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(instance, "get_runs", locked)
    for _ in range(2):
        now[0] += orphans.LOOK_S
        watch(Event("beat", ""))
    (note,) = [event.name for event in heard if event.kind == "note"]
    assert "locked" in note and "tried again" in note
    with pytest.raises(sqlite3.OperationalError):
        watch.look()
    monkeypatch.setattr(instance, "get_runs", get_runs)
    now[0] += orphans.LOOK_S
    watch(Event("beat", ""))
    assert claimed(instance) == 0


def test_a_clock_that_is_set_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "boot_time", lambda: time.time() + 3600)
    assert Process(os.getpid(), boot()).is_alive


def test_a_process_that_ended_and_was_not_collected_is_gone() -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 20
    while Process(zombie.pid, boot()).is_alive and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Process(zombie.pid, boot()).is_alive
    assert zombie.wait() == 0


@pytest.mark.full
def test_a_run_that_ends_between_two_looks_keeps_its_verdict(
    instance: dg.DagsterInstance, sleeper: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper.kill()
    sleeper.wait()
    run, seen = the_run(instance), Process.is_alive.fget

    def looking(process: Process) -> bool:
        if the_run(instance).status == DagsterRunStatus.STARTED:
            instance.report_dagster_event(
                DagsterEvent(DagsterEventType.PIPELINE_SUCCESS.value, run.job_name), run.run_id
            )
        return seen(process)

    monkeypatch.setattr(Process, "is_alive", property(looking))
    assert not orphans.end_orphans(instance)
    assert the_run(instance).status == DagsterRunStatus.SUCCESS


@pytest.mark.full
def test_a_cancelled_run_whose_process_is_gone_is_cancelled_and_not_tried_again(
    instance: dg.DagsterInstance, sleeper: subprocess.Popen[str]
) -> None:
    sleeper.kill()
    sleeper.wait()
    instance.report_run_canceling(the_run(instance))
    assert len(orphans.end_orphans(instance)) == 1
    assert the_run(instance).status == DagsterRunStatus.CANCELED


def test_the_tag_is_the_host_and_its_boot() -> None:
    assert host_tag() == {HOST_TAG: f"{socket.gethostname()}:{boot()}"}
    assert boot() or sys.platform != "linux"


@dg.job
def nothing() -> None:
    """Define a job whose runs are never executed."""


def holding(instance: dg.DagsterInstance, process: Process) -> str:
    """Create a run that holds the slot and is carried out by a process, and return its id."""
    run = instance.create_run_for_job(nothing, status=DagsterRunStatus.STARTED, tags=host_tag(process))
    instance.event_log_storage.claim_concurrency_slot("accelerator", run.run_id, "step")
    return run.run_id


def test_a_run_that_is_killed_while_another_goes_on_gives_its_slot_back_within_seconds(
    instance: dg.DagsterInstance,
) -> None:
    now, heard = [0.0], list[Event]()
    watch = orphans.Watch(instance, heard.append, clock=lambda: now[0])
    holding(instance, Process(2**22 + 1, boot()))
    watch(Event("beat", ""))
    assert claimed(instance) == 1  # not yet
    now[0] = orphans.LOOK_S
    watch(Event("beat", ""))
    assert claimed(instance) == 0 and the_run(instance).status == DagsterRunStatus.FAILURE
    (note,) = [event.name for event in heard if event.kind == "note"]
    assert str(2**22 + 1) in note and "was killed" in note


def test_a_number_that_another_process_has_now_is_no_sign_of_life(instance: dg.DagsterInstance) -> None:
    holding(instance, Process(os.getpid(), boot(), "1"))
    assert len(orphans.end_orphans(instance)) == 1 and claimed(instance) == 0
    holding(instance, this())
    assert not orphans.end_orphans(instance) and claimed(instance) == 1


def test_a_wait_for_a_slot_says_whose_it_is_once(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = list[Event]()
    watch = orphans.Watch(instance, heard.append)
    holder = holding(instance, this())
    instance.event_log_storage.claim_concurrency_slot("accelerator", "of-ours", "step")
    monkeypatch.setattr(orphans.Watch, "_is_ours", lambda self, run_id: run_id == "of-ours")
    monkeypatch.setattr(orphans, "ENDED_S", 1e9)  # there is no run of that name
    watch.look()
    watch.look()
    (note,) = [event.name for event in heard]
    assert note.startswith("waiting for a slot of the pool accelerator, which run ")
    assert holder[:8] in note and f"process {os.getpid()} on {socket.gethostname()}" in note


def test_a_slot_of_a_run_that_has_ended_is_freed_after_a_while(instance: dg.DagsterInstance) -> None:
    now, heard = [0.0], list[Event]()
    watch = orphans.Watch(instance, heard.append, clock=lambda: now[0])
    instance.event_log_storage.claim_concurrency_slot("accelerator", "gone", "step")
    watch.look()
    assert claimed(instance) == 1
    now[0] = orphans.ENDED_S
    watch.look()
    assert claimed(instance) == 0 and [event.kind for event in heard] == ["note"]
