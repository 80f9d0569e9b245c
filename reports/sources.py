"""Answers by a model and drafts: how many answers of each arm a model wrote, what the arm costs, and how many drafts were kept.

The section is on the page only if a model answered or drafts came back. Costs of a model's answers are computed from the
tokens in `annotations` and the prices of the experiment file.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from data_contracts import money
from reports import words
from reports.bills import SOURCE_RULE, answers_by_model, model_prices
from reports.experiment_view import Experiment
from reports.reader import Reader
from reports.tables import Table

COLUMNS = ("prompt_id", "annotator", "is_draft_kept")
NAME_CHARS = 40


class Arm(NamedTuple):
    """Answers to the prompts of one list, by who wrote them."""

    strategy: str
    budget_n: int
    human_n: int
    model_n: int
    model_cost: Decimal | None  # exact; None if the file has no prices for the model
    uncounted_n: int  # answers of a model whose tokens are not known, so that the cost lacks them


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


class SourcesSection(NamedTuple):
    """The section of the page."""

    text: str
    arms: Table | None
    kept_text: str
    kept: Table | None


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
    prices = model_prices(experiment)
    human = {row["prompt_id"] for row in rows} - by_model.keys()
    arms = []
    wanted = {(strategy, budget_n) for strategy in strategies for budget_n in budgets}
    for (strategy, budget_n), chosen in reader.cells("allocation", "prompt_id", wanted=wanted):
        ids = set(chosen["prompt_id"].to_pylist())
        arms.append(_arm(strategy, budget_n, ids & human, [by_model[one] for one in ids & by_model.keys()], prices))
    order = {name: place for place, name in enumerate(strategies)}
    notes = stored.footer.notes.get("model_replies")
    totals = notes if isinstance(notes, Mapping) else {}
    tokens = [int(totals.get(name, 0)) for name in ("replies_n", "input_tokens", "output_tokens")]
    return Sources(
        tuple(sorted({words.clean(str(row["model"]), NAME_CHARS) for row in by_model.values()})),
        tuple(sorted(arms, key=lambda arm: (order[arm.strategy], arm.budget_n))) if by_model else (),
        kept,
        experiment.annotation.price,
        words.clean(experiment.annotation.currency or "", 8),
        {words.clean(str(kind), 20): int(n) for kind, n in dict(totals.get("kinds", {})).items()},
        money.cost_of_replies(prices, *tokens),
    )


def _arm(
    strategy: str,
    budget_n: int,
    human: Collection[str],
    answers: Sequence[Mapping[str, Any]],
    prices: tuple[float | None, float | None, float | None],
) -> Arm:
    counted = [row for row in answers if row["input_tokens"] is not None]
    sums = [sum(row[name] or 0 for row in counted) for name in ("input_tokens", "output_tokens")]
    cost = money.cost_of_replies(prices, len(answers), *sums)
    uncounted_n = len(answers) - len(counted) if prices[0] is None else 0
    return Arm(strategy, budget_n, len(human), len(answers), cost, uncounted_n)


def _kept(reader: Reader, rows: Sequence[Mapping[str, object]]) -> tuple[Kept, ...]:
    labels = reader.columns("task_labels", None, "prompt_id", "task") if rows else None
    columns = () if labels is None else (labels["prompt_id"].to_pylist(), labels["task"].to_pylist())
    tasks = dict(zip(*columns, strict=True)) if columns else {}
    who = [(str(row["annotator"] or ""), str(tasks.get(row["prompt_id"], ""))) for row in rows]
    answers = Counter(who)
    kept = Counter(one for one, row in zip(who, rows, strict=True) if row["is_draft_kept"])
    return tuple(Kept(*one, answers[one], kept[one]) for one in sorted(answers))


# --- the page --------------------------------------------------------------------------------------------------------


def section(found: Sources | None) -> SourcesSection | None:
    """Return the section of the page; None without data."""
    if found is None:
        return None
    return SourcesSection(_text(found), _arms_table(found), _kept_text(found), _kept_table(found))


def _text(found: Sources) -> str:
    if not found.arms:
        return ""
    names = words.listing(list(found.models))
    text = f"Some answers were written by {names}, not by people. A person's answer to the same prompt always replaces them."
    no_answer = {kind: n for kind, n in found.replies.items() if kind != "answered"}
    if found.replies and found.replies_cost is not None:
        total = money.amount(float(money.to_the_cent(found.replies_cost)), found.currency)
        others = ", ".join(f"{n:,} {kind}" for kind, n in no_answer.items())
        text += (
            f" All replies of the model cost {total}{f', also those that are no answers ({others})' if others else ''}."
        )
    if any(arm.uncounted_n for arm in found.arms):
        text += " Costs lack the answers whose tokens the endpoint did not count; the table says how many."
    return text


def _arms_table(found: Sources) -> Table | None:
    if not found.arms:
        return None
    rows = tuple(
        (
            arm.strategy,
            f"{arm.budget_n:,}",
            f"{arm.human_n:,}",
            f"{arm.model_n:,}",
            _cost(None if found.human_price is None else Decimal(repr(found.human_price)) * arm.human_n),
            _cost(arm.model_cost) + (f" without {arm.uncounted_n:,}" if arm.uncounted_n else ""),
            _cost(_total(found, arm)),
        )
        for arm in found.arms
    )
    unit = f" ({found.currency})" if found.currency else ""
    head = ("strategy", "labels", "by people", "by a model", f"people{unit}", f"model{unit}", f"together{unit}")
    caption = (
        "Answers so far of each list by who wrote them, and what they cost. Lists share prompts: each is paid for once"
    )
    return Table("sources", caption, head, rows, frozenset(range(1, len(head))))


def _total(found: Sources, arm: Arm) -> Decimal | None:
    """Return the cost of an arm; None if the price of any of its answers is unknown."""
    if (arm.human_n and found.human_price is None) or (arm.model_n and arm.model_cost is None):
        return None
    return Decimal(repr(found.human_price or 0.0)) * arm.human_n + (arm.model_cost or 0)


def _cost(value: Decimal | None) -> str:
    return "no price" if value is None else f"{money.to_the_cent(value):,}"


def _kept_text(found: Sources) -> str:
    if not found.kept:
        return ""
    answers_n, kept_n = (sum(getattr(one, name) for one in found.kept) for name in ("answers_n", "kept_n"))
    return (
        f"{kept_n:,} of {words.count(answers_n, 'answer')} to prompts that were sent with a draft are the draft as it was. "
        "Annotators who see a draft tend to keep its words, so these answers are closer to the draft than free answers would be."
    )


def _kept_table(found: Sources) -> Table | None:
    rows = tuple(
        (
            words.clean(one.annotator, NAME_CHARS) or "no name",
            words.clean(one.task, NAME_CHARS),
            f"{one.answers_n:,}",
            f"{one.kept_n:,}",
        )
        for one in found.kept
    )
    head = ("annotator", "task", "answers with a draft", "left as it was")
    return Table("drafts", "Drafts that were left as they were, by annotator and task", head, rows, frozenset({2, 3}))
