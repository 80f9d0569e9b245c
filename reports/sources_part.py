"""The section "Who wrote the answers" of the page, from the data in `answer_sources`."""

from decimal import Decimal
from typing import NamedTuple

from data_contracts import money
from reports import words
from reports.answer_sources import NAME_CHARS, Arm, Sources
from reports.tables import Table


class SourcesSection(NamedTuple):
    """The section of the page."""

    text: str
    arms: Table | None
    kept_text: str
    kept: Table | None


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
    no_answer = {
        kind: n for kind, n in found.replies.items() if kind not in ("answered", "failed")
    }  # failed: no reply came
    if found.replies and found.replies_cost is not None:
        total = money.amount(float(money.to_the_cent(found.replies_cost)), found.currency)
        others = ", ".join(f"{n:,} {kind}" for kind, n in no_answer.items())
        text += (
            f" All replies of the model cost {total}{f', also those that are no answers ({others})' if others else ''}."
        )
    if any(arm.uncounted_n for arm in found.arms):
        text += (
            " Costs lack the answers whose tokens the endpoint did not count, or whose model has no price in the file; the table "
            "says how many."
        )
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
