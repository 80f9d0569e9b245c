"""The decision: the first sentences of the page, on which list to send out and what would change that.

The rules, in this order:

1. There is no decision if scores cannot compare models, if the primary comparison is missing, or if it has too few seeds.
2. The list of the primary strategy is sent out if that strategy is better than its reference. If the tied set at the largest
   budget leaves it out, and the leader there is better than the reference too, the leader's list is sent out.
3. Otherwise, the list of a strategy that is better than the reference after Holm's correction is sent out: the leader's, or that
   of the strategy with the largest difference.
4. Otherwise, the list of the reference is used, for example a random one.
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
    verdict: str  # "send out", "keep" or "no decision"

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
        why = "One training run of each strategy cannot tell a better choice from luck."
        return _none(why, "At least three seeds for each strategy; five show more.")
    chosen = _chosen(section, primary)
    if chosen is None:
        return _keep(results, section, primary)
    action = f"Send out the list of {chosen.strategy}."
    return Decision(
        action,
        (*_gain(section, chosen), *_not_declared(chosen, primary)),
        _after_send(results, section, chosen),
        "send out",
    )


def _none(why: str, change: str) -> Decision:
    return Decision("There is no decision yet.", (why,), (change,), "no decision")


def _chosen(section: Section, primary: Comparison) -> Comparison | None:
    """Return the comparison of the strategy whose list is sent out; None if that is the reference."""
    every = (primary, *section.areas)
    better = {one.strategy: one for one in every if one.reference == primary.reference and one.verdict == "better"}
    leader = _leader(section)
    if primary.strategy in better and (leader is None or primary.strategy in (leader.name, *leader.tied)):
        return primary
    if leader is not None and leader.name in better:
        return better[leader.name]
    return better.get(primary.strategy) or max(better.values(), key=lambda one: one.difference.estimate, default=None)


def _leader(section: Section) -> Leader | None:
    """Return the leader at the largest budget; None if nothing can be said of it."""
    leader = section.leaders[max(section.budgets)] if section.budgets else None
    return leader if leader is not None and leader.can_tell else None


def _gain(section: Section, chosen: Comparison) -> tuple[str, ...]:
    """Return sentences on the labels that the chosen list saves or, if that is not settled, on its higher score."""
    one = section.savings.get(chosen.strategy) if chosen.reference == section.reference else None
    target_n = section.savings_budget_n or 0
    if one is not None and one.is_reached and one.high_n is not None and one.high_n < target_n:
        return (labels_do(one, target_n, section.reference), *_bill(section, chosen.strategy, one, target_n))
    gap = chosen.difference
    where = "At equal labels" if len(chosen.budgets) > 1 else f"At {chosen.budgets[0]:,} labels"
    scores = f"{where} it scores {gap.estimate:.3f} higher than {chosen.reference} (95%: {words.interval(gap)})."
    return (scores, "How many labels it saves is not settled.") if len(chosen.budgets) > 1 else (scores,)


def labels_do(one: Savings, target_n: int, reference: str) -> str:
    """Return a sentence on the labels that do what the reference's largest budget does."""
    them = f"{target_n:,} random ones do" if reference == FULL_POOL_STRATEGY else f"{target_n:,} of {reference} do"
    needed = words.labels_needed(one)
    text = f"{needed} labels do what {them} (95%: at most {words.labels(one.high_n or target_n)})."
    return text[0].upper() + text[1:]


def _bill(section: Section, strategy: str, one: Savings, target_n: int) -> tuple[str, ...]:
    money = section.money
    if money is None or one.labels_n is None:
        return ()
    labels_n = float(one.smallest_n if one.is_reached_at_first else one.labels_n)
    most = "at most " if one.is_reached_at_first else ""
    own, other = money.said(strategy, labels_n), money.said(section.reference, target_n)
    if math.isclose(money.cost(strategy, labels_n), money.price * words.rounded(labels_n)):
        return (f"{words.labels(labels_n)} × {money.unit_price} = {most}{own} instead of {other}.",)
    return (f"They {money.verb} {most}{own} instead of {other}.",)


def _not_declared(chosen: Comparison, primary: Comparison) -> tuple[str, ...]:
    if chosen.strategy == primary.strategy:
        return ()
    if primary.verdict == "better":
        return (f"{primary.strategy} is better than {primary.reference} too, but this list scores higher still.",)
    return (
        f"This was not the primary comparison: {primary.strategy} is not shown to beat {primary.reference}. "
        "The result holds after correction for all comparisons.",
    )


def _after_send(results: Results, section: Section, chosen: Comparison) -> tuple[str, ...]:
    changes = []
    leader = _leader(section)
    if leader is not None:
        alike = [name for name in (leader.name, *leader.tied) if name != chosen.strategy]
        largest_n = max(section.budgets)
        if chosen.strategy in (leader.name, *leader.tied) and alike:
            names = words.listing(alike, most_n=NAMES_LISTED_N)
            verb = "is" if len(alike) == 1 else "are"
            also = " So the choice matters less there." if chosen.reference in alike else ""
            changes.append(f"At {largest_n:,} labels, {names} {verb} not shown to differ from it.{also}")
    return (*changes, *_always(results, section))


def _always(results: Results, section: Section) -> tuple[str, ...]:
    low, high = min(section.budgets), max(section.budgets)
    tried = (
        f"Fewer than {low:,} or more than {high:,} labels" if low < high else f"Another number of labels than {low:,}"
    )
    checked = robustness.summary(results)
    settings = (
        "Another learning rate or template: not tried."
        if checked == robustness.NOT_TRIED
        else f"Other settings: the primary verdict {checked}."
    )
    return (f"{tried}: not tried.", settings, "Another base model or another pool: this is one of each.")


def _keep(results: Results, section: Section, primary: Comparison) -> Decision:
    """Return the decision for the reference, because no strategy is better."""
    reference, gap = primary.reference, primary.difference
    action = "Buy at random." if reference == FULL_POOL_STRATEGY else f"Keep the list of {reference}."
    if primary.verdict == "worse":
        why = f"{primary.strategy} scores {-gap.estimate:.3f} lower than {reference} (95%: {words.interval(gap)})."
        return Decision(action, (why,), _always(results, section), "keep")
    same = equivalence(gap)
    if same.is_shown:
        why = f"{primary.strategy} and {reference} score the same: they differ by less than {same.margin:g}."
        return Decision(action, (why,), _always(results, section), "keep")
    others = "Nothing separates" if len(section.strategies) > 2 else f"{primary.strategy} does not separate"
    return Decision(
        action, (f"{others} from {reference}.", seen(primary)), (*_more(primary), *_always(results, section)), "keep"
    )


def seen(one: Comparison) -> str:
    """Return a sentence on the difference that this run would have shown."""
    if not one.detectable < 1:
        return "This run could not have shown any difference: it has too few seeds or items."
    return f"This run would have shown a difference of {one.detectable:.3f} in 80% of cases. A smaller one may exist."


def _more(one: Comparison) -> tuple[str, ...]:
    """Return a sentence on the seeds that would show the difference of this run, if it is the true one."""
    gap, design = one.difference, design_of(one.difference)
    if design is None or gap.estimate <= 0 or one.detectable <= gap.estimate:
        return ()
    seeds_n = needed_seeds(design, gap.estimate, gap.items_n)
    if seeds_n is None or seeds_n > SEEDS_MAX_N:
        return (f"More items: seeds alone will hardly show the difference of {gap.estimate:.3f} that was measured.",)
    if seeds_n <= gap.seeds_n:
        return ()
    return (f"More seeds: about {seeds_n:,} would show the difference of {gap.estimate:.3f} that was measured.",)
