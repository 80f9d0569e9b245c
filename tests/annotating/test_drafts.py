"""Drafts go out with the prompts, are paid once, and are counted if they come back as they were."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from taskdiv_assets import cli
from taskdiv_assets.annotating import drafts
from taskdiv_assets.annotating.answer_files import Answer, read_answers
from taskdiv_assets.annotating.drafts import Anchoring, anchoring, tasks_of
from taskdiv_assets.annotating.exporting import Target, export, rewrite
from taskdiv_assets.annotating.importing import import_answers, store_answers
from taskdiv_assets.annotating.label_studio import RESPONSE
from taskdiv_assets.annotating.ledger import entries
from taskdiv_assets.annotating.replies import SCHEMA, read_parts
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.known_answers import newest_annotations
from taskdiv_assets.services import base_drafts
from taskdiv_assets.storage.store import Store
from tests.alpaca.chat_server import completion, error
from tests.annotating.test_model_answers import QUICK, endpoint, say, with_annotator
from tests.home import MINIATURE, Home

pytestmark = pytest.mark.xdist_group("annotating")
CELLS = [Cell(12, "task_diversity")]
MODEL = "drafts: {model: d-1, calls: 20, parallel: 1, price: 0.02}"
EXPORT = ["annotations", "export", "own", "--budget", "12", "--strategy", "task_diversity", "--drafts", "endpoint"]


def test_drafts_are_beside_an_empty_response_and_a_rewritten_list_is_equal(
    own: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_annotator(own, MODEL)
    with endpoint(
        monkeypatch, lambda number, body: completion(None, refusal="No.") if number == 3 else say("=1")(number, body)
    ):
        done = CliRunner().invoke(cli.app, [*EXPORT, "-o", "list.csv"])
    assert done.exit_code == 0, done.output
    assert "drafts: 11 of 12 prompts have one, written by d-1" in done.output
    assert "12 calls, 11 answered, 1 refused; 108 + 12 tokens, 0.24 EUR" in done.output
    rows = [*csv.DictReader(io.StringIO(Path("list.csv").read_text("utf-8-sig")))]
    assert [*rows[0]][-2:] == ["draft", "response"]
    assert {row["response"] for row in rows} == {""}
    texts = {row["prompt_id"]: row["draft"] for row in rows}
    assert sorted(text == "" for text in texts.values()) == [False] * 11 + [True]
    assert all(text.startswith("'=1") for text in texts.values() if text)  # else a formula
    for name in ("csv", "jsonl", "label-studio"):
        target, _ = rewrite(store, 1, Path(f"again.{name}").absolute(), name)
        target = target[0] if isinstance(target, list) else target
        if name == "csv":
            assert target.path.read_bytes() == Path("list.csv").read_bytes()
        if name == "jsonl":
            lines = [json.loads(line) for line in target.path.read_text().splitlines()]
            assert [(row["draft"] or "") != "" for row in lines] == [row["draft"] != "" for row in rows]
        if name == "label-studio":
            tasks = json.loads(target.path.read_text())
            assert [len(task.get("predictions", [])) for task in tasks] == [int(row["draft"] != "") for row in rows]
            [found] = [task["predictions"][0] for task in tasks if task["data"]["prompt_id"] == rows[0]["prompt_id"]]
            assert found["model_version"] == "d-1"
            assert found["result"][0]["value"]["text"][0] == rows[0]["draft"].removeprefix("'")
            assert (found["result"][0]["from_name"], "draft" in tasks[0]["data"]) == (RESPONSE, False)


def test_drafts_are_paid_once_and_calls_are_a_hard_limit(
    own: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = with_annotator(own, MODEL.replace("calls: 20", "calls: 7"))
    lineage = REGISTRY.look(experiment, store)
    prompts = drafts.unsent(lineage, CELLS, None)
    with endpoint(
        monkeypatch, lambda number, body: error(500, "x") if number == 0 else say("d")(number, body)
    ) as server:
        first = drafts.by_endpoint(lineage, prompts, options=QUICK)
        assert (len(server.bodies), len(first.texts), first.missing_n) == (7, 6, 6)
        again = drafts.by_endpoint(lineage, prompts, options=QUICK)
        assert (len(server.bodies), again.texts, again.replies) == (7, first.texts, [])
    assert str(first.bill.cost if first.bill else "") == "0.12"


def test_what_was_left_as_it_was_is_counted_by_annotator_and_task(
    own: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = with_annotator(own, MODEL)
    lineage = REGISTRY.look(experiment, store)
    with endpoint(monkeypatch, say("A draft of")):
        written = drafts.by_endpoint(lineage, drafts.unsent(lineage, CELLS, None), options=QUICK)
    target = Target(Path("list.jsonl").absolute(), "jsonl")
    assert export(lineage, CELLS, None, target, drafts=written).rows_n == 12
    rows = [json.loads(line) for line in target.path.read_text().splitlines()]
    for place, row in enumerate(rows):  # anna changes every second draft, bert changes all of his
        kept = place % 2 == 0
        row["annotator"] = "anna" if place < 8 else "bert"
        row["response"] = f" {row['draft']}\n" if kept and place < 8 else f"{row['draft']}, changed"
    target.path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_answers(lineage, read_answers(target.path), None)
    tasks = tasks_of(entries(store))
    found = anchoring(newest_annotations(store), tasks)
    expected: dict[tuple[str, str], list[bool]] = {}
    for place, row in enumerate(rows):
        expected.setdefault((row["annotator"], row["task"]), []).append(place < 8 and place % 2 == 0)
    assert found == [Anchoring(*who, len(kept), sum(kept)) for who, kept in sorted(expected.items())]
    listed = CliRunner().invoke(cli.app, ["annotations", "list", "own"]).output
    assert listed.count("drafts left as they were:") == len(expected)
    store_answers(store, [Answer(1, "f" * 16, "to a prompt without a draft", None, None)], None)
    assert len(anchoring(newest_annotations(store), tasks)) == len(found)


def test_a_copied_draft_loses_the_apostrophe_that_kept_it_from_being_a_formula(
    own: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage = REGISTRY.look(with_annotator(own, MODEL), store)
    with endpoint(monkeypatch, lambda number, body: completion("- one")):
        written = drafts.by_endpoint(lineage, drafts.unsent(lineage, CELLS, None), options=QUICK)
    target = Target(Path("list.csv").absolute(), "csv")
    export(lineage, CELLS, None, target, drafts=written)
    rows = [*csv.DictReader(io.StringIO(target.path.read_text("utf-8-sig")))]
    assert {row["draft"] for row in rows} == {"'- one"}
    more = [
        Answer(place, row["prompt_id"].removeprefix("'"), row["draft"] + ", two" * (place % 2), "a", None)
        for place, row in enumerate(rows)
    ]
    store_answers(store, more, None)
    found = {(row["response"], row["is_draft_kept"]) for row in newest_annotations(store).to_pylist()}
    assert found == {("- one", True), ("- one, two", False)}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--drafts", "gpt"], "expected base or endpoint"),
        (["--held-out", "--drafts", "endpoint"], "models are scored with these answers"),
        (["--budget", "12", "--strategy", "task_diversity", "--drafts", "endpoint"], "names no model for drafts"),
        (["--budget", "12", "--strategy", "task_diversity", "--drafts", "base"], "there is no such folder"),
    ],
)
def test_what_cannot_be_drafted_is_said_and_sends_nothing(more: list[str], words: str, own: Home, store: Store) -> None:
    done = CliRunner().invoke(cli.app, ["annotations", "export", "own", *more])
    assert done.exit_code != 0
    assert words in " ".join(done.output.split())
    assert not entries(store)


@pytest.mark.full
def test_base_drafts_are_the_continuations_that_confidence_measured(
    miniature: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in miniature.variables().items():
        monkeypatch.setenv(name, value)
    experiment = experiment_file.load(str(MINIATURE))
    store = Store(experiment.name)
    lineage = REGISTRY.look(experiment, store)
    pool = store.read_table("raw_pool").table.slice(0, 12)
    prompts = dict(zip(pool["prompt_id"].to_pylist(), pool["prompt"].to_pylist(), strict=True))
    keys = base_drafts.keys_of(lineage, prompts)
    base_drafts.write_base_drafts(lineage, prompts, keys, drafts.FOLDER, SCHEMA)
    replies = {reply.prompt_id: reply for reply in read_parts(store, drafts.FOLDER)}
    table = store.read_table("confidence_table").table
    measured = {
        row["prompt_id"]: row
        for row in table.filter(pc.is_in(table["prompt_id"], pool["prompt_id"].combine_chunks())).to_pylist()
    }
    assert replies.keys() == prompts.keys() == measured.keys()
    is_cut = {prompt_id: reply.kind == "cut" for prompt_id, reply in replies.items()}
    assert is_cut == {prompt_id: row["truncated"] for prompt_id, row in measured.items()}
    assert drafts.of_replies("base", keys, replies.values()).missing_n == sum(
        not reply.response for reply in replies.values()
    )
