"""Let a model answer the items of benchmarks, and score the answers. AlpacaEval needs a judge: see `benchmarks.alpaca`.

lm-eval builds the prompts, extracts the answers and computes the metrics. The answers come from our own loops
(`language_model.likelihood`, `language_model.continuation`). For unusual generation settings, and for models without a cache
of keys and values, the answers come from lm-eval's loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa

from taskdiv_assets.benchmarks import bbh, harness, mmlu
from taskdiv_assets.benchmarks import held_out_benchmark as held_out
from taskdiv_assets.benchmarks import lab_benchmark as lab
from taskdiv_assets.benchmarks.alpaca.instructions import read_instructions
from taskdiv_assets.benchmarks.answering import Answer, Answerer, Answers, cut_counts
from taskdiv_assets.benchmarks.evaluation import NOTHING_READ, outputs_table, scored_items, scores_table
from taskdiv_assets.benchmarks.item_sampling import items_by_task, standard_error
from taskdiv_assets.benchmarks.item_texts import ItemText, texts_of
from taskdiv_assets.benchmarks.questions import questions as questions_of
from taskdiv_assets.benchmarks.tasks import Suite, written_by
from taskdiv_assets.experiment.benchmark_settings import (
    HUB,
    AlpacaEvalBenchmark,
    BbhBenchmark,
    Benchmark,
    Extent,
    HarnessBenchmark,
    HeldOutBenchmark,
    LabBenchmark,
    MmluBenchmark,
    Written,
)
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.language_model.control_marks import held_in
from taskdiv_assets.language_model.loading import LanguageModel

__all__ = [
    "HarnessSettings",
    "ItemScorer",
    "ItemText",
    "Scored",
    "Scorer",
    "expected_items",
    "holds",
    "item_texts",
    "settings_identity",
    "task_sizes",
]

Progress = Callable[[int, int], None]
HarnessSettings = LabBenchmark | BbhBenchmark | MmluBenchmark | HarnessBenchmark
ScoredSettings = HarnessSettings | HeldOutBenchmark  # the benchmarks that need no judge


class Notes(NamedTuple):
    """Facts about the scores of one model that the table of scores does not contain."""

    asked_n: int
    items_n: int  # items of the full benchmark, including those without a question
    cut_prompts_n: int  # items whose prompt was longer than the model's context and lost its beginning
    unread_n: int  # items with a generated text in which the task's filter found no answer
    # By metric: the standard error that a `sample` causes. None: it cannot be estimated. Empty: there is no sample.
    sampling_error: Mapping[str, float | None]
    blanks_n: int  # items that score higher if blanks and line breaks around the extracted answer are removed


class Scored(NamedTuple):
    """The results of one model on one benchmark."""

    table: pa.Table  # benchmark, task, item_id, metric, score, prompt_hash; sorted by (task, item_id, metric)
    outputs: pa.Table  # task, item_id, question, text, nats, is_greedy, extracted
    notes: Notes
    more: Mapping[str, Any] = {}  # notes that only some benchmarks have


class Scorer:
    """A benchmark that is prepared once for a base model and then used for every adapter.

    The constructor loads the tasks, builds the prompts, cuts them to the model's context and plans the batches.

    Raises:
        ValueError: the tasks cannot be loaded, or the model cannot read a question, for example because its context is too short.
    """

    def __init__(
        self,
        lm: LanguageModel,
        benchmark: HarnessSettings,
        *,
        pool: Pool,
        template: str = "{prompt}",
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.benchmark = benchmark
        made = suite_of(benchmark, pool=pool, template=template, lm=lm)
        self.questions = questions_of(made.suite, made.extent)
        self.is_sample = made.extent.sample is not None
        self.answerer = Answerer(lm, self.questions.requests, as_trained=made.as_trained, written=made.written, log=log)

    @property
    def questions_n(self) -> int:
        return len(self.questions.requests)

    def score(
        self,
        known: Mapping[str, Answer] | None = None,  # answers of an interrupted run, by the question's key
        keep: Callable[[Answers], None] | None = None,  # callback that receives each batch of new answers
        progress: Progress | None = None,  # callback that receives (answered questions, all questions)
    ) -> Scored:
        """Compute the missing answers with the active adapter and return the scores of all answers."""
        answers = {key: answer for key, answer in (known or {}).items() if key in self.questions.requests}
        for some in self.answerer.run(answers):
            if keep:
                keep(some)
            answers |= some
            if progress:
                progress(len(answers), self.questions_n)
        return self.scored(answers)

    def scored(self, answers: Mapping[str, Answer]) -> Scored:
        """Return the scores of `answers`, which contains one answer for each question."""
        strip = isinstance(self.benchmark, Written) and self.benchmark.strip
        name, metrics = self.benchmark.name, self.benchmark.metrics
        rows, outputs, blanks_n = scored_items(name, self.questions, answers, metrics, strip=strip)
        cut_n = sum(not self.answerer.cut.isdisjoint(item.keys) for item in self.questions.items)
        errors: dict[str, float | None] = {}
        for metric in metrics if self.is_sample else ():
            by_task: dict[str, list[float]] = {task: [] for task in self.questions.sizes}
            for row in rows:
                if row.metric == metric:
                    by_task[row.task].append(row.score)
            errors[metric] = standard_error(by_task, self.questions.sizes)
        items_n = sum(self.questions.sizes.values())
        unread_n = len({(one.task, one.item_id) for one in outputs if one.extracted == NOTHING_READ})
        notes = Notes(len(self.questions.items), items_n, cut_n, unread_n, errors, blanks_n)
        return Scored(scores_table(rows), outputs_table(outputs), notes, cut_counts(answers.values()))


class ItemScorer(Scorer):
    """The scorer of the benchmark `held_out`. Known answers and their prompts are tokenised and cut as in fine-tuning.

    If the model also writes an answer (`generated`), the prompt for it is cut only to the model's context.

    Raises:
        ValueError: a question cannot be encoded (see `held_out_benchmark.encoded`).
    """

    def __init__(
        self,
        lm: LanguageModel,
        benchmark: HeldOutBenchmark,
        items: Sequence[held_out.Row],
        max_length: int,  # largest number of tokens of an example in fine-tuning
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.name, self.metrics, self.is_sample = benchmark.name, benchmark.metrics, False
        self.questions = held_out.questions(items, benchmark.generated)
        encode = partial(held_out.encoded, lm, max_length)
        self.answerer = Answerer(lm, self.questions.requests, encode=encode, log=log)

    def scored(self, answers: Mapping[str, Answer]) -> Scored:
        rows, outputs, _ = held_out.scored_items(self.name, self.metrics, self.questions, answers)
        items_n, cut = len(self.questions.items), self.answerer.cut
        cut_n = sum(not cut.isdisjoint(item.keys) for item in self.questions.items)
        bits = held_out.bits_per_character(self.questions.items, answers, cut)
        more = {"bits_per_character": bits, **cut_counts(answers.values())}
        return Scored(scores_table(rows), outputs_table(outputs), Notes(items_n, items_n, cut_n, 0, {}, 0), more)


class Made(NamedTuple):
    """The tasks of a benchmark, and the settings of their questions."""

    suite: Suite
    extent: Extent
    as_trained: bool = False  # separate prompt and answer as fine-tuning does
    written: Sequence[str] = ()  # texts that the tasks write around their items


def suite_of(benchmark: HarnessSettings, *, pool: Pool, template: str, lm: LanguageModel) -> Made:
    """Load a benchmark's tasks; raise ValueError if, for example, a source or task is invalid or data cannot be downloaded."""
    if isinstance(benchmark, LabBenchmark):
        end = lm.tokenizer.eos_token
        if not end:
            raise ValueError(
                "the base model's tokenizer has no end-of-sequence token; benchmark `lab` scores answer and end"
            )
        return Made(lab.suite(benchmark, pool, template=template, end=str(end)), Extent(), True, (template,))
    suite = _loaded(benchmark)
    written = [text for task in suite.task_dict["tasks"].values() for text in written_by(task)]
    return Made(suite, benchmark, written=written)


def _loaded(benchmark: BbhBenchmark | MmluBenchmark | HarnessBenchmark) -> Suite:
    try:
        suite: Suite = _module_of(benchmark).suite(benchmark)
    except (OSError, RuntimeError) as error:  # raised by `datasets` and the hub: not found, no network, no access
        raise ValueError(
            f"the data of benchmark {benchmark.name!r} cannot be fetched ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); check the network and your access to the hub, or name a local copy as `source`"
        ) from error
    return suite


def item_texts(benchmark: HarnessSettings, pool: Pool) -> list[ItemText]:
    """Return the texts of the items that scoring would use. No model is loaded. Remote data are fetched as for scoring."""
    if isinstance(benchmark, LabBenchmark):
        return [ItemText(item.task, item.item_id, item.prompt) for item in lab.items_of(benchmark, pool)]
    return texts_of(_loaded(benchmark), benchmark)


def task_sizes(benchmark: HarnessSettings, pool: Pool) -> dict[str, int]:
    """Return the number of items of each task in its source. No model is loaded. Only tasks of `harness` may need a download."""
    if isinstance(benchmark, LabBenchmark):
        return lab.task_sizes(benchmark, pool)
    sizes: dict[str, int] = _module_of(benchmark).task_sizes(benchmark)
    return sizes


def expected_items(benchmark: HarnessSettings, pool: Pool) -> int:
    """Return the number of rows of a complete table for one seed: items times metrics."""
    sizes = task_sizes(benchmark, pool)
    extent = benchmark if isinstance(benchmark, Extent) else Extent()
    return sum(items_by_task(extent, sizes).values()) * len(benchmark.metrics)


def holds(benchmark: Benchmark, names: Sequence[str]) -> bool:
    """Return True if a local source of a benchmark contains the text of one of the special tokens `names`.

    BBH, MMLU and AlpacaEval on the hub contain none. The data of lm-eval's own tasks are not loaded for this check.
    """
    if isinstance(benchmark, BbhBenchmark | MmluBenchmark):
        rows = bbh.local_rows(benchmark) if isinstance(benchmark, BbhBenchmark) else mmlu.local_rows(benchmark)
        return held_in([[*task.documents, *task.dev] for task in (rows or {}).values()], names)
    if isinstance(benchmark, AlpacaEvalBenchmark):
        return benchmark.source != HUB and held_in([one.text for one in read_instructions(benchmark.source)], names)
    return isinstance(benchmark, HarnessBenchmark) and held_in(harness.data_texts(benchmark), names)


def settings_identity(benchmark: HarnessSettings, *, pool: Pool, template: str = "{prompt}") -> dict[str, object]:
    """Return, as JSON values, all settings on which the scores of a given model depend.

    Raise ValueError if the `folder` of a benchmark does not exist or has no YAML file.
    """
    if isinstance(benchmark, LabBenchmark):
        return lab.settings_identity(benchmark, pool, template=template)
    identity: dict[str, object] = _module_of(benchmark).settings_identity(benchmark)
    return identity


def _module_of(benchmark: BbhBenchmark | MmluBenchmark | HarnessBenchmark) -> Any:
    return bbh if isinstance(benchmark, BbhBenchmark) else mmlu if isinstance(benchmark, MmluBenchmark) else harness
