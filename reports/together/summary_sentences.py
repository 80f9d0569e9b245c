"""Sentences for the row of one experiment, each with few numbers."""

from data_contracts import money
from reports import words
from reports.earlier.stored_reports import Figure
from reports.together.summary import NO_REPORT, NOT_FOUND, PROBLEM_N, Summary


def answer(one: Summary) -> str:
    """Return the answer to an experiment's question: the primary comparison, else the first claim of the report.

    Without a report, return why there is none.
    """
    found = one.primary
    if found is None or found.estimate is None:
        return one.answer or _why_none(one)
    gap, interval = abs(found.estimate), _interval(found)
    if found.verdict in ("better", "worse"):
        side = "above" if found.estimate > 0 else "below"
        return f"{found.strategy} scores {gap:.3f} {side} {found.reference}{interval}."
    said = f"The difference is {words.signed(found.estimate)}{interval}."
    if found.verdict == "not separable from noise":
        return f"{found.strategy} is not separable from {found.reference}. {said}"
    return f"{found.strategy} against {found.reference}: {found.verdict}. {said}"


def _why_none(one: Summary) -> str:
    if one.state == NO_REPORT:
        return f"No report yet: taskdiv run {one.name}"
    if one.state == NOT_FOUND:
        return f"Not found: {words.clean(one.problems[0], PROBLEM_N)}"
    return f"Not usable: {words.clean(one.problems[0], PROBLEM_N)}" if one.problems else ""


def _interval(found: Figure) -> str:
    if found.low is None or found.high is None:
        return ""
    return f" (95% interval of the difference {words.signed(found.low)} to {words.signed(found.high)})"


def savings(one: Summary) -> str:
    """Return how many labels of the primary strategy match the reference at its largest budget; empty if nobody counted."""
    found, primary = one.savings, one.primary
    if found is None or primary is None:
        return ""
    goal = f"{one.reference_labels_n or found.budget_n:,} {primary.reference} ones"
    if found.estimate is None:
        if found.verdict == "not settled":
            return f"It is not settled whether {found.budget_n:,} labels do what {goal} do."
        return f"{found.budget_n:,} labels do less than {goal} do."
    return f"{words.labels(found.estimate)} labels do what {goal} do{_set(found)}."


def _set(found: Figure) -> str:
    low, high = found.low, found.high
    if low is None and high is None:
        return " (the 95% set is open at both ends)"
    if low is None:
        return f" (95%: at most {words.labels(high or 0.0)})"
    return (
        f" (95%: {words.labels(low)} or more)"
        if high is None
        else f" (95%: {words.labels(low)} to {words.labels(high)})"
    )


def cost(one: Summary) -> str:
    """Return the largest budget of the experiment and what its labels cost; empty if the experiment has no budget."""
    if one.largest_n is None:
        return ""
    labels = words.count(one.largest_n, "label")
    if one.price is None:
        return f"{labels}; no price is named."
    each, whole = money.unit_price(one.price, one.currency), money.amount(one.price * one.largest_n, one.currency)
    return f"{labels} cost at most {whole} ({each} each)."


def date(one: Summary) -> str:
    """Return when the report was made; empty if there is none."""
    return "" if one.made_at is None else f"{one.made_at:%Y-%m-%d %H:%M} UTC"
