"""An experiment: everything that makes a result, read from one YAML file that can be reviewed.

In: the text of an experiment file. Out: a frozen `Experiment`, or one `ExperimentError` that lists every mistake of the
file with its line. Nothing here says how a run is carried out (device, workers, folders): that never changes a result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import fsspec
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from taskdiv_assets.pools.lab_operations import TASKS
from taskdiv_assets.selection import STRATEGIES

BUILT_IN = Path(__file__).parent / "experiments"
NAME_PATTERN = r"^[a-z0-9_]+$"
BUDGET_PATTERN = re.compile(r"[1-9][0-9]*")
# A copy of a user's file starts with this comment, so that its relative paths still mean what they meant.
ORIGIN = "# Read from: "
DEFAULT_GREEDY_DEPTH = 50_000

# What each benchmark measures.
METRICS: Mapping[str, tuple[str, ...]] = {"lab": ("exact_match",), "bbh": ("exact_match",)}

PositiveInt = Annotated[int, Field(gt=0, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]


class ExperimentError(ValueError):
    """An experiment file that cannot be used: the message lists every mistake with its place."""


class Settings(BaseModel):
    """Base of every section: frozen, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Columns(Settings):
    """Which columns of a user's file hold what."""

    prompt: str
    response: str | None = None
    task: str | None = None
    id: str | None = None


class Pool(Settings):
    """Where the prompts come from. The lab's fields are read by `reader: lab` alone."""

    reader: Literal["lab", "dolly", "t0", "flan", "table"]
    path: str | list[str] | None = None
    hub: str | None = None
    revision: str | None = None
    split: str = "train"
    columns: Columns | None = None
    duplicates: Literal["keep", "drop"] = "keep"
    sample: PositiveInt | None = None
    seed: Seed = 1
    tasks: list[str] | None = None
    largest_n: PositiveInt = 600
    smallest_n: PositiveInt = 24

    @model_validator(mode="after")
    def has_one_source(self) -> Self:
        """The lab makes its pool; every other reader needs a path, or a hub data set with its revision."""
        if self.reader == "lab":
            if self.path or self.hub:
                raise ValueError("reader `lab` makes its own pool: remove `path` and `hub`")
            return self
        if (self.path is None) == (self.hub is None):
            raise ValueError(f"reader `{self.reader}` needs either `path` or `hub` (with `revision`)")
        if self.hub and not self.revision:
            raise ValueError("`hub` needs `revision`: a commit of the data set, so that the pool is the same next year")
        if self.reader == "table" and self.columns is None:
            raise ValueError("reader `table` needs `columns`, at least `columns: {prompt: …}`")
        return self


class TaskLabels(Settings):
    """Where a prompt's task comes from: the source's own column, or a mapping file."""

    source: Literal["column", "mapping"] = Field(alias="from", default="column")
    path: str | None = None

    @model_validator(mode="after")
    def has_path(self) -> Self:
        """A mapping is a file."""
        if (self.source == "mapping") != (self.path is not None):
            raise ValueError("`from: mapping` needs `path`, and `from: column` takes none")
        return self


class LabModel(Settings):
    """The lab's own base model: a tiny Llama trained from scratch on the lab's tasks."""

    seed: Seed = 1
    steps: PositiveInt = 500
    batch_size: PositiveInt = 64
    learning_rate: Annotated[float, Field(gt=0)] = 4e-3
    hidden_size: PositiveInt = 96
    layers: PositiveInt = 3


class BaseModelSource(Settings):
    """The model that is scored and tuned: exactly one of the lab's, a hub repository, or a local folder."""

    lab: LabModel | None = None
    hub: str | None = None
    revision: str | None = None
    path: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @model_validator(mode="after")
    def has_one_source(self) -> Self:
        """One source, and a hub model has a revision."""
        if sum(source is not None for source in (self.lab, self.hub, self.path)) != 1:
            raise ValueError("expected exactly one of `lab: {…}`, `hub: owner/name` or `path: folder`")
        if self.hub and not self.revision:
            raise ValueError("`hub` needs `revision`: a commit of the model, so that results can be reproduced")
        return self


class Confidence(Settings):
    """How the base model's own continuation of a prompt is scored."""

    column: Literal["mean_probability", "first_probability", "min_probability"] = "mean_probability"
    max_new_tokens: PositiveInt = 128


class Tuning(Settings):
    """Supervised fine-tuning by LoRA on the chosen prompts and their answers."""

    method: Literal["lora"] = "lora"
    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    learning_rate: Annotated[float, Field(gt=0)]
    epochs: PositiveInt
    batch_size: PositiveInt = 16
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] = 0.06
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_length: PositiveInt = 2048
    packing: bool = False


class LabBenchmark(Settings):
    """The lab's held-out items, scored by log-likelihood."""

    name: Literal["lab"]
    split: Literal["test", "validation"] = "test"


class BbhBenchmark(Settings):
    """BIG-Bench Hard, few-shot chain of thought, with lm-eval's own prompts."""

    name: Literal["bbh"]
    source: str = "hub"
    tasks: tuple[str, ...] | None = None
    limit: PositiveInt | None = None
    max_new_tokens: PositiveInt = 1024


Benchmark = Annotated[LabBenchmark | BbhBenchmark, Field(discriminator="name")]


class Primary(Settings):
    """The one comparison that was declared before the run."""

    strategy: str
    reference: str = "random"
    benchmark: str
    metric: str


class Annotation(Settings):
    """What annotators are told, and what one answer costs."""

    instructions: str = "Answer the prompt as well as you can."
    price: Annotated[float, Field(gt=0)] | None = None


class Experiment(Settings):
    """Everything that makes the results of one study or campaign."""

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
    purpose: Literal["study", "campaign"]
    pool: Pool
    task_labels: TaskLabels = TaskLabels()
    base_model: BaseModelSource
    prompt_template: str = "{prompt}"
    confidence: Confidence = Confidence()
    strategies: Annotated[list[str], Field(min_length=1)]
    budgets: Annotated[list[PositiveInt], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    selection_seed: Seed = 0
    full_pool_seeds: list[Seed] = []
    ranking_depth: PositiveInt | None = None
    tuning: Tuning
    benchmarks: Annotated[list[Benchmark], Field(min_length=1)]
    primary: Primary
    annotation: Annotation = Annotation()

    @field_validator("prompt_template")
    @classmethod
    def has_prompt(cls, template: str) -> str:
        """The template has the one place that a prompt goes to."""
        if template.count("{prompt}") != 1:
            raise ValueError("expected exactly one {prompt} in the template")
        return template

    @field_validator("strategies")
    @classmethod
    def are_known(cls, names: list[str]) -> list[str]:
        """Every strategy is one that works."""
        unknown = [name for name in names if name not in STRATEGIES]
        if unknown:
            raise ValueError(f"unknown strategy {', '.join(unknown)}; expected some of {', '.join(STRATEGIES)}")
        return names

    @field_validator("strategies", "budgets", "seeds", "full_pool_seeds")
    @classmethod
    def are_distinct(cls, values: list[Any]) -> list[Any]:
        """Nothing is asked for twice."""
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} stands here twice")
        return values

    @property
    def selection_seeds(self) -> tuple[int, ...]:
        """A study redraws the selection with every seed; a campaign has one list to send out."""
        return (self.selection_seed,) if self.purpose == "campaign" else tuple(self.all_seeds)

    @property
    def all_seeds(self) -> list[int]:
        """Seeds of the ordinary cells and of the full pool, each once, in order."""
        return sorted({*self.seeds, *self.full_pool_seeds})

    def selection_seed_of(self, training_seed: int) -> int:
        """The selection that a training seed is trained on (STORE.md: equal in a study, one number in a campaign)."""
        return self.selection_seed if self.purpose == "campaign" else training_seed


class Problem(Settings):
    """One mistake of an experiment file."""

    location: tuple[str | int, ...]
    message: str


def parse_budget(key: str) -> int:
    """Number of prompts that a budget key names.

    >>> parse_budget("128")
    128

    Raises:
        ValueError: the key is no positive whole number in plain digits (Dagster itself takes any text).
    """
    if not BUDGET_PATTERN.fullmatch(key):
        raise ValueError(
            f"budget {key!r} is not a positive whole number of prompts; expected plain digits such as 1000, "
            "without sign, point, blanks or leading zeros"
        )
    return int(key)


def load(source: str) -> Experiment:
    """Read an experiment by the name of a built-in one, or by the path of a YAML file (local or fsspec URL).

    Raises:
        ExperimentError: no such experiment, or mistakes in the file, all of them listed.
    """
    return parse(*read_text(source))


def read_text(source: str) -> tuple[str, str]:
    """Text of an experiment file, and the path that its relative paths are relative to."""
    built_in = BUILT_IN / f"{source}.yaml"
    if re.fullmatch(NAME_PATTERN, source) and built_in.is_file():
        return built_in.read_text(encoding="utf-8"), str(built_in)
    if not source.endswith((".yaml", ".yml")):
        raise ExperimentError(
            f"there is no experiment {source!r}; expected one of {', '.join(built_in_names())}, "
            "or the path of a YAML file that ends in .yaml"
        )
    try:
        with fsspec.open(source, "rb") as file:
            return file.read().decode("utf-8"), source
    except FileNotFoundError:
        raise ExperimentError(f"there is no experiment file {source!r}; check the path") from None
    except UnicodeDecodeError:
        raise ExperimentError(f"experiment file {source!r} is not UTF-8 text; is it a YAML file?") from None


def built_in_names() -> list[str]:
    """Names of the experiments that come with the package."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def parse(text: str, origin: str) -> Experiment:
    """Turn the text of an experiment file into an `Experiment`; `origin` is its path, for messages and relative paths."""
    first_line = text.partition("\n")[0]
    base = first_line.removeprefix(ORIGIN).strip() if first_line.startswith(ORIGIN) else origin
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        raise ExperimentError(f"{origin} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ExperimentError(f"{origin}: expected a mapping with `name:`, `pool:`, …, found {type(raw).__name__}")
    problems: list[Problem] = []
    experiment = None
    try:
        experiment = Experiment.model_validate(with_absolute_paths(raw, base))
    except ValidationError as error:
        problems += [Problem(location=item["loc"], message=_say(item)) for item in error.errors()]
    problems += [*repeated_keys(root), *cross_field_problems(raw)]
    if problems or experiment is None:
        lines = [_place(problem, root, origin) for problem in problems]
        raise ExperimentError(f"{origin} has {len(lines)} mistake(s):\n" + "\n".join(lines))
    return experiment


def repeated_keys(node: yaml.Node | None, location: tuple[str | int, ...] = ()) -> Iterator[Problem]:
    """Keys that stand twice in one mapping: YAML would silently take the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield Problem(location=(*location, key.value), message="stands here twice; keep one of them")
            seen.add(key.value)
            yield from repeated_keys(value, (*location, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from repeated_keys(value, (*location, index))


def cross_field_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Mistakes that only two fields together show, found even while other fields are wrong."""
    strategies, primary = raw.get("strategies"), raw.get("primary")
    if isinstance(strategies, list) and isinstance(primary, dict):
        for role, name in (("strategy", primary.get("strategy")), ("reference", primary.get("reference", "random"))):
            if name is not None and name not in strategies:
                yield Problem(
                    location=("primary", role), message=f"{name!r} is not among the `strategies` of this file"
                )
        if primary.get("strategy") == primary.get("reference", "random"):
            yield Problem(location=("primary",), message="`strategy` and `reference` are the same")
    benchmarks = raw.get("benchmarks")
    if isinstance(benchmarks, list) and isinstance(primary, dict) and "benchmark" in primary:
        names = [item.get("name") for item in benchmarks if isinstance(item, dict)]
        if primary["benchmark"] not in names:
            yield Problem(
                location=("primary", "benchmark"), message=f"{primary['benchmark']!r} is not among the `benchmarks`"
            )
        twice = sorted({str(name) for name in names if names.count(name) > 1})
        if twice:
            yield Problem(location=("benchmarks",), message=f"benchmark {twice[0]!r} stands here twice")
        metrics = METRICS.get(str(primary["benchmark"]), ())
        if metrics and primary.get("metric") not in (None, *metrics):
            found = f"expected {' or '.join(metrics)}, found {primary['metric']!r}"
            yield Problem(location=("primary", "metric"), message=found)
    if raw.get("name") == "dagster":
        yield Problem(location=("name",), message="'dagster' is the folder of Dagster's records; choose another name")
    pool, model = raw.get("pool"), raw.get("base_model")
    if isinstance(pool, dict) and pool.get("reader") == "lab" and isinstance(pool.get("tasks"), list):
        unknown = [name for name in pool["tasks"] if name not in TASKS]
        if unknown:
            message = f"unknown lab task {unknown[0]!r}; expected some of {', '.join(TASKS)}"
            yield Problem(location=("pool", "tasks"), message=message)
    reader = pool.get("reader") if isinstance(pool, dict) else None
    if isinstance(model, dict) and "lab" in model and reader not in ("lab", None):
        yield Problem(
            location=("base_model", "lab"),
            message="the lab's model knows the lab's vocabulary only; use `hub` or `path`",
        )
    if isinstance(benchmarks, list) and reader not in ("lab", None):
        for index, item in enumerate(benchmarks):
            if isinstance(item, dict) and item.get("name") == "lab":
                yield Problem(location=("benchmarks", index), message="benchmark `lab` needs `pool: {reader: lab}`")


def with_absolute_paths(raw: Mapping[str, Any], base: str) -> dict[str, Any]:
    """The raw file with `path` and `source` values made relative to the file's own folder, not to the caller's."""
    folder = base.rpartition("/")[0] if "://" in base else str(Path(base).resolve().parent)

    def absolute(path: object) -> object:
        if isinstance(path, list):
            return [absolute(part) for part in path]
        if not isinstance(path, str) or "://" in path or path.startswith("/") or path == "hub":
            return path
        return str(Path(path).expanduser()) if path.startswith("~") else f"{folder}/{path}"

    def walk(node: object, key: str) -> object:
        if isinstance(node, dict):
            return {name: walk(value, str(name)) for name, value in node.items()}
        if isinstance(node, list) and key == "benchmarks":
            return [walk(value, "") for value in node]
        return absolute(node) if key in ("path", "source") else node

    result = walk(raw, "")
    assert isinstance(result, dict)
    return result


def _say(item: Mapping[str, Any]) -> str:
    """A pydantic error in words, with the value that was found."""
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        return "unknown key; check the spelling against the documentation of experiment files"
    if item["type"] in ("missing", "value_error"):
        return message
    return f"{message[0].lower()}{message[1:]}, found {item.get('input')!r}"


def _place(problem: Problem, root: yaml.Node | None, origin: str) -> str:
    """`file:line: field: message`, walking the YAML nodes as far as the location exists in the file."""
    node, line = root, 1
    for part in problem.location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                continue  # the tag of a union, or a key that is missing: stay at its parent
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    name = ".".join(str(part) for part in problem.location) or "the file"
    return f"  {origin}:{line}: {name}: {problem.message}"
