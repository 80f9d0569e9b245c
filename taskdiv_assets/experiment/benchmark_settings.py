"""The section `benchmarks` of an experiment file: a class per kind of benchmark, chosen by its name.

Any other name is a task of lm-eval. Nothing here reads data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError, model_validator

from taskdiv_assets.settings import NAME_PATTERN, Number, PositiveInt, Settings, Switch

HUB = "hub"
Name = Annotated[str, Field(pattern=r"\S")]  # chosen by others, but not blank
Names = Annotated[tuple[str, ...], Field(min_length=1)]


class Extent(Settings):
    """How many items of a benchmark are asked: all, the first of each task, or a sample.

    Attributes:
        limit: the first n items of each task in the order of the source, as in lm-eval.
        sample: n items in all, equally many per task, drawn by a hash of their content.
    """

    limit: PositiveInt | None = None
    sample: PositiveInt | None = None

    @model_validator(mode="after")
    def _is_cut_once(self) -> Self:
        if self.limit is not None and self.sample is not None:
            raise ValueError("`limit` and `sample` exclude each other; keep one of them")
        return self


class Written(Extent):
    """A benchmark whose answers the model writes and the task's filter extracts.

    Attributes:
        strip: remove blanks and line breaks around an extracted answer before it is compared. The stock task does not.
    """

    # Left out where it changes nothing: identities contain what is written here.
    strip: Annotated[bool, Field(strict=True, exclude_if=lambda value: not value)] = False


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
    """

    name: Literal["bbh"]
    source: str = HUB
    tasks: Names | None = None
    prompting: Literal["chain_of_thought", "direct", "zero_shot"] = "chain_of_thought"
    max_new_tokens: PositiveInt = 1024

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of an item: the zero-shot tasks extract an answer in two ways."""
        if self.prompting == "zero_shot":
            return "exact_match,flexible-extract", "exact_match,strict-match"
        return ("exact_match",)


class MmluBenchmark(Extent):
    """The 57 multiple-choice subjects of MMLU.

    Attributes:
        source: `hub`, one Parquet file, or the original CSV files as a folder or tar archive.
        tasks: subjects, all by default.
        few_shot: number of worked examples before a question, from the subject's own five.
    """

    name: Literal["mmlu"]
    source: str = HUB
    tasks: Names | None = None
    few_shot: Annotated[int, Field(ge=0, le=5, strict=True)] = 5
    metrics: ClassVar[tuple[str, ...]] = ("acc",)


class HarnessBenchmark(Written):
    """Any other tasks of lm-eval, stock ones or the user's own.

    Attributes:
        name: of the benchmark in tables; also of the task if `tasks` is left out.
        tasks: lm-eval's names of tasks or groups.
        folder: YAML files of the user's own tasks with all that they need. Its code is run.
        metrics: the tasks' metrics that are kept; each gives every item a number from 0 to 1.
        few_shot: replaces the number of the task.
        max_new_tokens: of a generated answer; replaces the number of the task.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
    tasks: Names | None = None
    folder: str | None = None
    metrics: Names
    few_shot: Annotated[int, Field(ge=0, strict=True)] | None = None
    max_new_tokens: PositiveInt | None = None

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of tasks or groups in lm-eval."""
        return self.tasks or (self.name,)


class Judge(Settings):
    """The judge of which of two answers is better: a model behind an endpoint, or imported verdicts.

    The endpoint's address and key come from $TASKDIV_JUDGE_URL and $TASKDIV_JUDGE_KEY and are never stored.

    Attributes:
        model: the endpoint's name of the judging model.
        annotator: name of the annotator of verdicts made by alpaca-eval and imported with `taskdiv verdicts import`.
        weighted: use the judge's probabilities of both letters instead of the letter that it writes.
        calls: limit of calls to the judge in this experiment, all cells together.
        price: of one call, in any currency; for `taskdiv plan`.
        parallel: number of calls at the same time.
    """

    model: Name | None = None
    annotator: Name | None = None
    weighted: Switch = False
    calls: PositiveInt | None = None
    price: Annotated[Number, Field(gt=0, le=1e6)] | None = None
    parallel: Annotated[int, Field(gt=0, le=64, strict=True)] = 8

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.model is None) == (self.annotator is None):
            raise ValueError("expected either `model` (asked at $TASKDIV_JUDGE_URL) or `annotator` (imported verdicts)")
        if self.model is not None and self.calls is None:
            raise ValueError("`calls` is missing: the limit of calls to the judge, such as 805 per adapter")
        of_calls = ("weighted", "calls", "price", "parallel")
        unused = sorted(name for name in of_calls if getattr(self, name) != type(self).model_fields[name].default)
        if self.annotator is not None and unused:
            raise ValueError(f"imported verdicts cost no calls: remove {', '.join(f'`{name}`' for name in unused)}")
        return self


class AlpacaEvalBenchmark(Extent):
    """AlpacaEval: the share of 805 instructions for which a judge prefers the model's output to a reference output.

    Attributes:
        source: `hub`, or a file with instruction and reference output: JSON, JSON lines or Parquet.
        max_new_tokens: of an output.
        judge: None if outputs are not judged; the report then says so.
        instruction_difficulty: AlpacaEval's file of difficulties (`instruction_difficulty.csv` or `df_gamed.csv`), for win
            rates at equal length as on the leaderboard; without it our own difficulties are used.
    """

    name: Literal["alpaca_eval"]
    source: str = HUB
    max_new_tokens: PositiveInt = 1024
    judge: Judge | None = None
    instruction_difficulty: Annotated[Name | None, Field(exclude_if=lambda value: value is None)] = None
    metrics: ClassVar[tuple[str, ...]] = ("win_rate", "length_controlled_win_rate")


def _kind(value: Any) -> str:
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
    """Yield the benchmarks that are run: all but those whose outputs nobody would judge."""
    for benchmark in benchmarks:
        if not (isinstance(benchmark, AlpacaEvalBenchmark) and benchmark.judge is None):
            yield benchmark


def metrics_of(section: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics of a section of the file; empty if the section has mistakes."""
    try:
        return tuple(TypeAdapter(Benchmark).validate_python(dict(section)).metrics)
    except ValidationError:
        return ()
