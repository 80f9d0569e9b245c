"""Each kind of pool is read, listed, exported, answered and imported. Real programs wrote the files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from taskdiv_assets.annotating.answer_files import read_answers
from taskdiv_assets.annotating.exporting import Target, export
from taskdiv_assets.annotating.importing import import_answers
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment.experiment_file import parse
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.known_answers import known_answers
from taskdiv_assets.storage.store import Store
from tests.annotating.conftest import make_list
from tests.home import Home
from tests.pools.test_real_files import BY_LIBREOFFICE, COLUMNS, FILES, SAVED

ALPACA = [
    {"instruction": "Name a colour.", "input": "", "output": ""},
    {"instruction": "Add.", "input": "1 and 2", "output": ""},
]
CHATS = [
    {"messages": [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": ""}]} for n in (1, 2)
]
SPARK = 'ticket,question\n7,"He said \\"hi\\" to me"\n8,"plain"\n'
POOLS: dict[str, dict[str, object]] = {
    **{
        name: {"path": str(FILES / name), "columns": {"prompt": COLUMNS["prompt"], "id": COLUMNS["id"]}, **more}
        for name, more in BY_LIBREOFFICE.items()
    },
    "datasets": {"path": str(FILES / "saved"), "columns": {name: SAVED[name] for name in ("prompt",)}},
    "alpaca.json": {"path": "alpaca.json", "columns": {"prompt": ["instruction", "input"]}},
    "chats.jsonl": {"path": "chats.jsonl", "columns": {"messages": "messages"}},
    "spark.csv": {"path": "spark.csv", "escape": "\\", "columns": {"prompt": "question", "id": "ticket"}},
}


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_of_any_kind_goes_out_and_its_answers_come_back(
    empty_home: Home, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(empty_home.folder)
    Path("alpaca.json").write_text(json.dumps(ALPACA))
    Path("chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CHATS))
    Path("spark.csv").write_text(SPARK)
    pool = {"reader": "table", **POOLS[name]}
    text = yaml.safe_dump({"name": "mine", "pool": pool, "strategies": ["random"], "budgets": [2]})
    experiment, store = parse(text, str(empty_home.folder / "mine.yaml")), Store("mine")
    make_list(experiment, "2|random")
    target = Target(empty_home.folder / "list.csv", "csv")
    sent = export(REGISTRY.look(experiment, store), Cell(2, "random"), None, target)
    assert sent.rows_n == 2
    with target.path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    prompts = dict(
        zip(*(store.read_table("raw_pool").table[n].to_pylist() for n in ("prompt_id", "prompt")), strict=True)
    )
    assert {row["prompt_id"]: row["prompt"] for row in rows}.items() <= prompts.items()
    with Path("back.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows({**row, "response": f"answer to {row['prompt_id']}"} for row in rows)
    imported = import_answers(REGISTRY.look(experiment, store), read_answers(Path("back.csv")), "Ada")
    assert imported.answers_n == 2 and not imported.left_out
    answers = known_answers(store)
    assert all(answers[row["prompt_id"]] == f"answer to {row['prompt_id']}" for row in rows)
