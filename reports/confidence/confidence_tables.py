"""Tables of confidence: one for each figure, one that compares sources and definitions, and one on sampling.

A long table of tasks keeps only its first and last rows (see `tables.shortened`).
"""

from collections.abc import Mapping
from typing import Any

from reports import words
from reports.confidence.confidence_figures import NAME_LENGTH_N
from reports.confidence.confidence_numbers import Comparison, Effect, Sampled, half_width
from reports.confidence.confidence_sentences import meaning, scored
from reports.reader import TaskAccuracy, TaskConfidence
from reports.results import Results
from reports.tables import Table, shortened

BUDGETS_MAX_N = 4  # columns of counts with intervals


def by_task(results: Results, accuracy: Mapping[str, float]) -> Table:
    """Return the table of confidence by task, with the base model's score if the benchmark has that task."""
    rows = tuple(
        (
            row.task,
            f"{row.pool_n:,}",
            f"{row.scored_n:,}",
            words.score(row.mean),
            *_uncertainty(row),
            words.score(accuracy[row.task]) if row.task in accuracy else "–",
        )
        for row in sorted(results.confidence, key=lambda row: (row.mean, row.task))
    )
    head = ("task", "in the pool", "scored", "mean confidence", "standard error", "95% interval", "base model’s score")
    caption = f"Confidence of the base model by task. {scored(results.confidence)}"
    return shortened(Table("confidence", caption, head, rows, frozenset(range(1, len(head)))))


def _uncertainty(row: TaskConfidence) -> tuple[str, str]:
    """Return the standard error and the 95% interval as text."""
    if row.scored_n >= row.pool_n:
        return "0", "all prompts scored"
    error, reach = "–" if row.standard_error is None else words.score(row.standard_error), half_width(row)
    if reach is None:
        return error, "cannot be estimated"
    return error, f"{words.score(max(0.0, row.mean - reach))} to {words.score(min(1.0, row.mean + reach))}"


def against_being_right(rows: tuple[TaskAccuracy, ...]) -> Table:
    """Return the table of confidence and accuracy by task, the most overconfident task first."""
    body = tuple(
        (
            row.task,
            f"{row.items_n:,}",
            words.score(row.mean_confidence),
            words.score(row.accuracy),
            f"{words.score(row.accuracy_low)} to {words.score(row.accuracy_high)}",
            words.score(row.answer_probability),
        )
        for row in sorted(rows, key=lambda row: (row.accuracy - row.mean_confidence, row.task))
    )
    head = ("task", "items", "mean confidence", "share right", "95% interval", "probability of the answer")
    caption = (
        "Confidence against accuracy on validation items by task, largest excess of confidence first; probability of "
        "the answer: mean over its tokens"
    )
    return shortened(Table("accuracy", caption, head, body, frozenset(range(1, len(head)))))


def comparison(found: Comparison, settings: Mapping[str, Any]) -> Table:
    """Return the table of variants: one row for each source and definition, the chosen variant first."""
    budgets = [f"labels to other tasks, of {budget:,}" for budget in found.budgets]
    head = ("source", "definition", "rank correlation", *budgets, "time to score", "what it is")
    rows = tuple((*_compared(one, found), meaning(one, settings)) for one in found.effects)
    caption = (
        f"Other definitions and sources of confidence against the experiment’s own: Spearman’s rank correlation over "
        f"{words.count(len(found.tasks), 'task')}, share of labels that would go to other tasks, and time to score (share "
        "of the chosen source’s)"
    )
    return Table("effects", caption, head, rows, frozenset(range(2, len(head) - 1)))


def _compared(one: Effect, found: Comparison) -> tuple[str, ...]:
    variant, budgets = one.variant, found.budgets
    if variant.is_chosen:
        name, none = f"{variant.definition} (chosen)", ["–"] * (1 + len(budgets))
        return variant.source, name, *none, words.duration(variant.score_s)
    moved = [words.share(one.distances[budget]) if budget in one.distances else "–" for budget in budgets]
    taken = "the same pass" if one.is_same_pass else words.duration(variant.score_s)
    if not one.is_same_pass and one.time_share is not None:
        taken += f" ({one.time_share:.0%})"
    return variant.source, variant.definition, words.correlation(one.correlation), *moved, taken


def moved(found: Comparison) -> Table:
    """Return a table with the number of labels that each variant gives to each task at the largest budget."""
    budget = found.budgets[-1]
    counts = [one.variant.counts.get(budget, {}) for one in found.effects]
    rows = tuple((task, *(f"{by_task.get(task, 0):,}" for by_task in counts)) for task in found.tasks)
    names = [words.clean(one.name, NAME_LENGTH_N) for one in found.effects[1:]]
    head = ("task", f"{words.clean(found.chosen.definition, NAME_LENGTH_N)} (chosen)", *names)
    caption = f"Labels by task at {budget:,} labels, by every source and definition, least confident task first"
    return shortened(Table("moved", caption, head, rows, frozenset(range(1, len(head)))))


def sampling(results: Results, found: Sampled) -> Table:
    """Return the table of the numbers of labels that each task gets at the largest budgets.

    The numbers have intervals, because only a sample of the prompts was scored.
    """
    budgets = sorted(found.counts)[-BUDGETS_MAX_N:]
    by_name = {row.task: row for row in results.confidence}
    tasks = sorted(found.counts[budgets[-1]], key=lambda task: (-found.counts[budgets[-1]][task][0], task))
    rows = tuple(
        (
            task,
            f"{by_name[task].scored_n:,} of {by_name[task].pool_n:,}" if task in by_name else "–",
            *(_count(found.counts[budget].get(task)) for budget in budgets),
        )
        for task in tasks
    )
    head = ("task", "scored", *(f"at {budget:,} labels" for budget in budgets))
    caption = "Labels by task, with 95% intervals for what the count would be if all prompts were scored"
    return shortened(Table("sampling", caption, head, rows, frozenset(range(1, len(head)))))


def _count(ends: tuple[int, int, int] | None) -> str:
    return "–" if ends is None else f"{ends[0]:,} ({ends[1]:,} to {ends[2]:,})"
