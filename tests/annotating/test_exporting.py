"""Exports: no prompt is sent twice, interruptions, the ledger, and files for spreadsheet programs."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from taskdiv_assets.annotating import delivery, ledger
from taskdiv_assets.annotating.answer_files import read_answers
from taskdiv_assets.annotating.exporting import Export, Target, export, rewrite
from taskdiv_assets.annotating.formats import render
from taskdiv_assets.annotating.importing import import_answers
from taskdiv_assets.annotating.layout import Layout, Row
from taskdiv_assets.annotating.ledger import Entry
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands import annotation_commands, annotation_messages
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.known_answers import newest_annotations
from taskdiv_assets.graph.units import StaleInputError
from taskdiv_assets.storage.store import Store
from tests.home import Home

pytestmark = pytest.mark.xdist_group("annotating")
SMALL, LARGE = Cell(6, "task_diversity"), Cell(12, "task_diversity")


def ids_in(path: Path) -> list[str]:
    return [json.loads(line)["prompt_id"] for line in path.read_text().splitlines()]


def sent(home: Path, name: str = "own") -> list[list[str]]:
    """Return the prompt ids of each ledger entry that sent prompts."""
    notes = [json.loads(path.read_text()) for path in sorted(home.glob(f"results/{name}/exports/*.json"))]
    return [note["prompt_ids"] for note in notes if note["prompt_ids"]]


def test_a_larger_budget_sends_only_the_difference(experiment: Experiment, store: Store, own: Home) -> None:
    first = export(REGISTRY.look(experiment, store), SMALL, None, Target(own.folder / "first.jsonl", "jsonl"))
    assert first[:4] == (6, 0, 0, [])
    again = export(REGISTRY.look(experiment, store), SMALL, None, Target(own.folder / "again.jsonl", "jsonl"))
    assert again[:4] == (0, 6, 0, []) and not Path("again.jsonl").exists()
    second = export(REGISTRY.look(experiment, store), LARGE, None, Target(own.folder / "second.jsonl", "jsonl"))
    assert second[:4] == (6, 6, 0, [])
    assert len({*ids_in(Path("first.jsonl")), *ids_in(Path("second.jsonl"))}) == 12
    assert sent(own.folder) == [ids_in(Path("first.jsonl")), ids_in(Path("second.jsonl"))]
    entry = ledger.entries(store)[0]
    assert (entry.cell, entry.selection_seed, entry.format, entry.file) == (
        "6|task_diversity", 0, "jsonl", str(own.folder / "first.jsonl"))  # fmt: skip
    assert [row["rank"] for row in entry.rows] == list(range(6))
    assert {row["instructions"] for row in entry.rows} == {"Two sentences, please."}


def test_a_list_that_went_out_with_another_is_noted_once_and_has_no_file(
    experiment: Experiment, store: Store, own: Home
) -> None:
    export(REGISTRY.look(experiment, store), LARGE, None, Target(own.folder / "first.jsonl", "jsonl"))
    for _ in range(2):
        nothing = export(REGISTRY.look(experiment, store), SMALL, None, Target(own.folder / "second.jsonl", "jsonl"))
        assert nothing[:4] == (0, 6, 0, []) and not Path("second.jsonl").exists()
    whole, small = ledger.entries(store)
    assert (small.cell, small.prompt_ids, small.rows, small.file) == (SMALL.key, (), (), None)
    assert set(small.already_sent_ids) < set(whole.prompt_ids) and not whole.already_sent_ids
    with pytest.raises(ValueError, match="export 2 of own sent nothing: all 6 prompts of its list were sent before"):
        rewrite(store, 2, None, None)
    listed = own.say("annotations", "list", "own").stdout
    assert "file of export 1: first.jsonl" in listed and "file of export 2: none" in listed
    assert "12 prompts of own were sent out, 0 of them are answered" in listed


def test_what_goes_out_is_said_with_what_is_out_and_answered(experiment: Experiment, own: Home) -> None:
    assert annotation_messages.sent(experiment, Export(2, 3, 1, [])) == [
        "2 prompts to annotate, 1.00 at 0.50 each; 3 are out already, 1 have their answer"
    ]
    assert annotation_messages.sent(experiment, Export(0, 0, 128, [])) == ["all 128 are answered"]
    assert annotation_messages.sent(experiment, Export(0, 2, 4, [])) == [
        "nothing new to send out: 2 are out already, 4 have their answer"
    ]
    with pytest.raises(StaleInputError, match="`taskdiv run own --until annotation_batch` makes the lists"):
        export(
            REGISTRY.look(experiment, Store("own")), Cell(6, "random"), None, Target(own.folder / "list.jsonl", "jsonl")
        )
    with pytest.raises(ValueError, match=r"7 is not a budget of own \(6, 12\); `taskdiv budget add own 7`"):
        annotation_commands._cells(experiment, "7", ["random"])


def test_a_clock_that_was_put_back_changes_no_order() -> None:
    late = Entry("6|random", 0, "20990101T000000.000000Z", ("a",))
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert ledger.next_time([late], now) == "20990101T000000.000001Z"
    assert ledger.next_time([], now) == "20260101T000000.000000Z"


def test_names_are_folded_and_never_cut(own: Home) -> None:
    entry = Entry(
        "64|weighted_task_diversity_min_margin", 0, "20260101T000000.000000Z", ("a", "b"), already_sent_ids=("c",)
    )
    console = Console(width=72, file=io.StringIO())
    console.print(annotation_messages.ledger_table([entry], {"b"}))
    shown = console.file.getvalue()
    columns = zip(*(re.split("[│┃]", line) for line in shown.splitlines() if line[0] in "│┃"), strict=True)
    assert "cell64|weighted_task_diversity_min_margin" in ["".join(map(str.strip, column)) for column in columns]


def test_a_file_that_is_in_the_way_stays_and_nothing_is_sent(experiment: Experiment, store: Store, own: Home) -> None:
    Path("list.json").write_text("mine")
    with pytest.raises(ValueError, match="list.json already exists"):
        export(REGISTRY.look(experiment, store), SMALL, None, Target(own.folder / "list.json", "label-studio"))
    Path("list.json").unlink()
    Path("list.config.xml").write_text("mine")
    with pytest.raises(ValueError, match="list.config.xml already exists"):
        export(REGISTRY.look(experiment, store), SMALL, None, Target(own.folder / "list.json", "label-studio"))
    with pytest.raises(ValueError, match="there is no folder"):
        export(REGISTRY.look(experiment, store), SMALL, None, Target(own.folder / "nowhere/list.json", "jsonl"))
    assert Path("list.config.xml").read_text() == "mine"
    assert not sent(own.folder) and not list(own.folder.glob("*.part"))


def test_an_entry_of_an_earlier_version_counts_and_has_no_rows_to_write_again(
    experiment: Experiment, store: Store, own: Home, ids: list[str]
) -> None:
    time_ = "20260101T000000.000000Z"
    note = {"cell": SMALL.key, "selection_seed": 0, "exported_at": time_, "prompt_ids": ids[:1]}
    store.put(json.dumps(note).encode(), "exports", f"{time_}-0.json")
    assert export(REGISTRY.look(experiment, store), LARGE, None, Target(own.folder / "list.jsonl", "jsonl"))[:2] == (
        11,
        1,
    )
    with pytest.raises(ValueError, match="made by an earlier version, which recorded only ids"):
        rewrite(store, 1, None, None)
    assert "not recorded" in own.say("annotations", "list", "own").stdout


def test_a_ledger_that_cannot_be_read_stops_the_export(experiment: Experiment, store: Store, own: Home) -> None:
    store.put(b"{}", "exports", "20260101T000000.000000Z-0.json")
    with pytest.raises(ValueError, match=r"is not an entry of the export ledger \(KeyError\('cell'\)\)"):
        export(REGISTRY.look(experiment, store), SMALL, None, Target(own.folder / "list.jsonl", "jsonl"))


def test_a_lost_file_is_written_again_byte_for_byte_and_in_other_formats(
    experiment: Experiment, store: Store, own: Home
) -> None:
    path = own.folder / "list.csv"
    export(REGISTRY.look(experiment, store), SMALL, None, Target(path, "csv"))
    kept = path.read_bytes()
    path.unlink()
    assert rewrite(store, 1, None, None) == ([Target(path, "csv")], 6)
    assert path.read_bytes() == kept
    rewrite(store, 1, None, None)  # it stands there as it should: nothing is in the way
    path.write_text("edited since")
    with pytest.raises(ValueError, match="already exists"):
        rewrite(store, 1, None, None)
    (target,), _ = rewrite(store, 1, None, "label-studio")
    assert target.path == own.folder / "list.json" and Path("list.config.xml").exists()
    assert [task["data"]["rank"] for task in json.loads(target.path.read_text())] == list(range(6))
    with pytest.raises(ValueError, match="there is no export 2 of own; the ledger has 1"):
        rewrite(store, 2, None, None)
    assert len(sent(own.folder)) == 1


def test_what_an_interruption_left_is_finished_or_overwritten(experiment: Experiment, store: Store, own: Home) -> None:
    path = own.folder / "list.jsonl"
    delivery.part_of(path).write_bytes(b'{"half')  # no entry: it was never sent out
    export(REGISTRY.look(experiment, store), SMALL, None, Target(path, "jsonl"))
    assert len(ids_in(path)) == 6 and not delivery.part_of(path).exists()
    path.rename(delivery.part_of(path))  # as it stands between the second step and the third
    path.write_text("somebody else's")
    with pytest.raises(ValueError, match="cannot be renamed because .* exists"):
        export(REGISTRY.look(experiment, store), LARGE, None, Target(own.folder / "more.jsonl", "jsonl"))
    path.unlink()
    assert export(REGISTRY.look(experiment, store), SMALL, None, Target(path, "jsonl"))[:4] == (0, 6, 0, [path])
    assert len(ids_in(path)) == 6


@pytest.mark.full
def test_a_kill_before_any_change_on_the_disk_leaves_a_list_in_the_ledger_and_on_disk_or_in_neither(
    lists: Home, tmp_path: Path
) -> None:
    # two lists in one file: one entry names both
    arguments = (
        "annotations",
        "export",
        "tickets",
        "--with",
        "channel",
        "-o",
        "out/list.json",
        "--format",
        "label-studio",
    )
    driver = Path(__file__).with_name("kill_at_every_step.py")
    ran = subprocess.run(
        [sys.executable, str(driver), str(lists.folder), str(tmp_path), *arguments],
        env={**os.environ, "PYTHONPATH": str(driver.parents[2])}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    steps = sorted((path for path in tmp_path.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    assert len(steps) > 10
    states = []
    for folder in steps:
        killed = folder.with_name(f"{folder.name}-killed")
        is_noted, is_there = len(sent(killed, "tickets")), (killed / "out/list.json").exists()
        is_waiting = (killed / "out/list.json.part").exists()
        assert is_noted or not is_there
        assert not is_noted or is_there or is_waiting
        states.append((is_noted, is_there, is_waiting))
        tasks = json.loads((folder / "out/list.json").read_text())  # after the same command once more
        assert [[task["data"]["prompt_id"] for task in tasks]] == sent(folder, "tickets")
        assert len(tasks) == 4 and (folder / "out/list.config.xml").exists()
        assert not (folder / "out/list.json.part").exists()
    # each of the three steps was cut off: nothing, a .part alone, a .part that is noted, all done
    assert {(0, False, False), (0, False, True), (1, False, True), (1, True, False)} == set(states)


@pytest.mark.full
def test_two_exports_at_once_send_no_prompt_twice(own: Home) -> None:
    command = ("annotations", "export", "own", "--strategy", "task_diversity", "--budget")
    running = [own.start(*command, budget, "-o", f"list{n}.jsonl") for n, budget in enumerate(("12", "6", "12"))]
    outputs = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    files = [ids_in(path) for path in own.folder.glob("list*.jsonl")]
    assert sorted(map(sorted, files)) == sorted(map(sorted, sent(own.folder)))
    everything = [prompt_id for file in files for prompt_id in file]
    assert len(everything) == len(set(everything)) == 12
    assert not list(own.folder.glob("*.part")) and not list(own.folder.glob("results/own/locks/*"))


@pytest.mark.full
@pytest.mark.crash
def test_kills_at_random_moments_lose_nothing(lists: Home, own: Home) -> None:
    command = ("annotations", "export", "own", "--strategy", "task_diversity", "--budget", "12", "-o", "list.jsonl")
    started = time.monotonic()
    assert own.taskdiv(*command).returncode == 0
    whole_s = time.monotonic() - started
    draw = random.Random(5)
    for _ in range(20):
        for path in (
            *own.folder.glob("list.*"),
            *own.folder.glob("results/own/exports/*"),
            *own.folder.glob("results/own/locks/*"),
        ):
            path.unlink()
        running = own.start(*command)
        time.sleep(whole_s * draw.uniform(0.5, 1.05))
        os.killpg(running.pid, signal.SIGKILL)
        running.wait(10)
        assert bool(sent(own.folder)) or not Path("list.jsonl").exists()
        again = own.taskdiv(*command)
        assert again.returncode == 0, again.stderr
        assert [ids_in(Path("list.jsonl"))] == sent(own.folder) and len(ids_in(Path("list.jsonl"))) == 12
        assert not Path("list.jsonl.part").exists()


def test_no_cell_of_the_sheet_is_a_formula_and_no_id_a_number(experiment: Experiment, store: Store, own: Home) -> None:
    export(REGISTRY.look(experiment, store), LARGE, None, Target(own.folder / "list.csv", "csv"))
    data = Path("list.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfprompt_id,task,rank,prompt,instructions,response\r\n")
    rows = list(csv.DictReader(data.decode("utf-8-sig").splitlines(keepends=True)))
    assert not [cell for row in rows for cell in row.values() if cell[:1] in tuple("=+-@\t\r")]
    assert {row["prompt"][:3] for row in rows if row["prompt"][0] == "'"} == {"'=1", "'@S", "'-2", "'+1"}
    assert len([row for row in rows if row["prompt_id"][0] == "'"]) == 4  # all that would turn into numbers
    # a sheet as it comes back: answered, as European Excel writes it, in another order, with rows of nothing at the end
    with Path("back.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
        writer.writerow(["response", "prompt", "prompt_id", "my notes"])
        writer.writerows(
            [f'={n}; "so"\nor so', row["prompt"], row["prompt_id"], ""] for n, row in enumerate(reversed(rows))
        )
        writer.writerows([["", "", "", ""]] * 3)
    result = import_answers(REGISTRY.look(experiment, store), read_answers(Path("back.csv")), None)
    assert (result.answers_n, result.prompts_n) == (12, 12)
    assert {row["response"][:3] for row in newest_annotations(store).to_pylist()} >= {"=0;", "=9;"}


def test_lines_end_so_that_a_lone_return_stays_inside_its_cell() -> None:
    row = Row(prompt_id="a", task="＝t", rank=0, prompt="one\rtwo\r\nthree", instructions="i")
    lines = list(csv.reader(render([row], "csv", Layout()).decode("utf-8-sig").splitlines(keepends=True)))
    assert len(lines) == 2 and lines[1][3] == "one\rtwo\r\nthree"
    assert lines[1][1] == "'＝t"  # full-width, which some spreadsheet programs take for the plain sign


def test_an_entry_is_named_by_time_and_content() -> None:
    one = Entry("6|random", 0, "20260101T000000.000000Z", ("a", "b"))
    assert one.name.startswith("20260101T000000.000000Z-") and one.time.isoformat() == "2026-01-01T00:00:00+00:00"
    assert one.name != Entry("6|random", 0, "20260101T000000.000000Z", ("a", "c")).name
