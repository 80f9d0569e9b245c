"""Scores on the lab after fine-tuning, by the source of the task labels: true, found, random, one task. Writes docs/DISCOVERY.md.

Run: python -m tests.evidence.discovered_scores     (about 45 CPU seconds a seed, and the base; `make evidence` calls it)

The strategy is `task_diversity` for every source, so only the labels differ. Model, tuning and test items are those of the demo.
Each finished adapter is a line of a file, so an interrupted run continues. Lines of other settings are not read.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reports.difference import Arm, Difference, compare
from taskdiv_assets.experiment import LabModel
from taskdiv_assets.experiment import experiment_file as experiments
from taskdiv_assets.experiment.benchmark_settings import LabBenchmark
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.language_model.tuning import Example
from taskdiv_assets.pools.discovery.found_tasks import PICKS_A_TASK, PROMPTS_A_TASK, VERSION, discover, tasks_by_rule
from taskdiv_assets.pools.lab import held_out_items
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.selection import SelectionPool, parse_prompt_ids, rank
from taskdiv_assets.selection.streams import generator
from taskdiv_assets.storage.store import home
from tests.benchmarks.page import table
from tests.evidence.marked import replace_marked

Codes = NDArray[np.int64]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "DISCOVERY.md"
MARK = "lab scores"
SOURCES = ("true", "found", "random", "one task")
BUDGETS = (128, 256)
SEEDS_N = 5


class Cell(NamedTuple):
    """One adapter to train and score."""

    source: str
    budget_n: int
    seed: int


Scores = dict[Cell, NDArray[np.float64]]  # exact match of each test item, 0 or 1; items are sorted by task


def labels_of(names: Sequence[str], found: Codes, seed: int) -> dict[str, Codes]:
    """Return the task of each prompt by source, from the true names and the found tasks.

    Random tasks have the sizes of the found tasks.

    >>> {name: codes.tolist() for name, codes in labels_of(["b", "a"], np.array([0, 0]), 0).items()}
    {'true': [1, 0], 'found': [0, 0], 'random': [0, 0], 'one task': [0, 0]}
    """
    true = np.unique(names, return_inverse=True)[1].astype(np.int64)
    shuffled = generator(seed, "evidence", "discovery", "random labels").permutation(found)
    return dict(zip(SOURCES, (true, found, shuffled, np.zeros_like(true)), strict=True))


def cells(seeds_n: int) -> Iterator[Cell]:
    """Return the cells, one seed after the other, so that an interrupted run has whole seeds."""
    for seed, budget_n, source in itertools.product(range(seeds_n), BUDGETS, SOURCES):
        yield Cell(source, budget_n, seed)


def read(path: Path, identity: str) -> Scores:
    """Return the finished cells of one identity. A line that was cut off is not read."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        if line.endswith("}") and (one := json.loads(line))["identity"] == identity:
            found[Cell(*one["cell"])] = np.array([*one["scores"]], np.float64)
    return found


def append(path: Path, identity: str, cell: Cell, scores: NDArray[np.float64]) -> None:
    line = {"identity": identity, "cell": cell, "scores": "".join(str(int(score)) for score in scores)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def arms(scores: Mapping[Cell, NDArray[np.float64]], budget_n: int) -> dict[str, Arm]:
    """Return the scores of each source at one budget, with the seeds that all sources have."""
    by_source = [
        {cell.seed for cell in scores if (cell.source, cell.budget_n) == (source, budget_n)} for source in SOURCES
    ]
    seeds = tuple(sorted(set.intersection(*by_source)))
    if not seeds:
        raise ValueError(f"no seed has the scores of all sources at {budget_n} labels; run the program again")
    return {
        source: Arm(np.stack([scores[Cell(source, budget_n, seed)] for seed in seeds]), seeds) for source in SOURCES
    }


def section(scores: Scores, tasks_n: Mapping[str, int], tasks: Codes) -> str:
    """Return the table: one line for each source and budget, with the difference to true labels and to random labels."""
    rows, seeds = [], 0
    for budget_n in BUDGETS:
        by_source = arms(scores, budget_n)
        for source, arm in by_source.items():
            seeds = len(arm.seeds)
            others = [
                _shown(compare(arm, by_source[other], tasks)) if source != other else "" for other in ("true", "random")
            ]
            rows.append([str(budget_n), source, str(tasks_n[source]), f"{arm.scores.mean():.3f}", *others])
    heads = ["labels", "tasks from", "tasks", "score", "minus true", "minus random"]
    return f"{seeds} seeds; in brackets the paired 95% interval over seeds and items.\n\n{table(heads, rows)}"


def _shown(one: Difference) -> str:
    return f"{one.estimate:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"


def chooser(settings: Pool) -> tuple[dict[str, Codes], Callable[[Cell], list[Example]]]:
    """Return the tasks by source, and a function from a cell to its examples."""
    pool = read_pool(settings).table.sort_by("prompt_id")
    ids, names, prompts, responses = (
        pool[name].to_pylist() for name in ("prompt_id", "source_task", "prompt", "response")
    )
    found = discover(prompts, ids, tasks_by_rule(len(ids), min(BUDGETS)))
    by_source = labels_of(names, found.codes, 0)
    examples = [Example(*row) for row in zip(ids, prompts, responses, strict=True)]

    def choose(cell: Cell) -> list[Example]:
        codes = by_source[cell.source]
        tasks = tuple(f"task {code}" for code in range(int(codes.max()) + 1))
        order = rank(
            "task_diversity",
            SelectionPool(parse_prompt_ids(ids), codes.astype(np.int32), tasks),
            seed=cell.seed,
            depth=cell.budget_n,
        )
        return [examples[row] for row in order]

    return by_source, choose


def main() -> None:
    """Train and score what is missing, and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.evidence.discovered_scores", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seeds", type=int, default=SEEDS_N, help=f"training seeds (default: {SEEDS_N})")
    parser.add_argument("--base", type=Path, help="folder of the demo's base model, if it was trained before")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to write into (default: docs/DISCOVERY.md)")
    arguments = parser.parse_args()
    demo = experiments.load("demo")
    made_of = [demo.tuning.model_dump_json(), demo.base_model.model_dump_json(), demo.pool.model_dump_json(), VERSION]
    identity = hashlib.sha256(json.dumps([*made_of, BUDGETS, PICKS_A_TASK, PROMPTS_A_TASK]).encode()).hexdigest()[:16]
    path = Path(home()) / "evidence" / "discovered_scores.jsonl"
    by_source, choose = chooser(demo.pool)
    with tempfile.TemporaryDirectory() as scratch:
        missing = [cell for cell in cells(arguments.seeds) if cell not in read(path, identity)]
        base = arguments.base or (_trained_base(Path(scratch), demo.base_model.lab or LabModel()) if missing else None)
        for number, cell in enumerate(missing, start=1):
            append(path, identity, cell, _scored(base or Path(), cell, choose(cell), demo))
            print(f"{number} of {len(missing)} adapters: {cell}", flush=True)
    items = held_out_items("test", demo.pool.seed)
    tasks = np.unique(sorted(item.task for item in items), return_inverse=True)[1].astype(np.int64)
    tasks_n = {source: int(codes.max()) + 1 for source, codes in by_source.items()}
    replace_marked(arguments.page, MARK, section(read(path, identity), tasks_n, tasks))


def _scored(
    base: Path, cell: Cell, examples: Sequence[Example], demo: experiments.Experiment
) -> NDArray[np.float64]:  # (items,)
    from taskdiv_assets.language_model.loading import load
    from taskdiv_assets.language_model.tuning import Base, tune
    from tests.benchmark_tasks.scoring import score

    with tempfile.TemporaryDirectory() as folder:
        tune(Base(base, "float32", "sdpa"), examples, demo.tuning, seed=cell.seed, out=Path(folder))
        lm = load(base, dtype="float32", attention="sdpa")
        benchmark = LabBenchmark(name="lab", split="test")
        scored = score(lm, {cell.seed: Path(folder)}, benchmark, pool=demo.pool)[cell.seed].table
    scores: NDArray[np.float64] = scored["score"].to_numpy().astype(np.float64)
    return scores


def _trained_base(folder: Path, settings: LabModel) -> Path:
    from taskdiv_assets.language_model.lab_model import train

    print("training the lab's base …", flush=True)
    train(settings, None, folder)
    return folder


if __name__ == "__main__":
    main()
