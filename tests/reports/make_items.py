"""Questions and answers beside made results, as the stage `benchmark_scores` stores them. All texts are invented."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.reports.make_results import Recipe

Say = Callable[[str, int, bool], str]  # a model's answer to an item, by its position and whether it is right
SYLLABLES = [f"{a}{b}{c}" for a in "bdfglmprst" for b in "aeiou" for c in ("n", "ra", "lic", "mo", "tes", "vi")]
WORDS = [SYLLABLES[place] for place in np.random.default_rng(7).integers(0, len(SYLLABLES), 60_000)]


def text(key: str, words_n: int) -> str:
    """Return random words that depend on `key` alone."""
    start = zlib.crc32(key.encode()) % (len(WORDS) - words_n)
    return " ".join(WORDS[start : start + words_n])


def say(model: str, place: int, is_right: bool) -> str:
    """Return the usual answer: words that all models share, words of its own, and the verdict."""
    return f"{text(f'shared {place}', 12)} {text(f'{model} {place}', 4)} so {'yes' if is_right else 'no'}"


def add_items(
    folder: Path, recipe: Recipe, *, choices: Sequence[str] = (), say: Say = say, question_n: int = 30
) -> Path:
    """Add questions and answers of the base and of all cells at the largest budget. `choices` names multiple-choice benchmarks."""
    cells = {"base": folder / "tables/base_scores.parquet"}
    budget = max(recipe.budgets)
    cells |= {name: folder / f"tables/benchmark_scores/{name}/{budget}.parquet" for name in recipe.strategies}
    for model, path in cells.items():
        if not path.exists():
            continue
        table = pq.read_table(path)
        footer = json.loads(table.schema.metadata[b"taskdiv"])
        notes: dict[str, Any] = {}
        for benchmark in recipe.benchmarks:
            own = table.filter(pc.equal(table["benchmark"], benchmark))
            own = own.filter(pc.equal(own["training_seed"].fill_null(-1), pc.min(own["training_seed"].fill_null(-1))))
            place, questions = recipe.benchmarks.index(benchmark), f"q{recipe.benchmarks.index(benchmark)}"
            make = _choices if benchmark in choices else _written
            asked, answered = make(own, model, say, question_n)
            _put(folder / "folders" / questions, "questions.parquet", asked)
            _put(folder / "folders" / f"{model}{place}", "outputs.parquet", answered)
            scores = {"base" if model == "base" else "0": f"{model}{place}"}
            notes[benchmark] = {"scores": scores, "questions": questions}
        footer["notes"] = {**footer["notes"], "asked": notes}
        pq.write_table(table.replace_schema_metadata({"taskdiv": json.dumps(footer)}), path)
    return folder


def _put(folder: Path, name: str, table: pa.Table) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / name)
    (folder / "manifest.json").write_text(json.dumps({"notes": {}}))


def _common(own: pa.Table, times: int) -> tuple[dict[str, Any], np.ndarray]:
    rows = np.repeat(np.arange(own.num_rows), times)
    numbers = np.tile(np.arange(times, dtype=np.int32), own.num_rows)
    return {"task": own["task"].take(rows), "item_id": own["item_id"].take(rows), "question": pa.array(numbers)}, rows


def _prompts(own: pa.Table, question_n: int) -> list[str]:
    return [f"{text(f'question {place}', question_n)}?\nAnswer:" for place in range(own.num_rows)]


def _written(own: pa.Table, model: str, say: Say, question_n: int) -> tuple[pa.Table, pa.Table]:
    common, _ = _common(own, 1)
    n, right = own.num_rows, own["score"].to_pylist()
    asked = {
        **common,
        "prompt": _prompts(own, question_n),
        "answer": pa.nulls(n, pa.string()),
        "target": [f"target {place}" for place in range(n)],
        "prompt_hash": [hashlib.sha256(f"{place}".encode()).hexdigest() for place in range(n)],
    }
    said = {
        **common,
        "text": [say(model, place, right[place] > 0.5) for place in range(n)],
        "nats": pa.nulls(n, pa.float64()),
        "is_greedy": pa.nulls(n, pa.bool_()),
        "extracted": [""] * n,
    }
    return pa.table(asked), pa.table(said)


def _choices(own: pa.Table, model: str, say: Say, question_n: int) -> tuple[pa.Table, pa.Table]:
    """Four choices for each item; the right one is number `position % 4`."""
    common, rows = _common(own, 4)
    prompts, right = _prompts(own, question_n), np.array(own["score"].to_pylist()) > 0.5
    numbers = common["question"].to_numpy()
    chosen = np.where(right, np.arange(len(right)) % 4, (np.arange(len(right)) + 1) % 4)
    asked = {
        **common,
        "prompt": [prompts[row] for row in rows],
        "answer": [f" {'ABCD'[number]}" for number in numbers],
        "target": [str(row % 4) for row in rows],
        "prompt_hash": [hashlib.sha256(f"{row}".encode()).hexdigest() for row in rows],
    }
    said = {
        **common,
        "text": pa.nulls(len(rows), pa.string()),
        "nats": np.where(numbers == chosen[rows], -1.0, -3.0),
        "is_greedy": [False] * len(rows),
        "extracted": [""] * len(rows),
    }
    return pa.table(asked), pa.table(said)
