"""The parts of `ten_million`, each in its own process: python -m tests.evidence.ten_million_parts PART FOLDER.

The project's own code is measured, called as the stages of the graph call it: `rank`, `make_ranking`,
`data_contracts.validate`, `Store.write_table`. Only Dagster and the lineage are left out. The program prints one JSON line for
each step.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import data_contracts
from data_contracts.footer import Footer, RuleResult
from taskdiv_assets.assets import allocation, ranking
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.graph.cells import Cell, PoolSize
from taskdiv_assets.graph.known_answers import known_answers
from taskdiv_assets.graph.stored_values import pool_ids, task_sizes
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.orchestration.produce import in_contract_order
from taskdiv_assets.pools import frame, labels
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.selection import STRATEGIES, SelectionPool, rank, strata, streams
from taskdiv_assets.selection.apportionment import allocate
from taskdiv_assets.storage.store import Store
from tests.benchmarks import data

MEMORY_GIB = 12
BLOCK_ROWS = 250_000
COSTS = {
    "task_diversity": strata.equal_costs,
    "weighted_task_diversity": strata.confidence_costs,
    "complement_weighted_task_diversity": strata.complement_costs,
    "weighted_task_diversity_min_margin": strata.confidence_costs,
}
EXPERIMENT = """\
name: large
purpose: study
pool: {{reader: table, path: pool.parquet, columns: {{prompt: prompt, response: response, task: task, id: id}}}}
task_labels: {{from: column}}
base_model: {{hub: owner/model, revision: {commit}}}
prompt_template: "{{prompt}}"
confidence: {{column: mean_probability, max_new_tokens: 10}}
strategies: [{strategies}]
budgets: [{budgets}]
seeds: [{seeds}]
full_pool_seeds: []
tuning: {{method: lora, rank: 16, alpha: 32, learning_rate: 1.0e-3, epochs: 1, batch_size: 16, warmup_ratio: 0.06}}
benchmarks: [{{name: mmlu, source: hub}}]
primary: {{strategy: weighted_task_diversity, reference: random, benchmark: mmlu, metric: acc}}
annotation: {{instructions: "…", price: null}}
"""


class Run:
    """One part: its folder, its sizes, and its clock."""

    def __init__(self, part: str, folder: Path, sizes: Mapping[str, Any]) -> None:
        self.part, self.folder = part, folder
        self.n, self.tasks_n, self.width = (int(sizes[name]) for name in ("prompts_n", "tasks_n", "width"))
        self.seeds = list(range(sizes["seeds_n"]))
        self.budgets, self.allocated = list(sizes["budgets"]), list(sizes["allocated"])

    @contextmanager
    def step(self, what: str, note: str = "") -> Iterator[None]:
        """Measure the time and the highest memory of a step."""
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts anew
        started, own = time.perf_counter(), time.process_time()
        yield
        self.tell(what, time.perf_counter() - started, time.process_time() - own, note)

    def tell(self, what: str, wall_s: float, own_s: float, note: str = "") -> None:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 2**20
        print(json.dumps([self.part, what, round(own_s, 3), round(peak, 3), note, round(wall_s, 3)]), flush=True)

    def load(self, name: str) -> Any:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r" if name == "embeddings" else None)

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(f"task_{i:04d}" for i in range(self.tasks_n))

    @property
    def task_confidence(self) -> Any:
        return np.linspace(0.05, 0.95, self.tasks_n)

    def experiment(self) -> Any:
        lists = {"strategies": STRATEGIES, "budgets": self.budgets, "seeds": self.seeds}
        text = EXPERIMENT.format(commit="c" * 40, **{name: ", ".join(map(str, some)) for name, some in lists.items()})
        return experiment_file.parse(text, "large.yaml")


# --- orders ------------------------------------------------------------------------------------------------------


def make_pool(run: Run) -> None:
    """Write ids in the order of raw_pool, tasks of very different size, one score, and clustered rows of length 1."""
    with run.step("the pool's arrays"):
        arrays = data.task_pool(run.n, run.tasks_n)
        by_id = np.argsort(arrays["prompt_ids"])
        np.save(run.folder / "ids.npy", arrays["prompt_ids"][by_id])
        np.save(run.folder / "tasks.npy", arrays["tasks"][by_id])
        np.save(run.folder / "score.npy", np.random.default_rng(1).random(run.n, np.float32))
        shape = (run.n, run.width)
        rows = np.lib.format.open_memmap(run.folder / "embeddings.npy", "w+", np.float16, shape)
        draw = np.random.default_rng(2)
        centres = draw.standard_normal((max(2, run.n // 1_000), run.width), np.float32)
        for start in range(0, run.n, BLOCK_ROWS):
            block_n = min(BLOCK_ROWS, run.n - start)
            block = centres[draw.integers(len(centres), size=block_n)]
            block += 0.7 * draw.standard_normal((block_n, run.width), np.float32)
            rows[start : start + block_n] = block / np.linalg.norm(block, axis=1, keepdims=True)
        rows.flush()


def order(run: Run, name: str) -> None:
    """Order at full depth with one seed and, if the strategy uses it, with all seeds. Count each budget's prompts by task."""
    strategy = STRATEGIES[name]
    scores = {strategy.score_column: run.load("score")} if strategy.score_column else {}
    confidence = run.task_confidence if "task_confidence" in strategy.needs else None
    with run.step("checks of the pool"):
        pool = SelectionPool(run.load("ids"), run.load("tasks"), run.task_names, confidence, scores)
    with run.step("rank, one seed"):
        found = rank(name, pool, seed=0)
    if strategy.uses_seed:
        with run.step(f"rank, {len(run.seeds)} seeds"):
            for seed in run.seeds:
                found = rank(name, pool, seed=seed)
    with run.step(f"{len(run.budgets)} allocations as prefixes"):
        counts = [np.bincount(pool.tasks[found[:budget_n]], minlength=run.tasks_n) for budget_n in run.budgets]
    if name in COSTS:
        seed = run.seeds[-1] if strategy.uses_seed else 0
        places = np.argsort(streams.shuffled_positions(seed, streams.TASK_ORDER, run.task_names))
        costs, sizes = COSTS[name](pool)[places], np.bincount(pool.tasks, minlength=run.tasks_n)[places]
        with run.step(f"{len(run.budgets)} allocations in closed form", "equal to the prefixes"):
            closed = [allocate(costs, sizes, budget_n) for budget_n in run.budgets]
        if any((one != other[places]).any() for one, other in zip(closed, counts, strict=True)):
            raise RuntimeError(f"{name}: the first prompts of the order are not the apportionment")


def picks(run: Run, name: str, depth: int, rows_n: int) -> None:
    """Pick greedily from the first rows of the pool. Ids are hashes, so the first rows are a random sample."""
    embeddings = run.load("embeddings")[:rows_n]
    pool = SelectionPool(run.load("ids")[:rows_n], embeddings=embeddings)
    with run.step(f"{depth} picks of {rows_n}"):
        rank(name, pool, seed=0, depth=depth)


# --- tables ------------------------------------------------------------------------------------------------------


def footer(asset: str, key: str | None, rules: tuple[RuleResult, ...] = ()) -> Footer:
    return Footer(asset, key, "0" * 32, {}, 1, None, "", "", 0.0, rules)


def keep(
    run: Run, store: Store, name: str, key: str | None, product: pa.Table, parameters: Any, note: str = ""
) -> None:
    """Do with a product what `produce` does: order columns, compute parameters, check the contract, write once."""
    contract = data_contracts.load(name)
    with run.step(f"{name}: in the contract's order"):
        rows = in_contract_order(product, contract.arrow_schema)
    with run.step(f"{name}: parameters of the contract"):
        given = parameters()
    with run.step(f"{name}: {len(contract.rules)} rules", f"{rows.num_rows} rows {note}"):
        result = data_contracts.validate(contract, rows, given)
    if not result.is_valid:
        raise RuntimeError(f"{name}: {result.failed}")
    with run.step(f"{name}: write"):
        path = store.write_table(rows, footer(name, key, result.rules))
    run.tell(f"{name}: stored", 0.0, 0.0, f"{Path(path).stat().st_size} bytes")


def fake_work(run: Run, store: Store, name: str, key: str) -> Any:
    """Return the part of `Work` that stages read, with a lineage in which everything is fresh."""
    lineage = SimpleNamespace(
        prompt_ids=range(run.n),  # only their number is read
        once=lambda _: {},  # no prompt is kept first
        pool_size=PoolSize(run.n, True),
        cell_selection_seeds=lambda cell: tuple(run.seeds),
        answers={},
    )

    @contextmanager
    def progress(*_: str) -> Iterator[Any]:
        yield lambda *_: None

    def log(text: str) -> None:
        print(text, file=sys.stderr)

    cell = Cell.parse(key) if "|" in key else None
    read = {"read": lambda asset, key=None: store.read_table(asset, key).table, "progress": progress, "log": log}
    return SimpleNamespace(
        experiment=run.experiment(), store=store, lineage=lineage, unit=Unit(name, key), cell=cell, **read
    )


def hex_ids(ids: Any) -> pa.Array:
    text = np.frombuffer(ids.astype(">u8").tobytes().hex().encode(), np.uint8)
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(offsets), pa.py_buffer(text.tobytes()))


def inputs(run: Run) -> None:
    """Write the tables that a ranking reads: labels, the scores of every prompt, the confidence of tasks."""
    store = Store("large", str(run.folder))
    ids, codes = hex_ids(run.load("ids")), run.load("tasks")
    tasks = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(run.task_names)).cast(pa.string())
    how = pa.DictionaryArray.from_arrays(pa.array(np.zeros(run.n, np.int32)), pa.array(["column"]))
    keep(run, store, "task_labels", None, pa.table({"prompt_id": ids, "task": tasks, "how": how}),
         lambda: {"pool_prompt_ids": ids, "smallest_budget": 1_000, "agreement": None, "vote_confidence": None})  # fmt: skip
    draw = np.random.default_rng(3)
    low, mean = np.sort(draw.uniform(0.05, 0.95, (2, run.n)), axis=0)
    columns = {
        "prompt_id": ids, "generated_n": np.full(run.n, 10, np.int32), "truncated": np.zeros(run.n, bool),
        "mean_probability": mean, "first_probability": mean, "min_probability": low,
        "sequence_log_probability": 10 * np.log(mean), "mean_entropy": draw.random(run.n),
        "mean_margin": mean / 2, "min_margin": low / 2, "confidence": mean,
    }  # fmt: skip
    scored = {"definition": "mean_probability", "max_tokens": 10, "scored_prompt_ids": ids}
    keep(run, store, "confidence_table", None, pa.table(columns), lambda: scored)
    sizes = np.bincount(codes, minlength=run.tasks_n)
    by_task = {
        "task": run.task_names, "pool_n": sizes, "scored_n": sizes, "mean_confidence": run.task_confidence,
        "standard_error": np.full(run.tasks_n, 0.01),
    }  # fmt: skip
    store.write_table(pa.table(by_task), footer("task_confidence", None))


def rankings_and_allocations(run: Run, name: str) -> None:
    """Make a ranking of every seed by its stage, check and store it, and make allocations from the stored ranking."""
    store = Store("large", str(run.folder))
    work = fake_work(run, store, "ranking", name)
    with run.step("ranking: make"):
        product = ranking.make_ranking(work)
    keep(run, store, "ranking", name, product.table, lambda: ranking.ranking_parameters(work))
    del product
    for budget_n in run.allocated:
        work = fake_work(run, store, "allocation", f"{budget_n}|{name}")
        with run.step("allocation: read the ranking", f"budget {budget_n}"):
            ranked = store.read_table("ranking", name).table
        with run.step("allocation: make", f"budget {budget_n}"):
            chosen = allocation.first_of(ranked, budget_n, run.seeds)
        del ranked
        keep(
            run,
            store,
            "allocation",
            work.unit.key,
            chosen,
            lambda work=work: known_to_allocation(work),
            f"budget {budget_n}",
        )


def known_to_allocation(work: Any) -> dict[str, Any]:
    """Return what `allocation_parameters` returns if no label was bought and no item is held out."""
    sizes = task_sizes(work)
    return {"budget_n": work.cell.budget_n, "selection_seeds": list(work.lineage.cell_selection_seeds(work.cell)),
            **sizes, "bought_labels": [], "held_out_ids": []}  # fmt: skip


# --- reading -----------------------------------------------------------------------------------------------------


def read(run: Run, rows_n: int) -> None:
    """Read, hash, check, store and label a user's file of `rows_n` prompts. Then read the answers as every cell does."""
    store = Store("read", str(run.folder))
    read_and_label(run, store, rows_n)
    with run.step("answers: read and hashed, as every cell does"):
        known = known_answers(store)
        hashes = {key: hashlib.sha256(text.encode()).hexdigest() for key, text in known.items() if text is not None}
    if len(hashes) != rows_n:
        raise RuntimeError(f"{rows_n - len(hashes)} answers are lost")


def read_and_label(run: Run, store: Store, rows_n: int) -> None:
    """Make raw_pool and task_labels as their stages do."""
    path = run.folder / "pool.parquet"
    draw = np.random.default_rng(4)
    words = np.array([f"word{i:03d}" for i in range(1_000)])
    prompts = [" ".join(words[row]) for row in draw.integers(1_000, size=(rows_n, 12))]  # 95 characters
    answers = [" ".join(words[row]) for row in draw.integers(1_000, size=(rows_n, 6))]
    names = np.array(run.task_names)[draw.integers(run.tasks_n, size=rows_n)]
    pq.write_table(
        pa.table({"id": np.arange(rows_n).astype(str), "prompt": prompts, "response": answers, "task": names}), path
    )
    del prompts, answers, names
    settings = run.experiment().pool.model_copy(update={"path": str(path)})
    with run.step("raw_pool: read and give ids"):
        pool = read_pool(settings)
    with run.step("raw_pool: sort"):
        rows = pool.table.sort_by("prompt_id")
    del pool
    with run.step("raw_pool: hash what it says"):
        frame.content_hashes(rows)
    keep(run, store, "raw_pool", None, rows, lambda: {"dropped_copies": [], "held_out_ids": []})
    with run.step("task_labels: make"):
        labelled = labels.from_column(rows).sort_by("prompt_id")
    parameters = {
        **pool_ids(SimpleNamespace(read=lambda _: rows)),
        "smallest_budget": 1_000,
        "agreement": None,
        "vote_confidence": None,
    }
    keep(run, store, "task_labels", None, labelled, lambda: parameters)


PARTS = {
    "pool": make_pool,
    "order": order,
    "picks": picks,
    "inputs": inputs,
    "tables": rankings_and_allocations,
    "read": read,
}


def main() -> None:
    """Run one part with the memory limit that the page states."""
    part, folder = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_GIB * 2**30, MEMORY_GIB * 2**30))
    name, *arguments = part.split()
    values = [int(one) if one.isdigit() else one for one in arguments]
    PARTS[name](Run(part, Path(folder), json.loads(os.environ["SIZES"])), *values)


if __name__ == "__main__":
    main()
