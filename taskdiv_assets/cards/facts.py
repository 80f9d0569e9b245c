"""The facts of a card. They come from the store, and contain no path of a local file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.graph.cells import Cell


class PoolSource(NamedTuple):
    """The origin of a pool: a name on the hub, hashes of files, or the lab's seed. Paths are left out."""

    reader: str
    hub: str | None = None
    revision: str | None = None
    split: str | None = None
    sha256: tuple[str, ...] = ()  # one for each file, in reading order
    lab_seed: int | None = None

    @classmethod
    def of(cls, pool: Pool, inputs: Mapping[str, str]) -> PoolSource:
        if pool.reader == "lab":
            return cls("lab", lab_seed=pool.seed)
        if pool.hub:
            return cls(pool.reader, pool.hub, pool.revision, pool.split)
        places = sorted((name for name in inputs if name.startswith("source/")), key=lambda name: int(name[7:]))
        return cls(pool.reader, sha256=tuple(inputs[name] for name in places))


class BaseFacts(NamedTuple):
    """A base model. `source` is its name on the hub, the last part of its path, or the seed of the lab's model."""

    identity: str
    source: str
    is_on_hub: bool
    revision: str | None
    dtype: str


class TrainingFacts(NamedTuple):
    """The inputs and results of one training."""

    training_seed: int
    selection_seed: int
    pairs: str  # digest of the sorted pairs (prompt_id, SHA-256 of the answer)
    base: BaseFacts
    pool: PoolSource
    tuning: Mapping[str, object]  # the method's hyper-parameters by name
    prompt_template: str
    has_chat_template: bool
    examples_n: int
    trained_tokens_n: int
    final_loss: float  # loss of the last step in nats per completion token
    steps_n: int
    cut_n: int  # examples that were longer than the model's context
    choices: Mapping[str, str]  # automatic decisions of the training, with their reasons
    environment: Mapping[str, object]  # as returned by `environment.describe`


class MeanScore(NamedTuple):
    """A mean score on one benchmark. All tasks of the benchmark have equal weights."""

    training_seed: int | None  # None for the base model
    benchmark: str
    metric: str
    mean: float  # 0 to 1
    items_n: int
    tasks_n: int


class ModelFacts(NamedTuple):
    """The facts of one adapter or one fully tuned model."""

    experiment: str
    purpose: str
    identity: str
    training: TrainingFacts
    cells: tuple[Cell, ...]  # cells whose table `adapter` names the folder of this model
    scores: tuple[MeanScore, ...]
    base_scores: tuple[MeanScore, ...]  # of the base model with the same benchmark settings; empty without such scores
    splits: Mapping[str, str]  # benchmark → split that was scored; only benchmarks with several splits


class TaskCount(NamedTuple):
    """The number of prompts of one task in the pool and in the selection of each selection seed."""

    task: str
    pool_n: int
    chosen_n: tuple[int, ...]


class SelectionFacts(NamedTuple):
    """The facts of one selection."""

    experiment: str
    purpose: str
    strategy: str
    budget_n: int
    identity: str
    selection_seeds: tuple[int, ...]
    pool: PoolSource
    rows_read_n: int
    drops: Mapping[str, int]  # reason → number of dropped rows
    repairs: Mapping[str, int]  # reason → number of values that were set to null
    duplicates: str
    duplicates_n: int
    prompts_under_two_tasks_n: int
    tasks: tuple[TaskCount, ...]
    labels_how: Mapping[str, int]  # prompts of the pool by the method that found their task
    answered_n: tuple[int, ...]  # selected prompts with a known answer, by selection seed

    @property
    def pool_n(self) -> int:
        return sum(task.pool_n for task in self.tasks)


def means_as_notes(scores: pa.Table) -> list[dict[str, Any]]:
    """Return `mean_scores` as mappings for the notes in a table's footer, so that a card is written without reading the table."""
    return [entry._asdict() for entry in mean_scores(scores)]


def mean_scores(scores: pa.Table) -> list[MeanScore]:
    """Return the means by training seed, benchmark and metric. Tasks have equal weights, as in `reports.statistics`."""
    by = ["training_seed", "benchmark", "metric"]
    tasks = scores.group_by([*by, "task"]).aggregate([("score", "mean"), ("score", "count")])
    found = tasks.group_by(by).aggregate([("score_mean", "mean"), ("score_count", "sum"), ("task", "count")])
    order = pc.sort_indices(found, sort_keys=[(name, "ascending") for name in by])
    names = [*by, "score_mean_mean", "score_count_sum", "task_count"]
    return [MeanScore(*(row[name] for name in names)) for row in found.take(order).to_pylist()]
