"""The page's tables of results, as formatted text. Tables of records are in `records`."""

import math
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from data_contracts.cell_keys import FULL_POOL_STRATEGY
from data_contracts.shared_statistics import wilson
from reports import words
from reports.analysis import Comparison, Section
from reports.bills import Money
from reports.results import Results
from reports.statistics import Savings, equivalence, task_means

TASK_ROWS_MAX_N = 200  # the paper's pool has 1,691 tasks; five tables of this length need megabytes


class Table(NamedTuple):
    """A table: caption, column titles, and rows of text. The first column contains the names of the rows."""

    name: str  # prefix of ids
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()  # right-aligned columns

    def __bool__(self) -> bool:  # the page leaves a table without rows out
        return bool(self.rows)


def shortened(table: Table, rows_n: int = TASK_ROWS_MAX_N) -> Table:
    """Keep only the first and the last rows of a table with more than `rows_n` rows, and add a note to the caption."""
    if len(table.rows) <= rows_n:
        return table
    half = rows_n // 2
    gap = (f"… {len(table.rows) - 2 * half:,} more", *[""] * (len(table.head) - 1))
    caption = f"{table.caption}; the first and last {half:,} of {len(table.rows):,} rows, all of them are stored"
    return table._replace(caption=caption, rows=(*table.rows[:half], gap, *table.rows[-half:]))


def curves(section: Section, name: str) -> Table:
    """Return the table of mean scores and intervals at each budget and, if scored, of the base model and the full pool."""
    money = section.money
    curves = section.curves.items()
    lines = [(strategy, strategy, point.budget_n, point.mean) for strategy, points in curves for point in points]
    lines += [("base model", "", 0, section.base)] if section.base is not None else []
    if section.full_pool is not None:
        lines.append(("random, full pool", FULL_POOL_STRATEGY, section.full_pool_n or 0, section.full_pool))
    rows = [
        (
            label,
            f"{budget_n:,}",
            *([money.listed(strategy, budget_n)] if money else []),
            words.score(mean.estimate),
            words.interval(mean, words.score),
            str(mean.seeds_n) if budget_n else "–",
            _beside_leader(section, strategy, budget_n),
        )
        for label, strategy, budget_n, mean in lines
    ]
    head = (
        "strategy",
        "labels",
        *([money.head(money.verb)] if money else []),
        "mean score",
        "95% interval",
        "seeds",
        "leader",
    )
    caption = f"{section.scores.label} on {section.scores.benchmark}, mean over tasks{_price(money)}"
    return Table(name, caption, head, tuple(rows), frozenset(range(1, len(head) - 1)))


def _beside_leader(section: Section, strategy: str, budget_n: int) -> str:
    leader = section.leaders.get(budget_n)
    if leader is None or not leader.can_tell or strategy not in section.curves:
        return "–"
    if strategy == leader.name:
        return "leader"
    return "not shown to differ" if strategy in leader.tied else "below the leader"


def differences(comparisons: tuple[Comparison, ...], name: str, caption: str) -> Table:
    """Return the table of comparisons. A row has, among others, verdict, interval, adjusted p-value and equivalence."""
    rows = [
        (
            f"{one.strategy} − {one.reference}",
            one.verdict,  # beside the name, so that both are visible on a narrow screen
            words.listing([f"{budget:,}" for budget in one.budgets]),
            words.signed(one.difference.estimate),
            words.interval(one.difference),
            "primary" if one.p_adjusted is None else words.p_value(one.p_adjusted),
            _seeds(one),
            f"{one.detectable:.3f}" if one.verdict == "not separable from noise" and one.detectable < 1 else "–",
            equivalence(one.difference).verdict,
        )
        for one in comparisons
    ]
    head = (
        "comparison",
        "verdict",
        "labels",
        "difference",
        "95% interval",
        "p (Holm)",
        "seeds",
        "detectable",
        "equivalence",
    )
    return Table(name, caption, head, tuple(rows), frozenset({2, 3, 4, 5, 6, 7}))


def _seeds(one: Comparison) -> str:
    gap = one.difference
    unequal = gap.reference_seeds_n not in (0, gap.seeds_n)
    return f"{gap.seeds_n} against {gap.reference_seeds_n}" if unequal else str(gap.seeds_n)


def savings(section: Section, name: str, is_full: bool) -> Table:
    """Return the table of labels needed to match the reference at its largest budget or, if `is_full`, the full pool."""
    chosen = section.full_pool_savings if is_full else section.savings
    budget = (section.full_pool_n if is_full else section.savings_budget_n) or 0
    rows = tuple(
        (
            strategy,
            words.labels_needed(one),
            words.savings_set(one),
            *_costs(section, strategy, one),
            str(one.seeds_n),
            _counted(one),
        )
        for strategy, one in chosen.items()
    )
    target = f"the full pool ({budget:,} labels)" if is_full else f"{section.reference} at {budget:,} labels"
    level = next((words.score(one.target_score) for one in chosen.values()), "")
    money = section.money
    caption = f"Labels needed to match {target}, score {level}, on {section.scores.benchmark}{_price(money)}"
    costs = (money.head(money.verb), "95% set of cost") if money else ()
    head = ("strategy", "labels", "95% set", *costs, "seeds", "the set counts")
    return Table(name, caption, head, rows, frozenset(range(1, len(head) - 1)))


def _counted(one: Savings) -> str:
    borrowed = "; the target’s one seed is assumed to vary as these" if one.is_borrowed else ""
    return f"items and seeds{borrowed}" if one.has_seed_uncertainty else "items only"


def _costs(section: Section, strategy: str, one: Savings) -> tuple[str, ...]:
    if section.money is None:
        return ()
    form = partial(section.money.listed, strategy)
    # The set of labels beside it already contains "open-ended". Without this word the table fits on the page.
    return words.labels_needed(one, form), words.savings_set(one, form).removesuffix(", open-ended")


def _price(money: Money | None) -> str:
    return f"; {money.basis}" if money else ""


def costs(results: Results) -> Table | None:
    """Return the table of costs by budget, in a campaign also by strategy; None if there is no price."""
    money = results.money
    if money is None:
        return None
    full_n = results.full_pool.budget_n if results.full_pool else None
    if money.is_hypothetical:
        rows = tuple((f"{n:,}", money.listed("", n)) for n in results.budgets)
        rows += () if full_n is None else ((f"{full_n:,} (full pool)", money.listed("", full_n)),)
        head: tuple[str, ...] = ("labels", money.head(money.verb))
        return Table("costs", f"One list of each budget{_price(money)}", head, rows, frozenset({1}))
    bills = tuple(
        (
            bill.strategy,
            f"{bill.budget_n:,}{' (full pool)' if bill.budget_n == full_n else ''}",
            f"{bill.annotations_n:,}",
            f"{money.price * bill.annotations_n + bill.model_cost:,.2f}",
            "not known" if bill.bought_n is None else f"{bill.bought_n:,}",
            "not known" if bill.bought_n is None else f"{money.price * bill.bought_n + bill.model_cost:,.2f}",
        )
        for bill in money.bills
    )
    head = ("strategy", "labels", "to annotate", money.head("cost"), "bought so far", money.head("cost so far"))
    caption = f"Annotations of each list{_price(money)}. Lists share prompts: a prompt is paid for once"
    return Table("costs", caption, head, bills, frozenset(range(1, len(head))))


def by_task(section: Section, name: str) -> Table | None:
    """Return by task the reference's score and interval, and the other strategies' differences; None if no other has scores."""
    found = section.by_task
    if found is None:
        return None
    sizes = dict(zip(section.scores.tasks, section.scores.task_sizes.tolist(), strict=True))
    arm = section.scores.arms[section.reference, found.budget_n]
    own = dict(zip(section.scores.tasks, task_means(arm, section.scores.task_of_item).tolist(), strict=True))
    rows = tuple(
        (
            task,
            str(sizes[task]),
            of_task(own[task], sizes[task]),
            *(words.signed(float(value)) for value in found.values[:, t]),
        )
        for t, task in enumerate(found.tasks)
    )
    caption = (
        f"Score of {section.reference} by task at {found.budget_n:,} labels, in brackets Wilson’s 95% interval of its items, and "
        "the others’ scores minus it"
    )
    head = ("task", "items", section.reference, *found.strategies)
    return shortened(Table(name, caption, head, rows, frozenset(range(1, len(head)))))


def of_task(mean: float, items_n: int) -> str:
    if not 0 <= mean <= 1:  # pseudo-values of win rates at equal length have no such interval
        return words.score(mean)
    low, high = wilson(mean, items_n)
    return f"{words.score(mean)} [{words.score(float(low))}, {words.score(float(high))}]"


def allocation(results: Results, budget_n: int, *, has_shares: bool = False) -> Table:
    """Return the table of prompts by task, in the pool and in the choice of each strategy. `has_shares` adds percentages."""
    names = [name for name in results.experiment.strategies if (name, budget_n) in results.allocations]
    columns: list[Mapping[str, float]] = [results.task_sizes, *(results.allocations[name, budget_n] for name in names)]
    totals = [sum(column.values()) if has_shares else 0.0 for column in columns]
    rows = tuple(
        (task, *(_part(column.get(task, 0.0), total) for column, total in zip(columns, totals, strict=True)))
        for task in sorted(results.task_sizes, key=lambda task: (-results.task_sizes[task], task))
    )
    caption = f"Prompts chosen from each task at {budget_n:,} labels, mean over selection seeds"
    if has_shares:
        caption = f"Prompts of each task and their share, in the pool and among those chosen at {budget_n:,} labels"
    head = ("task", "in the pool", *names)
    return shortened(Table("allocation", caption, head, rows, frozenset(range(1, len(head)))))


def _part(count_n: float, whole_n: float) -> str:
    number = f"{count_n:,.1f}".removesuffix(".0")
    return f"{number} ({words.share(count_n / whole_n)})" if whole_n else number


def overlap(results: Results) -> Table:
    """Return the table of the share of prompts that each pair of strategies has in common."""
    names = [name for name in results.experiment.strategies if (name, name) in results.overlaps]
    is_one_list = not any(math.isfinite(results.overlaps[name, name]) for name in names)
    shares = [[results.overlaps.get((first, second), 0.0) for second in names] for first in names]
    texts = ([f"{share:.2f}" if math.isfinite(share) else "–" for share in row] for row in shares)
    rows = tuple((name, *row) for name, row in zip(names, texts, strict=True))
    by_seed = "" if is_one_list else ", mean over selection seeds; on the diagonal, between a strategy’s own seeds"
    caption = f"Share of prompts in common at {results.overlap_budget_n or 0:,} labels{by_seed}"
    return Table("overlap", caption, ("strategy", *names), rows, frozenset(range(1, 1 + len(names))))


def tokens(results: Results, reference: str) -> Table:
    """Return the table of training tokens over all epochs, by strategy and budget, and the ratio to the reference's tokens."""
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    for run in results.adapters:
        found[run.strategy, run.budget_n].append(run.tokens_n)
    means = {cell: sum(own) / len(own) for cell, own in found.items()}
    budgets = [budget for budget in results.budgets if any(key[1] == budget for key in means)]
    names = [name for name in results.experiment.strategies if any(key[0] == name for key in means)]
    rows = tuple((name, *(_tokens(means, name, budget, reference) for budget in budgets)) for name in names)
    caption = f"Tokens trained on over all epochs, mean over seeds; in brackets, against {reference}"
    head = ("strategy", *(f"{budget:,} labels" for budget in budgets))
    return Table("tokens", caption, head, rows, frozenset(range(1, 1 + len(budgets))))


def _tokens(means: Mapping[tuple[str, int], float], name: str, budget: int, reference: str) -> str:
    own, other = means.get((name, budget)), means.get((reference, budget))
    if own is None:
        return "–"
    return f"{own:,.0f}" if not other or name == reference else f"{own:,.0f} (× {own / other:.2f})"
