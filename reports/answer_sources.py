"""Answers by a model and drafts: how many answers of each arm a model wrote, what the arm costs, and how many drafts were kept.

There are such data only if a model answered or drafts came back; `sources_part` shows them. Costs of a model's answers come from
the tokens in `annotations` and the prices of the experiment file.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from data_contracts import money
from reports import words
from reports.bills import NO_PRICES, SOURCE_RULE, Prices, answers_by_model, prices_of_models
from reports.experiment_view import Experiment
from reports.reader import Reader

COLUMNS = ("prompt_id", "annotator", "is_draft_kept")
NAME_CHARS = 40


class Arm(NamedTuple):
    """Answers to the prompts of one list, by who wrote them."""

    strategy: str
    budget_n: int
    human_n: int
    model_n: int
    model_cost: Decimal | None  # exact; None if the file has no prices for the model
    uncounted_n: (
        int  # answers whose tokens are not known, or whose model has no price any more, so that the cost lacks them
    )


class Kept(NamedTuple):
    """Drafts that came back to one annotator and task."""

    annotator: str
    task: str
    answers_n: int
    kept_n: int


class Sources(NamedTuple):
    """All data of the section."""

    models: tuple[str, ...]  # names of the models that answered
    arms: tuple[Arm, ...]  # empty if no model answered
    kept: tuple[Kept, ...]
    human_price: float | None
    currency: str
    replies: Mapping[str, int]  # of all replies by kind, also those that are no answers
    replies_cost: Decimal | None


def read_sources(
    reader: Reader, experiment: Experiment, strategies: Sequence[str], budgets: Collection[int]
) -> Sources | None:
    """Return who wrote the answers; None if people wrote all of them and no drafts came back."""
    stored = reader.listing.tables.get(("annotations", None))
    if stored is None or SOURCE_RULE not in {rule.rule for rule in stored.footer.rules}:
        return None  # earlier versions stored fewer columns
    table = reader.columns("annotations", None, *COLUMNS)
    rows = [] if table is None else table.to_pylist()
    by_model = answers_by_model(reader)
    kept = _kept(reader, [row for row in rows if row["is_draft_kept"] is not None])
    if not by_model and not kept:
        return None
    prices = prices_of_models(experiment)
    human = {row["prompt_id"] for row in rows} - by_model.keys()
    arms = []
    wanted = {(strategy, budget_n) for strategy in strategies for budget_n in budgets}
    for (strategy, budget_n), chosen in reader.cells("allocation", "prompt_id", wanted=wanted):
        ids = set(chosen["prompt_id"].to_pylist())
        arms.append(_arm(strategy, budget_n, ids & human, [by_model[one] for one in ids & by_model.keys()], prices))
    order = {name: place for place, name in enumerate(strategies)}
    notes = stored.footer.notes.get("model_replies")
    totals = notes if isinstance(notes, Mapping) else {}
    asked = [str(name) for name in totals.get("models", ())]
    tokens = [int(totals.get(name, 0)) for name in ("replies_n", "input_tokens", "output_tokens")]
    return Sources(
        tuple(sorted({words.clean(str(row["model"]), NAME_CHARS) for row in by_model.values()})),
        tuple(sorted(arms, key=lambda arm: (order[arm.strategy], arm.budget_n))) if by_model else (),
        kept,
        experiment.annotation.price,
        words.clean(experiment.annotation.currency or "", 8),
        {words.clean(str(kind), 20): int(n) for kind, n in dict(totals.get("kinds", {})).items()},
        money.cost_of_replies(prices.get(asked[0], NO_PRICES), *tokens) if len(asked) == 1 else None,
    )


def _arm(
    strategy: str,
    budget_n: int,
    human: Collection[str],
    answers: Sequence[Mapping[str, Any]],
    prices: Mapping[str, Prices],
) -> Arm:
    of_model = next(iter(prices.values()), NO_PRICES)
    priced = [row for row in answers if row["model"] in prices]
    counted = [row for row in priced if of_model[0] is not None or row["input_tokens"] is not None]
    sums = [sum(row[name] or 0 for row in counted) for name in ("input_tokens", "output_tokens")]
    cost = money.cost_of_replies(of_model, len(counted), *sums) if priced or not answers else None
    return Arm(strategy, budget_n, len(human), len(answers), cost, 0 if cost is None else len(answers) - len(counted))


def _kept(reader: Reader, rows: Sequence[Mapping[str, object]]) -> tuple[Kept, ...]:
    labels = reader.columns("task_labels", None, "prompt_id", "task") if rows else None
    columns = () if labels is None else (labels["prompt_id"].to_pylist(), labels["task"].to_pylist())
    tasks = dict(zip(*columns, strict=True)) if columns else {}
    who = [(str(row["annotator"] or ""), str(tasks.get(row["prompt_id"], ""))) for row in rows]
    answers = Counter(who)
    kept = Counter(one for one, row in zip(who, rows, strict=True) if row["is_draft_kept"])
    return tuple(Kept(*one, answers[one], kept[one]) for one in sorted(answers))
