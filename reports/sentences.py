"""Sentences for the claims of the report: estimate, interval, numbers of seeds and items, and verdict.

A sentence names a winner only if the difference is separable from noise, and gives no verdict from one seed.
"""

import math
from functools import partial
from typing import NamedTuple

from data_contracts.cell_keys import FULL_POOL_STRATEGY
from reports import decision, forecast_sentences, paper, words
from reports.analysis import PLAIN, WEIGHTED, Comparison, Section
from reports.lists import list_sentences as lists_sentences
from reports.provenance import made_by
from reports.results import Results
from reports.statistics import Leader, Savings

TIED = 1e-12  # rounding error of equal means
NAMES_LISTED_N = 5  # strategies in one sentence


class Claim(NamedTuple):
    """One claim at the top of the page."""

    topic: str
    text: str  # with all numbers
    verdict: str
    short: str = ""  # one plain sentence; the page shows it, and folds the text away. Empty: the page shows the text


def answer(results: Results, sections: tuple[Section, ...]) -> list[Claim]:
    """Return the claims in the order of the page. The first one is the decision, if any strategy has scores."""
    if not results.is_scored:
        return [*(Claim(*one) for one in lists_sentences.claims(results, sections)), *selection_price(results)]
    where = [f" on {section.scores.benchmark}" if len(sections) > 1 else "" for section in sections]
    claims = [claim for section, place in zip(sections, where, strict=True) for claim in _claims(section, place)]
    if claims:
        last = [*selection_price(results), _testable(results, sections)]
        return [*_decision(results, sections), *_unscored_primary(results, sections), *claims, *last]
    return [Claim("No answer yet", "No stored score belongs to a strategy of the experiment file.", "missing")]


def _decision(results: Results, sections: tuple[Section, ...]) -> list[Claim]:
    found = decision.decide(results, sections)
    return [] if found is None else [Claim("Decision", found.text, found.verdict)]


def _unscored_primary(results: Results, sections: tuple[Section, ...]) -> list[Claim]:
    one = results.experiment.primary
    if one is None or any((s.scores.benchmark, s.scores.metric) == (one.benchmark, one.metric) for s in sections):
        return []
    text = f"{one.strategy} against {one.reference} on {one.benchmark}, {one.metric}, cannot be made: no such scores are stored."
    return [Claim("Primary comparison", text, "missing")]


def selection_price(results: Results) -> list[Claim]:
    """Return at most one claim: the time that selection takes before any label is bought."""
    parts, where, total_s = [], set(), 0.0
    for asset, what in (
        ("confidence_table", "to score the base’s confidence"),
        ("prompt_embeddings", "to embed the prompts"),
    ):
        table = results.tables.get((asset, None))
        if table is not None and table.footer.wall_s:
            parts.append(f"{words.duration(table.footer.wall_s)} {what} ({words.count(table.rows_n, 'prompt')})")
            total_s += table.footer.wall_s
            made_with = made_by(table.footer)
            where |= {made_with.gpu or made_with.processor} - {None}
    if not parts:
        return []
    orders = [t.footer.wall_s for (asset, _), t in results.tables.items() if asset == "ranking" and t.footer.wall_s]
    if orders:
        parts.append(f"at most {words.duration(max(orders))} for each order")
    on = f" on {words.listing(sorted(words.clean(name, 60) for name in where), most_n=2)}" if where else ""
    free = [name for name in ("random", PLAIN) if name in results.experiment.strategies]
    nothing = f" For {words.listing(free)} nothing is asked or embedded." if free else ""
    text = f"Before any label is bought, including loading: {words.listing(parts)}{on}.{nothing}"
    short = f"Choosing prompts took {words.duration(total_s + max(orders, default=0.0))} of computing."
    return [Claim("Time for selection", text, "time, not labels", short)]


def _testable(results: Results, sections: tuple[Section, ...]) -> Claim:
    claims = paper.paper_claims(results, sections)
    can = [(claim, here) for claim, here in claims if not here.startswith(paper.NOT_TESTABLE)]
    said = " ".join(f"“{claim.rstrip('.')}”: {here}" for claim, here in can)
    tail = f" {said}" if can else " Methods and limits says why."
    how = f"{len(can)} of {len(claims)}"
    text = f"This run can test {how} of the paper’s published claims.{tail}"
    return Claim("The paper’s claims", text, f"{how} testable", f"This run can test {how} published claims.")


def _claims(section: Section, where: str) -> list[Claim]:
    if section.says_nothing:
        metric = f"({words.clean(section.scores.benchmark, 40)}, {words.clean(section.scores.label, 40)})"
        text = f"{section.says_nothing.rstrip('.')} {metric}."
        return [Claim("What the scores say" + where, text, "nothing to compare")]
    claims = []
    topic = "Primary comparison" + (" (the default, not declared)" if section.has_default_primary else "") + where
    if section.primary:
        claims.append(_compared_claim(topic, section.primary, section))
    elif section.primary_problem:
        claims.append(Claim(topic, section.primary_problem, "missing"))
    pair = next((one for one in section.areas if (one.strategy, one.reference) == (WEIGHTED, PLAIN)), None)
    against = next((one for one in section.areas if (one.strategy, one.reference) == (PLAIN, section.reference)), None)
    for topic, one in (("Even spread over tasks", against), ("Weighted against even spread", pair)):
        if one:
            claims.append(_compared_claim(topic + where, one, section))
    if others := other_strategies(section):
        claims.append(others._replace(topic=others.topic + where))
    if best := best_by_budget(section):
        topic = "Tied with the leader" + where
        claims.append(Claim(topic, best, best_verdict(section), leader_at_largest(section)))
    claims += _saved(section, where)
    if sentence := full_pool(section):
        verdict = section.full_pool_gain.verdict if section.full_pool_gain else "missing"
        claims.append(Claim("Tuning on the full pool" + where, sentence, verdict, _full_pool_in_short(section)))
    if section.outlooks:
        claims.append(Claim("More labels" + where, *forecast_sentences.claim(section)))
    return claims


def _saved(section: Section, where: str) -> list[Claim]:
    """Return at most one claim on saved labels. A curve with one budget gives no claim.

    The claim is on the first of these that has savings: primary strategy, weighted diversity, plain diversity, any strategy.
    """
    named = [section.primary.strategy] if section.primary else []
    wanted = [name for name in (*named, WEIGHTED, PLAIN) if name in section.savings] or list(section.savings)[:1]
    return [
        Claim(
            "Labels saved" + where,
            saved(name, one, section),
            savings_verdict(one, section),
            _saved_in_short(name, one, section),
        )
        for name in wanted[:1]
        if (one := section.savings[name]).has_curve
    ]


def _compared_claim(topic: str, one: Comparison, section: Section) -> Claim:
    return Claim(topic, compared(one, section), one.verdict, in_short(one))


def in_short(one: Comparison) -> str:
    """Return one or two plain sentences on a comparison, without statistics."""
    if one.verdict in ("better", "worse"):
        side = "higher" if one.verdict == "better" else "lower"
        return f"{decision.where(one)}, {one.strategy} scores {abs(one.difference.estimate):.3f} {side} than {one.reference}."
    if one.verdict == "too few seeds to say":
        return f"Too few seeds to compare {one.strategy} with {one.reference}."
    gap = one.difference
    ends = f" It may be from {abs(gap.low):.3f} lower to {abs(gap.high):.3f} higher." if gap.low < 0 < gap.high else ""
    return f"{one.strategy} is not shown to differ from {one.reference}.{ends}"


def _saved_in_short(name: str, one: Savings, section: Section) -> str:
    verdict, target_n = savings_verdict(one, section), section.savings_budget_n or 0
    if verdict == "fewer labels":
        return decision.labels_do(one, target_n, section.reference, name)
    if verdict == "not reached":
        return f"{name} does not reach the score of {section.reference} at {target_n:,} labels."
    return f"These budgets do not settle whether {name} saves labels."


def leader_at_largest(section: Section) -> str:
    """Return a plain sentence on the leader and its tied set at the largest budget with two or more strategies."""
    several = {budget: leader for budget, leader in section.leaders.items() if leader.pairs}
    if not several:
        return ""
    budget = max(several)
    leader, others_n = several[budget], len(several[budget].tied)
    if not leader.can_tell:
        return f"At {budget:,} labels there are too few seeds to name a leader."
    if leader.is_single:
        return f"At {budget:,} labels, {leader.name} is best: it separates from every other strategy."
    others = f"{others_n} others are" if others_n > 1 else f"{leader.tied[0]} is"
    return f"At {budget:,} labels, {leader.name} leads; {others} not shown to differ from it."


def _full_pool_in_short(section: Section) -> str:
    gain, pool_n = section.full_pool_gain, section.full_pool_n or 0
    if gain is None:
        return ""
    side = "higher" if gain.estimate >= 0 else "lower"
    return f"Tuning on all {pool_n:,} labels scores {abs(gain.estimate):.3f} {side} than the base model."


def compared(one: Comparison, section: Section) -> str:
    """Return one to three sentences on a comparison of two strategies, with all numbers."""
    gap = one.difference
    if gap.is_identical:
        return f"{one.strategy} and {one.reference} have identical scores on every item ({words.basis(gap)})."
    side = "above" if gap.estimate >= 0 else "below"
    span = words.listing([f"{budget:,}" for budget in one.budgets])
    what = f"area under the curve over {span} labels"
    if len(one.budgets) == 1:
        what = f"score at {span} labels, the only budget in common"
    has_p = one.p_adjusted is not None and math.isfinite(one.p_adjusted)
    adjusted = f"; Holm-adjusted {words.p_equals(one.p_adjusted)}" if has_p else ""
    return (
        f"{one.strategy} scores {abs(gap.estimate):.3f} {side} {one.reference} "
        f"({words.interval_of_difference(gap)}{adjusted}; {what}, {section.scores.label}; {words.basis(gap)}).{_before(one)}"
        f"{_detectable(one)}"
    )


def _detectable(one: Comparison) -> str:
    if one.verdict != "not separable from noise":
        return ""
    said = decision.seen(one)
    return f" {said[0].upper()}{said[1:]}"


def _before(one: Comparison) -> str:
    """Return a sentence if the interval excludes 0 but the corrected verdict is "not separable from noise"; else empty text."""
    gap = one.difference
    is_clear_alone = gap.low > 0 or gap.high < 0
    if one.verdict != "not separable from noise" or not is_clear_alone or one.p_adjusted is None:
        return ""
    return " The interval alone excludes 0; after correction for the number of comparisons the two are not separable."


def other_strategies(section: Section) -> Claim | None:
    """Return a claim on the other strategies (neither primary nor `PLAIN`) against the reference; None if there are none."""
    rest = [one for one in section.areas if one.reference == section.reference and one.strategy != PLAIN]
    if not rest:
        return None
    parts = [
        f"{one.strategy} {words.signed(one.difference.estimate)} [{words.interval(one.difference)}], {one.verdict}"
        for one in rest
    ]
    if len(parts) > NAMES_LISTED_N:
        parts = [*parts[:NAMES_LISTED_N], f"{len(parts) - NAMES_LISTED_N} more under Differences"]
    clear = sum(one.verdict in ("better", "worse") for one in rest)
    basis = {words.basis(one.difference) for one in rest}
    text = (
        f"Against {section.reference}, {section.area_title} with 95% intervals and verdicts after Holm’s correction: "
        f"{'; '.join(parts)}{f' ({basis.pop()})' if len(basis) == 1 else ''}."
    )
    verdict = rest[0].verdict if len(rest) == 1 else f"{clear} of {len(rest)} separate from {section.reference}"
    named = (
        f"{rest[0].strategy}: {verdict}"
        if len(rest) == 1
        else f"{clear} of {len(rest)} others separate from {section.reference}"
    )
    return Claim("Other strategies", text, verdict, f"{named}.")


def best_by_budget(section: Section) -> str:
    """Return a sentence on the leader and its tied set at each budget; empty with fewer than two strategies."""
    if len(section.strategies) < 2:
        return ""
    if not any(leader.can_tell for leader in section.leaders.values()):
        return (
            "No strategy can be called best at any budget: too few seeds, or items, for an interval that counts both."
        )
    parts = []
    for budget, leader in sorted(section.leaders.items()):
        if not leader.pairs:
            parts.append(f"at {budget:,} labels only {leader.name} is scored")
            continue
        mean = next(point.mean for point in section.curves[leader.name] if point.budget_n == budget)
        level = f"{words.score(mean.estimate)} [{words.interval(mean, words.score)}]"
        among = _among(section, budget)
        if leader.is_single:
            others = "the others of them" if among else "every other strategy"
            parts.append(f"at {budget:,} labels {leader.name} is best{among} ({level}) and separates from {others}")
        elif not leader.can_tell:
            parts.append(f"at {budget:,} labels there are too few seeds to say")
        else:
            parts.append(f"at {budget:,} labels {_highest(leader, among, level)}")
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def _highest(leader: Leader, among: str, level: str) -> str:
    gaps = {name: gap.estimate for name, gap, _ in leader.pairs}
    equal = [name for name in leader.tied if abs(gaps[name]) < TIED]
    others = [name for name in leader.tied if name not in equal]
    who = (
        f"{words.listing([leader.name, *equal], most_n=NAMES_LISTED_N)} {'share' if equal else 'has'} the highest mean"
    )
    rest = f"; not shown to differ from it: {words.listing(others, most_n=NAMES_LISTED_N)}" if others else ""
    return f"{who}{among} ({level}){rest}"


def _among(section: Section, budget: int) -> str:
    scored_n = sum(any(point.budget_n == budget for point in points) for points in section.curves.values())
    every_n = len(section.named)
    return "" if scored_n >= every_n else f" of the {scored_n} of {every_n} scored strategies"


def best_verdict(section: Section) -> str:
    """Return one verdict on the leaders at all budgets together."""
    found = [leader for leader in section.leaders.values() if leader.pairs]
    if not any(leader.can_tell for leader in found):
        return "too few seeds to say"
    singles = sum(leader.is_single for leader in found)
    return f"best at {singles} of {words.count(len(found), 'budget')}" if singles else "not shown to differ"


def saved(name: str, one: Savings, section: Section) -> str:
    """Return sentences on the labels that a strategy needs to match the reference's score at the reference's largest budget."""
    budget = section.savings_budget_n or 0
    goal = f"the score of {section.reference} at {budget:,} labels ({words.score(one.target_score)})"
    items = "" if one.has_seed_uncertainty else "; items only"
    basis = f"95% set {words.savings_set(one)}; {words.count(one.seeds_n, 'seed')}{items}"
    money = section.money
    if not one.is_reached:
        spent = f" {one.largest_n:,} labels {money.verb} {money.said(name, one.largest_n)}." if money else ""
        if one.is_empty:
            return f"{name} does not reach {goal} within {one.largest_n:,} labels ({basis}).{spent}"
        return (
            f"The budgets tried do not show whether {name} reaches {goal}: its mean is below that at {one.largest_n:,} "
            f"labels, but not separably ({basis}).{spent}"
        )
    sentence = f"{name} reaches {goal} with {words.labels_needed(one)} labels ({basis})."
    if money is None:
        return sentence
    form = partial(money.said, name)
    return (
        f"{sentence} They {money.verb} {words.labels_needed(one, form)} (95% set {words.savings_set(one, form)}), those of "
        f"{section.reference} {money.said(section.reference, budget)}: {money.basis}."
    )


def savings_verdict(one: Savings, section: Section) -> str:
    """Return the verdict on saved labels: "fewer labels" only if the confidence set ends below the reference's largest budget."""
    if not one.has_seed_uncertainty:
        return "too few seeds to say"
    if one.high_n is not None and one.high_n < (section.savings_budget_n or 0):
        return "fewer labels"
    if one.is_empty:
        return "not reached"
    return "not settled" if one.high_n is None else "not separable from noise"


def full_pool(section: Section) -> str:
    """Return sentences on the gain of the full pool over the base model; empty if either is not scored."""
    gain = section.full_pool_gain
    if gain is None or section.full_pool is None:
        return ""
    side = "above" if gain.estimate >= 0 else "below"
    money, pool_n = section.money, section.full_pool_n or 0
    cost = f" Its labels {money.verb} {money.said(FULL_POOL_STRATEGY, pool_n)}." if money else ""
    return (
        f"The full pool of {pool_n:,} labels scores {words.score(section.full_pool.estimate)}, "
        f"{abs(gain.estimate):.3f} {side} the base model ({words.interval_of_difference(gain)}; {words.basis(gain)}).{cost}"
    )
