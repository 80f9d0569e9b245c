"""`taskdiv export` of a campaign without a base model: it waits for all answers, and then has the bought pairs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from taskdiv_assets.cli import app
from tests.annotating.test_lists import said
from tests.home import Home

pytestmark = pytest.mark.xdist_group("annotating")


def export(*options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["export", "tickets", "--budget", "4", "--strategy", "random", *options])
    return result.exit_code, " ".join(result.output.split())


def test_bought_answers_of_a_campaign_without_a_base_model(own: Home) -> None:
    code, output = export("--to", "jsonl", "-o", "out")
    assert code == 2 and "4 of the 4 prompts of 4|random have no answer yet" in output, output
    assert "taskdiv annotations export tickets --budget 4 --strategy random" in output and not Path("out").exists()
    said("export", "tickets", "--strategy", "random", "-o", "list.csv")
    rows = list(csv.DictReader(Path("list.csv").read_text("utf-8-sig").splitlines(keepends=True)))
    with Path("back.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["prompt_id", "response"])
        writer.writeheader()
        writer.writerows({"prompt_id": row["prompt_id"], "response": f"answer {n}"} for n, row in enumerate(rows))
    said("import", "tickets", "back.csv")
    code, output = export("--to", "trl")
    assert code == 2 and "tickets names no base model, and trl needs one" in output and "use --to jsonl" in output
    code, output = export("--to", "jsonl", "-o", "out")
    assert code == 0, output
    found = [json.loads(line) for line in Path("out/train.jsonl").read_text().splitlines()]
    ids = [row["prompt_id"].removeprefix("'") for row in rows]
    assert [row["prompt_id"] for row in found] == ids
    assert [row["response"] for row in found] == [f"answer {n}" for n in range(4)]
    assert "base_model" not in yaml.safe_load(Path("out/tuning.yaml").read_text())
    assert "4 prompts chosen by random" in Path("out/README.md").read_text()
