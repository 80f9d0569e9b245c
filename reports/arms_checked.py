"""Shares that should be equal in all arms: cut answers, cut training examples, and benchmark items that match a chosen prompt.

An arm is a strategy at one budget. The budget is the same for all: the largest one at which the most strategies have scores.

The shares of a row differ if two conditions hold. First, a chi-square test of equal shares over the arms rejects them at 5%,
with Holm's correction over the rows. Second, the largest and the smallest share are at least 2 points apart. The test uses mean
counts over seeds: one list that is used under several seeds is not several lists. With few cut texts, the test is approximate.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import chdtrc

from data_contracts.cell_keys import cell_key
from reports import words
from reports.judged import asked_notes, scores_folders
from reports.results import Results
from reports.statistics import holm
from reports.tables import Table

ALPHA = 0.05
LEAST_GAP = 0.02  # smallest difference between the largest and the smallest share that a badge names
ANSWERS, EXAMPLES, ITEMS = "cut answers", "cut training examples", "contamination"  # as the badge names them
NOT_STORED = "not stored"
Verdict = Literal["differs", "no difference shown", "not compared", "not stored"]

LEAD = (
    "The compared models should differ in their training prompts only. The table shows three shares at {}, as means over seeds: "
    "generated answers that ran into the length limit, training examples that were cut, and benchmark items that match a chosen "
    "prompt."
)
RULE = (
    "A row differs if two conditions hold. A chi-square test of equal shares rejects them at 5%, with Holm’s correction over the "
    "rows. The largest and the smallest share are at least 2 points apart."
)
EARLIER = (
    "The stored scores do not say which answers ran into the length limit. Scores of earlier versions lack this count, and so do "
    "answers that lm-eval’s own loop wrote."
)
NONE_WRITTEN = "No benchmark asks for a generated answer."


class Share(NamedTuple):
    """A part of a number of texts or items. Both counts are means over seeds."""

    part_n: float
    all_n: float  # above 0

    @property
    def value(self) -> float:
        return self.part_n / self.all_n


class Row(NamedTuple):
    """One share in each arm. An arm is left out if its share is not stored."""

    kind: str  # ANSWERS, EXAMPLES or ITEMS
    what: str
    shares: Mapping[str, Share]  # by strategy
    p_adjusted: float = math.nan  # NaN with fewer than two arms

    @property
    def gap(self) -> float:
        """Return the largest share minus the smallest."""
        values = [one.value for one in self.shares.values()]
        return max(values) - min(values)

    @property
    def verdict(self) -> Verdict:
        if not self.shares:
            return "not stored"
        if math.isnan(self.p_adjusted):
            return "not compared"
        return "differs" if self.p_adjusted < ALPHA and self.gap >= LEAST_GAP else "no difference shown"


class Checked(NamedTuple):
    """All rows, and their arms."""

    budget_n: int
    strategies: tuple[str, ...]
    rows: tuple[Row, ...]


class Part(NamedTuple):
    """The part of the page below Methods."""

    sentences: tuple[str, ...]
    table: Table


def part(results: Results) -> Part | None:
    """Return the part of the page; None if no strategy has scores."""
    found = checked(results)
    if found is None:
        return None
    said = [LEAD.format(words.count(found.budget_n, "label")), RULE]
    answers = [row for row in found.rows if row.kind == ANSWERS]
    if not answers:
        said.append(NONE_WRITTEN)
    elif any(len(row.shares) < len(found.strategies) for row in answers):
        said.append(EARLIER)
    rows = tuple(_texts(row, found.strategies) for row in found.rows)
    head = ("share", "between strategies", "largest gap", "p (Holm)", *found.strategies)
    caption = f"Cut texts and matched items by strategy, at {words.count(found.budget_n, 'label')}"
    return Part(tuple(said), Table("arms-checked", caption, head, rows, frozenset(range(2, len(head)))))


def badges(results: Results) -> list[tuple[str, str]]:
    """Return at most one warning for the top of the page: a short text and its reason."""
    found = checked(results)
    differing = [row for row in found.rows if row.verdict == "differs"] if found else []
    if not differing:
        return []
    said = "; ".join(f"{row.what}: {_range(row.shares)}" for row in differing)
    why = f"{said}. This can change scores, whatever the prompts are worth; see Methods and limits."
    return [(f"strategies differ in {words.listing(list(dict.fromkeys(row.kind for row in differing)))}", why)]


def checked(results: Results) -> Checked | None:
    """Compare the shares of all arms; return None if no strategy has scores."""
    scored = {arm for one in results.score_sets for arm in one.arms}
    arms = {n: tuple(name for name in results.experiment.strategies if (name, n) in scored) for n in results.budgets}
    budget_n = max(arms, key=lambda n: (len(arms[n]), n), default=0)
    strategies = arms.get(budget_n, ())
    if not strategies:
        return None
    rows = [*_answers(results, strategies, budget_n), _examples(results, strategies, budget_n)]
    rows += _items(results, strategies, budget_n)
    adjusted = holm([p_of_equal_shares(tuple(row.shares.values())) for row in rows]).tolist()
    return Checked(
        budget_n, strategies, tuple(row._replace(p_adjusted=p) for row, p in zip(rows, adjusted, strict=True))
    )


def p_of_equal_shares(shares: Sequence[Share]) -> float:
    """Return the p-value of Pearson's chi-square test that all shares are equal; NaN for fewer than two shares.

    >>> round(p_of_equal_shares([Share(10, 100), Share(30, 100)]), 4), p_of_equal_shares([Share(0, 9), Share(0, 9)])
    (0.0004, 1.0)
    """
    if len(shares) < 2:
        return math.nan
    counts = np.array([(one.part_n, one.all_n - one.part_n) for one in shares])  # (arms, 2)
    columns = counts.sum(axis=0)
    if not columns.all():  # no text is cut, or every text
        return 1.0
    expected = counts.sum(axis=1, keepdims=True) * columns / columns.sum()
    return float(chdtrc(len(shares) - 1, ((counts - expected) ** 2 / expected).sum()))


def _answers(results: Results, strategies: Sequence[str], budget_n: int) -> Iterator[Row]:
    """Yield a row for each benchmark with generated answers, and for each one without the count in some arm."""
    tables = {name: results.tables.get(("benchmark_scores", cell_key(budget_n, name))) for name in strategies}
    notes = {name: asked_notes(table) for name, table in tables.items()}
    for benchmark in dict.fromkeys(one.benchmark for one in results.score_sets):
        own = {name: note[benchmark] for name, note in notes.items() if benchmark in note}
        if len(own) == len(strategies) and all(note.get("written_n") == 0 for note in own.values()):
            continue  # every answer is a choice
        counts = (
            (name, note.get("cut_answers_n"), note.get("written_n"), len(scores_folders(note)))
            for name, note in own.items()
        )
        what = f"{words.clean(benchmark, 40)}: answers that ran into the limit"
        yield Row(ANSWERS, what, _shares(counts))


def _examples(results: Results, strategies: Sequence[str], budget_n: int) -> Row:
    counts = []
    for name in strategies:
        table = results.tables.get(("adapter", cell_key(budget_n, name)))
        cut = table.footer.notes.get("cut_examples_n") if table else None
        runs = [run for run in results.adapters if (run.strategy, run.budget_n) == (name, budget_n)]
        values: list[Any] = [cut.get(str(run.seed)) for run in runs] if isinstance(cut, Mapping) else [None]
        part_n = sum(values) if all(isinstance(value, int) for value in values) else None
        counts.append((name, part_n, sum(run.examples_n for run in runs), len(runs)))
    return Row(EXAMPLES, "training examples that were cut", _shares(counts))


def _items(results: Results, strategies: Sequence[str], budget_n: int) -> Iterator[Row]:
    if results.matches is None:
        yield Row(ITEMS, "benchmark items that match a chosen prompt", {})
        return
    for benchmark, pool in results.matches.pool.items():
        counts: list[tuple[str, Any, Any, int]] = []
        for name in strategies:
            found = results.matches.lists.get((benchmark, (name, budget_n)))
            none_n = 0 if not pool.prompts_n and (name, budget_n) in results.allocations else None
            counts.append((name, found.items_n if found else none_n, pool.items_n, 1))  # already a mean over seeds
        yield Row(ITEMS, f"{words.clean(benchmark, 40)}: items that match a chosen prompt", _shares(counts))


def _shares(counts: Iterable[tuple[str, Any, Any, int]]) -> dict[str, Share]:
    """Return the shares by strategy. Each count is (strategy, part, all, seeds). Leave out missing and impossible counts."""
    return {
        name: Share(part_n / seeds_n, all_n / seeds_n)
        for name, part_n, all_n, seeds_n in counts
        if isinstance(part_n, int | float) and isinstance(all_n, int) and 0 <= part_n <= all_n and all_n and seeds_n
    }


def _texts(row: Row, strategies: Sequence[str]) -> tuple[str, ...]:
    shares = (words.share(row.shares[name].value) if name in row.shares else NOT_STORED for name in strategies)
    gap = "–" if len(row.shares) < 2 else f"{100 * row.gap:.1f} points"
    return row.what, row.verdict, gap, words.p_value(row.p_adjusted), *shares


def _range(shares: Mapping[str, Share]) -> str:
    """Return the smallest and the largest share with their strategies."""
    least, most = (choose(shares, key=lambda name: (shares[name].value, name)) for choose in (min, max))
    low, high = (f"{words.share(shares[name].value)} ({words.clean(name, 40)})" for name in (least, most))
    return f"{low} to {high}"
