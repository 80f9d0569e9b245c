"""The page of several experiments, and the same rows as a table (contract `experiments_index`)."""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from reports import envelope, words
from reports.together import summary_sentences as sentences
from reports.together.summary import BROKEN, NO_REPORT, NOT_FOUND, PROBLEM_N, STATES, Summary

PROBLEMS_N = 10  # problems of one experiment on the page
COUNTED = {NO_REPORT: "without a report"}  # words for a number of experiments, if they are not the state itself


class Row(NamedTuple):
    """The template's values of one experiment."""

    name: str
    link: str  # address of its report; empty if there is none
    question: str
    answer: str
    verdict: str
    savings: str
    cost: str
    date: str
    state: str
    problems: tuple[str, ...]
    more_n: int  # problems that are not shown


def render(summaries: Sequence[Summary], home: str) -> str:
    """Return the page as HTML that is also well-formed XML.

    `home` is the address of the home, relative to the page. It is the start of each link to a report, and is not escaped here.
    """
    rows = [_row(one, f"{home}/{one.name}/report/index.html") for one in summaries]
    template = envelope.environment().get_template("together.html.j2")
    counts = [f"{n:,} {COUNTED.get(state, state)}" for state in STATES if (n := _count(summaries, state))]
    said = f"{words.count(len(rows), 'experiment')}: {words.listing(counts)}" if rows else "No experiment is stored"
    return template.render(rows=rows, said=said).strip() + "\n"


def _count(summaries: Sequence[Summary], state: str) -> int:
    return sum(one.state == state for one in summaries)


def _row(one: Summary, link: str) -> Row:
    is_said = (
        one.state in (BROKEN, NOT_FOUND) and not one.primary and not one.answer
    )  # the answer is then the first problem
    problems = one.problems[1:] if is_said else one.problems
    return Row(
        one.name,
        link if one.identity else "",
        one.question,
        sentences.answer(one),
        one.primary.verdict if one.primary else "",
        sentences.savings(one),
        sentences.cost(one),
        sentences.date(one),
        one.state,
        problems[:PROBLEMS_N],
        max(0, len(problems) - PROBLEMS_N),
    )


def index_table(summaries: Sequence[Summary], schema: pa.Schema) -> pa.Table:
    """Return the rows as a table with the columns of `schema`, sorted by experiment."""
    rows = [_values(one) for one in sorted(summaries, key=lambda one: one.name)]
    return pa.table([pa.array([row[field.name] for row in rows], field.type) for field in schema], schema=schema)


def _values(one: Summary) -> dict[str, object]:
    primary, savings = one.primary, one.savings
    return {
        "experiment": one.name,
        "state": one.state,
        "question": one.question,
        "answer": sentences.answer(one),
        "strategy": primary.strategy if primary else "",
        "reference": primary.reference if primary else "",
        "benchmark": primary.benchmark if primary else "",
        "metric": primary.metric if primary else "",
        "estimate": primary.estimate if primary else None,
        "low": primary.low if primary else None,
        "high": primary.high if primary else None,
        "verdict": primary.verdict if primary else "",
        "labels_to_match": savings.estimate if savings else None,
        "labels_low": savings.low if savings else None,
        "labels_high": savings.high if savings else None,
        "reference_labels_n": one.reference_labels_n,
        "largest_budget_n": one.largest_n,
        "price": one.price,
        "currency": one.currency,
        "made_at": one.made_at,
        "problems_n": len(one.problems),
        "problems": "\n".join(words.clean(text, PROBLEM_N) for text in one.problems[:PROBLEMS_N]),
    }
