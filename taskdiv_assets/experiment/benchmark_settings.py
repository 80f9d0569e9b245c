"""The `benchmarks` of an experiment file: what is asked, from where, and how much of it.

Each kind of benchmark is a class, told apart by its name; any other name is a task of lm-eval. Nothing here reads data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from taskdiv_assets.settings import NAME_PATTERN, Number, PositiveInt, Settings, Switch

HUB = "hub"
Name = Annotated[str, Field(pattern=r"\S")]  # of somebody else's choice, but not blank
Names = Annotated[tuple[str, ...], Field(min_length=1)]


class Extent(Settings):
    """How many of a benchmark's items are asked: all, the first of each task, or a sample.

    Attributes:
        limit: the first n items of each task, in the order of the source, as lm-eval counts.
        sample: n items in all, drawn by a hash of their content, from each task equally many (`benchmarks.sampling`).
    """

    limit: PositiveInt | None = None
    sample: PositiveInt | None = None

    @model_validator(mode="after")
    def is_cut_once(self) -> Self:
        """Not both: which of them would go first?"""
        if self.limit is not None and self.sample is not None:
            raise ValueError("`limit` and `sample` exclude each other; keep one of them")
        return self


class Written(Extent):
    """Items whose answers are written by the model, and read by the task's filter.

    Attributes:
        strip: take blanks and line breaks from around an answer that was read, before it is compared. The stock task does not.
    """

    strip: Annotated[bool, Field(strict=True)] = False

    @model_serializer(mode="wrap")
    def without_defaults(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `strip` out where it changes nothing: identities are made of what is written here."""
        found: dict[str, Any] = serialise(self)
        return {key: value for key, value in found.items() if key != "strip" or value}


class LabBenchmark(Settings):
    """The lab's held-out items, scored by log-likelihood."""

    name: Literal["lab"]
    split: Literal["test", "validation"] = "test"
    metrics: ClassVar[tuple[str, ...]] = ("exact_match",)


class BbhBenchmark(Written):
    """BIG-Bench Hard with lm-eval's own prompts.

    Attributes:
        source: `hub`, one Parquet file, or a folder of the original JSON files.
        prompting: three worked examples with a chain of thought, three with answers alone, or none.
        max_new_tokens: of an answer.
        strip: take blanks and line breaks from around an answer before it is compared, which the stock task does not do.
    """

    name: Literal["bbh"]
    source: str = HUB
    tasks: Names | None = None
    prompting: Literal["chain_of_thought", "direct", "zero_shot"] = "chain_of_thought"
    max_new_tokens: PositiveInt = 1024

    @property
    def metrics(self) -> tuple[str, ...]:
        """What an item is scored by: the zero-shot tasks read an answer in two ways."""
        if self.prompting == "zero_shot":
            return "exact_match,flexible-extract", "exact_match,strict-match"
        return ("exact_match",)


class MmluBenchmark(Extent):
    """MMLU's 57 subjects, multiple choice.

    Attributes:
        source: `hub`, one Parquet file, or the original CSV files as a folder or tar archive.
        tasks: subjects, all by default.
        few_shot: worked examples before a question, from the subject's own five.
    """

    name: Literal["mmlu"]
    source: str = HUB
    tasks: Names | None = None
    few_shot: Annotated[int, Field(ge=0, le=5, strict=True)] = 5
    metrics: ClassVar[tuple[str, ...]] = ("acc",)


class HarnessBenchmark(Written):
    """Any other tasks of lm-eval, stock ones or the user's own.

    Attributes:
        name: what the benchmark is called in tables; the name of the task where `tasks` names none.
        tasks: lm-eval's names of tasks or groups.
        folder: YAML files of the user's own tasks, which include what they need. Its code is run.
        metrics: which of the tasks' metrics are kept; each gives every item a number from 0 to 1.
        few_shot: in place of what the task says.
        max_new_tokens: in place of what the task says, of an answer that is generated.
        strip: take blanks and line breaks from around a written answer before it is compared, which the stock task does not do.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
    tasks: Names | None = None
    folder: str | None = None
    metrics: Names
    few_shot: Annotated[int, Field(ge=0, strict=True)] | None = None
    max_new_tokens: PositiveInt | None = None

    @property
    def task_names(self) -> tuple[str, ...]:
        """lm-eval's names."""
        return self.tasks or (self.name,)


class Judge(Settings):
    """Who says which of two answers is better: a model behind an endpoint, or verdicts that were imported.

    The endpoint's address and key come from $TASKDIV_JUDGE_URL and $TASKDIV_JUDGE_KEY and are never stored.

    Attributes:
        model: the endpoint's name of the judging model.
        annotator: verdicts of that annotator, made by the package alpaca-eval and imported with `taskdiv verdicts import`.
        weighted: take the judge's own probabilities of both letters instead of the letter that it writes.
        calls: answers that the judge may be asked for in this experiment, all cells together.
        price: of one call, in the currency of your choice; for `taskdiv plan`.
        parallel: calls at once.
    """

    model: Name | None = None
    annotator: Name | None = None
    weighted: Switch = False
    calls: PositiveInt | None = None
    price: Annotated[Number, Field(gt=0, le=1e6)] | None = None
    parallel: Annotated[int, Field(gt=0, le=64, strict=True)] = 8

    @model_validator(mode="after")
    def is_one(self) -> Self:
        """A model that is asked has a budget; verdicts from elsewhere have none."""
        if (self.model is None) == (self.annotator is None):
            raise ValueError("expected either `model` (asked at $TASKDIV_JUDGE_URL) or `annotator` (imported verdicts)")
        if self.model is not None and self.calls is None:
            raise ValueError("`calls` is missing: how many answers the judge may be asked for, such as 805 an adapter")
        of_calls = ("weighted", "calls", "price", "parallel")
        unused = sorted(name for name in of_calls if getattr(self, name) != type(self).model_fields[name].default)
        if self.annotator is not None and unused:
            raise ValueError(f"imported verdicts cost no calls: remove {', '.join(f'`{name}`' for name in unused)}")
        return self


class AlpacaEvalBenchmark(Extent):
    """AlpacaEval: how often a judge prefers the model's output to a reference's, over 805 instructions.

    Attributes:
        source: `hub`, or a file with instruction and the reference's output: JSON, JSON lines or Parquet.
        max_new_tokens: of an output.
        judge: None: outputs are not judged, and the report says so.
        instruction_difficulty: AlpacaEval's file of difficulties (`instruction_difficulty.csv` or `df_gamed.csv`), for win
            rates at equal length as the leaderboard has them; without it they are ours.
    """

    name: Literal["alpaca_eval"]
    source: str = HUB
    max_new_tokens: PositiveInt = 1024
    judge: Judge | None = None
    instruction_difficulty: Annotated[Name | None, Field(exclude_if=lambda value: value is None)] = None
    metrics: ClassVar[tuple[str, ...]] = ("win_rate", "length_controlled_win_rate")


def _kind(value: Any) -> str:
    """Which class a section of the file belongs to."""
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return name if name in ("lab", "bbh", "mmlu", "alpaca_eval") else "lm_eval"


Benchmark = Annotated[
    Annotated[LabBenchmark, Tag("lab")]
    | Annotated[BbhBenchmark, Tag("bbh")]
    | Annotated[MmluBenchmark, Tag("mmlu")]
    | Annotated[AlpacaEvalBenchmark, Tag("alpaca_eval")]
    | Annotated[HarnessBenchmark, Tag("lm_eval")],
    Discriminator(_kind),
]


def asked(benchmarks: Iterable[Benchmark]) -> Iterator[Benchmark]:
    """Those that are run: outputs that nobody would judge are not even written."""
    for benchmark in benchmarks:
        if not (isinstance(benchmark, AlpacaEvalBenchmark) and benchmark.judge is None):
            yield benchmark


def metrics_of(section: Mapping[str, Any]) -> tuple[str, ...]:
    """Metrics of a section as it stands in the file; empty while the section has mistakes."""
    try:
        return tuple(TypeAdapter(Benchmark).validate_python(dict(section)).metrics)
    except ValidationError:
        return ()
