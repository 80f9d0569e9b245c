"""The report's first form, before any score: prompts chosen, sent out, answered and missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from lxml import etree

import data_contracts
import reports
from reports import results
from reports.lists import list_figures as figures
from reports.lists import list_sentences as sentences
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.assets.strategy_report import answer, main_picture
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.storage.store import Store
from tests.reports.make_campaign import Campaign, make_campaign
from tests.reports.make_results import Recipe, make_results
from tests.reports.test_hostile import HOSTILE
from tests.reports.test_report_page import SMALL, parsed

pytestmark = pytest.mark.usefixtures("without_pictures")

PLAIN = Campaign()
TASKS = {"billing": 40, "shipping": 25, "account": 15, "other": 4}
TWO = Campaign(
    "topics",
    tasks=TASKS,
    strategies=("random", "task_diversity"),
    budgets=(10, 20),
    exports=((10, "task_diversity", 10), (20, "random", 6)),
    answered_n=4,
    settings={"annotation": {"price": 0.35, "currency": "EUR"}},
)
FIRST = ["answer", "status", "since", "allocation", "examples", "contracts", "provenance", "reproduce", "methods"]


def text_of(html: str) -> str:
    return " ".join(" ".join(parsed(html).itertext()).split())


def ids_of(html: str) -> list[str]:
    return [section.get("id") for section in parsed(html).iter("section")]


def strip_of(html: str) -> dict[str, str]:
    steps = next(one for one in parsed(html).iter("ol") if one.get("class") == "strip")
    return {one.find("span[@class='label']").text: one.find("span[@class='number']").text for one in steps}


def commands(folder: Path) -> list[str]:
    return [command for _, command in sentences.next_steps(results.load(str(folder)))]


def test_a_campaign_that_names_only_pool_strategy_and_budget_has_a_page(tmp_path: Path) -> None:
    folder = make_campaign(tmp_path)
    made = reports.render(str(folder))
    assert ids_of(made.html) == FIRST
    assert [one.get("href") for one in parsed(made.html).find(".//nav").iter("a")] == [f"#{name}" for name in FIRST]
    first = made.claims[0]
    assert first["text"] == "20 of 60 prompts are chosen by random; 0 are sent out; 0 answers came back."
    assert first["verdict"] == "no answers yet"
    assert strip_of(made.html) == {"chosen": "20", "sent out": "0", "answers back": "0", "missing": "20"}
    assert commands(folder) == ["taskdiv annotations export questions --budget 20 --strategy random"]
    text = text_of(made.html)
    assert "The pool names no tasks, so prompts are compared by their length instead." in text
    assert "60 prompts, no tasks; source questions.csv, rows read 63, duplicates 3" in text
    assert "3 duplicate" in text and "none: the experiment file names none" in text
    found = results.load(str(folder))
    assert (found.experiment.purpose, found.experiment.seeds) == ("campaign", (0, 1, 2))
    assert [cell.status for cell in found.cells] == ["done"]  # nothing more is to be made without a base model


def test_nothing_empty_is_shown_before_a_score(tmp_path: Path) -> None:
    text = text_of(reports.render(str(make_campaign(tmp_path))).html)
    for empty in ("Labels saved", "Learning curves", "Differences", "Confidence", "Overlap", "No scores are stored yet",
                  "Satterthwaite", "Not stored:", "full-pool", "cells not done", "cost"):  # fmt: skip
        assert empty not in text.replace("what it costs", ""), empty


def test_two_strategies_with_tasks_exports_answers_and_a_price(tmp_path: Path) -> None:
    folder = make_campaign(tmp_path, TWO)
    made = reports.render(str(folder))
    lists = results.load(str(folder)).lists
    assert lists is not None
    chosen = {
        (strategy, budget): set(pq.read_table(folder / f"tables/allocation/{strategy}/{budget}.parquet")["prompt_id"].to_pylist())
        for strategy in TWO.strategies
        for budget in TWO.budgets
    }  # fmt: skip
    entries = [json.loads(path.read_text()) for path in sorted((folder / "exports").iterdir())]
    sent = {one for entry in entries for one in entry["prompt_ids"]}
    answered = set(pq.read_table(folder / "tables/annotations.parquet")["prompt_id"].to_pylist())
    for state in lists.states:
        own = chosen[state.strategy, state.budget_n]
        missing = own - answered
        assert state.counts == (len(own), len(own & sent), len(own & answered), 0, len(missing), len(missing & sent))
    every = set.union(*chosen.values())
    assert lists.total[:3] == (len(every), len(sent), 4)
    assert strip_of(made.html)["missing"] == str(len(every) - 4)
    text = text_of(made.html)
    assert f"Spent: 1.40 EUR, for 4 answers. Open: {0.35 * (len(every) - 4):.2f} EUR" in text
    assert "Answers came back in 1 import, the last at 2026-11-20 09:30 UTC." in text and "2026-11-19 08:00" in text
    assert ids_of(made.html) == [*FIRST[:4], "overlap", *FIRST[4:]]
    assert "task_diversity leaves out" not in text and "random at 10 and 20 labels" not in text
    assert commands(folder) == [
        "taskdiv annotations export topics --budget 10 --strategy random",
        "taskdiv annotations export topics --budget 20 --strategy task_diversity",
        "taskdiv annotations import topics FILE",
    ]


def test_first_prompts_are_those_of_the_list_in_its_order(tmp_path: Path) -> None:
    folder = make_campaign(tmp_path, TWO)
    pool = {row["prompt_id"]: row for row in pq.read_table(folder / "tables/raw_pool.parquet").to_pylist()}
    order = pq.read_table(folder / "tables/allocation/random/20.parquet")["prompt_id"].to_pylist()[:10]
    section = next(
        one for one in parsed(reports.render(str(folder)).html).iter("section") if one.get("id") == "examples"
    )
    shown = [" ".join("".join(one.itertext()).split()) for one in section.find(".//ol").iter("li")]
    assert len(shown) == 10
    for text, prompt_id in zip(shown, order, strict=True):
        assert text.startswith(pool[prompt_id]["source_id"]) and pool[prompt_id]["prompt"] in text


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Campaign(exports=((20, "random", 20),)), ["taskdiv annotations import questions FILE"]),
        (Campaign(exports=((20, "random", 20),), answered_n=20), ["taskdiv run questions"]),
        (Campaign(known_n=60), ["taskdiv run questions"]),
        (
            Campaign(strategies=("random", "task_diversity"), exports=((20, "random", 20),), answered_n=20,
                     settings={"base_model": {"path": "m"}, "benchmarks": [{"name": "mmlu"}]}),
            ["taskdiv annotations export questions --budget 20 --strategy task_diversity",
             "taskdiv run questions --budget 20 --strategy random"],
        ),
    ],
    ids=["sent", "answered", "known", "one_of_two"],
)  # fmt: skip
def test_the_next_command_fits_the_state(tmp_path: Path, recipe: Campaign, expected: list[str]) -> None:
    assert commands(make_campaign(tmp_path, recipe)) == expected


def test_before_any_list_the_page_says_what_to_run(tmp_path: Path) -> None:
    folder = make_campaign(tmp_path)
    for asset in ("allocation", "annotation_batch", "ranking"):
        shutil.rmtree(folder / "tables" / asset)
    made = reports.render(str(folder))
    assert made.claims[0]["text"] == "0 of 60 prompts are chosen: no list exists yet."
    assert "status" not in ids_of(made.html) and "taskdiv run questions" in commands(folder)
    assert made.table.num_rows == 0


def test_a_study_without_scores_says_what_is_there(tmp_path: Path) -> None:
    html = reports.render(str(make_results(tmp_path, Recipe(**SMALL, has_scores=False)))).html
    text = text_of(html)
    assert "No benchmark scores are stored, so no strategy can be compared with another." in text
    assert "answers came back" not in text and "sent out;" not in text
    assert "curves" not in ids_of(html) and "Progress" in text and strip_of(html)["missing"] == "0"


def test_a_scored_campaign_keeps_the_strip_and_a_scored_study_has_none(tmp_path: Path) -> None:
    study = make_results(tmp_path, Recipe(**SMALL, full_pool_seeds=()))
    plain = reports.render(str(study))
    assert "status" not in ids_of(plain.html)
    text = (study / "experiment.yaml").read_text().replace("purpose: study", "purpose: campaign")
    (study / "experiment.yaml").write_text(text)
    made = reports.render(str(study))
    assert ids_of(made.html)[:4] == ["answer", "status", "since", "savings"]
    assert strip_of(made.html)["sent out"] == "0" and made.table.equals(plain.table)


def test_the_base_alone_is_scored(tmp_path: Path) -> None:
    """A campaign scores its base before the first answer is back."""
    cells = frozenset((strategy, budget) for strategy in ("random", "min_margin") for budget in (32, 64))
    recipe = Recipe(**SMALL, strategies=("random", "min_margin"), missing=cells, full_pool_seeds=(), has_primary=False)
    made = reports.render(str(make_results(tmp_path, recipe)))
    assert "The base model alone scores" in made.claims[1]["text"] and "curves" not in ids_of(made.html)


class TestTable:
    def test_it_counts_prompts_and_keeps_its_contract(self, tmp_path: Path) -> None:
        table = reports.render(str(make_campaign(tmp_path, TWO))).table
        assert data_contracts.validate(data_contracts.load("strategy_report"), table).is_valid
        rows = table.to_pylist()
        by_task = [row for row in rows if row["quantity"] == "chosen" and row["task"] and row["strategy"] == "random"]
        of_twenty = [row for row in by_task if row["budget_n"] == 20]
        assert {row["task"]: row["items_n"] for row in of_twenty} == TASKS
        assert sum(row["estimate"] for row in of_twenty) == 20
        place = ("task_diversity", 10)
        found = {
            row["quantity"]: row["estimate"]
            for row in rows
            if (row["strategy"], row["budget_n"]) == place and not row["task"]
        }
        assert found == {"chosen": 10, "sent": 10, "answered": 4}

    def test_the_ui_shows_the_claims_and_a_picture(self, tmp_path: Path) -> None:
        made = reports.render(str(make_campaign(tmp_path, TWO)))
        notes = {"claims": made.claims, "first": made.first, "full_pool_n": made.full_pool_n}
        assert "prompts are chosen by random" in answer(notes)
        assert main_picture(made.table, notes).startswith(b"\x89PNG")


def test_the_default_comparison_is_the_last_strategy_against_random_and_says_so(tmp_path: Path) -> None:
    recipe = Recipe(**SMALL, strategies=("min_margin", "random", "task_diversity"), has_primary=False)
    folder = make_results(tmp_path, recipe)
    found = results.load(str(folder)).experiment.primary
    assert found is not None
    assert (found.strategy, found.reference, found.benchmark, found.metric) == (
        "task_diversity",
        "random",
        "lab",
        "exact_match",
    )
    made = reports.render(str(folder))
    assert made.claims[1]["topic"] == "Primary comparison (the default, not declared)"
    assert "declares no primary comparison" in text_of(made.html) and "Named before the run" not in made.html


@pytest.mark.parametrize(
    ("strategies", "pair"),
    [
        (("task_diversity", "random"), ("task_diversity", "random")),
        (("min_margin", "task_diversity"), ("task_diversity", "min_margin")),
        (("min_margin",), None),
    ],
)
def test_the_default_comparison_by_the_order_of_the_file(
    tmp_path: Path, strategies: tuple[str, ...], pair: tuple[str, str] | None
) -> None:
    recipe = Recipe(**SMALL, strategies=strategies, has_primary=False, full_pool_seeds=())
    found = results.load(str(make_results(tmp_path, recipe))).experiment.primary
    assert (None if found is None else (found.strategy, found.reference)) == pair


def test_a_strategy_with_settings_of_its_own_counts_by_its_name(tmp_path: Path) -> None:
    folder = make_campaign(tmp_path)
    text = (folder / "experiment.yaml").read_text().replace("- random", "- {name: random, scores: mine.csv}")
    (folder / "experiment.yaml").write_text(text)
    assert results.load(str(folder)).experiment.strategies == ("random",)


BROKEN = {
    "no_json": b"{", "list": b"[]", "no_cell": b"{}", "deep": b"[" * 100_000, "null": b"null", "bytes": b"\xff\xfe\x00",
    "ids": b'{"cell": 3, "selection_seed": [], "exported_at": null, "prompt_ids": [1, null, {"a": 1}]}', "empty": b"",
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_entry_of_the_ledger_is_named_and_left_out(tmp_path: Path, kind: str) -> None:
    folder = make_campaign(tmp_path, Campaign(exports=((20, "random", 5),)))
    (folder / "exports" / "20261120T000000.000000Z-x.json").write_bytes(BROKEN[kind])
    (folder / "annotations").mkdir()
    (folder / "annotations" / "broken.parquet").write_bytes(BROKEN[kind])
    html = reports.render(str(folder)).html
    assert strip_of(html)["sent out"] == "5"
    assert "annotations/broken.parquet is not an import of answers" in text_of(html)
    if kind != "ids":
        assert "is not an entry of the export ledger" in text_of(html)


@pytest.mark.parametrize("kind", ["script", "style", "template", "direction", "control", "long"])
def test_foreign_text_changes_only_what_is_shown(tmp_path: Path, kind: str) -> None:
    text = HOSTILE[kind].encode("utf-8", "replace").decode()
    recipe: dict[str, Any] = {**vars(TWO), "exports": ((10, "random", 5),), "hostile": text}
    folder = make_campaign(tmp_path, Campaign(**recipe))
    html = reports.render(str(folder)).html
    root = parsed(html)
    assert len(html.encode()) < 400_000
    assert not {"alert", "onerror", "onload"} & {name for one in root.iter(etree.Element) for name in one.attrib}
    assert len(list(root.iter("script"))) == 1 and not list(root.iter("img"))
    assert not (set(map(chr, range(0x20))) - {"\n"}) & set("".join(root.itertext()))


def test_bins_of_length_hold_every_prompt() -> None:
    for values in (np.array([1]), np.array([0, 3]), np.array([20, 300]), np.array([7, 2_000_000])):
        edges = figures.length_edges(values)
        assert len(edges) > 4 and figures.shares_by_length(values, edges).sum() == pytest.approx(100)


def test_many_tasks_are_drawn_cut_and_stored_whole(tmp_path: Path) -> None:
    tasks = {f"task {place}": 3 for place in range(90)}
    folder = make_campaign(tmp_path, Campaign(tasks=tasks, strategies=("random", "task_diversity"), budgets=(50,)))
    made = reports.render(str(folder))
    assert "The picture has the 30 largest tasks; 60 more are in the table." in text_of(made.html)
    assert sum(row["quantity"] == "chosen" for row in made.table.to_pylist()) == 2 * 91


def test_exports_change_the_reports_identity_and_their_absence_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKDIV_HOME", str(tmp_path))
    experiment = experiment_file.parse(
        "name: mine\npool: {reader: table, path: [a.csv], columns: {prompt: q}}\nstrategies: [random]\nbudgets: [2]\n",
        "mine.yaml",
    )
    store = Store("mine")
    lineage = REGISTRY.look(experiment, store)
    report = Unit("strategy_report")
    settings = REGISTRY[report.asset].recipe(Inputs(lineage, report, REGISTRY.reads(report.asset)))
    assert set(settings) == {"experiment", "rejected", "cells"} and lineage.expect(report).inputs == {}
    before = REGISTRY.look(experiment, store).expect(Unit("strategy_report")).identity
    store.put(b"{}", "exports", "20261119T080000.000000Z-a.json")
    first = REGISTRY.look(experiment, store).expect(Unit("strategy_report")).identity
    store.put(b"{}", "exports", "20261120T080000.000000Z-b.json")
    second = REGISTRY.look(experiment, store).expect(Unit("strategy_report")).identity
    assert len({before, first, second}) == 3


def test_the_asset_depends_on_what_its_page_shows() -> None:
    assert set(REGISTRY.reads("strategy_report")) == set(REGISTRY.order) - {"strategy_report"}
