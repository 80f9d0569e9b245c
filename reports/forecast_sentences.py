"""Sentences and a table on what more labels may bring (`forecast`), for the claims and the learning curves of the page."""

import math

from reports import decision, words
from reports.analysis import Section
from reports.bills import Money
from reports.difference import EQUIVALENCE_MARGIN
from reports.forecast import Forecast
from reports.tables import Table

SAID = {
    "gain expected": "They are expected to help.",
    "little to gain": f"A gain of {EQUIVALENCE_MARGIN:g} is not expected.",
    "cannot tell": "The forecast cannot tell whether they help.",
}
STOP = "By the rule of this page, stop here."
LAW = (
    "Each interval is for what a run there would measure with the same seeds and items. It rests on a power law, and on room "
    "for departures from it: see Methods and limits."
)


def strategy_of(section: Section) -> str:
    """Return the strategy whose next budgets the page names first: that of the decision, else the reference."""
    chosen = decision.chosen(section, section.primary) if section.primary is not None else None
    return chosen.strategy if chosen is not None else section.reference


def claim(section: Section) -> tuple[str, str, str]:
    """Return the claim on more labels: the text with all numbers, the verdict, and one or two short sentences."""
    strategy = strategy_of(section)
    found = section.outlooks[strategy]
    if not found.forecasts:
        return f"{found.problem} The strategy is {strategy}.", "no forecast", found.problem
    nearest, verdict = found.forecasts[0], found.forecasts[0].verdict
    stop = f" {STOP}" if all(one.verdict == "little to gain" for one in found.forecasts) else ""
    short = f"{_more(nearest, strategy, section.money)}. {SAID[verdict]}{stop}"
    each = "; ".join(_more(one, "", section.money) for one in found.forecasts)
    where = f"{nearest.budgets_n} budgets, and scores {words.score(nearest.score)} at {nearest.largest_n:,} labels"
    seeds = f"{words.count(nearest.seeds_n, 'seed')}, {words.count(nearest.items_n, 'item')}"
    return f"{strategy} is scored at {where} ({seeds}). {each}. {SAID[verdict]}{stop} {LAW}", verdict, short


def _more(one: Forecast, strategy: str, money: Money | None) -> str:
    labels = f"{one.more_n:,} more labels{f' of {strategy}' if strategy else f' ({one.budget_n:,} in total)'}"
    cost = f", {extra_cost(money, strategy, one)}" if money else ""
    return f"{labels}: {words.signed(one.gain)} ({ends(one)}){cost}"


def ends(one: Forecast) -> str:
    """Return the interval as text."""
    return f"95%: {words.signed(one.low)} to {words.signed(one.high)}"


def extra_cost(money: Money, strategy: str, one: Forecast) -> str:
    """Return what the labels beyond the largest scored budget cost. Without a list of that length it is a bound."""
    cost = money.amount(money.cost(strategy, one.budget_n) - money.cost(strategy, one.largest_n))
    is_listed = any(bill.strategy == strategy and bill.budget_n >= one.budget_n for bill in money.bills)
    return cost if money.is_hypothetical or is_listed else f"at most {cost}"


def table(section: Section, name: str) -> Table | None:
    """Return the table of all forecasts; None if no strategy has one."""
    money, made = section.money, [(s, one) for s, found in section.outlooks.items() for one in found.forecasts]
    if not made or section.says_nothing:
        return None
    rows = [
        (
            strategy,
            f"{one.budget_n:,}",
            f"{one.more_n:,}",
            *([extra_cost(money, strategy, one)] if money else []),
            words.signed(one.gain),
            f"{words.signed(one.low)} to {words.signed(one.high)}",
            one.verdict,
        )
        for strategy, one in made
    ]
    without = [strategy for strategy, found in section.outlooks.items() if not found.forecasts]
    none = f"; no forecast for {words.listing(without, most_n=5)}" if without else ""
    caption = (
        f"Forecast change of {section.scores.label} from the largest scored budget, on {section.scores.benchmark}{none}"
    )
    head = (
        "strategy",
        "labels",
        "more labels",
        *(["their cost"] if money else []),
        "change",
        "95% interval",
        "verdict",
    )
    return Table(name, caption, head, tuple(rows), frozenset(range(1, len(head) - 1)))


def caption(section: Section) -> str:
    """Return a sentence on the dashed continuation of the figure; empty if there is none."""
    drawn = continuation(section)
    return f" The thin line with its band goes on with {drawn[0]}: a forecast." if drawn else ""


def continuation(section: Section) -> tuple[str, tuple[Forecast, ...]] | None:
    """Return the strategy that the figure of learning curves continues, and its forecasts; None if it has none."""
    if section.says_nothing or not section.outlooks:
        return None
    strategy = strategy_of(section)
    made = section.outlooks[strategy].forecasts
    return (strategy, made) if made and all(math.isfinite(one.low) for one in made) else None
