"""The page's sentences on training adapters: a chosen learning rate, and versions that differ."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from reports import provenance, results
from tests.reports.make_results import Recipe, footer, make_results

SMALL = {"tasks": ("copy", "flip"), "items_per_task": 4, "budgets": (32,), "strategies": ("random",)}


def with_notes(path: Path, notes: dict[str, object]) -> None:
    """Put notes into a stored table's footer."""
    table = pq.read_table(path)
    said = json.loads(table.schema.metadata[b"taskdiv"])
    metadata = {"taskdiv": json.dumps({**said, "notes": {**said.get("notes", {}), **notes}})}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def test_neither_is_mentioned_where_there_is_nothing_to_say(tmp_path):
    names = [name for name, _ in provenance.facts(results.load(str(make_results(tmp_path, Recipe(**SMALL)))))]
    assert "Fine-tuning" in names
    assert "Learning rate" not in names and "Trained with other versions" not in names


def test_both_are_told(tmp_path):
    folder = make_results(tmp_path, Recipe(**SMALL))
    choice = folder / "tables" / "tuning_choice.parquet"
    notes = {"learning_rate": 0.0002, "why": "lowest loss on prompts that it was not trained on"}
    metadata = {"taskdiv": json.dumps(footer("tuning_choice", None, "", notes=notes))}
    pq.write_table(pa.table({"learning_rate": [0.0002]}).replace_schema_metadata(metadata), choice)
    with_notes(folder / "tables/adapter/random/32.parquet", {"other_versions": {"1": "torch 2.12.0 (now 2.13.0)"}})
    facts = dict(provenance.facts(results.load(str(folder))))
    assert facts["Learning rate"] == "0.0002, chosen: lowest loss on prompts that it was not trained on"
    assert facts["Trained with other versions"] == "32|random, seed 1: torch 2.12.0 (now 2.13.0)"
