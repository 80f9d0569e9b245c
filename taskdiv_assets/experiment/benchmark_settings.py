"""The section `benchmarks` of an experiment file, with a settings class for each kind of benchmark.

The name of a benchmark chooses its class; an unknown name is a task of lm-eval. This module reads no data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError, model_validator

from data_contracts.experiment_fields import NAME_PATTERN
from taskdiv_assets.experiment.pool_settings import Columns
from taskdiv_assets.tuning_settings import Number, PositiveInt, Settings, Switch

HUB = "hub"
Name = Annotated[str, Field(pattern=r"\S")]  # a name that others chose; any text that is not blank
Names = Annotated[tuple[str, ...], Field(min_length=1)]


class Extent(Settings):
    """The items of a benchmark that the model answers: all items, the first items of each task, or a sample.

    At most one of the two attributes may be set.

    Attributes:
        limit: largest number of items of each task; the first ones of the source are used, as in lm-eval.
        sample: number of items of all tasks together, shared equally among the tasks; a task with fewer items gives all of them.
            The items are drawn by a hash of their content.
    """

    limit: PositiveInt | None = None
    sample: PositiveInt | None = None

    @model_validator(mode="after")
    def _is_cut_once(self) -> Self:
        if self.limit is not None and self.sample is not None:
            raise ValueError("`limit` and `sample` exclude each other; keep one of them")
        return self


class Written(Extent):
    """A benchmark with tasks in which the model writes text, and a filter of the task extracts the answer from the text.

    Attributes:
        strip: remove blanks and line breaks around an extracted answer before the comparison. The stock task of lm-eval does
            not. The model must write text in at least one task of the benchmark; otherwise, loading it raises ValueError.
    """

    # False is left out of identities, so that results stored without this setting stay valid.
    strip: Annotated[bool, Field(strict=True, exclude_if=lambda value: not value)] = False


class LabBenchmark(Settings):
    """The held-out items of the lab, scored by log-likelihood."""

    name: Literal["lab"]
    split: Literal["test", "validation"] = "test"
    metrics: ClassVar[tuple[str, ...]] = ("exact_match",)


class Generated(Settings):
    """An answer that the model writes to each held-out item, and how it is compared with the known answer.

    Attributes:
        max_new_tokens: largest number of tokens of an answer.
        metrics: `chrf` compares runs of characters (sacrebleu), `rouge_l` the longest common sequence of words (rouge-score).
    """

    max_new_tokens: PositiveInt = 128
    metrics: Annotated[tuple[Literal["chrf", "rouge_l"], ...], Field(min_length=1)] = ("chrf", "rouge_l")

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("`metrics` names a metric twice; name each once")
        return self


class HeldOutBenchmark(Settings):
    """Items that are held out of the user's pool before any selection, or come from a file, and the scores of their answers.

    The likelihood of each known answer is scored. If `generated` is set, the model also writes an answer, which is scored, too.
    Exactly one of `per_task`, `share` and `path` must be set. `path` requires `columns`, and excludes `answers: later`.

    Attributes:
        per_task: number of items of each task, drawn by hash among its answered prompts (with `answers: later`, among all its
            prompts); at most half of them.
        share: share of the same prompts, at least one item, instead of `per_task`.
        answers: with `known`, items are drawn from the answered prompts. With `later`, they are drawn from all prompts, and
            their answers are imported by `taskdiv annotations import`. Only answered items are scored.
        path: file of items, each with an answer, instead of prompts of the pool. Repeated prompts count once. Prompts of the
            pool with the text of an item are taken out.
        columns: columns of that file: at least `prompt` and `response`, or `messages`.
        drop_duplicates: drop prompts from the pool that are near-duplicates of an item.
        generated: let the model also write an answer to each item, and compare it with the known answer.
    """

    name: Literal["held_out"]
    per_task: PositiveInt | None = None
    share: Annotated[Number, Field(gt=0, le=0.5)] | None = None
    path: Annotated[Name | None, Field(exclude_if=lambda value: value is None)] = None
    columns: Annotated[Columns | None, Field(exclude_if=lambda value: value is None)] = None
    answers: Annotated[Literal["known", "later"], Field(exclude_if=lambda value: value == "known")] = "known"
    drop_duplicates: Switch = False
    generated: Annotated[Generated | None, Field(exclude_if=lambda value: value is None)] = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics: those of the known answer's likelihood, and those of the generated answer."""
        written = () if self.generated is None else self.generated.metrics
        return ("mean_probability", "first_choice", "exact_match", *written)

    @model_validator(mode="after")
    def _has_one_size(self) -> Self:
        if sum(size is not None for size in (self.per_task, self.share, self.path)) != 1:
            raise ValueError(
                "expected either `per_task: 20` (items of each task), `share: 0.1` (of each task's answers) or `path: FILE`"
            )
        if self.path is not None and self.answers == "later":
            raise ValueError(
                "`answers: later` draws items from the pool; expected `per_task` or `share` with it, not `path`"
            )
        has_answers = self.columns is not None and bool(self.columns.response or self.columns.messages)
        if (self.path is not None) != has_answers:
            raise ValueError(
                "`path` and `columns: {prompt: COLUMN, response: COLUMN}` belong together: a file of items, and its columns"
            )
        return self


class BbhBenchmark(Written):
    """BIG-Bench Hard with lm-eval's own prompts.

    Attributes:
        source: `hub`, one Parquet file, or a folder of the original JSON files.
        prompting: three examples with a chain of thought, three examples with the answer alone, or no examples.
        max_new_tokens: largest number of tokens of an answer.
    """

    name: Literal["bbh"]
    source: str = HUB
    tasks: Names | None = None
    prompting: Literal["chain_of_thought", "direct", "zero_shot"] = "chain_of_thought"
    max_new_tokens: PositiveInt = 1024

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics. The zero-shot tasks have two, since they extract the answer in two ways."""
        if self.prompting == "zero_shot":
            return "exact_match,flexible-extract", "exact_match,strict-match"
        return ("exact_match",)


class MmluBenchmark(Extent):
    """The 57 multiple-choice subjects of MMLU.

    Attributes:
        source: `hub`, one Parquet file, or the original CSV files as a folder or tar archive.
        tasks: names of subjects; all subjects by default.
        few_shot: number of examples before a question, from the five examples of the subject.
    """

    name: Literal["mmlu"]
    source: str = HUB
    tasks: Names | None = None
    few_shot: Annotated[int, Field(ge=0, le=5, strict=True)] = 5
    metrics: ClassVar[tuple[str, ...]] = ("acc",)


class HarnessBenchmark(Written):
    """Other tasks of lm-eval: tasks that lm-eval contains, or the user's own tasks.

    Attributes:
        name: name of the benchmark in tables, and of the lm-eval task if `tasks` is left out.
        tasks: names of tasks or groups in lm-eval.
        folder: folder with the YAML files of the user's own tasks, and the files that these need. Code in the folder is executed.
        metrics: names of the metrics to keep; each metric gives every item a number from 0 to 1.
        few_shot: number of examples before a question; the number of the task by default.
        max_new_tokens: largest number of tokens of an answer; the number of the task by default.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
    tasks: Names | None = None
    folder: str | None = None
    metrics: Names
    few_shot: Annotated[int, Field(ge=0, strict=True)] | None = None
    max_new_tokens: PositiveInt | None = None

    @property
    def task_names(self) -> tuple[str, ...]:
        return self.tasks or (self.name,)


class Judge(Settings):
    """The judge, which decides which of two answers is better: a model at an endpoint, or imported verdicts.

    Either `model` or `annotator` must be set. `calls` is required with `model`. With `annotator`, only `annotator` may be set.

    $TASKDIV_JUDGE_URL and $TASKDIV_JUDGE_KEY give the address and the key of the endpoint. They are never stored.

    Attributes:
        model: name of the judging model at the endpoint.
        annotator: name of the annotator whose verdicts were made by alpaca-eval and imported by `taskdiv verdicts import`.
        weighted: use the judge's probabilities of the two possible replies, instead of the reply that the judge writes.
        calls: limit of calls to the judge in this experiment, for all cells together.
        price: price of one call in any currency, for `taskdiv plan`.
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
    """AlpacaEval: the share of instructions for which a judge prefers the model's output to a reference output.

    Attributes:
        source: `hub` (805 instructions), or a JSON, JSON lines or Parquet file with instructions and reference outputs.
        max_new_tokens: largest number of tokens of an output.
        judge: the judge of outputs; without a judge, the benchmark is not run.
        instruction_difficulty: AlpacaEval's file of difficulties (`instruction_difficulty.csv` or `df_gamed.csv`) for the
            length-controlled win rate; without it, only the report estimates difficulties, from all judged models.
    """

    name: Literal["alpaca_eval"]
    source: str = HUB
    max_new_tokens: PositiveInt = 1024
    judge: Judge | None = None
    instruction_difficulty: Annotated[Name | None, Field(exclude_if=lambda value: value is None)] = None
    metrics: ClassVar[tuple[str, ...]] = ("win_rate", "length_controlled_win_rate")


def _kind(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return name if name in ("lab", "held_out", "bbh", "mmlu", "alpaca_eval") else "lm_eval"


Benchmark = Annotated[
    Annotated[LabBenchmark, Tag("lab")]
    | Annotated[HeldOutBenchmark, Tag("held_out")]
    | Annotated[BbhBenchmark, Tag("bbh")]
    | Annotated[MmluBenchmark, Tag("mmlu")]
    | Annotated[AlpacaEvalBenchmark, Tag("alpaca_eval")]
    | Annotated[HarnessBenchmark, Tag("lm_eval")],
    Discriminator(_kind),
]


def asked(benchmarks: Iterable[Benchmark]) -> Iterator[Benchmark]:
    """Return an iterator over the benchmarks to run: all but AlpacaEval without a judge, whose outputs could not be scored."""
    return (one for one in benchmarks if not (isinstance(one, AlpacaEvalBenchmark) and one.judge is None))


def metrics_of(section: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics of an entry of `benchmarks`; empty if the entry has mistakes."""
    try:
        return tuple(TypeAdapter(Benchmark).validate_python(dict(section)).metrics)
    except ValidationError:
        return ()
