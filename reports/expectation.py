"""Sentences that compare the expectation in the experiment file with the results.

An expectation is free text. This module checks clauses of one form: a strategy, a phrase of `RELATIONS` such as "above",
another strategy, and optionally "at" a budget and "with" a number of seeds. Other text is not judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from reports import words
from reports.analysis import Comparison, Section
from reports.provenance import EXPECTED
from reports.results import Results
from reports.statistics import Verdict

RELATIONS: dict[str, Verdict] = {
    "above": "better", "better than": "better", "below": "worse", "worse than": "worse",
    "not separable from": "not separable from noise",
}  # fmt: skip
_FLIPPED: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
_CLAUSE = re.compile(
    rf"(?P<one>\w+) (?:is |scores )?(?P<relation>{'|'.join(RELATIONS)}) (?P<other>\w+)"
    r"(?: at (?P<budget>[\d,]*\d)(?: labels)?)?(?: with (?P<seeds>[\d,]*\d) seeds?)?"
)


class Clause(NamedTuple):
    """One clause of an expectation, in the form that this module can check."""

    text: str
    strategy: str
    reference: str
    expected: Verdict
    budget_n: int | None  # None: over all budgets
    seeds_n: int | None  # None: any number


def outcome(expected: str, results: Results, sections: Sequence[Section]) -> str:
    """Return sentences on whether an expectation came true; empty if there is no expectation."""
    if not expected:
        return ""
    scored = [section for section in sections if not section.says_nothing and section.curves]
    if not scored:
        return "Whether it came true is not known: no stored score can separate strategies."
    section = scored[0]  # the section of the primary comparison, if there is one
    read, is_all = clauses(expected, results.experiment.strategies)
    said = [_judged(clause, section) for clause in read]
    if read and is_all:
        return " ".join(said)
    rest = "The rest of it is" if read else "It is"
    return " ".join([*said, f"{rest} free text, which this page does not judge{_primary(section)}"])


def clauses(expected: str, strategies: Iterable[str]) -> tuple[list[Clause], bool]:
    """Return the clauses that can be checked, and whether they are the whole expectation.

    In a clause, "it" means the first strategy of the previous checked clause.

    >>> clauses("Expected: a above b at 1,024; c not separable from it.", ["a", "b", "c"])[0][1][1:]
    ('c', 'a', 'not separable from noise', None, None)
    """
    found: list[Clause] = []
    parts = [part.strip() for part in re.split(r"[;.](?:\s+|$)", expected.removeprefix(EXPECTED)) if part.strip()]
    names = list(strategies)
    for part in parts:
        match = _CLAUSE.fullmatch(part.removeprefix("and "))
        if match is None:
            continue
        last = found[-1].strategy if found else None
        one, other = (last if match[side] == "it" else _named(match[side], names) for side in ("one", "other"))
        if one and other and one != other:
            numbers = (int(match[name].replace(",", "")) if match[name] else None for name in ("budget", "seeds"))
            found.append(Clause(part, one, other, RELATIONS[match["relation"]], *numbers))
    return found, len(found) == len(parts)


def _named(word: str, names: Sequence[str]) -> str | None:
    """Return the strategy `word`, or the only strategy whose name starts with `word` and "_". Otherwise, return None."""
    if word in names:
        return word
    begun = [name for name in names if name.startswith(f"{word}_")]
    return begun[0] if len(begun) == 1 else None


def _judged(clause: Clause, section: Section) -> str:
    text = f"“{words.clean(clause.text, 160)}”"
    found = _comparison(clause, section)
    if found is None:
        return f"{text}: not known, because this comparison is not made here."
    gap, sign = found.difference, 1 if found.strategy == clause.strategy else -1
    verdict = found.verdict if sign == 1 else _FLIPPED.get(found.verdict, found.verdict)
    low, high = (words.signed(end) for end in sorted((sign * gap.low, sign * gap.high)))
    is_of_others = clause.seeds_n is not None and clause.seeds_n != gap.seeds_n
    others = f", with {words.count(gap.seeds_n, 'seed')}, not {clause.seeds_n:,}" if is_of_others else ""
    numbers = f"{verdict}, {words.signed(sign * gap.estimate)} [{low} to {high}]{others}"
    if verdict == clause.expected:
        return f"{text}: came true ({numbers})."
    if verdict == "too few seeds to say":
        return f"{text}: not known ({numbers})."
    if verdict != "not separable from noise":
        return f"{text}: did not come true ({numbers})."
    why = (
        "; the interval excludes 0 only before correction for the number of comparisons"
        if gap.low * gap.high > 0
        else ""
    )
    return f"{text}: not shown ({numbers}{why})."


def _comparison(clause: Clause, section: Section) -> Comparison | None:
    every = [one for one in (section.primary, *section.areas) if one is not None]
    if clause.budget_n is not None:
        every = [one for one in (*every, *section.by_budget) if one.budgets == (clause.budget_n,)]
    pair = {clause.strategy, clause.reference}
    return next((one for one in every if {one.strategy, one.reference} == pair), None)


def _primary(section: Section) -> str:
    one = section.primary
    if one is None:
        return "; there is no primary comparison to report instead."
    gap = one.difference
    return (
        f". The primary comparison came out: {one.strategy} against {one.reference}, {one.verdict} "
        f"({words.signed(gap.estimate)} [{words.interval(gap)}])."
    )
