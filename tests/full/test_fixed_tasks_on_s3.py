"""Fixed tasks on an S3 server: an export fixes them, a grown pool keeps them, and an import fixes those of the new prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taskdiv_assets.annotating import importing
from taskdiv_assets.annotating.answer_files import read_answers
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.pools.discovery import frozen_tasks
from tests.home import Home
from tests.s3 import S3Home, environment, objects
from tests.test_fixed_tasks import PROMPTS, Campaign

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("s3")]


def bought(home: Home, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Export a list, let the pool grow, import answers. Return the tasks of each prompt after each of these steps."""
    monkeypatch.chdir(home.folder)
    campaign = Campaign(home)
    first = campaign.make()
    campaign.export()
    assert campaign.records() == ["000001.json"] and campaign.state().status == "fresh"
    campaign.grow([*reversed(PROMPTS)])
    second = campaign.make()
    answers = home.folder / "answers.jsonl"
    answers.write_text("".join(json.dumps({"prompt_id": one, "response": "yes"}) + "\n" for one in [*first][:2]))
    lineage = REGISTRY.look(experiment_file.load("found.yaml"), campaign.store)
    importing.import_answers(lineage, read_answers(answers), None)
    assert campaign.records() == ["000001.json", "000002.json"]
    record = frozen_tasks.newest(campaign.store)
    assert record is not None
    rows = frozen_tasks.read(campaign.store, record).table.to_pylist()
    campaign.write(("from: discovered", "from: discovered, tasks: 3"))
    assert campaign.state().status == "blocked"
    return [first, second, {row["prompt_id"]: row["task"] for row in rows}]


def test_fixed_tasks_on_s3_are_those_on_a_local_disk(
    tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = [Home(tmp_path / "here"), S3Home(tmp_path / "there", endpoint, "s3://bucket/fixed")]
    tasks = []
    for home in homes:
        home.folder.mkdir()
        with environment(home.variables()):
            tasks.append(bought(home, monkeypatch))
    assert tasks[0] == tasks[1]
    first, second, fixed = tasks[1]
    assert first.items() <= second.items() == fixed.items() and (len(first), len(fixed)) == (160, 200)
    names = [path.rpartition("/")[2] for path in objects(endpoint).ls("bucket/fixed/found/frozen_tasks", detail=False)]
    assert sorted(name for name in names if name.endswith(".json")) == ["000001.json", "000002.json"]
    assert sum(name.endswith(".parquet") for name in names) == 2 and len(names) == 4
    assert not (homes[1].folder / "results").exists()
