"""Whether the primary verdict depends on settings: the table of variants (`robustness` in the experiment file) and its summary.

A variant is compared with the experiment at the same budget, on the same items and seeds. These are sensitivity checks: there is
no correction for their number, and the primary comparison does not depend on them.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from reports import statistics, words
from reports.results import Results
from reports.statistics import Arm, Difference, Verdict
from reports.tables import Table
from reports.variant_scores import VARIED, VariantScores

Outcome = Literal["holds", "does not hold", "not separable here", "too few seeds to say", "not run yet"]
NOT_TRIED = "not tried"
LEAD = (
    "Each variant repeats the primary comparison with another setting. Everything else stays, also the seeds and the items. "
    "These are checks of how sensitive the result is: their intervals are not corrected for the number of variants."
)
MEANING = (
    "“Holds” means: the verdict at this budget is the same as with the settings of the file. “Not separable here” means: the "
    "variant shows no difference, which is not evidence of the opposite. The change is the difference in the variant minus the "
    "difference with the settings of the file."
)
NONE_NAMED = (
    "Not tried. The experiment file names no variant under robustness, so this page cannot say whether the primary verdict "
    "depends on the learning rate, the template or the definition of confidence."
)
CHANGES_SHOWN_N = 6


class Check(NamedTuple):
    """One variant beside the experiment. The differences are strategy minus reference at one budget; None without scores."""

    variant: VariantScores
    outcome: Outcome
    own: Difference | None = None
    of_file: Difference | None = None
    change: Difference | None = None  # `own` minus `of_file`; None if the four arms have no common seed


class Part(NamedTuple):
    """The section of the page."""

    verdict: str
    sentences: tuple[str, ...]
    table: Table
    missing: tuple[str, ...]  # one sentence for each variant without scores
    command: str  # command that computes the missing variants


def section(results: Results) -> Part:
    """Return the section of the page on variants."""
    found, name = checks(results), results.experiment.name
    missing = tuple(f"{one.variant.name}: {one.variant.why_missing}." for one in found if one.own is None)
    sentences = (LEAD, *_verdicts_of_file(found), MEANING) if found else (NONE_NAMED,)
    return Part(summary(results), sentences, _table(results, found), missing, f"taskdiv run {name}")


def summary(results: Results) -> str:
    """Return a phrase on all variants, such as "holds in 3 of 4 variants"; "not tried" if the file names none.

    Variants without scores, and variants with too few seeds for a verdict, are counted apart.
    """
    outcomes = [one.outcome for one in checks(results)]
    if not outcomes:
        return NOT_TRIED
    counts = {name: outcomes.count(name) for name in ("holds", "not run yet", "too few seeds to say")}
    judged_n = len(outcomes) - counts["not run yet"] - counts["too few seeds to say"]
    said = [f"holds in {counts['holds']} of {words.count(judged_n, 'variant')}"] if judged_n else []
    if few_n := counts["too few seeds to say"]:
        said.append(f"{words.count(few_n, 'variant')} with too few seeds to say")
    if open_n := counts["not run yet"]:
        said.append(f"{open_n if said else words.count(open_n, 'variant')} not run yet")
    return ", ".join(said)


def checks(results: Results) -> tuple[Check, ...]:
    """Compare each variant with the experiment, in the order of the file."""
    return tuple(_check(results, one) for one in results.variants)


def _check(results: Results, variant: VariantScores) -> Check:
    scores, primary = variant.scores, results.experiment.primary
    if scores is None or primary is None:
        return Check(variant, "not run yet")
    names, budget_n, tasks = (primary.strategy, primary.reference), variant.budget_n, scores.task_of_item
    first, second = (scores.arms[name, budget_n] for name in names)
    own_first, own_second = (scores.arms[f"{name}{VARIED}", budget_n] for name in names)
    own, of_file = statistics.compare(own_first, own_second, tasks), statistics.compare(first, second, tasks)
    common = tuple(sorted(set.intersection(*(set(arm.seeds) for arm in (first, second, own_first, own_second)))))
    change = None
    if common:  # (own_first − own_second) − (first − second), as a difference of two sums, by seed and item
        left, right = _sum(own_first.at(common), second.at(common)), _sum(own_second.at(common), first.at(common))
        change = statistics.compare(left, right, tasks)
    # Equal scores on every item, for example because nothing is answered right any more, confirm no verdict.
    verdict = "not separable here" if own.is_identical else outcome(of_file.verdict, own.verdict)
    return Check(variant, verdict, own, of_file, change)


def _sum(first: Arm, second: Arm) -> Arm:
    return Arm(first.scores + second.scores, first.seeds)


def outcome(of_file: Verdict, own: Verdict) -> Outcome:
    """Return whether a verdict holds, given the verdict with the settings of the file and the verdict in the variant.

    >>> outcome("better", "better"), outcome("better", "worse"), outcome("better", "not separable from noise")
    ('holds', 'does not hold', 'not separable here')
    >>> outcome("not separable from noise", "better"), outcome("better", "too few seeds to say")
    ('does not hold', 'too few seeds to say')
    """
    if "too few seeds to say" in (of_file, own):
        return "too few seeds to say"
    if own == "not separable from noise":  # also if both verdicts are: that confirms nothing
        return "not separable here"
    return "holds" if own == of_file else "does not hold"


def _table(results: Results, found: tuple[Check, ...]) -> Table:
    rows = []
    for one in found:
        what = "; ".join([*_changes(results, one.variant.changes), f"at {words.count(one.variant.budget_n, 'label')}"])
        numbers = (_with_interval(gap) for gap in (one.own, one.of_file, one.change))
        rows.append((one.variant.name, one.outcome, what, *numbers))
    primary = results.experiment.primary
    pair = (
        "" if primary is None else f"{primary.strategy} − {primary.reference}, {primary.benchmark}, {primary.metric}: "
    )
    caption = f"{pair}difference in score at one budget, with its 95% interval, not corrected"
    head = ("variant", "verdict", "what is different", "in the variant", "with the file’s settings", "change")
    return Table("robustness-table", caption, head, tuple(rows))


def _with_interval(difference: Difference | None) -> str:
    return "–" if difference is None else f"{words.signed(difference.estimate)} ({words.interval(difference)})"


def _verdicts_of_file(found: tuple[Check, ...]) -> list[str]:
    """Return at most one sentence, which gives the verdict with the settings of the file at each budget of a variant."""
    verdicts = {one.variant.budget_n: one.of_file.verdict for one in found if one.of_file is not None}
    said = [f"“{verdict}” at {words.count(budget_n, 'label')}" for budget_n, verdict in sorted(verdicts.items())]
    return [f"With the settings of the file, the verdict is {words.listing(said, most_n=4)}."] if said else []


def _changes(results: Results, changes: Mapping[str, Any]) -> list[str]:
    said = [_said(results, key, value) for key, value in _leaves(changes)]
    left_n = len(said) - CHANGES_SHOWN_N
    return said if left_n <= 0 else [*said[:CHANGES_SHOWN_N], f"{left_n} more"]


def _leaves(changes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in changes.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and not prefix:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def _said(results: Results, key: str, value: Any) -> str:
    rate = results.experiment.tuning.get("learning_rate")
    if not isinstance(rate, float | int):  # candidates, one of which was chosen
        rate = results.footer_notes("tuning_choice").get("learning_rate")
    shown = words.clean(value, 60)
    said = f"{words.clean(key, 40)} {f'“{shown}”' if key == 'prompt_template' else shown}"
    if key != "tuning.learning_rate" or not isinstance(rate, float | int):
        return said
    try:
        now = float(value[1:]) * rate if isinstance(value, str) else float(value)
    except ValueError:
        return said
    return f"{said} ({now:g} instead of {rate:g})" if isinstance(value, str) else f"{said} instead of {rate:g}"
