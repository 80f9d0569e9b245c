"""A model answers a share of the prompts: which replies are answers, what they cost, kills, and the mix with people's answers."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import data_contracts
from taskdiv_assets import cli
from taskdiv_assets.annotating import model_answers
from taskdiv_assets.annotating.answer_files import Answer
from taskdiv_assets.annotating.importing import imports, store_answers
from taskdiv_assets.annotating.model_answers import Asked, all_replies, ask_annotator, is_in_share
from taskdiv_assets.annotating.replies import ModelReply
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.chat.crew import ClientOptions
from taskdiv_assets.chat.endpoint import ANNOTATOR, BODY_BYTES_MAX, Endpoint
from taskdiv_assets.commands import model_messages
from taskdiv_assets.commands.checking import check_stored
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.experiment.annotation_settings import Annotator
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.known_answers import counting_annotations, held_out_items, known_answers, newest_annotations
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.orchestration.code_location import load_with_executor
from taskdiv_assets.pools import held_items
from taskdiv_assets.storage.store import Store
from tests.alpaca.chat_server import Act, ChatServer, completion, error, serving
from tests.graph import make_unit
from tests.home import Home

pytestmark = pytest.mark.xdist_group("annotating")
KEY = "sk-test-annotator-secret"
QUICK = ClientOptions(timeout_s=5, retries_n=1, backoff_s=0.01)
PRICES = "price_per_million_input_tokens: 150, price_per_million_output_tokens: 600.5"
CELLS = [Cell(12, "task_diversity")]
Script = Callable[[int, dict[str, Any]], Act]


def with_annotator(home: Home, settings: str) -> Experiment:
    """Store the experiment `own` with a model that answers."""
    path = home.folder / "results/own/experiment.yaml"
    text = re.sub(r"price: 0\.5.*\}", f"price: 0.5, currency: EUR, {settings}}}", path.read_text(), count=1)
    path.write_text(text)
    return experiment_file.parse(*experiment_file.read_text(str(path)))


def annotator(**more: object) -> str:
    settings = {"model": "m-1", "share": 1.0, "calls": 100, "parallel": 1, **more}
    return f"annotator: {json.dumps(settings)}"


@contextmanager
def endpoint(monkeypatch: pytest.MonkeyPatch, script: Script) -> Iterator[ChatServer]:
    with serving(script) as server:
        monkeypatch.setenv("TASKDIV_ANNOTATOR_URL", server.url)
        monkeypatch.setenv("TASKDIV_ANNOTATOR_KEY", KEY)
        yield server


def ask(experiment: Experiment, store: Store, options: ClientOptions = QUICK) -> Asked:
    return ask_annotator(REGISTRY.look(experiment, store), CELLS, options=options)


def say(text: str) -> Script:
    return lambda number, body: completion(f"{text} {body['messages'][1]['content']}")


def test_each_answer_is_stored_with_its_source_and_priced_to_the_cent(
    own: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = with_annotator(
        own, annotator(price_per_million_input_tokens=150, price_per_million_output_tokens=600.5)
    )
    with endpoint(monkeypatch, say("Answer to")) as server:
        result = ask(experiment, store)
    assert (result.share_n, result.answers_n, result.open_n, result.calls_left_n) == (12, 12, 0, 88)
    # The server counts 9 + 1 tokens a call: 12 * (9 * 150 + 1 * 600.5) / 1e6, computed by hand.
    assert str(result.bill.cost) == "0.023406"
    rows = newest_annotations(store).to_pylist()
    assert {(row["source"], row["model"], row["annotator"]) for row in rows} == {("model", "m-1", "m-1")}
    assert {(row["input_tokens"], row["output_tokens"]) for row in rows} == {(9, 1)}
    prompts = dict(
        zip(*(store.read_table("raw_pool").table[name].to_pylist() for name in ("prompt_id", "prompt")), strict=True)
    )
    assert {row["prompt_id"]: row["response"] for row in rows} == {
        one: f"Answer to {text}".replace("\r\n", "\n").strip() for one, text in prompts.items()
    }
    assert all(body["messages"][0] == {"role": "system", "content": "Two sentences, please."} for body in server.bodies)
    stored = b"".join(path.read_bytes() for path in (own.folder / "results").rglob("*") if path.is_file())
    assert KEY.encode() not in stored and server.url.encode() not in stored


TROUBLES: dict[str, tuple[Act, str, bool]] = {  # what the server does, the kind of the reply, and whether it is paid
    "time-out": (Act(b"{}", wait_s=1.2), "failed", False),
    "429": (error(429, "slow down"), "failed", False),
    "malformed JSON": (Act(b'{"choices": [{"mess'), "failed", False),
    "refusal field": (completion(None, refusal="Against the rules."), "refused", True),
    "refusal in words": (completion("I'm sorry, but I can't help with that."), "refused", True),
    "content filter": (completion("half", finish_reason="content_filter"), "refused", True),
    "empty": (completion(" \u200b\n"), "empty", True),
    "cut": (completion("And then", finish_reason="length"), "cut", True),
    "oversize answer": (completion("x" * 60_000), "too long", True),
    "oversize body": (Act(b" " * (BODY_BYTES_MAX + 1)), "failed", False),
    "U+0000": (completion("a\0b"), "not text", True),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_what_is_no_answer_is_listed_and_not_stored_as_one(
    name: str, own: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    act, kind, is_paid = TROUBLES[name]
    experiment = with_annotator(own, annotator(price=0.125))
    options = QUICK._replace(timeout_s=0.3) if name == "time-out" else QUICK
    with endpoint(monkeypatch, lambda number, body: act if number < 2 else completion("Yes.")) as server:
        result = ask(experiment, store, options)
        bad = [reply for reply in result.replies if reply.kind != "answered"]
        is_repeated = kind == "failed" and name != "oversize body"
        assert [reply.kind for reply in bad] == [kind] * (1 if is_repeated else 2)
        assert result.answers_n == 12 - len(bad) == len(newest_annotations(store))
        assert result.bill.replies_n == 12 - (0 if is_paid else len(bad))
        called_n = len(server.bodies)
        assert result.calls_left_n == 100 - called_n
        again = ask(experiment, store)
        assert (len(server.bodies) - called_n, len(again.replies)) == ((0, 0) if is_paid else (len(bad),) * 2)
    assert len(newest_annotations(store)) == 12 - (len(bad) if is_paid else 0)


def test_trouble_that_passes_is_repeated(own: Home, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = with_annotator(own, annotator())
    with endpoint(monkeypatch, lambda number, body: error(429, "wait") if number % 2 == 0 else completion("Yes.")):
        result = ask(experiment, store)
    assert (result.answers_n, result.calls_left_n) == (12, 76)


def test_calls_are_a_hard_limit_over_all_runs(own: Home, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = with_annotator(own, annotator(calls=7, parallel=4))
    with endpoint(
        monkeypatch, lambda number, body: error(500, "busy") if number == 1 else completion("Yes.")
    ) as server:
        first = ask(experiment, store)
        assert (len(server.bodies), first.answers_n, first.open_n, first.calls_left_n) == (7, 6, 6, 0)
        again = ask(experiment, store)
        assert (len(server.bodies), again.replies, again.open_n) == (7, [], 6)


def test_ten_failures_in_a_row_end_it_and_the_key_is_not_shown(
    own: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = with_annotator(own, annotator())
    with endpoint(monkeypatch, lambda number, body: error(500, f"no {KEY}")), pytest.raises(ValueError) as caught:
        ask(experiment, store)
    assert "10 questions in a row" in str(caught.value) and KEY not in str(caught.value)
    with endpoint(monkeypatch, lambda number, body: error(401, KEY)), pytest.raises(ValueError) as caught:
        ask(experiment, store)
    assert "TASKDIV_ANNOTATOR_KEY" in str(caught.value) and KEY not in str(caught.value)


def test_a_person_always_replaces_the_model(
    own: Home, store: Store, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = with_annotator(own, annotator())

    def script(number: int, body: dict[str, Any]) -> Act:
        if number == 0:  # a person's answer comes while the model is asked
            store_answers(store, [Answer(1, ids[0], "by a person", "ann", None)], None)
        return say("model:")(number, body)

    with endpoint(monkeypatch, script):
        assert ask(experiment, store).answers_n == 12
    answers = known_answers(store)
    assert answers[ids[0]] == "by a person"  # though it is older
    store_answers(store, [Answer(1, ids[1], "also by a person", "ann", None)], None)
    assert known_answers(store)[ids[1]] == "also by a person"
    counting = {row["prompt_id"]: row["source"] for row in newest_annotations(store).to_pylist()}
    assert [counting[one] for one in ids[:3]] == ["human", "human", "model"]
    assert [one.answers_n for one in imports(store)] == [1, 12, 1]
    assert [one.replaced_n for one in imports(store)] == [0, 2, 0]


def test_prompts_that_people_have_are_not_asked_and_a_share_is_stable(
    own: Home, store: Store, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = (Annotator(model="m", calls=1, share=share) for share in (0.3, 0.6))
    many = [f"{n:016x}" for n in range(3_000)]
    chosen = {
        name: {one for one in many if is_in_share(one, settings)} for name, settings in {"s": small, "l": large}.items()
    }
    assert chosen["s"] < chosen["l"]
    assert abs(len(chosen["s"]) / 3_000 - 0.3) < 0.04  # four standard errors
    experiment = with_annotator(own, annotator())
    runner = CliRunner()
    sent = runner.invoke(
        cli.app, ["annotations", "export", "own", "--budget", "6", "--strategy", "task_diversity", "-o", "a.csv"]
    )
    assert sent.exit_code == 0, sent.output
    with endpoint(monkeypatch, say("")):
        result = ask(experiment, store)
    assert (result.share_n, result.out_n, result.answers_n) == (12, 6, 6)


def test_the_contract_refuses_a_model_that_the_file_does_not_name(
    own: Home, store: Store, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared, unit = with_annotator(own, annotator(price=0.125)), Unit("annotations")
    before = REGISTRY.look(declared, store).expect(unit).identity
    assert before == REGISTRY.look(experiment, store).expect(unit).identity  # no model answered yet
    with endpoint(monkeypatch, say("")):
        result = ask(declared, store)
    said = model_messages.asked(declared, Annotator(model="m-1", share=1, calls=100), result)
    assert said[0].endswith("12 answers stored")
    assert said[1] == "12 calls, 12 answered; 108 + 12 tokens, 1.50 EUR"
    make_unit(declared, store, unit)
    table = store.read_table("annotations").table
    for one, failed in ((declared, []), (experiment, ["source_declared"])):
        lineage = REGISTRY.look(one, store)
        assert lineage.state(unit).status == ("stale" if failed else "fresh")
        parameters = REGISTRY["annotations"].parameters
        assert parameters is not None
        of_file = parameters(Work(one, store, lineage, unit, lineage.expect(unit), str))
        result_of = data_contracts.validate(data_contracts.load("annotations"), table, of_file)
        assert [rule.rule for rule in result_of.failed if rule.severity == "error"] == failed


@pytest.mark.full
def test_the_command_stores_and_lists_what_a_model_answered(
    own: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = with_annotator(own, annotator(price=0.125))
    load_with_executor.cache_clear()  # another test may have run an experiment of this name in this process
    with endpoint(monkeypatch, say("")):
        done = CliRunner().invoke(
            cli.app, ["annotations", "ask", "own", "--budget", "12", "--strategy", "task_diversity"]
        )
    assert done.exit_code == 0, done.output
    assert "12 calls, 12 answered; 108 + 12 tokens, 1.50 EUR" in done.output
    [checked] = [one for one in check_stored(experiment, store) if one.unit.asset == "annotations"]
    assert (checked.failed, checked.out_of_date) == ((), "")
    listed = CliRunner().invoke(cli.app, ["annotations", "list", "own"])
    assert "model m-1: 12 calls, 12 answered; 108 + 12 tokens, 1.50 EUR" in listed.output


ASK_AND_DIE = """
import sys
from taskdiv_assets import cli
sys.argv = ["taskdiv", "annotations", "ask", "own", "--budget", "12", "--strategy", "task_diversity"]
cli.main()
"""


@pytest.mark.full
def test_a_killed_run_pays_nothing_twice(own: Home, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = with_annotator(own, annotator(parallel=2))
    is_slow = threading.Event()

    def script(number: int, body: dict[str, Any]) -> Act:
        if number >= 5 and not is_slow.is_set():
            time.sleep(20)  # the kill comes while these calls are open
        return say("")(number, body)

    with endpoint(monkeypatch, script) as server:
        process = subprocess.Popen([sys.executable, "-c", ASK_AND_DIE], cwd=own.folder)
        folder = own.folder / "results/own" / model_answers.FOLDER
        until = time.monotonic() + 60
        while len([*folder.glob("*.parquet")]) < 5 or len(server.bodies) < 7:
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        is_slow.set()
        result = ask(experiment, store)
    prompts = [body["messages"][1]["content"] for body in server.bodies]
    assert len(prompts) == 14 and len(set(prompts)) == 12  # only the two open calls were made again
    assert len(result.replies) == 7 and result.answers_n == 12
    assert len(newest_annotations(store)) == 12


def test_a_kill_while_replies_are_moved_loses_and_repeats_nothing(
    own: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = with_annotator(own, annotator())
    folder = own.folder / "results/own" / model_answers.FOLDER
    with endpoint(monkeypatch, say("")) as server, monkeypatch.context() as patch:
        patch.setattr(model_answers.Parts, "remove", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ask(experiment, store)
        assert len([*folder.glob("*.parquet")]) == 12
        patch.undo()
        assert ask(experiment, store).answers_n == 0
        assert len(server.bodies) == 12
    files = [*(own.folder / "results/own/annotations").glob("*.parquet")]
    assert sum(pq.read_metadata(path).num_rows for path in files) == 12
    assert not [*folder.glob("*.parquet")]
    assert sum(reply.calls_n for reply in all_replies(store)) == 12


def test_an_import_of_an_earlier_version_is_of_a_person(own: Home, store: Store, ids: list[str]) -> None:
    stored = store_answers(store, [Answer(1, ids[0], "yes", "ann", None)], None)
    path = own.folder / f"results/own/annotations/{stored.batch}.parquet"
    old = pq.read_table(path).select(["prompt_id", "response", "annotator", "imported_at", "batch", "row"])
    pq.write_table(old, path)
    [row] = newest_annotations(store).to_pylist()
    assert (row["source"], row["model"], row["response"]) == ("human", None, "yes")


def test_a_reason_is_one_line_and_replies_without_an_answer_have_a_time(
    own: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with endpoint(monkeypatch, lambda number, body: completion(None, refusal="No.\n12 answers stored")):
        result = ask(with_annotator(own, annotator()), store)
    assert {reply.detail for reply in result.replies} == {"No. 12 answers stored"}
    [found] = imports(store)
    assert found.answers_n == 0 and found.imported_at is not None


@pytest.mark.parametrize("url", ["http://host:port/v1", "http://[::1", "file:///v1", "https://host:99999"])
def test_a_malformed_address_is_named(url: str) -> None:
    with pytest.raises(ValueError, match="set \\$TASKDIV_ANNOTATOR_URL"):
        Endpoint("m", url=url, key="", timeout_s=1, max_tokens=1, service=ANNOTATOR)


def test_an_answer_of_a_model_is_no_answer_to_a_held_out_item(
    own: Home, store: Store, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with endpoint(monkeypatch, say("")):
        ask(with_annotator(own, annotator()), store)
    store_answers(store, [Answer(1, ids[0], "a person's", "ann", None)], None)
    fields = [{"prompt_id": one, "task": "t", "prompt": "p"} for one in ids[:2]]  # as if they had become items
    monkeypatch.setattr(held_items, "read", lambda store: pa.Table.from_pylist(fields, schema=held_items.SCHEMA))
    assert held_out_items(store)["response"].to_pylist() == ["a person's", None]
    chosen = {row["prompt_id"]: row["source"] for row in counting_annotations(store, "m-1").to_pylist()}
    assert chosen[ids[0]] == "human"  # a model is no adjudicator


def test_mistakes_in_the_file_are_named() -> None:
    for settings, words in {
        "annotator: {model: m, calls: 5, share: 0}": "share: expected more than 0",
        "annotator: {model: m, calls: 5}": "add `share",
        "annotator: {model: m, calls: 5, share: 1, price: 1, price_per_million_input_tokens: 1}": "either `price`",
        "drafts: {model: m, calls: 5, price_per_million_input_tokens: 1}": "together",
    }.items():
        text = f"name: a\npool: {{reader: lab}}\nstrategies: [random]\nbudgets: [4]\nannotation: {{{settings}}}\n"
        with pytest.raises(ValueError, match=words):
            experiment_file.parse(text, "a.yaml")


def test_replies_are_bounded() -> None:
    assert ModelReply._fields == tuple(model_answers.SCHEMA.names)
