"""A results folder as a real run leaves it, from a simulation: real Parquet, footers, rejected files.

All arms share the difficulties of items. Tasks have a level and a gain, seeds a shift. The numbers are invented and stand for
no result.
"""

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

from tests.reports import make_confidence

TASKS = [
    "copy", "reverse", "upper", "first", "last", "next", "double", "rotate", "swap", "mask", "vowels", "half", "quote",
    "spell", "max", "parity", "nines", "units", "round", "firstw", "lastw", "compare", "flip", "omen",
]  # fmt: skip
GAINS = {
    "random": 0.0,
    "min_margin": -0.3,
    "facility_location": 0.1,
    "task_diversity": 0.45,
    "weighted_task_diversity": 0.5,
}
ENVIRONMENT = {
    "python": "3.11.7",
    "platform": "Linux x86_64",
    "processor": "a processor",
    "gpu": None,
    "cores_n": 2,
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": True,
    "versions": {"torch": "2.13.0", "peft": "0.21.2", "trl": "1.16.0", "lm-eval": "0.4.13"},
}

_SCORE_COLUMNS = (
    "training_seed", "selection_seed", "benchmark", "task", "item_id", "metric", "score", "prompt_hash",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """The contents of the folder."""

    name: str = "demo"
    reader: str = "lab"
    tasks: tuple[str, ...] = tuple(TASKS)
    items_per_task: int = 40
    strategies: tuple[str, ...] = tuple(GAINS)
    budgets: tuple[int, ...] = (128, 256, 512)
    seeds: tuple[int, ...] = (0, 1, 2)
    full_pool_seeds: tuple[int, ...] = (0,)
    benchmarks: tuple[str, ...] = ("lab",)
    benchmark_tasks: Mapping[str, slice] = field(
        default_factory=dict
    )  # of a benchmark that asks only some of the tasks
    missing: frozenset[tuple[str, int]] = frozenset()
    has_base: bool = True
    has_scores: bool = True
    has_allocations: bool = True
    has_primary: bool = True
    rejected: tuple[tuple[str, str], ...] = ()  # asset, key
    hostile: str = ""  # put into every text that a user controls
    stale: bool = False
    sample_n: int | None = None  # prompts scored of each task
    validation_items: int = 20  # of each task; 0: an empty table
    metric: str = "exact_match"
    benchmark_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # beside each benchmark's name
    asked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # what tables of scores say of each benchmark
    matches: tuple[tuple[str, int, int], ...] = ()  # benchmark, item and prompt of each pair, by position
    has_effects: bool = True  # the tables that compare sources and hold confidence against being right


def make_results(root: Path, recipe: Recipe | None = None) -> Path:
    """Write the folder `root/<name>` and return it."""
    recipe = recipe or Recipe()
    folder = root / recipe.name
    folder.mkdir(parents=True)
    writer = _Writer(folder, recipe)
    sizes = writer.pool()
    writer.experiment(sum(sizes.values()))
    writer.cells(sizes)
    for asset, key in recipe.rejected:
        writer.reject(asset, key)
    return folder


def footer(asset: str, key: str | None, hostile: str = "", **changes: Any) -> dict[str, Any]:
    """Return a footer with two rules. Both passed, except that confidence tables have a warning."""
    seconds = int(hashlib.sha256(f"{asset}{key}".encode()).hexdigest()[:4], 16) % 60
    rules = [
        {
            "rule": "schema",
            "severity": "error",
            "passed": True,
            "unexpected_n": 0,
            "examples": [],
            "description": "The columns are those of the contract.",
            "observed": "5 columns",
        },
        {
            "rule": "truncated_few",
            "severity": "warning",
            "passed": asset != "confidence_table",
            "unexpected_n": 0 if asset != "confidence_table" else 17,
            "examples": []
            if asset != "confidence_table"
            else [{"prompt_id": "00ff00ff00ff00ff", "text": hostile or "ab"}],
            "description": "Few prompts reach the token limit. " + hostile,
            "observed": "17 of 4437",
        },
    ]
    whole = {
        "asset": asset,
        "key": key,
        "identity": identity(asset, key),
        "inputs": {},
        "code_version": 1,
        "run_id": f"run-{asset}",
        "started_at": f"2026-11-01T10:00:{seconds:02d}+00:00",
        "finished_at": f"2026-11-01T10:01:{seconds:02d}+00:00",
        "wall_s": 1.5 + seconds / 10,
        "rules": rules,
        "parts": {},
        "environment": ENVIRONMENT,
        "notes": {},
    }
    return whole | changes


def identity(asset: str, key: str | None) -> str:
    """Return 32 hex digits for a table."""
    return hashlib.sha256(f"{asset}/{key}".encode()).hexdigest()[:32]


class _Writer:
    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder, self.recipe = folder, recipe
        self.generator = np.random.default_rng(20)
        self.tasks = [task + recipe.hostile for task in recipe.tasks]
        self.asked = {benchmark: self.items(benchmark, recipe.items_per_task) for benchmark in recipe.benchmarks}

    def write(self, asset: str, key: str | None, columns: Mapping[str, Any], **changes: Any) -> None:
        parts = [asset] if key is None else [asset, *reversed(key.split("|"))]
        path = self.folder.joinpath("tables", *parts[:-1], f"{parts[-1]}.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"taskdiv": json.dumps(footer(asset, key, self.recipe.hostile, **changes))}
        pq.write_table(pa.table(dict(columns)).replace_schema_metadata(metadata), path)

    def reject(self, asset: str, key: str) -> None:
        path = self.folder.joinpath("tables", asset, *reversed(key.split("|")))
        path.parent.mkdir(parents=True, exist_ok=True)
        rule = {
            "rule": "sums_to_budget",
            "severity": "error",
            "passed": False,
            "unexpected_n": 3,
            "examples": [{"selection_seed": 1, "rows": 127}, self.recipe.hostile],
            "description": "Every seed has as many rows as the budget.",
            "observed": "127",
        }
        broken = {
            "asset": asset,
            "key": key,
            "identity": "f" * 32,
            "run_id": "run-broken",
            "rejected_at": "2026-11-01T11:00:00+00:00",
            "rules": [rule],
        }
        path.with_name(path.name + ".rejected.json").write_text(json.dumps(broken))

    def experiment(self, pool_n: int) -> None:
        recipe = self.recipe
        settings = {
            "name": recipe.name,
            "purpose": "study",
            "pool": {"reader": recipe.reader, "seed": 1},
            "task_labels": {"from": "column"},
            "base_model": {"lab": {"seed": 1}}
            if recipe.reader == "lab"
            else {"hub": "some/model" + recipe.hostile, "revision": "abc"},
            "prompt_template": "{prompt}",
            "confidence": {
                "column": "mean_probability",
                "max_new_tokens": 10,
                "alternatives": make_confidence.ALTERNATIVES,
                "validation_items": recipe.validation_items,
            },
            "strategies": list(recipe.strategies),
            "budgets": list(recipe.budgets),
            "seeds": list(recipe.seeds),
            "full_pool_seeds": list(recipe.full_pool_seeds),
            "tuning": {
                "method": "lora",
                "rank": 16,
                "alpha": 32,
                "learning_rate": 0.002,
                "epochs": 8,
                "batch_size": 16,
                "warmup_ratio": 0.06,
            },
            "benchmarks": [
                {"name": name, **recipe.benchmark_settings.get(name, {})}
                for name in dict.fromkeys([*recipe.benchmarks, *recipe.benchmark_settings])
            ],
            "annotation": {"instructions": "Answer." + recipe.hostile, "price": None},
        }
        if recipe.has_primary:
            settings["primary"] = {
                "strategy": "weighted_task_diversity",
                "reference": "random",
                "benchmark": "lab",
                "metric": "exact_match",
            }
        text = "# Does choosing by task beat choosing at random?\n" + yaml.safe_dump(
            settings, sort_keys=False, allow_unicode=True
        )
        (self.folder / "experiment.yaml").write_text(text)
        budgets = [*recipe.budgets, *([pool_n] if recipe.full_pool_seeds else [])]
        (self.folder / "budgets").mkdir()
        for budget in budgets:
            kind = "requested" if budget in recipe.budgets else "full_pool"
            (self.folder / "budgets" / str(budget)).write_text(json.dumps({"kind": kind}))

    def pool(self) -> dict[str, int]:
        count = len(self.tasks)
        raw = [round(600 * (24 / 600) ** (i / max(1, count - 1))) for i in range(count)]
        order = self.generator.permutation(count)
        sizes = {self.tasks[t]: int(raw[int(order[t])]) for t in range(count)}
        task = [name for name, n in sizes.items() for _ in range(n)]
        ids = [hashlib.sha256(f"{name}{i}".encode()).hexdigest()[:16] for i, name in enumerate(task)]
        self.ids, self.task_of = np.array(ids), np.array(task)
        self.prompts(ids, task)
        self.contamination()
        self.base(sizes, ids)
        return sizes

    def prompts(self, ids: list[str], task: list[str]) -> None:
        texts = [f"{name} abcd>{self.recipe.hostile}" for name in task]
        self.write(
            "raw_pool",
            None,
            {
                "prompt_id": ids,
                "source_id": ids,
                "prompt": texts,
                "response": ["a"] * len(ids),
                "source_task": task,
                "position": list(range(len(ids))),
            },
            notes={
                "source": "lab" + self.recipe.hostile,
                "rows_read_n": len(ids),
                "duplicates_n": 3,
                "dropped_n": 0,
                "responses_n": len(ids),
            },
            parts={"prompts": "p" * 32, "answers": "a" * 32},
        )
        self.write(
            "task_labels",
            None,
            {"prompt_id": ids, "task": task, "how": pa.array(["column"] * len(ids)).dictionary_encode()},
            inputs={"raw_pool.prompts": "p" * 32},
        )

    def contamination(self) -> None:
        pairs = [(self.asked[name], item, prompt) for name, item, prompt in self.recipe.matches]
        columns = {
            name: pa.array([asked[name][item].as_py() for asked, item, _ in pairs], pa.string())
            for name in ("benchmark", "task", "item_id")
        }
        prompts = pa.array([self.ids[prompt] for *_, prompt in pairs], pa.string())
        is_exact = pa.array([True] * len(pairs), pa.bool_())
        counts = {}
        for name, asked in self.asked.items():
            own = [(item, prompt) for benchmark, item, prompt in self.recipe.matches if benchmark == name]
            items_n, prompts_n = (len({pair[side] for pair in own}) for side in (0, 1))
            counts[name] = {
                "items_n": len(asked["item_id"]),
                "matched_items_n": items_n,
                "prompts_n": prompts_n,
                "equal_prompts_n": prompts_n,
                "matches_n": len(own),
                "rows_n": len(own),
            }
        rows = {**columns, "prompt_id": prompts, "is_exact": is_exact}
        self.write("contamination", None, rows, notes={"pool_n": len(self.ids), "benchmarks": counts})

    def base(self, sizes: dict[str, int], ids: list[str]) -> None:
        self.write(
            "base_model",
            None,
            {"file": ["model.safetensors"], "bytes": [1_400_000], "sha256": ["e" * 64]},
            notes={
                "source": "lab",
                "revision": "seed 1",
                "dtype": "float32",
                "dtype_reason": "no GPU: float32 on a CPU",
                "attention": "eager",
                "parameters_n": 349_824,
            },
        )
        self.write(
            "confidence_table",
            None,
            {"prompt_id": ids[:10], "confidence": [0.5] * 10},
            notes={"truncated_prompts_n": 17, "tokens_n": 30_000, "tokens_per_s": 15_000.0},
        )
        self.confidence = np.clip(self.generator.beta(4, 3, size=len(self.tasks)), 0.2, 0.95)
        stale = "0" * 32 if self.recipe.stale else identity("confidence_table", None)
        self.write(
            "task_confidence",
            None,
            make_confidence.task_confidence(self.tasks, sizes, self.confidence, self.recipe.sample_n),
            inputs={"confidence_table": stale},
        )
        if self.recipe.has_effects:
            self.effects(sizes)

    def effects(self, sizes: dict[str, int]) -> None:
        means, recipe = self.confidence, self.recipe
        compared = make_confidence.comparison(self.tasks, sizes, means, recipe.budgets, recipe.sample_n)
        self.write("confidence_comparison", None, compared)
        right = make_confidence.accuracy(self.tasks, means, recipe.validation_items)
        self.write("confidence_accuracy", None, right)

    def cells(self, sizes: dict[str, int]) -> None:
        recipe, count = self.recipe, len(self.tasks)
        item = self.generator.normal(0, 1, size=(count, recipe.items_per_task))
        level = self.generator.normal(0.2, 1.0, size=(count, 1))
        slope = np.abs(self.generator.normal(0.8, 0.5, size=(count, 1)))
        slope[-1] = 0
        if recipe.has_base and recipe.has_scores:
            self.write(
                "base_scores",
                None,
                self.rows([None], [level + item - 0.2]),
                notes={"limit": None, "asked": recipe.asked},
            )
        pool_n = sum(sizes.values())
        grid = [(name, budget, recipe.seeds) for name in recipe.strategies for budget in recipe.budgets]
        grid += [("random", pool_n, recipe.full_pool_seeds)] if recipe.full_pool_seeds else []
        for name in recipe.strategies:
            self.write(
                "ranking",
                name,
                {"selection_seed": [0], "rank": [0], "prompt_id": [self.ids[0]], "task": [self.task_of[0]]},
            )
        for name, budget, seeds in grid:
            gain = GAINS.get(name, 0.2) if budget < pool_n else 1.0
            self.cell(
                name,
                budget,
                seeds,
                [
                    level
                    + item
                    + slope * (np.log2(budget / 64) * 0.45 + gain * (1 if t_gain else 0))
                    + 0.15 * self.generator.normal(size=(count, 1))
                    + 0.04 * self.generator.normal()
                    for t_gain in [True] * len(seeds)
                ],
            )

    def cell(self, name: str, budget: int, seeds: tuple[int, ...], logits: list[np.ndarray]) -> None:
        recipe, key = self.recipe, f"{budget}|{name}"
        if recipe.has_allocations:
            chosen = [(seed, self.select(name, budget, seed)) for seed in seeds]
            columns = {
                "selection_seed": np.concatenate([np.full(len(rows), seed) for seed, rows in chosen]),
                "rank": np.concatenate([np.arange(len(rows)) for _, rows in chosen]),
                "prompt_id": np.concatenate([self.ids[rows] for _, rows in chosen]),
                "task": np.concatenate([self.task_of[rows] for _, rows in chosen]),
            }
            self.write("allocation", key, columns)
            self.write("annotation_batch", key, {name: column[:0] for name, column in columns.items()})
        if (name, budget) in recipe.missing:
            return
        n = len(seeds)
        self.write(
            "adapter",
            key,
            {
                "training_seed": list(seeds),
                "selection_seed": list(seeds),
                "folder": ["f"] * n,
                "examples_n": [budget] * n,
                "trained_tokens_n": [budget * 60] * n,
                "final_loss": [0.31] * n,
                "train_s": [budget / 128] * n,
                "sha256": ["d" * 64] * n,
            },
            notes={"tuning": {"rank": 16}},
        )
        if recipe.has_scores:
            self.write(
                "benchmark_scores", key, self.rows(list(seeds), logits), notes={"limit": None, "asked": recipe.asked}
            )

    def select(self, name: str, budget: int, seed: int) -> np.ndarray:
        generator = np.random.default_rng([seed, sorted(GAINS).index(name) if name in GAINS else 9])
        if "diversity" not in name:
            return generator.permutation(len(self.ids))[:budget]
        position = np.empty(len(self.ids))
        for task in self.tasks:
            members = np.flatnonzero(self.task_of == task)
            position[members] = np.arange(len(members))
        return np.argsort(position + generator.uniform(size=len(self.ids)))[:budget]

    def rows(self, seeds: list[int | None], logits: list[np.ndarray]) -> dict[str, Any]:
        tables = []
        for benchmark in self.recipe.benchmarks:
            asked = self.asked[benchmark]
            chosen = self.recipe.benchmark_tasks.get(benchmark, slice(None))
            for seed, logit in zip(seeds, logits, strict=True):
                right = (logit + self.generator.logistic(0, 0.25, size=logit.shape) > 0)[chosen].astype(float).ravel()
                own = pa.array([seed] * len(right), pa.int64())
                tables.append(pa.table({"training_seed": own, "selection_seed": own, **asked, "score": right}))
        whole = pa.concat_tables(tables)
        return {name: whole[name] for name in _SCORE_COLUMNS}

    def items(self, benchmark: str, size: int) -> dict[str, Any]:
        """Return the columns of a benchmark's items that do not depend on the model."""
        tasks = self.tasks[self.recipe.benchmark_tasks.get(benchmark, slice(None))]
        n = len(tasks) * size
        return {
            "benchmark": pa.array([benchmark] * n),
            "task": pa.array([task for task in tasks for _ in range(size)]),
            "item_id": pa.array([f"{task}-{i}" for task in tasks for i in range(size)]),
            "metric": pa.array([self.recipe.metric] * n),
            "prompt_hash": pa.array(["c" * 16] * n),
        }
