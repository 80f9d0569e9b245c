"""The decision: the first sentences of the page, on which list to send out and what would change that.

The rules, in this order:

1. There is no decision if scores cannot compare models, if the primary comparison is missing or says nothing, or if the reader
   chose another reference.
2. The list of the primary strategy is sent out if that strategy is better than its reference. If the tied set at the largest
   budget leaves it out, and the leader there is better than the reference too, the leader's list is sent out.
3. Otherwise, the list of a strategy that is better than the reference after Holm's correction is sent out: the leader's, or that
   of the strategy with the largest difference.
4. Otherwise, the list of the reference is used, for example a random one.
5. If the largest budget, or another benchmark, shows the opposite, the page names both results and no single list.
"""

import math
from typing import NamedTuple

from data_contracts.cell_keys import FULL_POOL_STRATEGY
from reports import robustness, words
from reports.analysis import Comparison, Section
from reports.power import design_of, needed_seeds
from reports.results import Results
from reports.statistics import Leader, Savings, equivalence

SEEDS_MAX_N = 200  # more seeds are not recommended
NAMES_LISTED_N = 3


class Decision(NamedTuple):
    """The decision in plain sentences."""

    action: str  # what to do, in one sentence
    evidence: tuple[str, ...]  # why
    changes: tuple[str, ...]  # what would change the decision
    verdict: str  # "send out", "keep", "depends" or "no decision"

    @property
    def text(self) -> str:
        """The decision and its evidence as one text."""
        return " ".join((self.action, *self.evidence))


def decide(results: Results, sections: tuple[Section, ...]) -> Decision | None:
    """Return the decision by the first section, which has the primary comparison; None if no strategy has scores."""
    if not results.is_scored or not sections:
        return None
    section = sections[0]
    primary = section.primary
    if section.says_nothing:
        return _none(section.says_nothing, "Another benchmark, whose items some models get right and others wrong.")
    if primary is None:
        why = section.primary_problem or "Only one strategy has scores, so there is nothing to compare it with."
        return _none(why, f"Scores of both strategies. The command is: taskdiv run {results.experiment.name}.")
    if primary.verdict == "too few seeds to say":
        return _too_few(primary)
    if primary.reference != section.reference:
        why = f"This page compares with {section.reference}, as its reader asked. The page without --reference decides."
        return _none(why, f"The decision compares with {primary.reference}.")
    picked = chosen(section, primary)
    made = _keep(results, section, primary) if picked is None else _send(results, section, picked, primary)
    return _by_benchmark(sections, picked or primary, _by_budget(section, picked, made))


def _none(why: str, change: str) -> Decision:
    return Decision("There is no decision yet.", (why,), (change,), "no decision")


def _too_few(primary: Comparison) -> Decision:
    if primary.difference.seeds_n > 1 and primary.difference.reference_seeds_n > 1:
        return _none(
            "There are too few items to tell a better choice from luck.", "More items, at least ten for each task."
        )
    why = "One training run of each strategy cannot tell a better choice from luck."
    return _none(why, "At least three seeds for each strategy; five show more.")


def chosen(section: Section, primary: Comparison) -> Comparison | None:
    """Return the comparison of the strategy whose list is sent out; None if that is the reference."""
    every = (primary, *section.areas)
    better = {one.strategy: one for one in every if one.reference == primary.reference and one.verdict == "better"}
    leader = _leader(section)
    if primary.strategy in better and (leader is None or primary.strategy in _tied(leader)):
        return primary
    if leader is not None and leader.name in better:
        return better[leader.name]
    return better.get(primary.strategy) or max(better.values(), key=lambda one: one.difference.estimate, default=None)


def _leader(section: Section) -> Leader | None:
    """Return the leader at the largest budget; None if nothing can be said of it."""
    leader = section.leaders[max(section.budgets)] if section.budgets else None
    return leader if leader is not None and leader.can_tell else None


def _tied(leader: Leader) -> tuple[str, ...]:
    return (leader.name, *leader.tied)


def _send(results: Results, section: Section, chosen: Comparison, primary: Comparison) -> Decision:
    gain, bill = _gain(section, chosen), _bill(section, chosen)
    costs_more = bool(bill) and bill[0].startswith("But")
    action = f"Send out the list of {chosen.strategy}{', if the higher price is worth it' if costs_more else ''}."
    changes = (*_near_the_leader(section, chosen), *_always(results, chosen))
    return Decision(action, (*gain, *bill, *_not_declared(chosen, primary)), changes, "send out")


def _gain(section: Section, chosen: Comparison) -> tuple[str, ...]:
    """Return sentences on the labels that the chosen list saves or, if that is not settled, on its higher score."""
    one = _settled(section, chosen)
    if one is not None:
        return (labels_do(one, section.savings_budget_n or 0, section.reference),)
    saved = section.savings.get(chosen.strategy)
    more = "How many labels it saves is not settled."
    if saved is None or not saved.has_curve:
        more = ""
    elif saved.is_empty:
        more = f"It does not reach the score of {section.reference} at {section.savings_budget_n:,} labels."
    return tuple(filter(None, (higher(chosen), more)))


def _settled(section: Section, chosen: Comparison) -> Savings | None:
    one, target_n = section.savings.get(chosen.strategy), section.savings_budget_n or 0
    is_settled = one is not None and one.is_reached and one.high_n is not None and one.high_n < target_n
    return one if is_settled else None


def higher(one: Comparison) -> str:
    """Return a sentence on the difference between two strategies, with its interval."""
    gap = one.difference
    side = "higher" if gap.estimate >= 0 else "lower"
    ends = sorted((abs(gap.low), abs(gap.high)))
    interval = f"{ends[0]:.3f} to {ends[1]:.3f}" if gap.low * gap.high > 0 else words.interval(gap)
    return f"{where(one)}, {one.strategy} scores {abs(gap.estimate):.3f} {side} than {one.reference} (95%: {interval})."


def where(one: Comparison) -> str:
    """Return the budgets of a comparison for the beginning of a sentence."""
    if len(one.budgets) > 1:
        return f"On average over {min(one.budgets):,} to {max(one.budgets):,} labels"
    return f"At {one.budgets[0]:,} labels"


def labels_do(one: Savings, target_n: int, reference: str, name: str = "") -> str:
    """Return a sentence on the labels of strategy `name` (default: "its") that do what the reference's largest budget does."""
    them = f"{target_n:,} random ones" if reference == FULL_POOL_STRATEGY else f"{target_n:,} of {reference}"
    needed = words.labels_needed(one)
    own = f"labels of {name}" if name else "of its labels"
    text = f"{needed} {own} score as high as {them} (95% sure: at most {words.labels(one.high_n or target_n)})."
    return text[0].upper() + text[1:]


def _bill(section: Section, chosen: Comparison) -> tuple[str, ...]:
    """Return a sentence on the cost of the labels that do the same; none without a price, or if both cost nothing."""
    money, one, target_n = section.money, _settled(section, chosen), section.savings_budget_n or 0
    if money is None or one is None or one.labels_n is None:
        return ()
    labels_n = float(one.smallest_n if one.is_reached_at_first else one.labels_n)
    cost, other_cost = money.cost(chosen.strategy, labels_n), money.cost(section.reference, target_n)
    own, other = money.said(chosen.strategy, labels_n), money.said(section.reference, target_n)
    most = "at most " if one.is_reached_at_first else ""
    if cost == other_cost == 0:
        return ()
    if cost >= other_cost:
        return (f"But they {money.verb} more: {own} instead of {other}.",)
    supposed = ", if no answer were known" if money.is_hypothetical else ""
    if math.isclose(cost, money.price * words.rounded(labels_n)):
        return (f"{words.labels(labels_n)} × {money.unit_price} = {most}{own} instead of {other}{supposed}.",)
    return (f"They {money.verb} {most}{own} instead of {other}{supposed}.",)


def _not_declared(chosen: Comparison, primary: Comparison) -> tuple[str, ...]:
    if chosen.strategy == primary.strategy:
        return ()
    caution = "The list was picked by its scores, so its gain may be a little too high."
    if primary.verdict == "better":
        return (
            f"{primary.strategy} is better than {primary.reference} too, but this list scores higher still.",
            caution,
        )
    return (
        f"This was not the primary comparison: {primary.strategy} is not shown to beat {primary.reference}.",
        "That it is better holds after correction for all comparisons.",
        caution,
    )


def _near_the_leader(section: Section, chosen: Comparison) -> tuple[str, ...]:
    """Return sentences on the tied set at the largest budget, and on the reference there."""
    leader, largest_n = _leader(section), max(section.budgets)
    if leader is None or chosen.strategy not in _tied(leader):
        return ()
    found = []
    if leader.name != chosen.strategy:
        found.append(f"At {largest_n:,} labels, {leader.name} leads; {chosen.strategy} is not shown to differ from it.")
    elif alike := [name for name in leader.tied if name != chosen.reference]:
        names = words.listing(alike, most_n=NAMES_LISTED_N)
        found.append(
            f"At {largest_n:,} labels, {names} {'is' if len(alike) == 1 else 'are'} not shown to differ from {chosen.strategy}."
        )
    at_top = _at_top(section, chosen.strategy)
    if at_top is not None and at_top.verdict == "not separable from noise":
        found.append(
            f"At {largest_n:,} labels, {chosen.strategy} is not shown to beat {chosen.reference}: the choice matters less there."
        )
    return tuple(found)


def _at_top(section: Section, strategy: str) -> Comparison | None:
    """Return the comparison of a strategy with the reference at the largest budget."""
    top = (max(section.budgets),)
    return next((one for one in section.by_budget if one.strategy == strategy and one.budgets == top), None)


def _always(results: Results, one: Comparison) -> tuple[str, ...]:
    low, high = min(one.budgets), max(one.budgets)
    tried = (
        f"Fewer than {low:,} or more than {high:,} labels" if low < high else f"Another number of labels than {low:,}"
    )
    checked = robustness.summary(results)
    settings = (
        "Another learning rate or template: not tried."
        if checked == robustness.NOT_TRIED
        else f"Other settings: the verdict {checked}."
    )
    return (f"{tried}: not tried.", settings, "Another base model or another pool: this run has one of each.")


def _keep(results: Results, section: Section, primary: Comparison) -> Decision:
    """Return the decision for the reference, because no strategy is better."""
    reference, gap = primary.reference, primary.difference
    action = "Buy at random." if reference == FULL_POOL_STRATEGY else f"Keep the list of {reference}."
    if primary.verdict == "worse":
        return Decision(action, (higher(primary),), _always(results, primary), "keep")
    same = equivalence(gap)
    if same.is_shown:
        over = "on average over the budgets" if len(primary.budgets) > 1 else f"at {primary.budgets[0]:,} labels"
        why = f"{primary.strategy} and {reference} differ by less than {same.margin:g} {over}."
        return Decision(action, (why,), _always(results, primary), "keep")
    why = f"No strategy is shown to beat {reference}."
    changes = (*_more(primary), *_always(results, primary))
    return Decision(action, (why, f"For {primary.strategy}: {seen(primary)}"), changes, "keep")


def _by_budget(section: Section, chosen: Comparison | None, made: Decision) -> Decision:
    """Return the decision, or one that names no single list if the largest budget shows the opposite of the average."""
    if len(section.budgets) < 2:
        return made
    leader = _leader(section)
    if chosen is not None:
        top = _at_top(section, chosen.strategy)
        is_opposite = top is not None and (
            top.verdict == "worse"
            or (leader is not None and leader.name == chosen.reference and chosen.strategy not in _tied(leader))
        )
    else:
        better = [
            one for one in section.by_budget if one.budgets == (max(section.budgets),) and one.verdict == "better"
        ]
        top = max(better, key=lambda one: one.difference.estimate, default=None)
        is_opposite = top is not None
    if top is None or not is_opposite:
        return made
    first = higher(chosen) if chosen is not None else f"On average, no strategy is shown to beat {section.reference}."
    return made._replace(
        action="The best list depends on the number of labels.", evidence=(first, higher(top)), verdict="depends"
    )


def _by_benchmark(sections: tuple[Section, ...], one: Comparison, made: Decision) -> Decision:
    """Add what other benchmarks and metrics say of the same two strategies. An opposite verdict leaves no single list."""
    if len(sections) < 2:
        return made
    names = [f"{words.clean(s.scores.benchmark, 40)} ({words.clean(s.scores.label, 40)})" for s in sections]
    others = [
        (name, found)
        for name, section in zip(names[1:], sections[1:], strict=True)
        for found in section.areas
        if (found.strategy, found.reference) == (one.strategy, one.reference) and not section.says_nothing
    ]
    opposite = "worse" if made.verdict == "send out" else "better"
    against = [(name, found) for name, found in others if found.verdict == opposite]
    evidence = (f"This is by {names[0]}.", *(f"{name}: {higher(found)}" for name, found in against[:NAMES_LISTED_N]))
    if against and made.verdict in ("send out", "keep"):
        action = "The best list depends on the benchmark."
        return made._replace(action=action, evidence=(*made.evidence, *evidence), verdict="depends")
    return made._replace(evidence=(*made.evidence, *evidence))


def seen(one: Comparison) -> str:
    """Return a sentence on the difference that this run would have shown."""
    correction = "" if one.p_adjusted is None else ", after correction for several comparisons"
    if not one.detectable < 1:
        return f"no difference is large enough to be shown by such a run{correction}."
    return f"such a run shows a true difference of {one.detectable:.3f} in 80% of cases{correction}."


def _more(one: Comparison) -> tuple[str, ...]:
    """Return a sentence on the seeds that would show the difference of this run, if it is the true one."""
    gap, design = one.difference, design_of(one.difference)
    if gap.is_borrowed:
        single = one.strategy if gap.seeds_n == 1 else one.reference
        return (f"More seeds of {single}, which has only one.",)
    if design is None or gap.estimate <= 0 or one.detectable <= gap.estimate:
        return ()
    seeds_n = needed_seeds(design, gap.estimate, gap.items_n)
    if seeds_n is None or seeds_n > SEEDS_MAX_N:
        return (f"More items: seeds alone will hardly show the difference of {gap.estimate:.3f} that was measured.",)
    if seeds_n <= gap.seeds_n:
        return ()
    return (f"More seeds: about {seeds_n:,} would show the difference of {gap.estimate:.3f} that was measured.",)
