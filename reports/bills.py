"""The cost of labels: the price of a label times the number of prompts whose label must be paid.

In a campaign, a prompt is free if the pool contains its answer and no answer to it was bought. In a study, the costs are
hypothetical: no prompt is free, as if no answer were known.

An answer of a model costs what its tokens cost instead of the price of a label (see `answer_sources`).
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa

from data_contracts import money
from reports import words
from reports.experiment_view import Experiment
from reports.reader import Reader

SOURCE_RULE = "source_declared"  # of tables of annotations that name the source of each answer
PRICES = ("price", "price_per_million_input_tokens", "price_per_million_output_tokens")
Prices = tuple[float | None, float | None, float | None]  # in the order of PRICES
NO_PRICES: Prices = (None, None, None)


class Bill(NamedTuple):
    """The number of prompts to pay in one cell of a campaign."""

    strategy: str
    budget_n: int
    annotations_n: int  # prompts that are not free
    bought_n: int | None  # prompts of the list with an answer of a person; None if no annotations are stored
    model_cost: float = 0.0  # of the list's answers by a model


class Money(NamedTuple):
    """The price of a label, the free prompts, and the bills of a campaign."""

    price: float
    currency: str  # empty if the experiment file has none
    is_hypothetical: bool  # True for a study
    free_ranks: Mapping[str, tuple[int, ...]]  # by strategy: ranks (from 0) of the free prompts
    bills: tuple[Bill, ...]
    price_of_hour: float | None = None  # of the machine that selects and trains
    model_costs: Mapping[
        str, tuple[tuple[int, float], ...]
    ] = {}  # by strategy: rank and cost of each answer by a model

    def amount(self, value: float) -> str:
        return money.amount(value, self.currency)

    @property
    def unit_price(self) -> str:
        return money.unit_price(self.price, self.currency)

    def cost(self, strategy: str, labels_n: float) -> float:
        """Return the cost of a strategy's first `labels_n` labels. If `labels_n` is a float, it is rounded as on the page."""
        shown_n = labels_n if isinstance(labels_n, int) else words.rounded(labels_n)
        by_model = sum(cost for rank, cost in self.model_costs.get(strategy, ()) if rank < shown_n)
        return self.price * (shown_n - bisect_left(self.free_ranks.get(strategy, ()), shown_n)) + by_model

    def said(self, strategy: str, labels_n: float) -> str:
        """Return the cost of a strategy's first `labels_n` labels as text with the currency."""
        return self.amount(self.cost(strategy, labels_n))

    def listed(self, strategy: str, labels_n: float) -> str:
        """Return the same cost as `said`, without the currency, for a table column."""
        return f"{self.cost(strategy, labels_n):,.2f}"

    def head(self, title: str) -> str:
        return f"{title} ({self.currency})" if self.currency else title

    @property
    def verb(self) -> str:
        return "would cost" if self.is_hypothetical else "cost"

    @property
    def basis(self) -> str:
        if self.is_hypothetical:
            return f"{self.unit_price} a label, as if none of the answers were known"
        of_model = ", and for answers of a model what its replies cost" if any(self.model_costs.values()) else ""
        return f"{self.unit_price} a label, none for answers that came with the pool{of_model}"


def read_money(reader: Reader, experiment: Experiment, budgets: Collection[int | None]) -> Money | None:
    """Return the price and, in a campaign, the bills of the cells at `budgets`; None if the experiment file has no price."""
    price, strategies = experiment.annotation.price, experiment.strategies
    if price is None:
        return None
    currency = words.clean(experiment.annotation.currency or "", 8)
    if not experiment.is_campaign:
        return Money(price, currency, True, {}, (), experiment.annotation.price_of_machine_hour)
    pool = reader.columns("raw_pool", None, "prompt_id", "response")
    bought = _ids(reader.columns("annotations", None, "prompt_id"))
    by_model = answers_by_model(reader)
    prices = prices_of_models(experiment)
    own = set() if pool is None else _ids(pool.filter(pool["response"].is_valid())) or set()
    free = own - (bought or set()) | by_model.keys()  # an answer in the pool is not free if it was also bought
    ranks: dict[str, tuple[int, ...]] = {}
    costs: dict[str, tuple[tuple[int, float], ...]] = {}
    bills = []
    for strategy, budget_n, ids in _lists(reader, strategies, budgets):
        ranks[strategy] = tuple(rank for rank, prompt_id in enumerate(ids) if prompt_id in free)
        ranked = [(rank, by_model[one]) for rank, one in enumerate(ids) if one in by_model]
        costs[strategy] = tuple((rank, float(_cost_of(row, prices))) for rank, row in ranked)
        bought_n = None if bought is None else len(bought.intersection(ids) - by_model.keys())
        model_cost = sum(cost for _, cost in costs[strategy])
        bills.append(Bill(strategy, budget_n, len(ids) - len(ranks[strategy]), bought_n, model_cost))
    return Money(price, currency, False, ranks, tuple(bills), experiment.annotation.price_of_machine_hour, costs)


def answers_by_model(reader: Reader) -> dict[str, Mapping[str, Any]]:
    """Return the rows of the answers that a model wrote, by prompt_id. Tables of earlier versions name no sources."""
    stored = reader.listing.tables.get(("annotations", None))
    if stored is None or SOURCE_RULE not in {rule.rule for rule in stored.footer.rules}:
        return {}
    table = reader.columns("annotations", None, "prompt_id", "source", "model", "input_tokens", "output_tokens")
    return {row["prompt_id"]: row for row in (table.to_pylist() if table else ()) if row["source"] == "model"}


def prices_of_models(experiment: Experiment) -> Mapping[str, Prices]:
    """Return by model the prices of a reply, and of a million tokens of input and output. The file names one model at most.

    The replies of a model that an earlier version of the file named have no price.
    """
    annotator = experiment.annotation.annotator or {}
    of_reply, of_input, of_output = (
        float(one) if isinstance(one := annotator.get(name), int | float) else None for name in PRICES
    )
    return {str(annotator["model"]): (of_reply, of_input, of_output)} if "model" in annotator else {}


def _cost_of(row: Mapping[str, Any], prices: Mapping[str, Prices]) -> Decimal:
    of_model = prices.get(str(row["model"]), NO_PRICES)
    return money.cost_of_replies(of_model, 1, row["input_tokens"] or 0, row["output_tokens"] or 0) or Decimal()


def _lists(
    reader: Reader, strategies: tuple[str, ...], budgets: Collection[int | None]
) -> Iterator[tuple[str, int, list[str]]]:
    """Yield strategy, budget and prompt ids (by rank) of each readable cell at `budgets`, each strategy's largest budget last."""
    cells = [(strategies.index(name), n, key) for key, (name, n) in reader.keys("allocation") if name in strategies]
    for place, budget_n, key in sorted(cells):
        table = reader.columns("allocation", key, "rank", "prompt_id") if budget_n in budgets else None
        if table is not None:
            yield strategies[place], budget_n, table.sort_by("rank")["prompt_id"].to_pylist()


def _ids(table: pa.Table | None) -> set[str] | None:
    return None if table is None else set(table["prompt_id"].to_pylist())
