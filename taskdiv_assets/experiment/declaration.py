"""The settings of an experiment as frozen classes, one class for each section of an experiment file.

Each class rejects unknown keys and contradictions between its fields; `experiment_file` checks sections against each other.
Options of a run (device, workers, folders) do not belong here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from data_contracts.cell_keys import BUDGET_PATTERN
from data_contracts.experiment_fields import NAME_PATTERN, PURPOSE, SEEDS, strategy_names
from taskdiv_assets.confidence.measures import Definition
from taskdiv_assets.experiment import plugins
from taskdiv_assets.experiment.annotation_settings import Annotation
from taskdiv_assets.experiment.benchmark_settings import Benchmark, HeldOutBenchmark
from taskdiv_assets.experiment.cost_budgets import BUDGETS, BudgetSettings
from taskdiv_assets.experiment.order_settings import ROUNDS_MAX, Embeddings, FacilityLocation, Rounds, RoundsName
from taskdiv_assets.experiment.own_orders import OwnOrder
from taskdiv_assets.experiment.pool_settings import Pool, TaskLabels
from taskdiv_assets.experiment.robustness_settings import VARIANTS_MAX, Variant, VariantName, with_prompt
from taskdiv_assets.selection import STRATEGIES, Strategy
from taskdiv_assets.selection.strategies import facility_location
from taskdiv_assets.tuning_settings import Number, PositiveInt, Seed, Settings, Switch, Tuning

ENTRIES_MAX = 1_000  # limit for each of budgets, seeds, strategies and benchmarks; each combination is a cell
DEFAULT_GREEDY_DEPTH = 50_000
ADD_BASE_MODEL = "add `base_model: {path: FOLDER}` or `base_model: {hub: OWNER/NAME, revision: COMMIT}`"
CHOSEN_SOURCE = "chosen"  # name of the source of confidence that strategies use
# QLoRA's learning rate for a 7B model (arXiv:2305.14314, table 9) and three epochs. A study sets its own values.
DEFAULT_TUNING = Tuning(learning_rate=2e-4, epochs=3)


class LabModel(Settings):
    """The base model of the lab (the built-in demo): a tiny Llama, trained from random weights on the tasks of the lab."""

    seed: Seed = 1
    steps: PositiveInt = 500
    batch_size: PositiveInt = 64
    learning_rate: Annotated[Number, Field(gt=0)] = 4e-3
    hidden_size: PositiveInt = 96
    layers: PositiveInt = 3


# Pattern of an e-mail address or a team, in the form that Dagster accepts.
OWNER_PATTERN = r"^([A-Za-z0-9_][A-Za-z0-9._%+-]*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,7}|team:[A-Za-z0-9_-]+)$"
Owner = Annotated[str, Field(pattern=OWNER_PATTERN)]


class BaseModelSource(Settings):
    """The source of a model: the lab, a hub repository, or a local folder or GGUF file."""

    lab: LabModel | None = None
    hub: str | None = None
    revision: str | None = None
    path: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if sum(source is not None for source in (self.lab, self.hub, self.path)) != 1:
            raise ValueError("expected exactly one of `lab: {…}`, `hub: owner/name` or `path: folder`")
        if self.hub and not self.revision:
            raise ValueError("`hub` needs `revision`: a commit of the model, so that results can be reproduced")
        return self

    @property
    def label(self) -> str:
        """Short name of the model: the repository on the hub (`OWNER/NAME`), the name of the folder or file, or `lab`."""
        path = " ".join((self.path or "").split())
        return self.hub or (Path(path).name.strip(".") or path if self.path else "lab")


class ConfidenceSource(Settings):
    """The source of confidence: the text whose tokens are scored, and the model that scores them.

    Attributes:
        of: the text whose tokens are scored: the model's greedy continuation of a prompt or, cheaper, the prompt itself.
        model: the model that scores; the base model by default.
    """

    of: Literal["continuation", "prompt"] = "continuation"
    model: BaseModelSource | None = None


class Alternative(ConfidenceSource):
    """Another source of confidence, which is scored for comparison with the source that strategies use."""

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=40)]


class Confidence(ConfidenceSource):
    """The confidence of each prompt: its source, and the column of confidence_table that is used."""

    column: Definition = "mean_probability"
    max_new_tokens: PositiveInt = 128
    alternatives: Annotated[tuple[Alternative, ...], Field(max_length=ENTRIES_MAX)] = ()
    validation_items: Annotated[int, Field(ge=0, strict=True)] = 20

    @field_validator("alternatives")
    @classmethod
    def _have_distinct_names(cls, alternatives: tuple[Alternative, ...]) -> tuple[Alternative, ...]:
        names = [CHOSEN_SOURCE, *(entry.name for entry in alternatives)]
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise ValueError(f"{twice[0]!r} is the name of two sources; `{CHOSEN_SOURCE}` is the experiment's own")
        return alternatives


class Sampling(Settings):
    """A rule that stops the scoring of a task when the confidence interval of its mean confidence is narrow enough.

    Attributes:
        tolerance: largest half-width of the interval, relative to the mean.
        level: confidence level of all checks of a task together; each check has a higher level if more than one is possible.
        first: number of prompts of a task that are scored before the first interval is computed.
    """

    tolerance: Annotated[Number, Field(gt=0, lt=1)]
    level: Annotated[Number, Field(gt=0.5, lt=1)] = 0.95
    first: Annotated[int, Field(ge=2, strict=True)] = 32


class Primary(Settings):
    """The primary comparison, which is declared before the run."""

    strategy: str
    reference: str = "random"
    benchmark: str
    metric: str


class VariantOf(NamedTuple):
    """What makes an experiment a variant of another one (see `variants`)."""

    name: str
    parent: Experiment
    rate_factor: (
        float  # factor of the parent's learning rate, if the parent chooses this rate; otherwise it is applied already
    )
    budget_n: int
    strategies: tuple[str, ...]  # strategy and reference of the primary comparison
    benchmark: str


class Experiment(BudgetSettings):
    """All settings of one study or campaign. `owners` and `fresh_days` change only what Dagster shows, not the results.

    A study must set `base_model`, `seeds`, `tuning`, `benchmarks` and `primary`, which `experiment_file` checks. A campaign has
    defaults for `seeds` and `tuning`, and may leave out `base_model` and `benchmarks` until it trains and scores.

    Attributes:
        purpose: a study compares strategies on known answers; a campaign buys labels.
        base_model: the model that is scored and tuned; None if no step reads a model.
        benchmarks: benchmarks that score the tuned models; empty if no model is scored.
        own_orders: the entries of `strategies` that are a user's own order instead of a name.
        strategies: names of strategies, including the names of `own_orders`.
        primary: the primary comparison. By default, the report compares the last strategy with `random`, or with the first
            strategy if there is no `random`, on the first benchmark and metric.
        rounds: strategies that draw the order of the remaining prompts again in each round, by name.
        robustness: variants, by name: repetitions of the primary comparison with other settings.
        owners: owners of the assets, as e-mail addresses, or as teams such as `team:name`.
        fresh_days: number of days after which Dagster shows the pool and the report as stale, if they are not checked again.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=63)]  # 63 is the limit of a Dagster tag
    purpose: Literal["study", "campaign"] = PURPOSE
    pool: Pool
    task_labels: TaskLabels = TaskLabels()
    base_model: BaseModelSource | None = None
    prompt_template: str = "{prompt}"
    chat_template: Switch = False
    confidence: Confidence = Confidence()
    confidence_sample: PositiveInt | Sampling | None = None
    embeddings: Embeddings = Embeddings()
    facility_location: FacilityLocation = FacilityLocation()
    own_orders: Annotated[SkipJsonSchema[tuple[OwnOrder, ...]], Field(exclude_if=lambda found: not found)] = ()
    # Left out of the identity of the report if it is empty, as `robustness` is.
    rounds: Annotated[
        dict[RoundsName, Rounds], Field(max_length=ROUNDS_MAX, default_factory=dict, exclude_if=lambda found: not found)
    ]
    strategies: Annotated[
        list[str],
        BeforeValidator(strategy_names, json_schema_input_type=list[str | OwnOrder]),
        Field(min_length=1, max_length=ENTRIES_MAX),
    ]
    budgets: Annotated[list[PositiveInt], BUDGETS, Field(min_length=1, max_length=ENTRIES_MAX)]
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=ENTRIES_MAX, default_factory=lambda: [*SEEDS])]
    selection_seed: Seed = 0
    full_pool_seeds: Annotated[list[Seed], Field(max_length=ENTRIES_MAX, default_factory=list)]
    ranking_depth: PositiveInt | None = None
    keep_annotated: Switch = False  # campaigns only, see `ledger.kept_first`
    tuning: Tuning = DEFAULT_TUNING
    benchmarks: Annotated[list[Benchmark], Field(max_length=ENTRIES_MAX, default_factory=list)]
    primary: Primary | None = None
    annotation: Annotation = Annotation()
    # Left out of the identity of the report if it is empty, as in results of earlier versions. No other identity contains it.
    robustness: Annotated[
        dict[VariantName, Variant],
        Field(max_length=VARIANTS_MAX, default_factory=dict, exclude_if=lambda found: not found),
    ]
    owners: Annotated[list[Owner], Field(default_factory=list)]
    fresh_days: Annotated[int, Field(gt=0, le=3650, strict=True)] | None = None
    _variant: VariantOf | None = PrivateAttr(None)

    @field_validator("prompt_template")
    @classmethod
    def _has_prompt(cls, template: str) -> str:
        return with_prompt(template)

    @model_validator(mode="before")
    @classmethod
    def _separate_own_orders(cls, raw: Any) -> Any:
        """Copy the entries of `strategies` that are sections to `own_orders`; replace them by their names in `strategies`."""
        entries = raw.get("strategies") if isinstance(raw, dict) else None
        own = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        return {**raw, "own_orders": own, "strategies": strategy_names(entries)} if own else raw

    @field_validator("strategies")
    @classmethod
    def _are_known(cls, names: list[str], info: ValidationInfo) -> list[str]:
        if not {"own_orders", "rounds"} <= info.data.keys():  # one has mistakes, so the names are unknown
            return names
        own = {order.name for order in info.data["own_orders"]}
        own |= {name for name, rounds in info.data["rounds"].items() if rounds.of}
        unknown = [name for name in names if name not in STRATEGIES and name not in own]
        missing = [name for name in unknown if name not in plugins.installed().by_name]
        if missing:
            raise ValueError(
                f"unknown strategy {', '.join(missing)}; expected some of {', '.join(plugins.known_names())}"
            )
        for name in unknown:
            plugins.load(name)
        return names

    @field_validator("strategies", "budgets", "seeds", "full_pool_seeds")
    @classmethod
    def _are_distinct(cls, values: list[Any]) -> list[Any]:
        twice = sorted(value for value, count in Counter(values).items() if count > 1)
        if twice:
            raise ValueError(f"{twice[0]!r} occurs twice")
        return values

    @model_validator(mode="after")
    def _settle_duplicates(self) -> Self:
        """Set the default of `pool.duplicates`: "keep" in a study or the lab, "drop" in other campaigns.

        A campaign buys one answer for all copies of a prompt.
        """
        if self.pool.duplicates is None:
            is_dropping = self.purpose == "campaign" and self.pool.reader != "lab"
            settled = self.pool.model_copy(update={"duplicates": "drop" if is_dropping else "keep"})
            object.__setattr__(self, "pool", settled)
        return self

    @property
    def selection_seeds(self) -> tuple[int, ...]:
        """Seeds of the selections: all training seeds (also of the full pool) in a study, `selection_seed` in a campaign."""
        if self.purpose == "campaign":
            return (self.selection_seed,)
        if self._variant is not None:
            return self._variant.parent.selection_seeds
        return tuple(sorted({*self.seeds, *self.full_pool_seeds}))

    @property
    def variant(self) -> VariantOf | None:
        """What makes this experiment a variant of another one; None for an experiment of a file."""
        return self._variant

    def as_variant(self, variant: VariantOf) -> Self:
        self._variant = variant
        return self

    @property
    def command_name(self) -> str:
        """The name for commands. A variant is run by the commands of its experiment."""
        return self.name if self._variant is None else self._variant.parent.name

    def strategy(self, name: str) -> Strategy:
        """Return the strategy `name` with the settings of this experiment; raise ValueError if it is unknown or broken."""
        if name == "facility_location":
            return facility_location(self.facility_location.neighbours_n)
        if own := self.own_order(name):
            return own.strategy
        if (of := self.order_in(name)) != name:
            return replace(self.strategy(of), name=name)
        return STRATEGIES[name] if name in STRATEGIES else plugins.load(name)

    def order_in(self, name: str) -> str:
        """Return the strategy that orders the prompts in the rounds of `name`; `name` itself if `rounds` names no other one."""
        return self.rounds[name].of or name if name in self.rounds else name

    @property
    def keeps_annotated(self) -> bool:
        """True if annotated prompts come first in every order: with `keep_annotated`, and in the rounds of a campaign."""
        return self.keep_annotated or (self.purpose == "campaign" and bool(self.rounds))

    def own_order(self, name: str) -> OwnOrder | None:
        return next((order for order in self.own_orders if order.name == name), None)

    @property
    def base(self) -> BaseModelSource:
        """The base model; raises ValueError if the experiment has no base model."""
        if self.base_model is None:
            raise ValueError(f"{self.name} names no base model; {ADD_BASE_MODEL}")
        return self.base_model

    @property
    def has_lab_model(self) -> bool:
        """True if the base model is the lab's model, which needs no GPU."""
        return self.base_model is not None and self.base_model.lab is not None

    @property
    def held_out(self) -> HeldOutBenchmark | None:
        """The benchmark `held_out`, with items from the pool or from a file; None if the experiment has no such benchmark."""
        return next((one for one in self.benchmarks if isinstance(one, HeldOutBenchmark)), None)

    @property
    def has_later_answers(self) -> bool:
        """True if the answers of held-out items are imported (`answers: later`)."""
        return self.held_out is not None and self.held_out.answers == "later"

    @property
    def labels_from(self) -> Literal["column", "mapping", "rules", "discovered", "none"]:
        """The source of tasks, as in `task_labels`, or "none": all prompts have the same task."""
        has_none = self.pool.columns is None or self.pool.columns.task is None
        is_without = self.pool.reader == "table" and has_none and self.task_labels.level is None
        return "none" if self.task_labels.source == "column" and is_without else self.task_labels.source

    @property
    def given_labels(self) -> Literal["column", "mapping", "none"]:
        """`labels_from` if it is "column" or "mapping"; "none" if rules or discovery give the tasks, or if there are none."""
        source = self.labels_from
        return "none" if source == "rules" or source == "discovered" else source  # mypy narrows `==` only

    @property
    def by_task(self) -> list[str]:
        """Names of the strategies that read the task of each prompt."""
        return [name for name in self.strategies if self.strategy(name).reads_tasks]

    def selection_seed_of(self, training_seed: int) -> int:
        """Return the seed of the selection for a training seed: the same seed in a study, and `selection_seed` in a campaign."""
        return self.selection_seed if self.purpose == "campaign" else training_seed


def parse_budget(key: str) -> int:
    """Return the number of prompts for a budget key such as "128"; raise ValueError for any other text."""
    if not BUDGET_PATTERN.fullmatch(key):
        raise ValueError(
            f"budget {key!r} is not a positive whole number of prompts; expected plain digits such as 1000, "
            "without sign, point, blanks or leading zeros"
        )
    return int(key)
