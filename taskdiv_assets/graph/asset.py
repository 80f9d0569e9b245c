"""The declaration of an asset: everything that Dagster, `taskdiv run`, the report and the identities need to know about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pyarrow as pa

from taskdiv_assets.experiment import ADD_BASE_MODEL, Experiment
from taskdiv_assets.experiment.benchmark_settings import asked
from taskdiv_assets.selection.strategies import READS_CONFIDENCE

if TYPE_CHECKING:  # these modules import this one
    from taskdiv_assets.graph.inputs import Inputs
    from taskdiv_assets.graph.work import Product, Work

EVERYTHING = ("*",)  # `reads` of an asset that reads all others
Settings = Mapping[str, object]


class Needs(NamedTuple):
    """Resources that one step requests, for a 7B model in 16 bits.

    Attributes:
        cpus_n: processors.
        memory_gib: host memory, GiB.
        gpus_n: whole GPUs. A step with a GPU holds the model, so it takes a slot of the `accelerator` pool.
        reason: for these figures.
    """

    cpus_n: int
    memory_gib: int
    gpus_n: int
    reason: str


HOLDS_7B = "one copy of the model on one GPU; 13 GiB of weights pass through host memory"


class Unless(NamedTuple):
    """Condition under which an experiment does not use an asset.

    Attributes:
        holds: (experiment, needs of its strategies) -> True if the asset is not used.
        reason: one sentence with `{asset}`, `{experiment}` and `{strategies}`: why, and what to add to the experiment file.
    """

    holds: Callable[[Experiment, frozenset[str]], bool]
    reason: str


NO_STRATEGY_READS_IT = (
    "none of the chosen strategies ({strategies}) reads {asset}; leave it out, or choose a strategy that does"
)
WITHOUT_BASE_MODEL = Unless(
    lambda experiment, _: experiment.base_model is None,
    "{asset} needs a base model, and {experiment} names none; " + ADD_BASE_MODEL.replace("{", "{{").replace("}", "}}"),
)
WITHOUT_BENCHMARK = Unless(
    lambda experiment, _: not any(asked(experiment.benchmarks)),
    "{asset} needs a benchmark, and {experiment} names none; add `benchmarks: [{{name: mmlu, sample: 1140}}]`",
)
WITHOUT_CONFIDENCE = Unless(lambda _, needs: not needs & READS_CONFIDENCE, NO_STRATEGY_READS_IT)
WITHOUT_EMBEDDINGS = Unless(lambda _, needs: "embeddings" not in needs, NO_STRATEGY_READS_IT)
WITHOUT_CANDIDATES = Unless(
    lambda experiment, _: experiment.tuning.candidates is None,
    "{experiment} names one learning rate; nothing has to be chosen",
)


def all_inputs(inputs: Inputs) -> Settings:
    """Recipe of a table that depends on everything that it reads, and on no setting."""
    for name in inputs.reads:
        inputs.of(name)
    return {}


@dataclass(frozen=True)
class Asset:
    """One asset of the graph: one file of `assets/`, one line of the registry, one data contract.

    Attributes:
        name: of the table and of its contract.
        make: computes the table.
        description: Markdown for the UI.
        reads: names of the assets that it reads; `EVERYTHING` for all others. Dagster's dependencies follow from it. A recipe
            or a `work.read` that asks for another table is refused.
        recipe: collects the inputs of the identity and returns the settings that enter it.
        code_version: part of the identity; raise it when the code changes the result.
        partitioned_by: nothing, the strategy, or the cell (`budget|strategy`).
        reads_of: (experiment, partition key) -> names that this partition reads; None if all partitions read the same.
        needs: resources of its step.
        is_sharded: `$TASKDIV_SCORERS` workers may share its work.
        unless: conditions under which an experiment does not use it; the first that holds gives the reason.
        runs_after: `taskdiv run` makes these first if they are due too, although it does not read them.
        needs_answers: `taskdiv run` makes it only once a cell has all its answers.
        folders: content folders in the store that the table needs: none, the one of its own identity, or those of its inputs.
        parameters: values of the contract's `$names`, from stored inputs.
        kinds: labels in the UI.
        picture: (table, notes) -> PNG bytes; empty if there is nothing to draw.
        summary: notes of the footer -> Markdown for the UI.
        prepare: stores what the identity depends on besides tables; returns True if something was stored.
        afterwards: refreshes derived files (such as model cards) after the table was published or found fresh.
        lacks_notes: returns True if a stored footer of an earlier version lacks notes that are needed now.
    """

    name: str
    make: Callable[[Work], Product]
    description: str
    needs: Needs
    reads: tuple[str, ...] = ()
    recipe: Callable[[Inputs], Settings] = all_inputs
    code_version: int = 1
    partitioned_by: Literal["none", "strategy", "cell"] = "none"
    reads_of: Callable[[Experiment, str], Sequence[str]] | None = None
    is_sharded: bool = False
    unless: tuple[Unless, ...] = ()
    runs_after: tuple[str, ...] = ()
    needs_answers: bool = False
    folders: Literal["none", "own", "inputs"] = "none"
    parameters: Callable[[Work], Mapping[str, Any]] | None = None
    kinds: frozenset[str] = frozenset({"python", "parquet"})
    picture: Callable[[pa.Table, Mapping[str, Any]], bytes] | None = None
    summary: Callable[[Mapping[str, Any]], str] | None = None
    prepare: Callable[[Work], bool] | None = None
    afterwards: Callable[[Work], None] | None = None
    lacks_notes: Callable[[Mapping[str, Any]], bool] | None = None

    @property
    def holds_model(self) -> bool:
        return self.needs.gpus_n > 0
