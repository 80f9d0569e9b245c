"""Which texts share their beginning: properties of the families, and other ways of sharing that save no more tokens."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from taskdiv_assets.language_model.prefixes import LEAST_SHARED, Family, Tokens, families

INSTRUCTION = tuple(range(1000, 1000 + LEAST_SHARED))
Case = tuple[list[Tokens], list[int]]


@st.composite
def nested_texts(draw: st.DrawFn) -> Case:
    """Draw texts of blocks as prompts have them: a few blocks at each level, then a few tokens of their own."""
    levels = draw(st.lists(st.lists(st.integers(0, 45), min_size=1, max_size=3), min_size=0, max_size=4))
    blocks = [
        [tuple(100 * level + 1000 * choice + step for step in range(size)) for choice, size in enumerate(sizes)]
        for level, sizes in enumerate(levels)
    ]
    texts, shareable = [], []
    for _ in range(draw(st.integers(0, 12))):
        picked = [draw(st.sampled_from(block)) for block in blocks[: draw(st.integers(0, len(blocks)))]]
        text = tuple(itertools.chain.from_iterable(picked)) + tuple(draw(st.lists(st.integers(0, 2), max_size=3)))
        texts.append(text)
        shareable.append(draw(st.integers(0, len(text))))
    return texts, shareable


@given(nested_texts(), st.integers(2, 5))
def test_every_text_stands_once_and_its_beginning_is_really_common(case: Case, least_n: int) -> None:
    texts, shareable = case
    found = families(texts, shareable, least_n)
    assert sorted(itertools.chain.from_iterable(family.members for family in found)) == list(range(len(texts)))
    assert sum(family.prefix_n == 0 for family in found) <= 1
    for members, prefix_n in found:
        assert members
        assert len({texts[member][:prefix_n] for member in members}) == 1
        assert all(prefix_n <= min(shareable[member], len(texts[member])) for member in members)
        if prefix_n:
            assert prefix_n >= LEAST_SHARED and len(members) >= least_n


@given(nested_texts(), st.randoms())
def test_the_order_of_texts_does_not_matter(case: Case, random: np.random.Generator) -> None:
    texts, shareable = case
    order = list(range(len(texts)))
    random.shuffle(order)
    found = families([texts[place] for place in order], [shareable[place] for place in order])

    def content(some: Sequence[Family], names: Sequence[int]) -> list[tuple[int, list[tuple[Tokens, int]]]]:
        return sorted(
            (family.prefix_n, sorted((texts[names[member]], shareable[names[member]]) for member in family.members))
            for family in some
        )

    whole = families(texts, shareable)
    assert saved_n(found) == saved_n(whole)
    if len(set(texts)) == len(texts):  # which of two equal texts comes first is open
        assert content(found, order) == content(whole, range(len(texts)))


def saved_n(some: Sequence[Family]) -> int:
    return sum((len(family.members) - 1) * family.prefix_n for family in some)


def saved_by_cutting_at(length: int, texts: list[Tokens], shareable: list[int]) -> int:
    """Return the tokens saved if texts with the same first `length` tokens share their whole common beginning."""
    groups: dict[Tokens, list[Tokens]] = {}
    for text, some in zip(texts, shareable, strict=True):
        if some >= length:
            groups.setdefault(text[:length], []).append(text[:some])
    saved = 0
    for heads in groups.values():
        common_n = length
        while len({head[: common_n + 1] for head in heads}) == 1 and common_n < min(map(len, heads)):
            common_n += 1
        saved += (len(heads) - 1) * common_n
    return saved


@given(nested_texts())
def test_no_cut_at_one_length_leaves_fewer_tokens_to_read(case: Case) -> None:
    texts, shareable = case
    saved = saved_n(families(texts, shareable))
    longest = max(map(len, texts), default=0)
    assert all(saved >= saved_by_cutting_at(length, texts, shareable) for length in range(LEAST_SHARED, longest + 1))


def numbered(head: int, size: int) -> Tokens:
    return tuple(range(head, head + size))


def test_contexts_under_one_instruction_stand_alone_where_that_saves_more() -> None:
    stories = [INSTRUCTION + numbered(5000 * story, 200) for story in range(1, 4)]
    texts = [(*story, ending) for story in stories for ending in range(4)]
    found = families(texts, [len(text) - 1 for text in texts])
    assert found == [Family(tuple(range(4 * i, 4 * i + 4)), LEAST_SHARED + 200) for i in range(3)]
    short = [INSTRUCTION + numbered(5000 * story, 2) for story in range(1, 4)]
    texts = [(*story, ending) for story in short for ending in range(4)]
    assert families(texts, [len(text) - 1 for text in texts]) == [Family(tuple(range(12)), LEAST_SHARED)]


def test_tasks_under_one_instruction_each_share_their_examples() -> None:
    """One short beginning for all would leave the examples of each task to be read once a question."""
    tasks = [INSTRUCTION + numbered(5000 * task, 300) for task in range(1, 4)]
    texts = [task + numbered(90_000 + 100 * question, 20) for task in tasks for question in range(10)]
    found = families(texts, [len(text) - 1 for text in texts])
    assert found == [Family(tuple(range(10 * i, 10 * i + 10)), LEAST_SHARED + 300) for i in range(3)]


def test_a_story_with_many_endings_leaves_the_others_together() -> None:
    story = INSTRUCTION + numbered(5000, 200)
    texts = [(*story, ending) for ending in range(4)]
    texts += [INSTRUCTION + numbered(90_000 + 100 * question, 20) for question in range(10)]
    found = families(texts, [len(text) - 1 for text in texts])
    expected = [Family((0, 1, 2, 3), LEAST_SHARED + 200), Family(tuple(range(4, 14)), LEAST_SHARED)]
    assert found == expected


def test_a_text_of_which_nothing_may_be_shared_parts_no_others() -> None:
    texts = [(*INSTRUCTION, 1), (*INSTRUCTION, 2), (*INSTRUCTION, 3)]
    assert families(texts, [32, 0, 32]) == [Family((0, 2), 32), Family((1,), 0)]


def test_below_the_least_nothing_is_shared() -> None:
    texts = [(*numbered(0, LEAST_SHARED - 1), ending, 5) for ending in range(100, 110)]
    assert families(texts, [LEAST_SHARED + 1] * 10) == [Family(tuple(range(10)), 0)]
    texts = [(*numbered(0, LEAST_SHARED), ending, 5) for ending in range(100, 110)]
    assert families(texts, [LEAST_SHARED] * 10) == [Family(tuple(range(10)), LEAST_SHARED)]
    assert families(texts, [LEAST_SHARED - 1] * 10) == [Family(tuple(range(10)), 0)]


def test_a_long_chain_of_texts_that_grow_is_planned() -> None:
    """Each begins with the one before: as many levels as texts, more than a function may call itself."""
    texts = [numbered(0, size) for size in range(1, 1500)]
    found = families(texts, [len(text) for text in texts])
    assert sorted(itertools.chain.from_iterable(family.members for family in found)) == list(range(1499))


def test_no_texts_no_families() -> None:
    assert families([], []) == []
    assert families([(1,)], [1]) == [Family((0,), 0)]
