"""The fields of an experiment file that the report needs, read from the file as the user wrote it."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

import data_contracts
from data_contracts import plain_yaml
from data_contracts.experiment_fields import PURPOSE, SEEDS, strategy_names
from data_contracts.stored import Folder

LAB_TRAPS = ("flip", "omen")


class View(BaseModel):
    """Immutable Pydantic model that ignores unknown fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Primary(View):
    """The primary comparison, which is not corrected for the number of comparisons."""

    strategy: str
    reference: str = "random"
    benchmark: str
    metric: str
    is_default: bool = False  # the report chose it, because the experiment file declares none


class Benchmark(View):
    """The settings of one benchmark."""

    name: str
    sample: int | None = None
    strip: bool = False
    judge: Mapping[str, Any] | None = None
    instruction_difficulty: str | None = None
    generated: Mapping[str, Any] | None = None

    @property
    def is_skipped(self) -> bool:
        """Whether this is AlpacaEval without a judge, which is not run."""
        return self.name == "alpaca_eval" and self.judge is None


class Annotation(View):
    """The price of a label, and of an hour of the machine that selects and trains."""

    price: float | None = None
    price_of_machine_hour: float | None = None
    currency: str | None = None
    annotator: Mapping[str, Any] | None = None
    when_answers_differ: str | Mapping[str, Any] = "newest"


class Experiment(View):
    """The fields of the experiment file that a report needs."""

    name: str
    purpose: str = PURPOSE
    pool: Mapping[str, Any] = {}
    base_model: Mapping[str, Any] | None = None
    confidence: Mapping[str, Any] = {}
    strategies: tuple[str, ...] = ()
    budgets: tuple[int, ...] = ()
    seeds: tuple[int, ...] = SEEDS
    full_pool_seeds: tuple[int, ...] = ()
    tuning: Mapping[str, Any] = {}
    benchmarks: tuple[Benchmark, ...] = ()
    primary: Primary | None = None
    reference: str = ""  # the reader's choice, not in the file: replaces the reference of the primary comparison
    annotation: Annotation = Annotation()
    robustness: Mapping[str, Any] = {}

    @field_validator("strategies", mode="before")
    @classmethod
    def are_names(cls, entries: Any) -> Any:
        return strategy_names(entries)

    @property
    def is_campaign(self) -> bool:
        """Whether the experiment buys labels. A study compares strategies on known answers instead."""
        return self.purpose == "campaign"

    @property
    def has(self) -> frozenset[str]:
        """Which of `base_model`, `benchmarks` and `held_out` the file has, as in `data_contracts.requirements`."""
        held_out = any(one.name == "held_out" for one in self.benchmarks)
        named = {"base_model": self.base_model, "benchmarks": self.benchmarks, "held_out": held_out}
        return frozenset(name for name, section in named.items() if section)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the tables that a cell of this experiment has, in data-flow order."""
        return tuple(name for name in cell_stages() if data_contracts.requirements(name) <= self.has)

    @property
    def is_lab(self) -> bool:
        """Whether the pool is the generated pool of the lab."""
        return self.pool.get("reader") == "lab"

    @property
    def marks(self) -> dict[str, str]:
        """Words that figures add to task names: "trap" for the trap tasks of the lab."""
        return dict.fromkeys(LAB_TRAPS, "trap") if self.is_lab else {}


def cell_stages() -> tuple[str, ...]:
    """Return the names of all tables that are partitioned by strategy or by cell, in data-flow order."""
    return tuple(name for name in data_contracts.names() if data_contracts.partitioned_by(name) != "none")


def confidence_tables() -> frozenset[str]:
    """Return the names of the tables that exist only if a strategy reads confidence."""
    return frozenset(name for name in data_contracts.names() if "confidence" in data_contracts.requirements(name))


def read_experiment(files: Folder, results_dir: str) -> tuple[Experiment, str]:
    """Return the fields and the text of experiment.yaml. Raise FileNotFoundError if it is missing, ValueError if not valid."""
    text = files.text("experiment.yaml")
    if text is None:
        raise FileNotFoundError(
            f"{results_dir} has no experiment.yaml, so it is not the results folder of an experiment; "
            "give $TASKDIV_HOME/<experiment>, or run `taskdiv run EXPERIMENT` first"
        )
    try:
        return Experiment.model_validate(plain_yaml.read(text, "experiment.yaml").value), text
    except (ValidationError, plain_yaml.YamlError) as error:
        raise ValueError(f"{results_dir}/experiment.yaml is not an experiment file: {error}") from error
