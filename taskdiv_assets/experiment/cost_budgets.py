"""Budgets in money: `budgets: {cost: [600, 1200]}` instead of numbers of prompts.

An amount becomes the number of answers that it pays for at `annotation.price`. So all other code, all identities and the report
know numbers of prompts only, and an amount gives the same results as the number that it pays for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from data_contracts import money
from taskdiv_assets.tuning_settings import Number, PositiveInt, Settings

AMOUNT_MAX = 1e12


class CostBudgets(Settings):
    """Budgets in money. Each amount pays for a number of answers at `annotation.price`.

    Attributes:
        cost: amounts in the currency of `annotation.price`, at most a thousand.
    """

    cost: Annotated[list[Annotated[Number, Field(gt=0, le=AMOUNT_MAX)]], Field(min_length=1, max_length=1_000)]


def in_prompts(budgets: Mapping[str, Any], annotation: object) -> list[int]:
    """Return `budgets: {cost: …}` of an experiment file as numbers of prompts; `annotation` is the section of the same file.

    Every prompt of a list counts, also one whose answer is known already. Raise ValueError if `budgets` is not of this form, if
    there is no price, or if an amount pays for no answer or for as many answers as another one.
    """
    try:
        amounts = CostBudgets.model_validate(budgets).cost
    except ValidationError:
        raise ValueError(
            "expected numbers of prompts such as [200, 500], or amounts of money such as {cost: [600, 1200]}, each above 0 and "
            f"at most {AMOUNT_MAX:,.0f}"
        ) from None
    section: Mapping[str, Any] = annotation if isinstance(annotation, Mapping) else {}
    price = section.get("price")
    if isinstance(price, bool) or not isinstance(price, int | float) or not 0 < price < float("inf"):
        raise ValueError("`cost` needs the price of one answer; add `annotation: {price: 1.20, currency: EUR}`")
    found = answers_for(amounts, price)
    currency = section.get("currency") if isinstance(section.get("currency"), str) else None
    each = f"at {money.unit_price(price, currency)} each"
    for place, (amount, count) in enumerate(zip(amounts, found, strict=True)):
        said = money.amount(amount, currency)
        if count == 0:
            raise ValueError(f"{said} pays for no answer {each}; expected at least the price of one answer")
        if count in found[:place]:
            other = money.amount(amounts[found.index(count)], currency)
            raise ValueError(f"{other} and {said} both pay for {count:,} answers {each}; keep one of them")
    return found


def answers_for(amounts: Sequence[float], price: float) -> list[int]:
    """Return how many answers each amount pays for. The division is exact in decimal digits.

    >>> answers_for([0.3, 600, 599.99], 0.1)
    [3, 6000, 5999]
    """
    return [int(Fraction(repr(amount)) // Fraction(repr(price))) for amount in amounts]


def _raised(budgets: object) -> object:
    """Return `budgets`, or raise it if it is an error."""
    if isinstance(budgets, ValueError):
        raise budgets
    return budgets


# For the field `budgets` of a class derived from `BudgetSettings`.
BUDGETS = BeforeValidator(_raised, json_schema_input_type=list[PositiveInt] | CostBudgets)


class BudgetSettings(Settings):
    """Base class of an experiment, which may give its budgets in money.

    Attributes:
        budgets: numbers of prompts to annotate, or amounts of money that are spent on answers.
    """

    @model_validator(mode="before")
    @classmethod
    def _count_prompts(cls, raw: Any) -> Any:
        """Replace budgets in money by numbers of prompts, or by the error, which the field `budgets` raises at its own place."""
        budgets = raw.get("budgets") if isinstance(raw, dict) else None
        if not isinstance(budgets, dict):
            return raw
        try:
            return {**raw, "budgets": in_prompts(budgets, raw.get("annotation"))}
        except ValueError as error:
            return {**raw, "budgets": error}
