"""Sentences and the table on prompts that are equal or nearly equal to an item of a benchmark."""

from collections.abc import Mapping
from typing import NamedTuple

from reports import words
from reports.contamination_numbers import ASSET, InList, InPool, Matches
from reports.results import Results
from reports.scores import ArmKey
from reports.tables import Table

RULE = (
    "A prompt matches an item if both have the same words, apart from case and punctuation, or if the prompt has at least 70% "
    "of the item’s word 8-grams. Worked examples and templates are left out. A model that is trained on a prompt that matches "
    "may know the item’s answer."
)
NOT_EVERY_PAIR = (
    "So many prompts match so many items that the table holds only some of the pairs: the numbers of items in lists are lower "
    "bounds. Prompts that share a template can match for that reason alone."
)
WHOLE_POOL = "the whole pool"


class Part(NamedTuple):
    """The part of the page on contamination. The table has no rows if no prompt matches an item."""

    sentences: tuple[str, ...]
    table: Table


def part(results: Results) -> Part | None:
    """Return the part of the page on contamination; None if the experiment has no benchmark."""
    found, name = results.matches, results.experiment.name
    if not results.experiment.benchmarks:
        return None
    if found is None:
        text = f"The pool was not compared with the benchmarks’ items: the table {ASSET} of {name} is not stored."
        return Part((text,), _table(results, Matches({}, {})))
    said = [of_pool(one, counts, _lists(found, one)) for one, counts in found.pool.items() if counts.prompts_n]
    clean = [
        f"{words.clean(one, 40)} ({words.count(counts.items_n, 'item')})"
        for one, counts in found.pool.items()
        if not counts.prompts_n
    ]
    said += [f"No prompt of the pool matches an item of {words.listing(clean, 'or', 9)}."] if clean else []
    is_cut = any(counts.rows_n < counts.matches_n for counts in found.pool.values())
    return Part((*said, RULE, *([NOT_EVERY_PAIR] if is_cut else [])), _table(results, found))


def of_pool(name: str, counts: InPool, lists: Mapping[ArmKey, InList]) -> str:
    """Return the sentences on a benchmark whose items match prompts of the pool. `lists` has counts by strategy and budget."""
    are = "matches" if counts.prompts_n == 1 else "match"
    items = f"{counts.matched_items_n:,} of {words.count(counts.items_n, 'item')}"
    said = (
        f"{words.count(counts.prompts_n, 'prompt')} of the pool {are} {items} of {words.clean(name, 40)} "
        f"({counts.equal_prompts_n:,} with the same words)."
    )
    if not lists:
        return said
    (strategy, budget), most = max(lists.items(), key=lambda entry: entry[1].prompts_n / entry[0][1])
    if not most.prompts_n:
        return f"{said} No list contains one of them."
    share = words.share(most.prompts_n / budget)
    return f"{said} Such prompts are at most {share} of a list ({words.clean(strategy, 60)} at {budget:,} labels)."


def _lists(found: Matches, name: str) -> dict[ArmKey, InList]:
    return {arm: one for (benchmark, arm), one in found.lists.items() if benchmark == name}


def _table(results: Results, found: Matches) -> Table:
    """Return the table: for each benchmark with a match, one row for the pool and one row for each list."""
    arms = [(strategy, budget) for budget in results.budgets for strategy in results.experiment.strategies]
    rows = []
    for name, counts in found.pool.items():
        if not counts.prompts_n:
            continue
        lists, pool_n = _lists(found, name), results.pool_n or 0
        whole = InList(counts.prompts_n, counts.matched_items_n)
        rows.append(_row(name, WHOLE_POOL, pool_n, whole))
        rows += [_row(name, arm[0], arm[1], lists[arm]) for arm in arms if arm in lists]
    head = ("benchmark", "strategy", "labels", "prompts that match", "share of the list", "items that they match")
    caption = "Chosen prompts that match an item of a benchmark, means over selection seeds"
    return Table(ASSET, caption, head, tuple(rows), frozenset({2, 3, 4, 5}))


def _row(name: str, strategy: str, list_n: int, matched: InList) -> tuple[str, ...]:
    share = words.share(matched.prompts_n / list_n) if list_n else "–"
    return name, strategy, f"{list_n:,}", _mean(matched.prompts_n), share, _mean(matched.items_n)


def _mean(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
