"""Tables of lists: the state of each list, the exports, and the numbers of the figures."""

import numpy as np

from reports import words
from reports.lists.list_figures import POOL
from reports.lists.list_numbers import Counts, Lists
from reports.results import Results
from reports.tables import Table, shortened

EXPORTS_MAX_N = 200
QUANTILES = {
    "shortest": 0.0,
    "a tenth have at most": 0.1,
    "half have at most": 0.5,
    "nine tenths have at most": 0.9,
    "longest": 1.0,
}


def states(results: Results, lists: Lists) -> Table:
    """Return the table of the state of each list and, if there are several, of all lists together."""
    has_ledger = results.experiment.is_campaign or lists.total.sent_n > 0
    has_known = lists.total.known_n > 0
    rows = [
        (state.strategy, f"{state.budget_n:,}", *_counts(state.counts, has_ledger, has_known)) for state in lists.states
    ]
    if len(rows) > 1:
        rows.append(("in all, each prompt once", "–", *_counts(lists.total, has_ledger, has_known)))
    head = (
        "strategy", "labels", "chosen", *(("sent out", "answers back") if has_ledger else ()),
        *(("known from the pool",) if has_known else ()), "missing",
    )  # fmt: skip
    several = any(len(state.seeds) > 1 for state in lists.states)
    caption = "Prompts of each list" + (", over the selection seeds together" if several else "")
    return shortened(Table("lists", caption, head, tuple(rows), frozenset(range(1, len(head)))))


def _counts(one: Counts, has_ledger: bool, has_known: bool) -> tuple[str, ...]:
    ledger = (one.sent_n, one.answered_n) if has_ledger else ()
    return tuple(f"{n:,}" for n in (one.chosen_n, *ledger, *((one.known_n,) if has_known else ()), one.missing_n))


def exports(lists: Lists) -> Table:
    """Return the table of exports, with the number of imported answers to each."""
    rows = tuple(
        (
            one.sent_at,
            words.clean(one.strategy, 60),
            words.clean(one.budget, 12),
            f"{len(one.prompt_ids):,}",
            f"{len(one.prompt_ids & lists.answers.prompt_ids):,}",
        )
        for one in lists.exports
    )
    head = ("sent out (UTC)", "strategy", "labels", "prompts", "answers back")
    return shortened(Table("exports", "Exports, the oldest first", head, rows, frozenset({2, 3, 4})), EXPORTS_MAX_N)


def lengths(lists: Lists) -> Table:
    """Return the table of quantiles of prompt length, in the pool and in the largest list of each strategy."""
    rows = tuple(
        (
            name or POOL,
            f"{len(values):,}",
            *(f"{float(np.quantile(values, share, method='inverted_cdf')):,.0f}" for share in QUANTILES.values()),
        )
        for name, values in lists.lengths.items()
        if len(values)
    )
    head = ("prompts of", "prompts", *QUANTILES)
    return Table("lengths", "Characters of a prompt", head, rows, frozenset(range(1, len(head))))
