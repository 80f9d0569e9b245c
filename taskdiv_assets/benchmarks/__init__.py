"""Benchmarks: what a model, with or without adapters, scores on each item of a benchmark, and what it said.

In: a loaded model, folders of adapters, and the benchmark's settings. Out: Arrow tables. lm-eval gives prompts, answer
extraction and metrics; answers are computed by our own loops (`language_model.likelihood`, `language_model.writing`). The
store, Dagster and statistics are not here. AlpacaEval has a judge and is elsewhere (`taskdiv_assets.benchmarks.alpaca`).
A new benchmark adds a module with its `Suite`, sizes and identity, and one case to each function of `kinds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
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
    "score",
    "score_base",
    "settings_identity",
    "task_sizes",
]

Progress = Callable[[int, int], None]


class Notes(NamedTuple):
    """What is worth knowing of scores beside their rows.

    Attributes:
        asked_n: items that were asked.
        items_n: items that the benchmark has.
        cut_prompts_n: items whose prompt lost its beginning, because it does not fit into the model's context.
        unread_n: items with a written text in which the task's filter found no answer.
        sampling_error: of each metric's mean over tasks, as far as it comes from a `sample`; None for a metric where it cannot
            be told, empty without a sample.
        blanks_n: items that score higher without the blanks and line breaks around the answer that was read.
    """

    asked_n: int
    items_n: int
    cut_prompts_n: int
    unread_n: int
    sampling_error: Mapping[str, float | None]
    blanks_n: int


class Scored(NamedTuple):
    """One model's results on one benchmark."""

    table: pa.Table  # benchmark, task, item_id, metric, score, prompt_hash; sorted by (task, item_id, metric)
    outputs: pa.Table  # task, item_id, question, text, nats, is_greedy, extracted
    notes: Notes


class Scorer:
    """A benchmark made ready for one base: tasks loaded, prompts built and cut to the model's length, batches planned, once.

    Args:
        lm: the base model.
        benchmark: its settings in the experiment file.
        pool: the experiment's pool; the lab's held-out items belong to one.
        template: the experiment's prompt template; the lab's prompts go through it, other benchmarks keep their own.
        log: told where memory ran out.

    Raises:
        ValueError: the source or a task's name is not as expected, or the model cannot hold a prompt and its answer.
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
        """Distinct questions that one model is asked."""
        return len(self.questions.requests)

    def score(
        self,
        known: Mapping[str, Answer] | None = None,
        keep: Callable[[Answers], None] | None = None,
        progress: Progress | None = None,
    ) -> Scored:
        """Score the model as it is now, with whatever adapter is active.

        Args:
            known: answers that this model gave before a run was cut off, by key.
            keep: takes new answers as they come.
            progress: called with the questions that are answered, and all.

        Raises:
            ValueError: a score is not as expected.
        """
        answers = {key: answer for key, answer in (known or {}).items() if key in self.questions.requests}
        for some in self.answerer.run(answers):
            if keep:
                keep(some)
            answers |= some
            if progress:
                progress(len(answers), self.questions_n)
        return self.scored(answers)

    def scored(self, answers: Mapping[str, Answer]) -> Scored:
        """Scores of given answers, one a question."""
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
        """What is asked, for reading: task, item_id, question, prompt, answer, target, prompt_hash."""
        from taskdiv_assets.benchmarks.evaluation import questions_table

        return questions_table(self.questions)


def score(
    lm: LanguageModel,
    adapters: Mapping[int, Path],
    benchmark: HarnessSettings,
    *,
    pool: Pool,
    template: str = "{prompt}",
) -> dict[int, Scored]:
    """Results of several adapters over one loaded base, which is afterwards as it was; arguments as for `Scorer`."""
    from taskdiv_assets.benchmarks.adapters import loaded_adapters

    scorer = Scorer(lm, benchmark, pool=pool, template=template)
    found = {}
    with loaded_adapters(lm, adapters) as activate:
        for seed in adapters:
            activate(seed)
            try:
                found[seed] = scorer.score()
            except ValueError as error:
                raise ValueError(f"training seed {seed}: {error}") from None
    return found


def score_base(lm: LanguageModel, benchmark: HarnessSettings, *, pool: Pool, template: str = "{prompt}") -> Scored:
    """Results of a model as it is."""
    return Scorer(lm, benchmark, pool=pool, template=template).score()
