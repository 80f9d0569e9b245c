"""The settings of an experiment as frozen classes: everything that determines a result.

Each section of an experiment file is a class that refuses unknown keys and contradictions between its own fields.
`experiment_file` reads a file and checks sections against each other. How a run is carried out (device, workers, folders)
never changes a result and has no place here.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from data_contracts import money
from data_contracts.cell_keys import BUDGET_PATTERN
from data_contracts.experiment_fields import PURPOSE, SEEDS, strategy_names
from taskdiv_assets.confidence.measures import Definition
from taskdiv_assets.experiment import plugins
from taskdiv_assets.experiment.benchmark_settings import Benchmark
from taskdiv_assets.experiment.own_orders import OwnOrder
from taskdiv_assets.experiment.pool_settings import Pool, TaskLabels
from taskdiv_assets.selection import STRATEGIES, Strategy
from taskdiv_assets.selection.facility_location import NEIGHBOURS
from taskdiv_assets.selection.strategies import facility_location
from taskdiv_assets.settings import NAME_PATTERN, Number, PositiveInt, Seed, Settings, Switch
from taskdiv_assets.tuning_settings import Tuning

ENTRIES_MAX = 1_000  # limit of budgets, seeds, strategies and benchmarks each: every combination is a cell
DEFAULT_GREEDY_DEPTH = 50_000
PRICE_MAX = 1e6  # of one answer, in any currency; more is a typing error
CURRENCY_LENGTH_MAX = 8
ADD_BASE_MODEL = "add `base_model: {path: FOLDER}` or `base_model: {hub: OWNER/NAME, revision: COMMIT}`"
CHOSEN_SOURCE = "chosen"  # name of the experiment's own source of confidence
# QLoRA's learning rate for a 7B model (arXiv:2305.14314, table 9) and three epochs. A study sets its own.
DEFAULT_TUNING = Tuning(learning_rate=2e-4, epochs=3)


class LabModel(Settings):
    """The lab's own base model: a tiny Llama trained from scratch on the lab's tasks."""

    seed: Seed = 1
    steps: PositiveInt = 500
    batch_size: PositiveInt = 64
    learning_rate: Annotated[Number, Field(gt=0)] = 4e-3
    hidden_size: PositiveInt = 96
    layers: PositiveInt = 3


# An e-mail address or a team, in the form that Dagster accepts.
OWNER_PATTERN = r"^([A-Za-z0-9_][A-Za-z0-9._%+-]*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,7}|team:[A-Za-z0-9_-]+)$"
Owner = Annotated[str, Field(pattern=OWNER_PATTERN)]


class BaseModelSource(Settings):
    """The model that is scored and tuned: the lab's own, a hub repository, or a local folder."""

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
        """Short name of the model: its name on the hub, its folder's name, or `lab`."""
        path = " ".join((self.path or "").split())
        return self.hub or (Path(path).name.strip(".") or path if self.path else "lab")


class ConfidenceSource(Settings):
    """The source of confidence: the base model's confidence in its own continuation, or something cheaper.

    Attributes:
        of: the greedy continuation of a prompt, or the prompt's own tokens in one pass.
        model: a model that scores instead of the base; None for the base itself.
    """

    of: Literal["continuation", "prompt"] = "continuation"
    model: BaseModelSource | None = None


class Alternative(ConfidenceSource):
    """Another source, scored to see what it would change."""

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=40)]


class Confidence(ConfidenceSource):
    """The confidence of each prompt and the column that defines it."""

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
    """Score each task until the confidence interval of its mean is narrow enough.

    Attributes:
        tolerance: half the interval's width, relative to the mean.
        level: of the interval.
        first: prompts of a task that are scored before its interval is computed.
    """

    tolerance: Annotated[Number, Field(gt=0, lt=1)]
    level: Annotated[Number, Field(gt=0.5, lt=1)] = 0.95
    first: Annotated[int, Field(ge=2, strict=True)] = 32


class Embeddings(Settings):
    """The vector of a prompt: the mean of its tokens' last hidden states, or the last token's hidden state."""

    pooling: Literal["mean", "last"] = "mean"


class FacilityLocation(Settings):
    """The similarities that facility_location counts: of each prompt's nearest `neighbours`, or all of them (slower)."""

    similarities: Literal["nearest", "all"] = "nearest"
    neighbours: PositiveInt = NEIGHBOURS

    @property
    def neighbours_n(self) -> int | None:
        """The argument of `strategies.facility_location`; None for all similarities."""
        return self.neighbours if self.similarities == "nearest" else None


class Primary(Settings):
    """The one comparison declared before the run."""

    strategy: str
    reference: str = "random"
    benchmark: str
    metric: str


class Annotation(Settings):
    """Instructions for annotators, and the price of one answer."""

    instructions: str = "Answer the prompt as well as you can."
    price: Annotated[Number, Field(gt=0, le=PRICE_MAX)] | None = None
    currency: str | None = None

    @field_validator("currency")
    @classmethod
    def _is_short_text(cls, currency: str | None) -> str | None:
        if currency is not None and not _is_currency(currency):
            raise ValueError(
                f"{currency[:40]!r} is not a currency; expected at most {CURRENCY_LENGTH_MAX} letters, currency signs and "
                "points, without digits, such as EUR, €, US$ or kr."
            )
        return currency

    def cost(self, labels_n: int) -> str:
        """Return the cost of `labels_n` answers, such as `16.00 EUR`; empty without a price."""
        return "" if self.price is None else money.amount(labels_n * self.price, self.currency)

    @property
    def unit_price(self) -> str:
        """Price of one answer with all its digits and at least two decimals; empty without a price."""
        return "" if self.price is None else money.unit_price(self.price, self.currency)


def _is_currency(text: str) -> bool:
    """Return True for letters, currency signs, points and inner blanks, which cannot be mistaken for amounts or markup."""
    kinds = [unicodedata.category(character) for character in text]
    is_allowed = all(kind[0] in "LM" or kind == "Sc" or text[i] in ". " for i, kind in enumerate(kinds))
    has_sign = any(kind[0] == "L" or kind == "Sc" for kind in kinds)
    return is_allowed and has_sign and text == text.strip() and len(text) <= CURRENCY_LENGTH_MAX


class Experiment(Settings):
    """Everything that determines the results of one study or campaign, and what Dagster shows of them (`owners`, `fresh_days`).

    A study must name everything; `experiment_file` checks this. A campaign has defaults for `seeds` and `tuning`, and may
    leave out `base_model` and `benchmarks` until it trains and scores.

    Attributes:
        purpose: a study compares strategies on known answers; a campaign buys labels.
        base_model: None if nothing reads a model.
        benchmarks: empty if nothing is scored.
        own_orders: entries of `strategies` that are a user's own order instead of a name.
        strategies: names, including those of `own_orders`.
        primary: None for the report's default: the last strategy against `random`, else against the first, on the first
            benchmark and metric.
        owners: of the assets: e-mail addresses, or teams as `team:name`.
        fresh_days: days after which Dagster shows the pool and the report as stale unless they were checked again.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=63)]  # the limit of a Dagster tag
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
    strategies: Annotated[
        list[str],
        BeforeValidator(strategy_names, json_schema_input_type=list[str | OwnOrder]),
        Field(min_length=1, max_length=ENTRIES_MAX),
    ]
    budgets: Annotated[list[PositiveInt], Field(min_length=1, max_length=ENTRIES_MAX)]
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=ENTRIES_MAX, default_factory=lambda: [*SEEDS])]
    selection_seed: Seed = 0
    full_pool_seeds: Annotated[list[Seed], Field(max_length=ENTRIES_MAX, default_factory=list)]
    ranking_depth: PositiveInt | None = None
    keep_annotated: Switch = False  # campaigns only, see `ledger.kept_first`
    tuning: Tuning = DEFAULT_TUNING
    benchmarks: Annotated[list[Benchmark], Field(max_length=ENTRIES_MAX, default_factory=list)]
    primary: Primary | None = None
    annotation: Annotation = Annotation()
    owners: Annotated[list[Owner], Field(default_factory=list)]
    fresh_days: Annotated[int, Field(gt=0, le=3650, strict=True)] | None = None

    @field_validator("prompt_template")
    @classmethod
    def _has_prompt(cls, template: str) -> str:
        if template.count("{prompt}") != 1:
            raise ValueError("expected exactly one {prompt} in the template")
        return template

    @model_validator(mode="before")
    @classmethod
    def _separate_own_orders(cls, raw: Any) -> Any:
        """Copy entries of `strategies` that are sections to `own_orders`; `strategies` keeps their names."""
        entries = raw.get("strategies") if isinstance(raw, dict) else None
        own = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        return {**raw, "own_orders": own, "strategies": strategy_names(entries)} if own else raw

    @field_validator("strategies")
    @classmethod
    def _are_known(cls, names: list[str], info: ValidationInfo) -> list[str]:
        if "own_orders" not in info.data:  # they have mistakes, so their names are unknown
            return names
        own = {order.name for order in info.data["own_orders"]}
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
        """Drop copies in a campaign, which buys one answer for all of them, and keep them in a study. The lab has none."""
        if self.pool.duplicates is None:
            is_dropping = self.purpose == "campaign" and self.pool.reader != "lab"
            settled = self.pool.model_copy(update={"duplicates": "drop" if is_dropping else "keep"})
            object.__setattr__(self, "pool", settled)
        return self

    @property
    def selection_seeds(self) -> tuple[int, ...]:
        """Seeds of the selections: a study draws one per training seed, a campaign sends out one list."""
        return (
            (self.selection_seed,)
            if self.purpose == "campaign"
            else tuple(sorted({*self.seeds, *self.full_pool_seeds}))
        )

    def strategy(self, name: str) -> Strategy:
        """Return a strategy with this experiment's settings; raise ValueError if it is unknown."""
        if name == "facility_location":
            return facility_location(self.facility_location.neighbours_n)
        if own := self.own_order(name):
            return own.strategy
        return STRATEGIES[name] if name in STRATEGIES else plugins.load(name)

    def own_order(self, name: str) -> OwnOrder | None:
        """Return the user's own order of that name; None for any other strategy."""
        return next((order for order in self.own_orders if order.name == name), None)

    @property
    def base(self) -> BaseModelSource:
        """The base model; raises ValueError if the file names none."""
        if self.base_model is None:
            raise ValueError(f"{self.name} names no base model; {ADD_BASE_MODEL}")
        return self.base_model

    @property
    def has_lab_model(self) -> bool:
        """True if the base is the lab's model, which needs no GPU."""
        return self.base_model is not None and self.base_model.lab is not None

    @property
    def labels_from(self) -> Literal["column", "mapping", "none"]:
        """The source of tasks: the source's column, a mapping file, or none (all prompts then have one task)."""
        is_without = self.pool.reader == "table" and (self.pool.columns is None or self.pool.columns.task is None)
        return "none" if self.task_labels.source == "column" and is_without else self.task_labels.source

    @property
    def by_task(self) -> list[str]:
        """Names of the strategies that read the task of each prompt."""
        return [name for name in self.strategies if self.strategy(name).reads_tasks]

    def selection_seed_of(self, training_seed: int) -> int:
        """Return the seed of the selection that a training seed uses: the same in a study, one for all in a campaign."""
        return self.selection_seed if self.purpose == "campaign" else training_seed


def parse_budget(key: str) -> int:
    """Return the number of prompts of a budget key such as "128". Dagster itself accepts any text as a key."""
    if not BUDGET_PATTERN.fullmatch(key):
        raise ValueError(
            f"budget {key!r} is not a positive whole number of prompts; expected plain digits such as 1000, "
            "without sign, point, blanks or leading zeros"
        )
    return int(key)
