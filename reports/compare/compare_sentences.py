"""Sentences of a comparison of systems, for the page and for the terminal."""

import math

from reports import words
from reports.analysis import Comparison
from reports.compare.metric_findings import SHOWN_N
from reports.compare.versus import Versus
from reports.sentences import Claim
from reports.statistics import Difference, equivalence


def claims(found: Versus) -> list[Claim]:
    """Return one claim for each comparison and, with more than two systems, a first one about the leader."""
    made = [
        Claim(f"{one.strategy} against {one.reference}", compared(found, one), verdict(one.difference, one.verdict))
        for one in found.comparisons
    ]
    return made if len(found.means) < 3 else [Claim("Highest mean score", leader(found), leader_verdict(found)), *made]


def verdict(gap: Difference, said: str) -> str:
    """Return a verdict in words for systems, which have runs instead of seeds."""
    few = "items" if gap.items_n < 2 or not math.isfinite(gap.low) else "runs"
    return f"too few {few} to say" if said == "too few seeds to say" else said


def compared(found: Versus, one: Comparison) -> str:
    """Return sentences on one comparison: the difference, its interval, and what the comparison could have shown."""
    gap = one.difference
    if gap.is_identical:
        return f"{one.strategy} and {one.reference} have the same score on every item that is compared ({basis(gap)})."
    side = "above" if gap.estimate >= 0 else "below"
    adjusted = "Holm-adjusted " if len(found.comparisons) > 1 else ""
    has_p = one.p_adjusted is not None and math.isfinite(one.p_adjusted)
    p_value = f"; {adjusted}{words.p_equals(one.p_adjusted)}" if has_p else ""
    sentence = (
        f"{one.strategy} scores {abs(gap.estimate):.3f} {side} {one.reference} "
        f"({words.interval_of_difference(gap)}{p_value}; {basis(gap)})."
    )
    return sentence + _could_have_shown(one)


def _could_have_shown(one: Comparison) -> str:
    if one.verdict != "not separable from noise":
        return ""
    shown = ""
    if one.difference.low > 0 or one.difference.high < 0:
        shown = (
            " The interval alone excludes 0; after correction for the number of comparisons the two are not separable."
        )
    repeated = f"other items{' and runs' if one.difference.has_seed_uncertainty else ''} of this number and kind"
    if one.detectable > 1:
        shown += f" With {repeated}, no difference is large enough to be shown in 80% of repetitions."
    elif math.isfinite(one.detectable):
        shown += f" Repeated with {repeated}, a true difference of {one.detectable:.3f} would be shown in 80% of repetitions."
    same = equivalence(one.difference)
    return f"{shown} The two are {same.verdict}." if same.is_shown else shown


def basis(gap: Difference) -> str:
    """Return the numbers of items, tasks and runs behind a difference."""
    items = f"{words.count(gap.items_n, 'item')} of {words.count(gap.tasks_n, 'task')}"
    if not gap.has_seed_uncertainty:
        return f"{items}, one run each"
    other = gap.reference_seeds_n
    runs = f"{gap.seeds_n} runs each" if other == gap.seeds_n else f"{gap.seeds_n} against {words.count(other, 'run')}"
    return f"{items}, {runs}"


def leader(found: Versus) -> str:
    """Return a sentence on the system with the highest mean and on those that are not shown to differ from it."""
    best = found.leader
    mean = found.means[best.name]
    level = f"{words.score(mean.estimate)} [{words.interval(mean, words.score)}]"
    if not best.can_tell:
        return f"{best.name} has the highest mean ({level}); there is too little to say whether it differs from the others."
    if best.is_single:
        return f"{best.name} has the highest mean ({level}) and separates from every other system."
    tied = words.listing(list(best.tied), "or", SHOWN_N)
    return f"{best.name} has the highest mean ({level}). It is not shown to differ from {tied}."


def leader_verdict(found: Versus) -> str:
    best = found.leader
    if not best.can_tell:
        return "too little to say"
    return "separates from all" if best.is_single else f"{words.count(len(best.tied) + 1, 'system')} tied"


def place(found: Versus, name: str) -> str:
    """Return whether a system is the leader, tied with the leader, or below it, for a table."""
    best = found.leader
    if name == best.name:
        return "leader"
    if not best.can_tell:
        return "too little to say"
    return "not shown to differ from the leader" if name in best.tied else "below the leader"


def lines(found: Versus) -> list[str]:
    """Return the lines of the terminal: metric, findings, then a verdict for each comparison."""
    joined = found.joined
    said = [f"metric: {joined.metric}, {basis(found.comparisons[0].difference)}"]
    said += [f"{finding.title}: {finding.text}" for finding in joined.findings]
    for claim in claims(found):
        said.append(f"{claim.topic}: {claim.verdict}. {claim.text}")
    return [words.clean(line, 600) for line in said]
