"""Types that declare an asset: its function, inputs, partitions and resources, and conditions for not using the asset.

Dagster's definitions, the plan of `taskdiv run` and the identities of results are derived from the declarations in `assets`.
"""

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
    """Resources that one step requests. The declarations of assets state the resources for a 7B model in 16 bits."""

    cpus_n: int
    memory_gib: int  # host memory
    gpus_n: int  # a step with a GPU loads a model, so it takes a slot of the `accelerator` pool
    reason: str  # reason for these numbers


HOLDS_7B = "one copy of the model on one GPU; 13 GiB of weights pass through host memory"


class Unless(NamedTuple):
    """Condition under which an experiment does not use an asset."""

    holds: Callable[[Experiment, frozenset[str]], bool]  # the set contains the needs of the experiment's strategies
    reason: str  # why, and what to add to the file; it may contain `{asset}`, `{experiment}` and `{strategies}`


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
WITHOUT_HELD_OUT = Unless(
    lambda experiment, _: experiment.held_out is None,
    "{asset} holds the items of the benchmark `held_out`, and {experiment} has none; add "
    "`benchmarks: [{{name: held_out, per_task: 20}}]`",
)
WITHOUT_CONFIDENCE = Unless(lambda _, needs: not needs & READS_CONFIDENCE, NO_STRATEGY_READS_IT)
WITHOUT_EMBEDDINGS = Unless(
    lambda experiment, needs: "embeddings" not in needs and "embeddings" not in experiment.task_labels.views,
    NO_STRATEGY_READS_IT,
)


def unless_viewed(view: str) -> Unless:
    """Return the condition for an asset that is used only if tasks are found by the view `view`."""
    return Unless(
        lambda experiment, _: view not in experiment.task_labels.views,
        f"{{asset}} is the view `{view}` of found tasks, and {{experiment}} does not use this view",
    )


WITHOUT_CANDIDATES = Unless(
    lambda experiment, _: experiment.tuning.candidates is None,
    "{experiment} names one learning rate; nothing has to be chosen",
)


def all_inputs(inputs: Inputs) -> Settings:
    """Add the table of every asset in `inputs.reads` to a unit's identity. Return {} (no settings). The default `recipe`."""
    for name in inputs.reads:
        inputs.of(name)
    return {}


@dataclass(frozen=True)
class Asset:
    """The declaration of one asset of the graph. Each asset has a file in `assets`, a line in the registry and a contract.

    Dagster's dependencies follow from `reads`. Reading the table of any other asset raises UndeclaredInputError.
    """

    name: str  # name of the asset, its table and its contract
    make: Callable[[Work], Product]
    description: str  # Markdown for the UI
    needs: Needs
    reads: tuple[str, ...] = ()  # names of the assets that this asset reads; `EVERYTHING` for all others
    recipe: Callable[[Inputs], Settings] = all_inputs  # adds inputs to the identity, returns its settings
    code_version: int = 1  # part of the identity; increase it when a change of the code changes the result
    partitioned_by: Literal["none", "strategy", "cell"] = "none"
    reads_of: Callable[[Experiment, str], Sequence[str]] | None = (
        None  # the `reads` of an experiment's partition, if fewer
    )
    is_sharded: bool = False  # True if `$TASKDIV_SCORERS` workers can share the work
    unless: tuple[Unless, ...] = ()  # conditions for not using the asset; the first that holds gives the reason
    runs_after: tuple[str, ...] = ()  # assets that `taskdiv run` makes earlier, although this asset does not read them
    needs_answers: bool = False  # True if `taskdiv run` leaves the asset out in cells with missing answers
    folders: Literal["none", "own", "inputs"] = "none"  # folders that must exist, by name: its identity, or its inputs'
    parameters: Callable[[Work], Mapping[str, Any]] | None = None  # values of the `$names` in the contract
    kinds: frozenset[str] = frozenset({"python", "parquet"})  # labels in the UI
    picture: Callable[[pa.Table, Mapping[str, Any]], bytes] | None = None  # (table, notes) -> PNG; b"" for no picture
    summary: Callable[[Mapping[str, Any]], str] | None = None  # notes of the footer -> Markdown for the UI
    prepare: Callable[[Work], bool] | None = None  # stores files that the identity depends on; True if any was new
    afterwards: Callable[[Work], None] | None = None  # updates derived files, such as model cards, for a fresh table
    files: tuple[str, ...] = ()  # paths of files made with the table; `notes["files"]` has the SHA-256 of each
    lacks_notes: Callable[[Mapping[str, Any]], bool] | None = None  # True if the notes of a stored table are incomplete

    @property
    def holds_model(self) -> bool:
        return self.needs.gpus_n > 0
