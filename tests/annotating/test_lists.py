"""The content of lists: the user's own ids and columns, several lists in one file, and the output of the command."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from taskdiv_assets.annotating import ledger
from taskdiv_assets.annotating.exporting import Target, export, rewrite
from taskdiv_assets.annotating.formats import render
from taskdiv_assets.annotating.layout import Layout, Row, check_extras, own_id_column
from taskdiv_assets.annotating.lists import ListName, gather
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.cli import app
from taskdiv_assets.experiment.pool_settings import TaskLabels
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.pools import labels
from taskdiv_assets.storage.store import Store
from tests.annotating.conftest import TICKETS, opened
from tests.home import Home

pytestmark = pytest.mark.xdist_group("annotating")
BOTH = [Cell(4, "task_diversity"), Cell(4, "random")]
FORMATS = {"csv": "csv", "jsonl": "jsonl", "label-studio": "json"}


def said(*arguments: str) -> str:
    """Return the output of a command that must succeed."""
    result = CliRunner().invoke(app, ["annotations", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    """Return the error message of a command that must fail with code 2."""
    result = CliRunner().invoke(app, ["annotations", *arguments])
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


def rows_in(path: Path) -> list[dict[str, str]]:
    """Return the rows of a list in any format."""
    if path.suffix == ".csv":
        return list(csv.DictReader(path.read_text("utf-8-sig").splitlines(keepends=True)))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return [{**item["data"], "response": ""} for item in json.loads(path.read_text())]


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_users_own_id_comes_first_and_columns_on_request(own: Home, file_format: str) -> None:
    path = Path(f"list.{FORMATS[file_format]}")
    said("export", "tickets", "--format", file_format, "--with", "channel,ticket", "-o", str(path))
    rows = rows_in(path)
    assert list(rows[0]) == ["ticket", "prompt_id", "task", "rank", "prompt", "channel", "instructions", "response"]
    channels = {ticket: channel for ticket, _, channel, _ in TICKETS}
    assert {row["ticket"].removeprefix("'"): row["channel"] for row in rows} == {
        one: channels[one] for one in ("8", "T-2", "1e5", "00123")
    }
    kept = path.read_bytes()
    path.unlink()
    rewrite(Store("tickets"), 1, None, None)
    assert path.read_bytes() == kept  # from the ledger alone, extras and all


def test_ids_that_would_turn_into_numbers_are_kept_from_it(own: Home) -> None:
    said("export", "tickets", "-o", "list.csv")  # the format by the ending
    assert {row["ticket"] for row in rows_in(Path("list.csv"))} == {"8", "T-2", "'1e5", "'00123"}


def test_exported_tasks_have_the_users_own_ids_and_go_back_in(own: Home) -> None:
    result = CliRunner().invoke(app, ["tasks", "export", "tickets", "-o", "tasks.csv"])
    assert result.exit_code == 0, result.output
    rows = rows_in(Path("tasks.csv"))
    assert list(rows[0]) == ["ticket", "prompt_id", "task", "prompt"]
    tasks = {ticket: topic for ticket, _, _, topic in TICKETS if ticket not in ("T-3", "T-7")}  # copies of T-2
    assert {row["ticket"].removeprefix("'"): row["task"] for row in rows} == tasks
    pool, stored = (Store("tickets").read_table(name).table for name in ("raw_pool", "task_labels"))
    for key in ("prompt_id", "ticket"):
        mapping = TaskLabels.model_validate(
            {"from": "mapping", "path": "tasks.csv"} | ({"key": key} if key == "ticket" else {})
        )
        again = labels.from_mapping(pool, mapping).select(["prompt_id", "task"])
        assert sorted(map(str, again.to_pylist())) == sorted(map(str, stored.select(["prompt_id", "task"]).to_pylist()))


@pytest.mark.parametrize("file_format", FORMATS)
def test_where_nobody_named_tasks_a_list_has_none(own: Home, file_format: str) -> None:
    path = Path(f"list.{FORMATS[file_format]}")
    text = said("export", "plain", "--format", file_format, "-o", str(path))
    assert list(rows_in(path)[0]) == ["prompt_id", "rank", "prompt", "instructions", "response"]
    if file_format == "label-studio":
        view = ElementTree.fromstring(Path("list.config.xml").read_text())
        assert {str(tag.get("value")) for tag in view if tag.tag != "TextArea"} == {"$instructions", "$prompt"}
    assert "left out: the character U+0000 of 1 prompt(s)" in text
    assert any(row["prompt"] == "Refund [bold]now[/bold]\x1b[2J!" for row in rows_in(path))


def test_one_file_for_several_strategies_has_each_prompt_once_and_one_entry_that_names_both(own: Home) -> None:
    experiment, store = opened(own, "tickets")
    result = export(REGISTRY.look(experiment, store), BOTH, None, Target(own.folder / "list.jsonl", "jsonl"))
    (entry,) = ledger.entries(store)
    ids = [row["prompt_id"] for row in rows_in(Path("list.jsonl"))]
    assert len(ids) == len(set(ids)) == result.rows_n and result.lists_n == 2 and tuple(ids) == entry.prompt_ids
    for cell in BOTH:
        whole = store.read_table("allocation", cell.key).table["prompt_id"].to_pylist()
        assert ledger.listed(ledger.read(store), cell, [0]) == {(0, prompt_id) for prompt_id in whole}
        alone = export(REGISTRY.look(experiment, store), cell, None, Target(own.folder / "again.jsonl", "jsonl"))
        assert (alone.rows_n, alone.out_n) == (0, 4) and not Path("again.jsonl").exists()
    assert len(ledger.entries(store)) == 1  # nothing new to say of either list
    shown = said("list", "tickets")
    assert "4|task" in shown and "4|random" in shown and "file of export 1: list.jsonl" in shown


def test_a_prompt_of_two_lists_goes_out_at_its_smallest_rank(own: Home) -> None:
    _, store = opened(own, "study")
    names = [ListName(Cell(6, "random"), seed) for seed in (0, 1)]
    apart = [gather(store, [name], ()) for name in names]
    ranks: dict[str, int] = {}
    for found in apart:
        for row in found.batch:
            ranks[str(row["prompt_id"])] = min(ranks.get(str(row["prompt_id"]), 99), int(str(row["rank"])))
    together = gather(store, names, ())
    assert {row["prompt_id"]: row["rank"] for row in together.batch} == ranks
    assert [row["rank"] for row in together.batch] == sorted(ranks.values())
    some = set(list(ranks)[:2])
    rest = gather(store, names, some)
    assert rest.out_n == 2 and not some & {str(row["prompt_id"]) for row in rest.batch}
    for name, one in zip(names, rest.lists, strict=True):
        whole = set(gather(store, [name], ()).lists[0].prompt_ids)
        assert set(one.prompt_ids) == whole - some and set(one.already_sent_ids) == whole & some


def test_a_study_says_which_lists_there_are_and_how_to_have_all(own: Home) -> None:
    command = ("export", "study", "--strategy", "random", "-o", "list.csv")
    assert "one list per seed (0, 1); choose one of them with --seed, or use --seed all" in refused(*command)
    assert "has no list for seed 7; expected one of 0, 1" in refused(*command, "--seed", "7")
    assert "--seed 'x' is not a seed; expected a whole number, or all" in refused(*command, "--seed", "x")
    text = said(*command, "--seed", "all")
    assert "prompts to annotate for 2 lists, each prompt once" in text
    rows = rows_in(Path("list.csv"))
    repeats_n = len(rows) - len({row["prompt"] for row in rows})
    assert repeats_n > 0 and f"repeated: {repeats_n} of them repeat the text of another prompt" in text
    assert "`duplicates: drop` under `pool:` exports each text once" in text


def test_neither_budget_nor_strategy_is_needed_where_there_is_one(own: Home) -> None:
    text = said("export", "plain", "-o", "list.csv")
    assert (
        "5 prompts to annotate" in text
        and "next: fill in the column `response`, then taskdiv annotations import plain FILE" in text
    )
    assert "own has 2 budgets; choose one: --budget 6 or --budget 12" in refused("export", "own")
    not_made = refused("export", "own", "--budget", "6")
    assert (
        "the list of 6|random is not made yet; `taskdiv run own --until annotation_batch` makes the lists" in not_made
    )
    assert "use --strategy: task_diversity" in not_made
    assert "6.00 EUR at 1.50 EUR each" in said("export", "tickets")  # both strategies of the file


def test_a_column_that_cannot_be_carried_is_refused_before_anything_is_written(own: Home) -> None:
    assert "has no column 'chanel'" in refused("export", "tickets", "--with", "chanel")
    assert "--with response: lists or imports use a column 'response' themselves" in refused(
        "export", "tickets", "--with", "response"
    )
    assert "--with has an empty name" in refused("export", "tickets", "--with", "channel,")
    assert not ledger.entries(Store("tickets")) and not list(own.folder.glob("tickets-*"))


def test_names_that_a_list_needs_itself() -> None:
    assert own_id_column(None) == own_id_column(" Prompt_ID") == "source_id" and own_id_column("id") == "id"
    assert check_extras(["a", "ticket", "a", "b"], "ticket") == ("a", "b")
    for names in (["a", "A"], ["Ticket"]):
        with pytest.raises(ValueError, match="differ only in case"):
            check_extras(names, "ticket")


def test_label_studio_keeps_an_own_id_that_is_called_as_its_own_is() -> None:
    row = Row(prompt_id="ab", task="x", rank=0, prompt="?", instructions="i", own_id="7", extras=["e"])
    layout = Layout("id", extras=("channel",))
    assert json.loads(render([row], "label-studio", layout))[0]["data"]["source_id"] == "7"
    assert json.loads(render([row], "jsonl", layout))["id"] == "7"
    with pytest.raises(ValueError, match="Label Studio has a column 'id' of its own"):
        render([row], "label-studio", replace(layout, own_id="ticket", extras=("ID",)))


def test_an_entry_says_what_it_was_given_and_older_ones_are_read(own: Home) -> None:
    store = Store("tickets")
    said("export", "tickets", "--with", "channel")
    (entry,) = ledger.entries(store)
    assert entry.layout == Layout("ticket", True, ("channel",)) and [one.cell for one in entry.of_lists] == BOTH
    (name,) = store.names("exports")
    note = json.loads(store.get("exports", name) or b"")
    for key in ("layout", "lists"):
        del note[key]
    for row in note["rows"]:
        del row["own_id"], row["extras"]
    store.put(json.dumps(note).encode(), "exports", name)
    (older,) = ledger.entries(store)
    assert older.layout == Layout() and older.of_lists[0].prompt_ids == entry.prompt_ids
    assert rewrite(store, 1, own.folder / "again.csv", "csv")[1] == 4
    assert list(rows_in(Path("again.csv"))[0]) == ["prompt_id", "task", "rank", "prompt", "instructions", "response"]
