"""The declaration of an asset. Dagster, `taskdiv run`, the report and the identities are all derived from declarations."""

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

EVERYTHING = ("*",)  # value of `reads` for an asset that reads all other assets
Settings = Mapping[str, object]


class Needs(NamedTuple):
    """Resources that one step requests for a 7B model in 16 bits.

    Attributes:
        cpus_n: number of processors.
        memory_gib: host memory in GiB.
        gpus_n: number of GPUs. A step with a GPU loads a model, so it takes a slot of the `accelerator` pool.
        reason: reason for these numbers.
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
        reason: sentence for the user: why the asset is not used, and what to add to the experiment file. It may contain
            `{asset}`, `{experiment}` and `{strategies}`.
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
    """Add every declared input of a unit to its identity, and return no settings. This is the default recipe."""
    for name in inputs.reads:
        inputs.of(name)
    return {}


@dataclass(frozen=True)
class Asset:
    """The declaration of one asset of the graph. Each asset has a file in `assets/`, a line in the registry and a contract.

    Attributes:
        name: name of the asset, its table and its contract.
        make: function that computes the table.
        description: description in the UI, as Markdown.
        reads: names of the assets that this asset reads; `EVERYTHING` for all others. Dagster's dependencies follow from this
            list. Reading another table raises UndeclaredInputError.
        recipe: function that adds inputs to the identity and returns the settings in the identity.
        code_version: part of the identity; increase it when a change of the code changes the result.
        partitioned_by: kind of the partitions: none, one per strategy, or one per cell (`budget|strategy`).
        reads_of: (experiment, partition key) -> names of the assets that this partition reads; None if that is `reads`.
        needs: resources that the asset's step requests.
        is_sharded: True if `$TASKDIV_SCORERS` workers can share the work.
        unless: conditions under which an experiment does not use the asset. The first true condition gives the reason.
        runs_after: names of assets that `taskdiv run` makes before this asset, although this asset does not read them.
        needs_answers: True if `taskdiv run` makes the asset only after all answers of the cell are known.
        folders: folders in the store that the table needs: none, the folder of its own identity, or those of its inputs.
        parameters: function that returns the values of the `$names` in the contract, from stored inputs.
        kinds: labels in the UI.
        picture: (table, notes) -> PNG bytes; b"" if there is nothing to draw.
        summary: notes of the footer -> Markdown for the UI.
        prepare: function that stores files on which the identity depends; it returns True if it stored something.
        afterwards: hook that updates derived files (such as model cards) after the table was stored or found fresh.
        lacks_notes: notes of a stored footer -> True if an earlier version wrote them, and notes that are needed now are missing.
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
