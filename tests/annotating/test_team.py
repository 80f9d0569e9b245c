"""A campaign of several annotators: lists dealt out, what did not come back recalled, and two people's answers to one prompt."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taskdiv_assets.annotating import delivery, ledger, recalling
from taskdiv_assets.annotating.answer_files import read_answers
from taskdiv_assets.annotating.importing import import_answers
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands import annotation_messages
from taskdiv_assets.graph.known_answers import all_annotations, newest_annotations
from taskdiv_assets.storage.store import Store
from tests.annotating.conftest import opened
from tests.home import Home

pytestmark = pytest.mark.xdist_group("annotating")
EXPORT = ("annotations", "export", "own", "--strategy", "task_diversity")


def said(home: Home, *arguments: str, code: int = 0) -> str:
    result = home.say(*arguments)
    assert result.returncode == code, result.stdout + result.stderr
    return " ".join((result.stdout + result.stderr).split())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def ids_of(path: Path) -> list[str]:
    return [row["prompt_id"].removeprefix("'") for row in rows_of(path)]


def answer(
    path: Path, text: str, *, columns: tuple[str, ...] = ("prompt_id", "annotator"), n: int | None = None
) -> Path:
    """Write the answers to the first `n` prompts of a list to a file of its own, and return it."""
    back = path.with_name(f"{path.stem}-back.csv")
    with back.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "response"])
        for row in rows_of(path)[:n]:
            writer.writerow([*(row[name].removeprefix("'") for name in columns), f"{text} {row['prompt_id']}"])
    return back


def bring(home: Home, path: Path, annotator: str | None = None) -> list[str]:
    """Import a file without the command, which also makes the table again, and return what the command would say."""
    chosen, store = opened(home, "own")
    found = read_answers(path)
    return annotation_messages.imported(chosen, import_answers(REGISTRY.look(chosen, store), found, annotator), found)


@pytest.fixture
def dealt(own: Home) -> Home:
    said(
        own,
        *EXPORT,
        "--budget",
        "12",
        "--annotators",
        "a1,a2",
        "--annotators",
        "a3",
        "--overlap",
        "0.25",
        "-o",
        "list.csv",
    )
    return own


def test_a_list_is_dealt_out_in_files_of_one_entry(dealt: Home, store: Store) -> None:
    files = {name: dealt.folder / f"list-{name}.csv" for name in ("a1", "a2", "a3")}
    (entry,) = ledger.entries(store)
    assert {one.annotator: list(one.prompt_ids) for one in entry.shares} == {
        name: ids_of(p) for name, p in files.items()
    }
    assert {row["annotator"] for path in files.values() for row in rows_of(path)} == set(files)
    counts = Counter(i for path in files.values() for i in ids_of(path))
    assert len(counts) == 12 and sorted(counts.values()) == [1] * 9 + [2] * 3
    assert set(entry.prompt_ids) == set(counts) and entry.file is None and not (dealt.folder / "list.csv").exists()
    kept = {path: path.read_bytes() for path in files.values()}
    for path in kept:
        path.unlink()
    assert "12 prompts of export 1" in said(dealt, "annotations", "rewrite", "own", "1")
    assert kept == {path: path.read_bytes() for path in kept}  # byte for byte
    said(dealt, "annotations", "rewrite", "own", "1", "--format", "label-studio")
    assert len(list(dealt.folder.glob("list-a?.config.xml"))) == 3
    assert "annotator" not in json.loads((dealt.folder / "list-a1.json").read_text())[0]["data"]
    assert "nothing new to send out: 12 are out already" in said(dealt, *EXPORT, "--budget", "12", "--annotators", "a4")
    listed = said(dealt, "annotations", "list", "own")
    assert "file of export 1: list-a1.csv file of export 1: list-a2.csv" in listed and "outstanding" in listed


def test_the_messages_count_answers_and_name_mistakes(own: Home) -> None:
    result = said(own, *EXPORT, "--budget", "12", "--annotators", "a1,a2", "--overlap", "0.5", "-o", "list.csv")
    assert "12 prompts to annotate, 6 of them by two people, 9.00 at 0.50 each" in result
    assert "dealt out: a1 9, a2 9" in result
    assert "--overlap needs --annotators" in said(own, *EXPORT, "--budget", "6", "--overlap", "0.5", code=2)
    assert "'A1' is called 'a1' in the ledger" in said(own, *EXPORT, "--budget", "6", "--annotators", "A1", code=2)
    assert "say what to take back" in said(own, "annotations", "recall", "own", code=2)
    assert "is not a number of days" in said(own, "annotations", "recall", "own", "--older-than", "2w", code=2)
    assert "nothing was sent to 'a9'" in said(own, "annotations", "recall", "own", "--annotator", "a9", code=2)


def test_a_recall_goes_to_others_and_nobody_gets_a_prompt_twice(dealt: Home, store: Store) -> None:
    said(dealt, "annotations", "import", str(answer(dealt.folder / "list-a1.csv", "one")))
    bring(dealt, answer(dealt.folder / "list-a2.csv", "two", n=1))
    before = {one.name: one for one in recalling.people(recalling.read(store))}
    assert (before["a1"].outstanding_n, before["a2"].outstanding_n, before["a3"].answered_n) == (0, 4, 0)
    assert "nothing to take back" in said(dealt, "annotations", "recall", "own", "--older-than", "1d")
    result = said(dealt, "annotations", "recall", "own", "--annotator", "a2", "--to", "a1,a4", "-o", "again.csv")
    assert "taken back: a2 4" in result and "as export 2" in result
    sent = [(name, i) for name in ("a1", "a2", "a3") for i in ids_of(dealt.folder / f"list-{name}.csv")]
    sent += [(path.stem[-2:], i) for path in dealt.folder.glob("again-*.csv") for i in ids_of(path)]
    assert len(sent) == len(set(sent)) and {name for name, _ in sent[15:]} == {"a1", "a4"}
    assert "nothing to take back" in said(dealt, "annotations", "recall", "own", "--annotator", "a2")
    # the first person sends the answers after all: they are accepted, and nobody has to answer these prompts a third time
    late = bring(dealt, answer(dealt.folder / "list-a2.csv", "two"))
    assert "imported 5 answers" in late[0]
    people = {one.name: one for one in recalling.people(recalling.read(store))}
    assert (people["a2"].answered_n, people["a2"].recalled_n, people["a4"].outstanding_n) == (5, 4, 0)
    assert len(all_annotations(store)) > len(newest_annotations(store))


def test_a_recall_that_nobody_can_take_is_a_sentence_and_changes_nothing(own: Home, store: Store) -> None:
    said(own, *EXPORT, "--budget", "12", "--annotators", "a1,a2", "--overlap", "1", "-o", "list.csv")
    result = said(own, "annotations", "recall", "own", "--annotator", "a2", code=2)
    assert "nobody is left to answer the 12 outstanding prompts (a1)" in result and "--to" in result
    assert len(ledger.entries(store)) == 1
    # of two copies only one can go to somebody new: the other stays with one of the two
    both = said(own, "annotations", "recall", "own", "--older-than", "0d", "--to", "a3", "-o", "more.csv")
    assert "dealt out: a3 12" in both and "not taken back: 12 answer(s)" in both
    state = recalling.read(store)
    assert all(len(people) == 2 and "a3" in people for people in state.active.values())


def test_who_answered_is_read_given_or_known_by_the_file(dealt: Home, store: Store) -> None:
    def who() -> set[str | None]:
        return set(newest_annotations(store)["annotator"].to_pylist())

    bare = answer(dealt.folder / "list-a3.csv", "three", columns=("prompt_id",))
    assert "annotator: a3, because only this person" in " ".join(bring(dealt, bare))
    assert who() == {"a3"}
    assert "imported before" in bring(dealt, bare)[0]
    # two lists in one file: rows that differ for one prompt are an overlap
    merged = dealt.folder / "merged.csv"
    parts = [answer(dealt.folder / f"list-{name}.csv", name).read_text() for name in ("a1", "a2")]
    merged.write_text(parts[0] + parts[1].split("\n", 1)[1])
    result = " ".join(bring(dealt, merged))
    assert "imported 10 answers" in result and "differing: annotators gave different answers" in result
    assert who() <= {"a1", "a2", "a3"} and len(all_annotations(store)) == 15
    assert "imported before" in bring(dealt, bare)[0]  # a3's answers are still a3's newest
    merged.write_text(f"prompt_id,response,annotator\n{ids_of(dealt.folder / 'list-a1.csv')[0]},x,a1\n" * 2)
    contradiction = merged.read_text().replace(",x,", ",y,", 1).replace("prompt_id,response,annotator\n", "", 2)
    merged.write_text("prompt_id,response,annotator\n" + contradiction)
    assert "has another answer in row" in said(dealt, "annotations", "import", "own", str(merged), code=2)


def test_the_number_that_label_studio_gives_a_user_is_replaced_by_the_name(dealt: Home, store: Store) -> None:
    ids = ids_of(dealt.folder / "list-a2.csv")
    item = {
        "result": [{"from_name": "response", "value": {"text": ["yes"]}}],
        "updated_at": "2026-01-01T00:00:00Z",
        "id": 1,
    }
    path = dealt.folder / "project.json"
    tasks = [{"data": {"prompt_id": i}, "annotations": [{**item, "completed_by": 1}]} for i in ids]
    path.write_text(json.dumps(tasks))
    assert "annotator: a2" in " ".join(bring(dealt, path))
    tasks[0]["annotations"][0]["completed_by"] = 2  # type: ignore[index]
    path.write_text(json.dumps(tasks))
    bring(dealt, path, "x")
    assert set(newest_annotations(store)["annotator"].to_pylist()) == {"1", "2"}  # two users: no name is guessed


def test_what_an_interruption_left_of_several_files_is_finished(dealt: Home) -> None:
    paths = sorted(dealt.folder.glob("list-a?.csv"))
    for path in paths[1:]:
        path.rename(delivery.part_of(path))
    result = said(dealt, *EXPORT, "--budget", "12", "--annotators", "a1")
    assert result.count("an interrupted export was completed") == 2 and all(path.exists() for path in paths)


def test_prompts_are_outstanding_by_age(dealt: Home, store: Store) -> None:
    (entry,) = ledger.entries(store)
    state = recalling.assignments([entry], {})
    assert len(state.outstanding()) == 15 and state.outstanding()[0][2] == entry.time
    assert datetime.now(UTC) - entry.time < timedelta(hours=1)


def killed(home: Path, work: Path, *arguments: str) -> list[tuple[Path, Path]]:
    """Run the driver; return the folder after each kill, and after the command was run once more."""
    driver = Path(__file__).with_name("kill_at_every_step.py")
    ran = subprocess.run(
        [sys.executable, str(driver), str(home), str(work), *arguments],
        env={**os.environ, "PYTHONPATH": str(driver.parents[2])}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr + ran.stdout
    steps = sorted((path for path in work.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    assert len(steps) > 5
    return [(path.with_name(f"{path.name}-killed"), path) for path in steps]


def notes_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("results/own/exports/*.json"))]


def check_files(after_kill: Path, after_rerun: Path, entry_n: int) -> None:
    """Check that after a kill no file exists without an entry, and no entry without files that can be completed."""
    noted = notes_of(after_kill)[entry_n:]
    present = {path.name for path in (after_kill / "out").glob("again-a?.csv")}
    waiting = {path.name.removesuffix(".part") for path in (after_kill / "out").glob("again-a?.csv.part")}
    assert len(noted) <= 1
    if noted:
        shares = noted[0]["shares"]
        assert isinstance(shares, list) and {Path(one["file"]).name for one in shares} == present | waiting
    else:
        assert not present
    (entry,) = notes_of(after_rerun)[entry_n:]
    assert isinstance(entry["shares"], list)
    for one in entry["shares"]:
        assert ids_of(after_rerun / "out" / Path(one["file"]).name) == one["prompt_ids"]
    assert not list((after_rerun / "out").glob("*.part"))


@pytest.mark.full
def test_a_kill_at_each_step_of_an_export_to_three_leaves_all_files_or_none(lists: Home, tmp_path: Path) -> None:
    options = ("--budget", "12", "--annotators", "a1,a2,a3", "--overlap", "0.5", "-o", "out/again.csv")
    for after_kill, after_rerun in killed(lists.folder, tmp_path, *EXPORT, *options):
        check_files(after_kill, after_rerun, 0)


@pytest.mark.full
def test_a_kill_at_each_step_of_a_recall_takes_back_and_deals_out_or_neither(dealt: Home, tmp_path: Path) -> None:
    recall = ("annotations", "recall", "own", "--annotator", "a2", "--to", "a4,a5", "-o", "out/again.csv")
    for after_kill, after_rerun in killed(dealt.folder, tmp_path / "work", *recall):
        check_files(after_kill, after_rerun, 1)


@pytest.mark.full
def test_a_kill_at_each_step_of_an_import_stores_the_whole_file_or_nothing(dealt: Home, tmp_path: Path) -> None:
    back = answer(dealt.folder / "list-a1.csv", "one")
    back.rename(dealt.folder / "results/back.csv")
    for after_kill, after_rerun in killed(
        dealt.folder, tmp_path / "work", "annotations", "import", "own", "results/back.csv"
    ):
        stored = [list((folder / "results/own/annotations").glob("*.parquet")) for folder in (after_kill, after_rerun)]
        assert len(stored[0]) <= 1 and len(stored[1]) == 1
        assert Store("own", str(after_rerun / "results")).names("annotations") == [stored[1][0].name]
