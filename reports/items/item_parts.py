"""The template's values for the list of all paired items."""

from typing import NamedTuple

from reports import words
from reports.items.answer_texts import QUESTION_N
from reports.items.item_payload import ANSWER_N, ANSWER_START_N, BYTES_MAX, payload
from reports.items.paired_items import BASE_NAME, FIRST_N, PairedItems


class ItemsPart(NamedTuple):
    """The sentences above the list, the text of the link that opens it, and the compressed items."""

    sentences: tuple[str, ...]
    summary: str
    data: str


def items_part(paired: PairedItems | None, bytes_max: int = BYTES_MAX) -> ItemsPart | None:
    """Return None if there are no items, or no two models to compare. `bytes_max` bounds the compressed items."""
    if paired is None or paired.compared[0] == paired.compared[1]:
        return None
    found = payload(paired, bytes_max)
    if not found.items_n:
        return None
    sentences = (_asked(paired), _kept(paired, found.items_n, bytes_max), _texts(paired))
    return ItemsPart(sentences, f"Browse {words.count(found.items_n, 'item')}", found.data)


def _asked(paired: PairedItems) -> str:
    names = [words.clean(paired.models[place], 60) for place in paired.compared]
    seeds = {one.seed for one in paired.benchmarks}
    under = f"seed {min(seeds)}" if len(seeds) == 1 else "the first seed that both have"
    return (
        f"{words.listing(names)} both answered {words.count(paired.all_n, 'item')} at {paired.budget_n:,} labels. "
        f"The answers here are those under {under}."
    )


def _kept(paired: PairedItems, items_n: int, bytes_max: int) -> str:
    left_n = paired.all_n - items_n
    if not left_n:
        return "All of them are inside this page."
    return (
        f"{items_n:,} of them are inside this page, and {left_n:,} are left out, because this part of the page has at most "
        f"{bytes_max / 1e6:.1f} MB. Each pattern of right and wrong answers keeps its first {FIRST_N} items, and the same "
        "share of its others. Within a pattern, the items with the smallest hash stay; nobody chose them."
    )


def _texts(paired: PairedItems) -> str:
    start_n, end_n = ANSWER_START_N, ANSWER_N - ANSWER_START_N
    cut = (
        f"A long question is cut to its last {QUESTION_N} characters, "
        f"and a long answer to its first {start_n} and last {end_n}."
    )
    if paired.has_all_answers:
        return cut
    own = [words.clean(paired.models[place], 60) for place in paired.compared]
    base = (
        ["the base model"]
        if BASE_NAME in paired.models and paired.models.index(BASE_NAME) not in paired.compared
        else []
    )
    return f"{cut} The answers are those of {words.listing([*own, *base])}; of the other strategies, there are only scores."
