"""Benchmarks: the scores and answers of a model, with or without adapters, for each item of a benchmark.

lm-eval provides prompts, answer extraction and metrics. Answers are computed by our own loops (`language_model.likelihood`,
`language_model.continuation`). The store, Dagster and statistics are elsewhere. AlpacaEval has a judge: `benchmarks.alpaca`.
A new benchmark adds a module with its `Suite`, sizes and identity, and one case to each function of `kinds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from taskdiv_assets.benchmarks.item_sampling import standard_error
from taskdiv_assets.benchmarks.kinds import (
    HarnessSettings,
    expected_items,
    holds,
    settings_identity,
    suite_of,
    task_sizes,
)
from taskdiv_assets.experiment.benchmark_settings import Written
from taskdiv_assets.experiment.pool_settings import Pool

if TYPE_CHECKING:
    import pyarrow as pa

    from taskdiv_assets.benchmarks.answering import Answer, Answers
    from taskdiv_assets.language_model.loading import LanguageModel

__all__ = [
    "HarnessSettings",
    "Scored",
    "Scorer",
    "expected_items",
    "holds",
    "settings_identity",
    "task_sizes",
]

Progress = Callable[[int, int], None]


class Notes(NamedTuple):
    """Facts about scores beside their rows."""

    asked_n: int
    items_n: int  # of the whole benchmark
    cut_prompts_n: int  # items whose prompt lost its beginning to the model's context
    unread_n: int  # items with a written text in which the task's filter found no answer
    # Standard error by metric that a `sample` causes; None if it cannot be estimated, empty without a sample.
    sampling_error: Mapping[str, float | None]
    blanks_n: int  # items that score higher without the blanks and line breaks around the answer that was read


class Scored(NamedTuple):
    """One model's results on one benchmark."""

    table: pa.Table  # benchmark, task, item_id, metric, score, prompt_hash; sorted by (task, item_id, metric)
    outputs: pa.Table  # task, item_id, question, text, nats, is_greedy, extracted
    notes: Notes


class Scorer:
    """A benchmark prepared for one base: tasks loaded, prompts built and cut to the model's length, batches planned, once.

    The lab's items follow from the pool and go through the experiment's template; other benchmarks keep their own prompts.

    Raises:
        ValueError: an invalid source or task name, or a model that cannot hold a prompt and its answer.
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
        from taskdiv_assets.benchmarks.answering import Answerer
        from taskdiv_assets.benchmarks.questions import questions

        self.benchmark = benchmark
        made = suite_of(benchmark, pool=pool, template=template, lm=lm)
        self.questions = questions(made.suite, made.extent)
        self.is_sample = made.extent.sample is not None
        self.answerer = Answerer(lm, self.questions.requests, as_trained=made.as_trained, written=made.written, log=log)

    @property
    def questions_n(self) -> int:
        """Return the number of distinct questions that one model is asked."""
        return len(self.questions.requests)

    def score(
        self,
        known: Mapping[str, Answer] | None = None,  # of an interrupted run, by key
        keep: Callable[[Answers], None] | None = None,  # receives new answers as they come
        progress: Progress | None = None,  # called with (questions answered, questions in all)
    ) -> Scored:
        """Score the model with its active adapter."""
        answers = {key: answer for key, answer in (known or {}).items() if key in self.questions.requests}
        for some in self.answerer.run(answers):
            if keep:
                keep(some)
            answers |= some
            if progress:
                progress(len(answers), self.questions_n)
        return self.scored(answers)

    def scored(self, answers: Mapping[str, Answer]) -> Scored:
        """Return the scores of given answers, one a question."""
        from taskdiv_assets.benchmarks.evaluation import NOTHING_READ, outputs_table, scored_items, scores_table

        strip = isinstance(self.benchmark, Written) and self.benchmark.strip
        rows, outputs, blanks_n = scored_items(
            self.benchmark.name, self.questions, answers, self.benchmark.metrics, strip=strip
        )
        cut_n = sum(not self.answerer.cut.isdisjoint(item.keys) for item in self.questions.items)
        errors: dict[str, float | None] = {}
        for metric in self.benchmark.metrics if self.is_sample else ():
            by_task: dict[str, list[float]] = {task: [] for task in self.questions.sizes}
            for row in rows:
                if row.metric == metric:
                    by_task[row.task].append(row.score)
            errors[metric] = standard_error(by_task, self.questions.sizes)
        items_n = sum(self.questions.sizes.values())
        unread_n = len({(one.task, one.item_id) for one in outputs if one.extracted == NOTHING_READ})
        notes = Notes(len(self.questions.items), items_n, cut_n, unread_n, errors, blanks_n)
        return Scored(scores_table(rows), outputs_table(outputs), notes)

    def questions_table(self) -> pa.Table:
        """Return the questions for reading: task, item_id, question, prompt, answer, target, prompt_hash."""
        from taskdiv_assets.benchmarks.evaluation import questions_table

        return questions_table(self.questions)
