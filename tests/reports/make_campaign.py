"""A campaign's folder before any score, as a real run leaves it: lists, a ledger of exports, imported answers."""

import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.reports.make_results import footer

IMPORTED_AT = datetime.datetime(2026, 11, 20, 9, 30, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Campaign:
    """The contents of the folder."""

    name: str = "questions"
    tasks: Mapping[str, int] = field(default_factory=lambda: {"all prompts": 60})
    strategies: tuple[str, ...] = ("random",)
    budgets: tuple[int, ...] = (20,)
    exports: tuple[tuple[int, str, int], ...] = ()  # budget, strategy, prompts from the beginning of the list
    answered_n: int = 0  # of the prompts that were sent out, in that order
    known_n: int = 0  # prompts that the pool answers, from its beginning
    settings: Mapping[str, Any] = field(
        default_factory=dict
    )  # of the experiment file, beside what a campaign must name
    hostile: str = ""


def make_campaign(root: Path, recipe: Campaign | None = None) -> Path:
    """Write the folder `root/<name>` and return it."""
    recipe = recipe or Campaign()
    folder = root / recipe.name
    folder.mkdir(parents=True)
    settings = {
        "name": recipe.name,
        "pool": {"reader": "table", "path": ["questions.csv"], "columns": {"prompt": "question", "id": "ticket"}},
        "strategies": list(recipe.strategies),
        "budgets": list(recipe.budgets),
        **recipe.settings,
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    tasks = [name + recipe.hostile for name, size in recipe.tasks.items() for _ in range(size)]
    ids = [hashlib.sha256(str(place).encode()).hexdigest()[:16] for place in range(len(tasks))]
    _pool(folder, recipe, ids, tasks)
    lists = {strategy: _order(ids, tasks, place) for place, strategy in enumerate(recipe.strategies)}
    for strategy, order in lists.items():
        _write(folder, "ranking", strategy, {"selection_seed": [0], "rank": [0], "prompt_id": order[:1]})
        for budget in recipe.budgets:
            chosen = order[:budget]
            columns = {
                "selection_seed": [0] * len(chosen),
                "rank": list(range(len(chosen))),
                "prompt_id": chosen,
                "task": [tasks[ids.index(one)] for one in chosen],
            }
            _write(folder, "allocation", f"{budget}|{strategy}", columns)
            _write(folder, "annotation_batch", f"{budget}|{strategy}", columns)
    sent = [_export(folder, recipe, lists, *export) for export in recipe.exports]
    answered = list(dict.fromkeys(one for ids in sent for one in ids))[: recipe.answered_n]
    if answered:
        _answers(folder, answered)
    return folder


def _pool(folder: Path, recipe: Campaign, ids: list[str], tasks: list[str]) -> None:
    texts = [f"{'word ' * (place % 7 + 1)}{place}?{recipe.hostile}" for place in range(len(ids))]
    answers = ["known" if place < recipe.known_n else None for place in range(len(ids))]
    columns = {
        "prompt_id": ids,
        "source_id": [f"T-{place}{recipe.hostile}" for place in range(len(ids))],
        "prompt": texts,
        "response": pa.array(answers, pa.string()),
        "position": list(range(len(ids))),
    }
    notes = {
        "source": f"['questions.csv{recipe.hostile}']",
        "rows_read_n": len(ids) + 3,
        "duplicates_n": 3,
        "dropped_n": 3,
        "drops": {f"duplicate{recipe.hostile}": 3},
        "responses_n": recipe.known_n,
    }
    _write(folder, "raw_pool", None, columns, notes=notes)
    _write(folder, "task_labels", None, {"prompt_id": ids, "task": tasks})


def _order(ids: list[str], tasks: list[str], place: int) -> list[str]:
    """Return a strategy's order: shuffled for the first strategy, the tasks in turn for the others."""
    generator = np.random.default_rng(place)
    if not place:
        return [ids[int(one)] for one in generator.permutation(len(ids))]
    seen: dict[str, int] = {}
    turns = []
    for one, task in zip(ids, tasks, strict=True):
        seen[task] = seen.get(task, 0) + 1
        turns.append((seen[task], generator.random(), one))
    return [one for *_, one in sorted(turns)]


def _export(
    folder: Path, recipe: Campaign, lists: Mapping[str, list[str]], budget: int, strategy: str, count_n: int
) -> list[str]:
    ids = lists[strategy][:budget][:count_n]
    entry = {
        "cell": f"{budget}|{strategy}{recipe.hostile}",
        "selection_seed": 0,
        "exported_at": "20261119T080000.000000Z",
        "prompt_ids": ids,
        "rows": [],
    }
    (folder / "exports").mkdir(exist_ok=True)
    name = hashlib.sha256(",".join(ids).encode()).hexdigest()[:16]
    (folder / "exports" / f"20261119T080000.000000Z-{name}.json").write_text(json.dumps(entry))
    return ids


def _answers(folder: Path, ids: list[str]) -> None:
    """Write one import and the table made from it. One row of the import is blank and does not count."""
    (folder / "annotations").mkdir()
    rows = [*ids, "f" * 16]
    columns = {
        "prompt_id": rows,
        "response": ["an answer"] * len(ids) + ["  "],
        "imported_at": pa.array([IMPORTED_AT] * len(rows), pa.timestamp("us", "UTC")),
    }
    pq.write_table(pa.table(columns), folder / "annotations" / "a.parquet")
    _write(folder, "annotations", None, {"prompt_id": ids, "response": ["an answer"] * len(ids)})


def _write(folder: Path, asset: str, key: str | None, columns: Mapping[str, Any], **changes: Any) -> None:
    parts = [asset] if key is None else [asset, *reversed(key.split("|"))]
    path = folder.joinpath("tables", *parts[:-1], f"{parts[-1]}.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"taskdiv": json.dumps(footer(asset, key, **changes))}
    pq.write_table(pa.table(dict(columns)).replace_schema_metadata(metadata), path)
