"""Reader of the columns of stored tables that the report needs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import data_contracts
from data_contracts.cell_keys import BUDGET_PATTERN, split_key
from data_contracts.stored import Folder, Listing
from reports import scores as scores_module
from reports.scores import ArmKey


class TaskConfidence(NamedTuple):
    """Confidence on one task of the pool."""

    task: str
    pool_n: int
    scored_n: int
    mean: float
    standard_error: float | None  # finite population: 0 if all are scored; None if unknown


class ComparedTask(NamedTuple):
    """Confidence and labels of one task, by one source and definition of confidence, at one budget."""

    source: str
    definition: str
    budget_n: int
    task: str
    is_chosen: bool  # whether the experiment uses this source and definition
    mean_confidence: float
    allocated_n: int
    allocated_low_n: int | None  # None if every prompt is scored
    allocated_high_n: int | None
    distance_by_sampling: float
    score_s: float


class TaskAccuracy(NamedTuple):
    """Confidence and the base model's accuracy on the validation items of one task."""

    task: str
    items_n: int
    mean_confidence: float
    accuracy: float
    accuracy_low: float  # 95% interval
    accuracy_high: float
    answer_probability: float


class AdapterRun(NamedTuple):
    """One trained adapter."""

    strategy: str
    budget_n: int
    seed: int
    examples_n: int
    tokens_n: int
    final_loss: float
    train_s: float


class Selections(NamedTuple):
    """Counts of the chosen prompts of each cell, and overlaps between strategies."""

    counts: dict[ArmKey, dict[str, float]]  # prompts by task, mean over selection seeds
    seeds_n: dict[ArmKey, int]  # number of selection seeds, at least 1
    overlaps: dict[tuple[str, str], float]  # share of prompts in common at `overlap_budget_n`
    overlap_budget_n: int | None


class Reader(NamedTuple):
    """Reader of stored tables. It leaves out a table that cannot be read, and adds a sentence to `problems`."""

    files: Folder
    listing: Listing
    problems: list[str]

    def columns(self, asset: str, key: str | None, *names: str) -> pa.Table | None:
        """Return the columns `names` of one table; None if the table is not stored, cannot be read, or lacks one of them."""
        table = self.listing.tables.get((asset, key))
        if table is None:
            return None
        try:
            read = self.files.columns(table.path, names, as_dictionaries=True)
            missing = [name for name in names if name not in read.column_names]
            if missing:
                raise KeyError(f"no column {', '.join(missing)}")
        except (OSError, KeyError, pa.ArrowException) as error:
            self.problems.append(
                f"{table.name} cannot be used ({type(error).__name__}: {str(error)[:120]}); it is left out"
            )
            return None
        return read

    def keys(self, asset: str) -> Iterable[tuple[str, ArmKey]]:
        """Yield the partition key and (strategy, budget) of each stored cell of an asset."""
        for name, key in sorted(self.listing.tables, key=str):
            budget, strategy = split_key(key or "")
            if name == asset and key and BUDGET_PATTERN.fullmatch(budget):
                yield key, (strategy, int(budget))

    def cells(self, asset: str, *names: str, wanted: set[ArmKey] | None = None) -> Iterable[tuple[ArmKey, pa.Table]]:
        """Yield (strategy, budget) and columns of each readable cell of an asset; only of cells in `wanted` if it is given."""
        for key, cell in self.keys(asset):
            table = self.columns(asset, key, *names) if wanted is None or cell in wanted else None
            if table is not None:
                yield cell, table

    def task_sizes(self) -> dict[str, int]:
        """Return the number of prompts of each task, from the task labels or, if they are missing, from confidence by task."""
        labels = self.columns("task_labels", None, "task")
        if labels is not None:
            return _counts(labels["task"])
        return {row.task: row.pool_n for row in self.confidence()}

    def confidence(self) -> tuple[TaskConfidence, ...]:
        names = ("task", "pool_n", "scored_n", "mean_confidence", "standard_error")
        rows = self._rows(data_contracts.with_role("confidence_by_task"), names)
        return tuple(TaskConfidence(*row.values()) for row in rows)

    def compared(self) -> tuple[ComparedTask, ...]:
        """Return the rows of the comparison of sources and definitions of confidence."""
        return tuple(ComparedTask(**row) for row in self._rows("confidence_comparison", ComparedTask._fields))

    def accuracy(self) -> tuple[TaskAccuracy, ...]:
        return tuple(TaskAccuracy(**row) for row in self._rows("confidence_accuracy", TaskAccuracy._fields))

    def _rows(self, asset: str, names: Sequence[str]) -> list[dict[str, Any]]:
        table = self.columns(asset, None, *names)
        return [] if table is None else list(table.to_pylist())

    def score_tables(self, wanted: set[ArmKey]) -> Iterable[tuple[ArmKey, pa.Table]]:
        """Yield the item scores of the base model and of the cells in `wanted`, where they are stored and readable."""
        base = self.columns("base_scores", None, *scores_module.COLUMNS)
        if base is not None:
            yield scores_module.BASE, base
        yield from self.cells("benchmark_scores", *scores_module.COLUMNS, wanted=wanted)

    def selections(self, strategies: tuple[str, ...], budgets: tuple[int, ...]) -> Selections:
        """Return the number of chosen prompts by task for each cell, and the overlaps between strategies at one budget.

        This budget is the largest one at which two or more strategies have chosen prompts.
        """
        counts: dict[ArmKey, dict[str, float]] = {}
        seeds_of: dict[ArmKey, int] = {}
        wanted = set(product(strategies, budgets))
        for arm, table in self.cells("allocation", "selection_seed", "task", wanted=wanted):
            seeds_of[arm] = max(1, len(pc.unique(table["selection_seed"])))
            counts[arm] = {task: n / seeds_of[arm] for task, n in _counts(table["task"]).items()}
        shared = [budget for budget in budgets if sum((name, budget) in counts for name in strategies) > 1]
        if not shared:
            return Selections(counts, seeds_of, {}, None)
        largest, chosen = max(shared), {}
        wanted = set(product(strategies, [largest]))
        for (name, _), table in self.cells("allocation", "selection_seed", "prompt_id", wanted=wanted):
            seeds = table["selection_seed"].to_numpy()
            ids = table["prompt_id"].cast(pa.string()).combine_chunks()
            chosen[name] = {int(seed): ids.filter(pa.array(seeds == seed)) for seed in np.unique(seeds)}
        overlaps = _overlaps({name: chosen[name] for name in strategies if name in chosen})
        return Selections(counts, seeds_of, overlaps, largest)

    def adapters(self) -> tuple[AdapterRun, ...]:
        names = ("training_seed", "examples_n", "trained_tokens_n", "final_loss", "train_s")
        rows = [(cell, row) for cell, table in self.cells("adapter", *names) for row in table.to_pylist()]
        return tuple(sorted(AdapterRun(*cell, *(row[name] for name in names)) for cell, row in rows))


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    pairs = column.cast(pa.string()).value_counts().to_pylist()
    return dict(sorted((str(pair["values"]), int(pair["counts"])) for pair in pairs))


def _overlaps(chosen: Mapping[str, Mapping[int, pa.Array]]) -> dict[tuple[str, str], float]:
    """Return for each pair of strategies the share of prompts in common, as the mean over the selection seeds that both have.

    The share is relative to the smaller of the two lists. For a strategy with itself, it is the mean over all pairs of its seeds;
    NaN with one seed. A pair of strategies without a common seed is left out.
    """
    rows = [(name, seed) for name, by_seed in chosen.items() for seed in by_seed]
    every = pc.unique(pa.concat_arrays([pa.array([], pa.string()), *(chosen[name][seed] for name, seed in rows)]))
    holds = np.zeros((len(rows), len(every)), dtype=np.float64)
    for place, (name, seed) in enumerate(rows):
        holds[place, pc.index_in(chosen[name][seed], value_set=every).to_numpy()] = 1
    sizes = holds.sum(axis=1)
    common = (holds @ holds.T) / np.maximum(1, np.minimum(sizes[:, None], sizes))
    of = {row: place for place, row in enumerate(rows)}
    shares = {}
    for first, own in chosen.items():
        pairs = [float(common[of[first, a], of[first, b]]) for a, b in combinations(own, 2)]
        shares[first, first] = sum(pairs) / len(pairs) if pairs else math.nan
        for second in chosen:
            seeds = sorted(set(own) & set(chosen[second]))
            if first != second and seeds:
                shares[first, second] = sum(float(common[of[first, s], of[second, s]]) for s in seeds) / len(seeds)
    return shares
