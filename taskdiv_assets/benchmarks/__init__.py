"""Benchmarks: the answers of a model to each item, and their scores. AlpacaEval needs a judge: see `benchmarks.alpaca`.

lm-eval builds the prompts, extracts the answers and computes the metrics. The answers come from our own loops
(`language_model.likelihood`, `language_model.continuation`), or from lm-eval's loop for unusual generation settings.
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
    """Facts about the scores of one model that the table of scores does not contain."""

    asked_n: int
    items_n: int  # items of the full benchmark, asked or not
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


class Scorer:
    """A benchmark that is prepared once for a base model and then used for every adapter.

    The constructor loads the tasks, builds the prompts, cuts them to the model's context and plans the batches.

    Raises:
        ValueError: the tasks cannot be loaded, or the model's context is too short for a prompt and its answer.
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
        """Return the questions for display: task, item_id, question, prompt, answer, target, prompt_hash."""
        from taskdiv_assets.benchmarks.evaluation import questions_table

        return questions_table(self.questions)
