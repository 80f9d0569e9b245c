"""The section "Since the last report": sentences and tables on the changes."""

from typing import NamedTuple

from reports import words
from reports.earlier.changes import Changes, Counts, Moved, Remade
from reports.earlier.stored_reports import FOLDER, KEPT_N, Figure
from reports.results import Results
from reports.tables import Table

LISTED_N = 10  # numbers that moved, and comparisons whose verdict changed
KEYS_N = 3  # partition keys of one asset
NAMES = {
    "mean": "mean score",
    "difference": "difference",
    "area": "over all budgets",
    "gain": "gain of the full pool",
    "labels_to_match": "labels needed",
    "chosen": "prompts chosen",
    "overlap": "share in common",
    "tokens": "training tokens",
    "sent": "prompts sent out",
    "answered": "prompts answered",
}
BETWEEN = {"overlap": "and", "labels_to_match": "to match"}  # words between a strategy and its reference
IN_LABELS = ("labels_to_match", "chosen", "tokens", "sent", "answered")  # quantities that are whole numbers
AGAIN = {"adapter": "trained again", "benchmark_scores": "scored again", "base_scores": "scored again"}
FIRST = "No stored report has other results: this is the first one, or nothing changed since."
OTHER_CAUSE = "No stored table changed. So the experiment file's settings changed, or the program's version."


class SinceSection(NamedTuple):
    """The section on changes."""

    lead: tuple[str, ...]
    flipped: Table
    moved: Table
    causes: tuple[str, ...]
    kept: str  # where the last report is kept; empty if there is none
    kept_in: str  # path of its page in the experiment's folder


def since_section(results: Results) -> SinceSection:
    """Return the section on changes.

    It contains only an explanation if there is no earlier report with other results, or if this page has another reference.
    """
    changes, nothing = results.changes, Table("", "", (), ())
    if results.experiment.reference:
        text = "Not compared: this page has another reference strategy than the stored reports."
        return SinceSection((text,), nothing, nothing, (), "", "")
    if changes is None or changes.last is None:
        unread = _unreadable(changes.unreadable) if changes else ()
        texts = (*unread, "No other report is stored.") if unread else (FIRST,)
        return SinceSection(texts, nothing, nothing, (), "", "")
    last = changes.last
    lead = (
        f"The last report with other results was made on {last.made_at:%Y-%m-%d, %H:%M} UTC.",
        _cells(changes),
        _numbers(changes.numbers),
        _verdicts(changes),
        *_unreadable(changes.unreadable),
    )
    kept = f"The newest {KEPT_N} earlier reports are kept; older ones are removed. In the experiment's folder, the last one is"
    kept_in = "/".join((*FOLDER, last.name, "index.html"))
    causes = tuple(_cause(one) for one in changes.remade) or (OTHER_CAUSE,)
    return SinceSection(lead, _flipped(changes.flipped), _moved(changes.moved), causes, kept, kept_in)


def _cells(changes: Changes) -> str:
    what, plural, again = "cell with scores", "cells with scores", "scored again"
    if not changes.counts_scores:
        what, plural, again = "list of prompts", "lists of prompts", "made again"
    if not any(changes.cells):
        return f"No {what} changed."
    return f"Of the {plural}, {_said(changes.cells, f'was {again}', f'were {again}')}."


def _numbers(counts: Counts) -> str:
    return f"Of the numbers, {_said(counts, 'changed', 'changed')}." if any(counts) else "No number changed."


def _said(counts: Counts, one_changed: str, several_changed: str) -> str:
    """Return the counts that are not 0 as a phrase, such as "3 are new and 1 is gone"."""
    words_of = (
        (counts.new_n, "is new", "are new"),
        (counts.changed_n, one_changed, several_changed),
        (counts.gone_n, "is gone", "are gone"),
    )
    return words.listing([f"{n:,} {one if n == 1 else several}" for n, one, several in words_of if n])


def _verdicts(changes: Changes) -> str:
    if not any(changes.comparisons):
        return "No verdict on two strategies changed."
    said = _said(changes.comparisons, "has another verdict", "have another verdict")
    primary = (
        " The verdict on the primary one changed." if changes.flipped and not changes.flipped[0].now.family else ""
    )
    return f"Of the comparisons of two strategies, {said}.{primary}"


def _unreadable(paths: tuple[str, ...]) -> tuple[str, ...]:
    return (f"Left out, because they cannot be read: {words.listing(paths, most_n=KEYS_N)}.",) if paths else ()


def _flipped(pairs: tuple[Moved, ...]) -> Table:
    rows = tuple(
        (
            _who(pair.now),
            pair.now.verdict,
            pair.before.verdict,
            "primary" if not pair.now.family else "other",
            f"{_value(pair.before)} → {_value(pair.now)}",
            _place(pair.now),
        )
        for pair in pairs[:LISTED_N]
    )
    head = ("comparison", "verdict now", "verdict before", "kind", "difference", "benchmark")
    return Table("since-verdicts", f"Verdicts that changed{_of(len(pairs))}", head, rows, frozenset({4}))


def _moved(pairs: tuple[Moved, ...]) -> Table:
    rows = tuple(
        (
            f"{NAMES.get(pair.now.quantity, pair.now.quantity)}: {_who(pair.now)}",
            _budgets(pair),
            _value(pair.before),
            _value(pair.now),
            _interval(pair.before),
            _is_inside(pair),
            _place(pair.now),
        )
        for pair in pairs[:LISTED_N]
    )
    head = ("number", "labels", "before", "now", "95% interval before", "now inside", "benchmark")
    caption = f"Numbers that moved most, in widths of the old interval{_of(len(pairs))}"
    return Table("since-moved", caption, head, rows, frozenset({1, 2, 3, 4}))


def _of(all_n: int) -> str:
    return f"; {LISTED_N} of {all_n:,}" if all_n > LISTED_N else ""


def _who(one: Figure) -> str:
    if not one.reference:
        return one.strategy
    return f"{one.strategy} {BETWEEN.get(one.quantity, '−')} {one.reference}"


def _place(one: Figure) -> str:
    return f"{one.benchmark}, {one.metric}" if one.benchmark else "–"


def _budgets(pair: Moved) -> str:
    before, now = pair.before.budget_n, pair.now.budget_n
    return f"{now:,}" if before == now else f"{before:,} → {now:,}"


def _value(one: Figure) -> str:
    return _number(one, one.estimate) if one.estimate is not None else one.verdict or "not known"


def _interval(one: Figure) -> str:
    if one.low is None and one.high is None:
        return "none"
    return " to ".join("open" if end is None else _number(one, end) for end in (one.low, one.high))


def _is_inside(pair: Moved) -> str:
    low, high, now = pair.before.low, pair.before.high, pair.now.estimate
    if now is None or (low is None and high is None):
        return "–"
    return "yes" if (low is None or low <= now) and (high is None or now <= high) else "no"


def _number(one: Figure, value: float) -> str:
    if one.quantity in IN_LABELS:
        return words.labels(value)
    return words.score(value) if one.quantity in ("mean", "overlap") else words.signed(value)


def _cause(one: Remade) -> str:
    again = AGAIN.get(one.asset, "made again")
    parts = [
        f"{word}{_keys(keys)}" for word, keys in (("new", one.new), (again, one.again), ("gone", one.gone)) if keys
    ]
    return f"{one.asset}: {'; '.join(parts)}."


def _keys(keys: tuple[str, ...]) -> str:
    """Return the partition keys of tables in brackets, each as "strategy, budget"; empty for a table without partitions."""
    if keys == ("",):
        return ""
    named = [", ".join(reversed(key.split("|", 1))) for key in keys[:KEYS_N]]
    more = f" and {len(keys) - KEYS_N:,} more" if len(keys) > KEYS_N else ""
    return f" ({'; '.join(words.clean(name, 60) for name in named)}{more})"
