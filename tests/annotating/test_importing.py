"""Imports of answers: rejected and reported rows, stored answers, the answer that counts, and the annotator of each answer."""

from __future__ import annotations

import csv
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import data_contracts
from taskdiv_assets import cli
from taskdiv_assets.annotating import importing
from taskdiv_assets.annotating.answer_files import Answer, read_answers
from taskdiv_assets.annotating.exporting import Target, export
from taskdiv_assets.annotating.importing import Import, import_answers, store_answers
from taskdiv_assets.annotating.judging import judge
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands import annotation_commands
from taskdiv_assets.commands.checking import check_stored
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.known_answers import in_contract_columns, known_answers, newest_annotations
from taskdiv_assets.storage.store import Store
from tests.annotating.conftest import imports
from tests.home import Home

pytestmark = pytest.mark.xdist_group("annotating")


def bring(experiment: Experiment, store: Store, *rows: dict[str, str], is_accepting_valid: bool = False) -> Import:
    Path("answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_answers(Path("answers.jsonl"))
    return import_answers(REGISTRY.look(experiment, store), found, None, is_accepting_valid=is_accepting_valid)


def row(prompt_id: str, response: str, **more: str) -> dict[str, str]:
    return {"prompt_id": prompt_id, "response": response, **more}


def report() -> list[list[str]]:
    with Path("answers.jsonl.problems.csv").open(newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))


def test_nothing_is_stored_unless_all_is_well(experiment: Experiment, store: Store, own: Home, ids: list[str]) -> None:
    rows = [
        row(ids[0], "fine"),
        row("=cmd|' /C calc'!A0", "hostile"),
        row("6.70318E+15", "a number"),
        row("0" * 99, "an id of no list"),
        row(ids[1], "one"),
        row(ids[1], "one"),
        row(ids[1], "another"),
        row(ids[2], " \n"),
    ]
    with pytest.raises(ValueError, match="nothing was imported; 6 row") as refused:
        bring(experiment, store, *rows)
    assert "answers.jsonl.problems.csv" in str(refused.value)
    assert "--accept-valid to store the other 1" in str(refused.value)
    assert not imports(own)
    header, *found = report()
    assert header == ["row", "prompt_id", "reason"]
    assert [line[0] for line in found] == ["2", "3", "4", "5", "6", "7"]  # row 8 is not answered yet
    assert found[0][1] == "'=cmd|' /C calc'!A0"  # no formula when the report is opened
    assert "a spreadsheet program may have made it a number" in found[1][2]
    assert found[2][1] == "0" * 60 + "…"
    assert [line[2] for line in found[3:6]] == [f"{ids[1]} has another answer in row {number}" for number in (7, 7, 5)]

    mended = bring(experiment, store, row(ids[0], "fine"))
    assert mended.is_new and not Path("answers.jsonl.problems.csv").exists()


def test_valid_rows_are_stored_when_asked_and_the_report_is_written_all_the_same(
    experiment: Experiment, store: Store, own: Home, ids: list[str]
) -> None:
    rows = [row(ids[0], "fine", annotator="anna"), row("0" * 16, "x"), row(ids[1], "")]
    result = bring(experiment, store, *rows, is_accepting_valid=True)
    assert (result.answers_n, result.prompts_n, [problem.row for problem in result.left_out]) == (1, 1, [2])
    assert [line[0] for line in report()] == ["row", "2"]
    ((stored,),) = imports(own)
    assert (stored["prompt_id"], stored["response"], stored["annotator"], stored["row"]) == (ids[0], "fine", "anna", 0)


def test_nothing_valid_is_refused_even_when_the_rest_would_do(
    experiment: Experiment, store: Store, ids: list[str]
) -> None:
    with pytest.raises(ValueError, match="nothing was imported"):
        bring(experiment, store, row(ids[0], ""), is_accepting_valid=True)


def test_the_ids_of_rows_without_an_answer_are_checked_too(
    experiment: Experiment, store: Store, ids: list[str]
) -> None:
    with pytest.raises(ValueError, match="nothing was imported; 1 row"):
        bring(experiment, store, row(ids[0], "fine"), row(ids[1], ""), row("f" * 16, ""))
    assert [line[:2] for line in report()[1:]] == [["3", "f" * 16]]


def test_a_strangers_file_of_the_reports_name_stays(experiment: Experiment, store: Store, ids: list[str]) -> None:
    Path("answers.jsonl.problems.csv").write_text("mine")
    bring(experiment, store, row(ids[0], "fine"))
    assert Path("answers.jsonl.problems.csv").read_text() == "mine"


def test_the_same_file_is_stored_once_until_others_came_between(
    experiment: Experiment, store: Store, own: Home, ids: list[str]
) -> None:
    assert bring(experiment, store, row(ids[0], "first")).is_new
    assert not bring(experiment, store, row(ids[0], "first")).is_new
    assert bring(experiment, store, row(ids[0], "second")).is_new
    assert known_answers(store)[ids[0]] == "second"
    assert bring(experiment, store, row(ids[0], "first")).is_new
    assert known_answers(store)[ids[0]] == "first"
    assert [[entry["response"] for entry in rows] for rows in imports(own)] == [["first"], ["second"], ["first"]]


def test_a_blank_answer_in_a_stored_file_never_counts(store: Store, ids: list[str]) -> None:
    store_answers(store, [Answer(1, ids[0], "valid", None, None)], "anna")
    blank = {"prompt_id": [ids[0], ids[1]], "response": [" \t", ""], "annotator": [None, None],
             "imported_at": [datetime.now(UTC)] * 2, "batch": ["f" * 64] * 2, "row": [0, 1]}  # fmt: skip
    path = Path(store.path("annotations", f"{'f' * 64}.parquet"))
    pq.write_table(in_contract_columns(pa.table(blank), data_contracts.load("annotations").arrow_schema), path)
    assert [(entry["response"], entry["annotator"]) for entry in newest_annotations(store).to_pylist()] == [
        ("valid", "anna")
    ]


def test_the_last_import_counts_even_where_the_clock_was_put_back(store: Store, ids: list[str]) -> None:
    future = datetime(2099, 1, 1, tzinfo=UTC)
    late = {"prompt_id": ids[:1], "response": ["late"], "annotator": [None], "imported_at": [future],
            "batch": ["f" * 64], "row": [0]}  # fmt: skip
    path = Path(store.path("annotations", f"{'f' * 64}.parquet"))
    path.parent.mkdir(exist_ok=True)
    pq.write_table(in_contract_columns(pa.table(late), data_contracts.load("annotations").arrow_schema), path)
    store_answers(store, [Answer(1, ids[0], "last", None, None)], None)
    assert known_answers(store)[ids[0]] == "last"


def test_what_an_import_is_given(store: Store) -> None:
    assert annotation_commands._given(["answers.csv"]) == (None, Path("answers.csv"))
    assert annotation_commands._given(["own", "answers.csv"]) == ("own", Path("answers.csv"))
    for name in ("own", "own.yaml"):
        with pytest.raises(ValueError, match=f"FILE is missing: `taskdiv annotations import {name} FILE`"):
            annotation_commands._given([name])
    Path("answers").write_text("")
    assert annotation_commands._given(["answers"]) == (None, Path("answers"))
    with pytest.raises(ValueError, match="found 3 names; import the files one by one"):
        annotation_commands._given(["own", "a.csv", "b.csv"])


def test_answers_with_times_are_all_kept_and_the_latest_counts() -> None:
    def at(second: int) -> datetime:
        return datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC)

    answers = [
        Answer(1, "a", "late", None, at(9)),
        Answer(2, "b", "b", None, at(5)),
        Answer(3, "a", "early", None, at(1)),
    ]
    valid, problems = judge(answers, {"a", "b"})
    assert [answer.response for answer in valid] == ["early", "b", "late"] and not problems
    _, problems = judge([answers[0], answers[2]._replace(answered_at=None)], {"a"})
    assert len(problems) == 2  # one without a time: nobody can say which counts


@pytest.mark.full
def test_a_hundred_thousand_answers_take_seconds(tmp_path: Path) -> None:
    ids = [f"{number:016x}" for number in range(100_000)]
    with (tmp_path / "many.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt_id", "prompt", "response"])
        writer.writerows(
            [prompt_id, "a prompt of some length", f"answer {prompt_id}, in\ntwo lines"] for prompt_id in ids
        )
    started = time.process_time()
    found = read_answers(tmp_path / "many.csv")
    valid, problems = judge(found.answers, set(ids))
    store = Store("many", str(tmp_path))
    assert store_answers(store, valid, None).answers_n == 100_000 and not problems
    assert newest_annotations(store).num_rows == 100_000
    assert time.process_time() - started < 20  # 2 s on the machine it was written on


def test_the_experiment_is_found_by_what_was_sent_out(own: Home, ids: list[str]) -> None:
    export = ("annotations", "export", "own", "--budget", "12", "--strategy", "task_diversity", "-o", "list.csv")
    Path("answers.csv").write_text(f"prompt_id,response\n{ids[0]},an answer\nunknown,another\n")
    nobody = own.say("annotations", "import", "answers.csv")
    assert nobody.returncode == 2 and "no experiment sent these prompts" in nobody.stderr
    assert "taskdiv annotations import EXPERIMENT FILE" in nobody.stderr
    assert own.say(*export, "--format", "csv").returncode == 0
    other = own.folder / "results/other/exports"
    other.mkdir(parents=True)
    (other / "20260101T000000.000000Z-0.json").write_text(
        json.dumps(
            {"cell": "1|random", "selection_seed": 0, "exported_at": "20260101T000000.000000Z", "prompt_ids": ids[:2]}
        )
    )
    with pytest.raises(ValueError, match="other, own all sent some of these prompts"):
        importing.find_experiment(read_answers(Path("answers.csv")))
    for path in other.iterdir():
        path.unlink()
    refused = own.say("annotations", "import", "answers.csv")
    assert refused.returncode == 2 and "row 3: prompt_id 'unknown' is not in the pool" in refused.stderr
    accepted = own.say("annotations", "import", "answers.csv", "--accept-valid", "--annotator", "anna")
    assert accepted.returncode == 0, accepted.stderr
    assert "imported 1 answers to 1 prompts of own" in accepted.stdout
    assert "left out: 1 row(s) that cannot be used, see answers.csv.problems.csv" in accepted.stdout
    table = pq.read_table(own.folder / "results/own/tables/annotations.parquet").to_pylist()
    assert [(entry["prompt_id"], entry["annotator"]) for entry in table] == [(ids[0], "anna")]
    listed = own.say("annotations", "list", "own").stdout
    assert "12 prompts of own were sent out, 1 of them are answered" in listed


def test_a_healthy_campaign_whose_answers_came_in_is_out_of_date_and_not_broken(
    experiment: Experiment, store: Store, own: Home
) -> None:
    """The batches were made before the answers: their rules about answered prompts mean nothing now."""
    export(
        REGISTRY.look(experiment, store), Cell(6, "task_diversity"), None, Target(own.folder / "list.jsonl", "jsonl")
    )
    rows = [json.loads(line) for line in (own.folder / "list.jsonl").read_text().splitlines()]
    answers = own.folder / "answers.jsonl"
    answers.write_text("".join(json.dumps({"prompt_id": row["prompt_id"], "response": "yes"}) + "\n" for row in rows))
    import_answers(REGISTRY.look(experiment, store), read_answers(answers), None)
    checked = {str(entry.unit): entry for entry in check_stored(experiment, store)}
    assert not [rule for entry in checked.values() for rule in entry.failed if rule.severity == "error"]
    old = {name for name, entry in checked.items() if entry.out_of_date}
    assert {"annotations", "annotation_batch/6|task_diversity", "annotation_batch/12|task_diversity"} <= old
    assert "raw_pool" not in old and "allocation/6|task_diversity" not in old
    result = CliRunner().invoke(cli.app, ["contracts", "check", "own"])
    assert result.exit_code == 0, result.output
    assert "out of date annotation_batch/6|task_diversity" in result.output and "broken annot" not in result.output
    batch = Path(store.path("tables", "annotation_batch", "task_diversity", "6.parquet"))
    table = pq.read_table(batch)
    pq.write_table(
        table.take([0, 0, 1, 2, 3, 4, 5]).replace_schema_metadata(table.schema.metadata), batch
    )  # edited since
    edited = CliRunner().invoke(cli.app, ["contracts", "check", "own"])
    assert edited.exit_code == 1 and "broken annotation_batch/6|task_diversity" in edited.output
