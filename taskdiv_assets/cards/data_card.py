"""The card of a selection, in the hub's format for data sets. It is shared together with the prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from taskdiv_assets.cards.facts import SelectionFacts, TaskCount
from taskdiv_assets.cards.rendering import UNCHOSEN_LICENSE, render, source_words
from taskdiv_assets.graph.markdown import one_line, text

if TYPE_CHECKING:
    from huggingface_hub import DatasetCardData

SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")


def data_card(facts: SelectionFacts) -> str:
    seeds = zip(facts.selection_seeds, facts.answered_n, strict=True)
    head, rows = _tasks(facts)
    return render(
        "data_card.md.j2",
        _metadata(facts),
        **facts._asdict(),
        pool_n=facts.pool_n,
        seeds_n=len(facts.selection_seeds),
        source_rows=_source_rows(facts),
        answer_rows=[
            (str(seed), f"{facts.budget_n:,}", f"{known_n:,}", f"{facts.budget_n - known_n:,}")
            for seed, known_n in seeds
        ],
        task_head=head,
        task_rows=rows,
    )


def size_category(rows_n: int) -> str:
    """Return the hub's name for a number of rows.

    >>> size_category(1_000), size_category(999)
    ('1K<n<10K', 'n<1K')
    """
    return SIZES[min(max(len(str(rows_n)) - 3, 0), len(SIZES) - 1)]


def _metadata(facts: SelectionFacts) -> DatasetCardData:
    from huggingface_hub import DatasetCardData

    return DatasetCardData(
        **UNCHOSEN_LICENSE,
        pretty_name=f"{one_line(facts.experiment)}: {facts.budget_n} prompts by {one_line(facts.strategy)}",
        task_categories=["text-generation"],
        size_categories=[size_category(facts.budget_n)],
        source_datasets=[one_line(facts.pool.hub)] if facts.pool.hub else None,
        tags=["taskdiv-assets", f"experiment-{one_line(facts.experiment)}"],
    )


def _source_rows(facts: SelectionFacts) -> list[tuple[str, str]]:
    kept = "kept" if facts.duplicates == "keep" else "all dropped except the first"
    return [
        ("source", source_words(facts.pool)),
        ("rows read", f"{facts.rows_read_n:,}"),
        ("rows dropped", _by_reason(facts.drops, "rows")),
        ("cells set to null", _by_reason(facts.repairs, "cells")),
        ("rows that repeat an earlier prompt", f"{facts.duplicates_n:,}, {kept}"),
        ("prompts under more than one task of the source", f"{facts.prompts_under_two_tasks_n:,}"),
        ("prompts in the pool", f"{facts.pool_n:,}"),
        ("tasks in the pool", f"{len(facts.tasks):,}"),
        ("how the tasks were found", _by_reason(facts.labels_how, "prompts")),
    ]


def _by_reason(counts: Mapping[str, int], what: str) -> str:
    """Return counts in words, the largest first."""
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return "; ".join(f"{text(name.replace('_', ' '))}: {n:,} {what}" for name, n in ordered if n) or "none"


def _tasks(facts: SelectionFacts) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the head and the rows of the table of tasks, the largest task first."""
    ordered = sorted(facts.tasks, key=lambda task: (-task.pool_n, task.task))
    head = ("task", "in the pool", "chosen", "of the selection", "of the task's pool")
    rows = [_task_row(task, facts.budget_n) for task in ordered]
    if len(facts.selection_seeds) == 1:
        return head, rows
    rows = [(*row, f"{min(t.chosen_n):,}", f"{max(t.chosen_n):,}") for row, t in zip(rows, ordered, strict=True)]
    return (*head, "fewest", "most"), rows


def _task_row(task: TaskCount, budget_n: int) -> tuple[str, ...]:
    mean = sum(task.chosen_n) / len(task.chosen_n)
    chosen = f"{mean:,.0f}" if len(task.chosen_n) == 1 else f"{mean:,.1f}"
    return text(task.task), f"{task.pool_n:,}", chosen, f"{mean / budget_n:.1%}", f"{mean / task.pool_n:.1%}"
