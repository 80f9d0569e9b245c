"""The card of a selection: facts to a data card as the hub shows it, to be shared beside the prompts."""

from __future__ import annotations

from collections.abc import Mapping

from taskdiv_assets.cards.card_words import source_words
from taskdiv_assets.cards.facts import SelectionFacts, TaskCount
from taskdiv_assets.cards.markdown import UNCHOSEN_LICENSE, front_matter, one_line, table, text

REMARK = """The licence is yours to fill in: replace license and license_name before you share this.
The licence of the pool that the prompts come from applies, and what was agreed with those who answered them."""
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")


def data_card(facts: SelectionFacts) -> str:
    """Card of one selection: one strategy at one budget."""
    parts = [
        _front_matter(facts),
        f"# {facts.budget_n:,} prompts chosen by {text(facts.strategy)}, experiment {text(facts.experiment)}",
        _opening(facts),
        "## Source\n\n" + _source(facts),
        "## Selection\n\n" + _selection(facts),
        "## Tasks\n\n" + _tasks(facts),
        "## Licence\n\nThe licence of the pool applies to its prompts and to the answers that came with it. "
        "Answers that were bought are whoever's the agreement with the annotators says.",
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def size_category(rows_n: int) -> str:
    """The hub's name for a number of rows.

    >>> size_category(1_000), size_category(999)
    ('1K<n<10K', 'n<1K')
    """
    return SIZES[min(max(len(str(rows_n)) - 3, 0), len(SIZES) - 1)]


def _front_matter(facts: SelectionFacts) -> str:
    fields: dict[str, object] = {
        **UNCHOSEN_LICENSE,
        "pretty_name": f"{one_line(facts.experiment)}: {facts.budget_n} prompts by {one_line(facts.strategy)}",
        "task_categories": ["text-generation"],
        "size_categories": [size_category(facts.budget_n)],
        "source_datasets": [one_line(facts.pool.hub)] if facts.pool.hub else None,
        "tags": ["taskdiv-assets", f"experiment-{one_line(facts.experiment)}"],
    }
    return front_matter(fields, REMARK)


def _opening(facts: SelectionFacts) -> str:
    seeds_n = len(facts.selection_seeds)
    lists = "one list" if seeds_n == 1 else f"{seeds_n} lists, one a selection seed"
    return (
        f"Which {facts.budget_n:,} prompts of a pool of {facts.pool_n:,} the {text(facts.purpose)} "
        f"{text(facts.experiment)} has annotated: {lists}. The table beside this card has the columns `selection_seed`, "
        f"`rank`, `prompt_id` and `task`; the text of the prompts is in the pool. Identity: `{facts.identity}`."
    )


def _source(facts: SelectionFacts) -> str:
    kept = "kept" if facts.duplicates == "keep" else "dropped but for the first"
    rows = [
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
    return table(("", ""), rows)


def _by_reason(counts: Mapping[str, int], what: str) -> str:
    """Counts in words, the largest first; a reason such as `duplicate_prompt` as its words."""
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return "; ".join(f"{text(name.replace('_', ' '))}: {n:,} {what}" for name, n in ordered if n) or "none"


def _selection(facts: SelectionFacts) -> str:
    seeds = zip(facts.selection_seeds, facts.answered_n, strict=True)
    answers = [
        (str(seed), f"{facts.budget_n:,}", f"{known_n:,}", f"{facts.budget_n - known_n:,}") for seed, known_n in seeds
    ]
    rows = [("strategy", text(facts.strategy)), ("budget", f"{facts.budget_n:,} prompts")]
    return (
        table(("", ""), rows)
        + "\n\nAnswers, as of when this card was written:\n\n"
        + table(("selection seed", "prompts", "answer known", "answer missing"), answers)
    )


def _tasks(facts: SelectionFacts) -> str:
    seeds_n = len(facts.selection_seeds)
    ordered = sorted(facts.tasks, key=lambda task: (-task.pool_n, task.task))
    head = ("task", "in the pool", "chosen", "of the selection", "of the task's pool")
    rows = [_task_row(task, facts.budget_n) for task in ordered]
    if seeds_n == 1:
        return table(head, rows)
    spread = ("fewest", "most")
    rows = [(*row, f"{min(t.chosen_n):,}", f"{max(t.chosen_n):,}") for row, t in zip(rows, ordered, strict=True)]
    return f"Means over {seeds_n} selection seeds; fewest and most of any of them.\n\n" + table((*head, *spread), rows)


def _task_row(task: TaskCount, budget_n: int) -> tuple[str, ...]:
    mean = sum(task.chosen_n) / len(task.chosen_n)
    chosen = f"{mean:,.0f}" if len(task.chosen_n) == 1 else f"{mean:,.1f}"
    return text(task.task), f"{task.pool_n:,}", chosen, f"{mean / budget_n:.1%}", f"{mean / task.pool_n:.1%}"
