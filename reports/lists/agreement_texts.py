"""The part of the page on prompts that several annotators answered: sentences, and agreement by task and by pair of people."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from reports import annotator_agreement as agreement
from reports import words
from reports.annotator_agreement import Agreement, Value
from reports.experiment_view import Experiment
from reports.lists.answered_twice import AnsweredTwice
from reports.tables import Table, shortened

RULE = (
    f"Short answers (at most {agreement.SHORT_N} characters) are compared by equality, apart from case and white space, and by "
    "Krippendorff’s alpha: 1 is agreement, 0 is what chance gives. Longer answers are compared by chrF (0 to 1, the mean of both "
    "directions), which has no scale for “good”. Intervals: 95%, bootstrap over prompts, from "
    f"{agreement.INTERVAL_FROM_N} prompts on."
)


class Part(NamedTuple):
    """The part of the page."""

    sentences: tuple[str, ...]
    by_task: Table
    by_pair: Table


def part(found: AnsweredTwice | None, experiment: Experiment) -> Part | None:
    """Return the part of the page; None if nothing was answered twice."""
    if found is None:
        return None
    every, said = (
        found.every,
        [
            f"{words.count(found.prompts_n, 'prompt')} {'was' if found.prompts_n == 1 else 'were'} answered by several people."
        ],
    )
    if every.short_n:
        said.append(
            f"On {words.count(every.short_n, 'short answer')}, two people give the same answer in "
            f"{_shown(every.equal)} of the cases; alpha is {_shown(every.alpha)}."
        )
    if every.long_n:
        said.append(f"On {words.count(every.long_n, 'longer answer')}, chrF is {_shown(every.chrf)}.")
    if agreement.is_low(every):
        said.append(
            f"Alpha below {agreement.ALPHA_LOW} is too low even for tentative conclusions (Krippendorff 2004): make the "
            "instructions clearer before more is annotated."
        )
    if found.differing_n:
        said.append(f"{words.count(found.differing_n, 'prompt')} with different texts: {_which_counts(experiment)}.")
    head = ("short", "same answer", "alpha", "longer", "chrF")
    tasks = [(words.clean(name, 60), *_cells(one)) for name, one in found.by_task.items()]
    pairs = [(words.clean(" and ".join(pair), 80), *_cells(one)) for pair, one in found.by_pair.items()]
    numeric = frozenset(range(1, 6))
    by_task = Table("agreement-task", "Agreement by task", ("task", *head), tuple(tasks), numeric)
    by_pair = Table("agreement-pair", "Agreement by pair of annotators", ("annotators", *head), tuple(pairs), numeric)
    return Part((*said, RULE), shortened(by_task), shortened(by_pair))


def _which_counts(experiment: Experiment) -> str:
    rule = experiment.annotation.when_answers_differ
    if isinstance(rule, Mapping):
        return f"the answer of {words.clean(str(rule.get('adjudicator')), 60)} counts, or else the newest"
    return "models train on all of them" if rule == "both" else "the newest counts (annotation.when_answers_differ)"


def _cells(one: Agreement) -> tuple[str, ...]:
    return (f"{one.short_n:,}", _shown(one.equal), _shown(one.alpha), f"{one.long_n:,}", _shown(one.chrf))


def _shown(value: Value) -> str:
    if math.isnan(value.estimate):
        return "–"
    interval = "" if math.isnan(value.low) else f" [{value.low:.2f}, {value.high:.2f}]"
    return f"{value.estimate:.2f}{interval}"
