"""Progress of long steps: reported every few seconds and at the end, at the rate of this run's own work."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.terminal import RunDisplay
from taskdiv_assets.commands.workers import Event, Outcome
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.selection import STRATEGIES, SelectionPool
from taskdiv_assets.services.ordering import order_of
from taskdiv_assets.storage import progress
from taskdiv_assets.storage.progress import INTERVAL_S, Progress
from taskdiv_assets.storage.store import Store
from tests.home import Home
from tests.test_proxies import POOL, Bench


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def started(clock: Clock, told: list[str], **more: int) -> Progress:
    return Progress("work", told.append, "prompts", started=clock.now_s, **more)


def test_ten_thousand_calls_in_a_minute_are_at_most_thirteen_lines(clock: Clock) -> None:
    told: list[str] = []
    said = started(clock, told)
    for done in range(1, 10_001):
        clock.now_s += 60 / 10_000
        said(done, 10_000)
    assert 10 <= len(told) <= 13
    assert re.fullmatch(r"work: 83\d of 10,000 prompts \(8%\), 166\.7 prompts/s, 55 s left", told[0]), told[0]
    assert told[-1] == "work: 10,000 of 10,000 prompts (100%), 166.7 prompts/s, took 60 s"


def test_the_end_is_told_once_however_often_it_is_reached(clock: Clock) -> None:
    told: list[str] = []
    with started(clock, told) as said:
        clock.now_s += 2
        for _ in range(1_000):
            clock.now_s += 1
            said(5, 5)
    assert told == ["work: 5 of 5 prompts (100%), took 3 s"]


@pytest.mark.parametrize(("done", "said"), [(7, "7 of 10 prompts (70%)"), (12, "12 of 10 prompts (100%)")])
def test_an_end_that_is_not_the_total_is_told_too(clock: Clock, done: int, said: str) -> None:
    told: list[str] = []
    with started(clock, told) as work:
        work(1, 10)
        clock.now_s += 3
        work(done, 10)
    assert len(told) == 1 and said in told[0] and "took 3 s" in told[0]


def test_what_ends_at_once_needs_no_line_and_what_fails_tells_no_end(clock: Clock) -> None:
    told: list[str] = []
    with started(clock, told) as said:
        clock.now_s += 0.5
        said(3, 3)
    with started(clock, told):
        clock.now_s += 100  # nothing was to be done
    with pytest.raises(ValueError, match="stopped"), started(clock, told) as said:
        clock.now_s += 3
        said(1, 3)
        raise ValueError("stopped")
    assert told == []


def test_neither_loading_nor_what_an_interrupted_run_left_is_part_of_the_rate(clock: Clock) -> None:
    told: list[str] = []
    said = started(clock, told)
    clock.now_s += 300  # a model is loaded
    said(901, 1_000)  # 900 were there
    for done in range(902, 1_001):
        clock.now_s += 1
        said(done, 1_000)
    rates = {float(found) for line in told for found in re.findall(r"([\d.]+) prompts/s", line)}
    assert rates == {1.0} and "94 s left" in told[1]


def test_parts_that_are_found_on_the_way_are_no_part_of_the_rate(clock: Clock) -> None:
    """A second model, half of whose questions were answered by a run that was cut off."""
    told: list[str] = []
    said = started(clock, told)
    for done in [*range(1, 101), *range(151, 201)]:
        if done == 151:
            said.before_n += 50
        clock.now_s += 1
        said(done, 200)
    rates = {float(found) for line in told for found in re.findall(r"([\d.]+) prompts/s", line)}
    assert rates == {1.0} and told[-1].endswith("took 2.5 min")


def test_slow_steps_have_a_rate_and_a_time_that_one_can_read(clock: Clock) -> None:
    told: list[str] = []
    said = started(clock, told)
    for done in (1, 2):
        clock.now_s += 40
        said(done, 500, "loss 1.2")
    assert told[0] == "work: 1 of 500 prompts (0%), loss 1.2"  # one step says nothing of the next
    assert told[1] == "work: 2 of 500 prompts (0%), 0.025 prompts/s, 5.5 h left, loss 1.2"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 60), st.integers(0, 50)), max_size=60),
    st.booleans(),
)
def test_lines_never_come_closer_than_they_may_and_the_terminal_loses_its_bar(
    calls: list[tuple[float, int, int]], is_left: bool
) -> None:
    clock, ticks, lines = Clock(), [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "time", clock)
        progress.listen(lambda what, done, total, also, left_s: ticks.append((done, total)))
        try:
            said = Progress("work", lambda line: lines.append((clock.now_s, line)), started=clock.now_s)
            for wait_s, done, total in calls:
                clock.now_s += wait_s
                said(done, total)
            if is_left:
                said.__exit__(None, None, None)
        finally:
            progress.listen(None)
    times = [at for at, _ in lines]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert all(gap >= INTERVAL_S for gap in gaps[:-1])  # the last line may follow at once
    assert len(lines) <= (clock.now_s - 1_000) / INTERVAL_S + 1
    assert sum("took" in line for _, line in lines) <= 1
    if is_left and calls:
        assert ticks and ticks[-1][0] >= ticks[-1][1]
        assert bool(lines and "took" in lines[-1][1]) == (seconds_to_the_end(calls) >= 1)


def seconds_to_the_end(calls: list[tuple[float, int, int]]) -> float:
    """Return the seconds until the first call that reaches its total, else until the last call."""
    passed_s = 0.0
    for wait_s, done, total in calls:
        passed_s += wait_s
        if done >= total:
            return passed_s
    return passed_s


@pytest.mark.parametrize("name", ["k_center", "dpp", "facility_location"])
def test_a_greedy_order_tells_its_picks_to_the_end_also_where_copies_end_it_early(name: str) -> None:
    vectors = np.eye(8, dtype=np.float16)[np.arange(400) % 8]
    pool = SelectionPool(
        prompt_ids=np.arange(400, dtype=np.uint64), tasks=np.zeros(400, np.int32), task_names=("t",),
        task_confidence=None, scores={}, embeddings=vectors,
    )  # fmt: skip
    told: list[str] = []
    work: Any = SimpleNamespace(log=told.append, progress=lambda what, unit: Progress(what, told.append, unit))
    ticks: list[tuple[str, int, int, str]] = []
    progress.listen(lambda *tick: ticks.append(tick[:4]))
    try:
        order = order_of(work, STRATEGIES[name], pool, 3, 300)
    finally:
        progress.listen(None)
    assert len(set(order.tolist())) == 300
    assert ticks[-1] == ("seed 3", 300, 300, "") and len(ticks) <= 20
    assert ("comparing 400 prompts" in "".join(told)) == (name == "facility_location")


def test_where_long_texts_come_first_the_time_left_follows_the_share_of_the_work(clock: Clock) -> None:
    """The first 100 of 1,000 prompts are half of the work and take 60 s; by their number, 9 min would be left."""
    told: list[str] = []
    said = started(clock, told)
    said(0, 1_000, share=0.0)
    clock.now_s += 60
    said(100, 1_000, share=0.5)
    assert told == ["work: 100 of 1,000 prompts (10%), 1.7 prompts/s, 60 s left"]


@pytest.mark.parametrize(("batches_n", "each_s", "said_n"), [(2, 30.0, 0), (20, 30.0, 1), (20, 1.0, 0)])
def test_long_work_is_announced_once_after_a_few_batches(
    clock: Clock, batches_n: int, each_s: float, said_n: int
) -> None:
    notes: list[str] = []
    ticks: list[float | None] = []
    progress.listen(lambda what, done, total, also, left_s: ticks.append(left_s), notes.append)
    try:
        said = started(clock, [])
        for done in range(batches_n + 1):
            said(done, batches_n, share=done / batches_n)
            clock.now_s += each_s
    finally:
        progress.listen(None)
    assert notes == ["work: about 10 min for one process, by its first 2 batches"][:said_n]
    assert ticks[0] is ticks[-1] is None and ticks[1] == pytest.approx(each_s * (batches_n - 1))


# --- the lines of `taskdiv run` where the output is no terminal -----------------------------------------------------------------


class Stage:
    """A display without a terminal that shows one task."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.text = io.StringIO()
        self.display = RunDisplay(Console(file=self.text, width=300), "demo", self.clock.monotonic)
        self.display.tell(Event("started", "prompt_embeddings"))

    def lines(self) -> list[str]:
        return self.text.getvalue().splitlines()

    def wait(self, seconds: float) -> None:
        """Let time pass, with five beats a second."""
        for _ in range(round(seconds * 5)):
            self.clock.now_s += 0.2
            self.display.tell(Event("beat", ""))


def test_a_stage_without_ticks_has_a_line_every_half_minute() -> None:
    stage = Stage()
    stage.wait(28 * 60)
    assert stage.lines()[:4] == [
        "demo: prompt_embeddings started",
        "demo: prompt_embeddings: still at work, 30 s",
        "demo: prompt_embeddings: still at work, 60 s",
        "demo: prompt_embeddings: still at work, 90 s",
    ]
    assert 55 <= len(stage.lines()) <= 57


def test_a_stage_with_ticks_says_how_far_it_is_at_which_rate_and_what_is_left() -> None:
    stage = Stage()
    for done in range(0, 400, 10):
        what, left_s = "prompt_embeddings: embedding", (1200 - done) / 5
        stage.display.tell(Event("progress", what, done, 1200, task="prompt_embeddings", left_s=left_s))
        stage.wait(2)
    first = stage.lines()[1]
    assert first == "demo: prompt_embeddings: embedding: 140 of 1,200 (11%), 4.7/s, 3.5 min left, 30 s so far"
    stage.display.tell(Event("progress", "prompt_embeddings: embedding", 1200, 1200, task="prompt_embeddings"))
    stage.wait(60)
    assert stage.lines()[-1].startswith("demo: prompt_embeddings: still at work, ")


def test_a_stage_that_ended_and_a_short_one_have_no_such_line() -> None:
    stage = Stage()
    stage.wait(29)
    stage.display.tell(Event("ended", "prompt_embeddings", outcome=Outcome("prompt_embeddings", True, "", None, 29.0)))
    stage.wait(300)
    assert stage.lines() == ["demo: prompt_embeddings started", "done   1/0 prompt_embeddings (29.0 s)"]


def test_a_note_names_its_task_once_and_no_terminal_obeys_it() -> None:
    stage = Stage()
    stage.display.tell(Event("note", "waiting for process 1 on \x1b[2Jhost", task="prompt_embeddings"))
    assert stage.lines()[-1] == "demo: prompt_embeddings: waiting for process 1 on \\x1b[2Jhost"
    said: list[str] = []
    progress.listen(None, said.append)
    try:
        Work(None, None, None, Unit("prompt_embeddings"), None, lambda line: None).wait("waiting")  # type: ignore[arg-type]
    finally:
        progress.listen(None)
    assert said == ["waiting"]


# --- stages that hold a model ---------------------------------------------------------------------------------------------------


class LabBench(Bench):
    """The lab's miniature, whose stages are made without Dagster."""

    def __init__(self, home: Home) -> None:
        path = home.write_experiment("slow")
        self.experiment = experiment_file.parse(*experiment_file.read_text(str(path)))
        self.store = Store(self.experiment.name)


@pytest.mark.full
def test_a_slow_model_says_where_it_is_from_its_first_batch_on(
    empty_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tick takes 100 s here: the log of a process without a terminal has three lines for it, with the count."""
    for name, value in empty_home.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(empty_home.folder)
    stage, bench = Stage(), LabBench(empty_home)
    bench.make(*POOL)

    def tick(what: str, done: int, total: int, also: str, left_s: float | None) -> None:
        stage.display.tell(Event("progress", what, done, total, also, task="prompt_embeddings", left_s=left_s))
        stage.wait(100)

    progress.listen(tick)
    try:
        bench.make(*(REGISTRY[name] for name in ("prompt_embeddings", "confidence_table", "base_scores")))
    finally:
        progress.listen(None)
    said = stage.text.getvalue()
    for what in ("prompt_embeddings: embedding prompts", "confidence_table: scoring", "base_scores: scoring lab"):
        first = re.findall(rf"{what}[^\n]*", said)[:3]
        assert all(re.search(r": 0 of [\d,]+ \(0%\), .* so far$", line) for line in first) and len(first) == 3, first
