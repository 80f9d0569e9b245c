"""Budgets in money are numbers of prompts: the experiment, and so every identity, is that of the file with these numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.cost_budgets import answers_for
from taskdiv_assets.experiment.experiment_file import ExperimentError, parse
from taskdiv_assets.experiment.experiment_schema import schema

FILE = """
name: camp
pool: {reader: table, path: pool.csv, columns: {prompt: question}}
strategies: [random]
budgets: BUDGETS
annotation: ANNOTATION
"""
PRICE = "{price: 1.20, currency: EUR}"


def parsed(budgets: str, annotation: str = PRICE) -> Experiment:
    return parse(FILE.replace("BUDGETS", budgets).replace("ANNOTATION", annotation), "/somewhere/camp.yaml")


def test_an_amount_is_the_number_of_answers_that_it_pays_for() -> None:
    assert parsed("{cost: [600, 1200.5, 59]}") == parsed("[500, 1000, 49]")
    assert parsed("{cost: [0.3]}", "{price: 0.1}").budgets == [3]  # 0.3 / 0.1 is 2.9999999999999996 in floats


@given(
    st.decimals(min_value="0.01", max_value="1e7", places=2), st.decimals(min_value="0.001", max_value="1e5", places=3)
)
def test_one_more_answer_would_cost_more_than_the_amount(amount: Decimal, price: Decimal) -> None:
    (answers_n,) = answers_for([float(amount)], float(price))
    assert answers_n * price <= amount < (answers_n + 1) * price


@pytest.mark.parametrize(
    ("budgets", "annotation", "said"),
    [
        ("{cost: [600]}", "{currency: EUR}", "budgets: `cost` needs the price of one answer; add `annotation: {price:"),
        ("{cost: [600]}", "{price: true}", "budgets: `cost` needs the price of one answer"),
        ("{cost: [1, 600]}", PRICE, "budgets: 1.00 EUR pays for no answer at 1.20 EUR each"),
        ("{cost: [600, 600.5]}", PRICE, "600.00 EUR and 600.50 EUR both pay for 500 answers at 1.20 EUR each"),
        ("{cost: 600}", PRICE, "budgets: expected numbers of prompts such as [200, 500], or amounts of money"),
        ("{cost: [-1]}", PRICE, "budgets: expected numbers of prompts such as [200, 500], or amounts of money"),
        ("{cost: [600], more: 1}", PRICE, "budgets: expected numbers of prompts"),
        ("{tokens: [600]}", PRICE, "budgets: expected numbers of prompts"),
    ],
)
def test_a_mistake_is_one_sentence_at_the_line_of_the_budgets(budgets: str, annotation: str, said: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        parsed(budgets, annotation)
    line = next(line for line in str(caught.value).splitlines() if "budgets: " in line)
    assert said in line and ":5: " in line


def test_editors_know_both_forms() -> None:
    budgets = schema()["properties"]["budgets"]
    assert [one.get("type", one.get("$ref")) for one in budgets["anyOf"]] == ["array", "#/$defs/CostBudgets"]
    assert "amounts of money" in budgets["description"]
