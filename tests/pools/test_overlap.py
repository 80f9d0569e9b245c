"""Near-duplicates of items, compared with a second, simple implementation."""

from __future__ import annotations

import random
import re

import pytest

from taskdiv_assets.pools import overlap


def by_pairs(texts: list[str], items: list[str]) -> set[tuple[int, int, bool]]:
    """Return the matches by the second implementation, which compares every pair by sets of tuples of words."""

    def split_up(text: str) -> list[str]:
        return re.sub(r"[^a-z0-9]+", " ", text.lower()).split()

    def grams(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[i : i + 8]) for i in range(len(words) - 7)} if len(words) >= 8 else {tuple(words)}

    found = set()
    for i, text in enumerate(texts):
        for j, item in enumerate(items):
            own = grams(split_up(item))
            if len(own & grams(split_up(text))) / len(own) >= 0.7:
                found.add((i, j, split_up(text) == split_up(item)))
    return found


def test_near_duplicates_equal_a_comparison_of_every_pair() -> None:
    generator = random.Random(3)
    words = ["red", "Blue", "cat", "dog", "runs", "sits", "on", "a", "hill", "42"]

    def line() -> str:
        return " ".join(generator.choice(words) for _ in range(generator.choice([2, 3, 7, 8, 9, 20, 40])))

    items = [line() for _ in range(40)]
    texts = [line() for _ in range(60)]
    texts += [item.upper() + "!" for item in items[:10]]  # equal
    texts += [f"{item} {line()}" for item in items[10:20]]  # the item with more words behind it
    texts += [" ".join(item.split()[: -len(item.split()) // 5 or None]) for item in items[20:30]]  # its end is missing
    found = {tuple(match) for match in overlap.matches(texts, items)}
    assert found == by_pairs(texts, items)
    assert {is_exact for *_, is_exact in found} == {True, False}
    assert overlap.near(texts, items).sum() == len({text for text, *_ in found})


def pairs(texts: list[str], items: list[str]) -> set[tuple[int, int, bool]]:
    return {tuple(match) for match in overlap.matches(texts, items)}


def test_short_lines_match_only_as_a_whole() -> None:
    assert pairs(["What is AI", "what is AI?", "Tell me what is AI"], ["What is AI?"]) == {(0, 0, True), (1, 0, True)}
    assert pairs(["???", "!!", ""], ["???"]) == {(0, 0, True)}


# One sentence in several scripts, the same with other punctuation, one that begins with it, and another sentence.
SCRIPTS = {
    "Chinese": (
        "请问长江流经哪些省份？",
        "请问，长江流经哪些省份",
        "请问长江流经哪些省份？请列出",
        "请问黄河从哪里发源？",
    ),
    "Japanese": (
        "この川はどの町を流れていますか",
        "この川は、どの町を流れていますか。",
        "この川はどの町を流れていますか教えて",
        "山はどこにありますか",
    ),
    "Thai": ("แม่น้ำนี้ไหลผ่านเมืองใดบ้าง", "แม่น้ำนี้ ไหลผ่านเมืองใดบ้าง?", "แม่น้ำนี้ไหลผ่านเมืองใดบ้างคะ", "ภูเขาอยู่ที่ไหน"),
    "Hindi": (
        "यह नदी किन किन शहरों से होकर बहती है",
        "यह नदी, किन किन शहरों से होकर बहती है?",
        "यह नदी किन किन शहरों से होकर बहती है बताओ",
        "वह पर्वत किन किन देशों के बीच में स्थित है",
    ),
    "Arabic": (
        "ما هي المدن التي يمر بها هذا النهر الطويل",
        "ما هي المدن التي يمر بها هذا النهر الطويل؟",
        "ما هي المدن التي يمر بها هذا النهر الطويل اليوم",
        "أين يقع هذا الجبل العالي في القارة الكبيرة كلها",
    ),
    "Greek": (
        "Ποιες πόλεις διασχίζει αυτός ο ποταμός σήμερα και αύριο",
        "ΠΟΙΕΣ ΠΌΛΕΙΣ ΔΙΑΣΧΊΖΕΙ ΑΥΤΌΣ Ο ΠΟΤΑΜΌΣ ΣΉΜΕΡΑ ΚΑΙ ΑΎΡΙΟ;",
        "Ποιες πόλεις διασχίζει αυτός ο ποταμός σήμερα και αύριο το πρωί",
        "Πού βρίσκεται αυτό το ψηλό βουνό της μεγάλης ηπείρου",
    ),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_words_are_found_in_every_script(script: str) -> None:
    item, *texts = SCRIPTS[script]
    assert pairs(texts, [item]) == {(0, 0, True), (1, 0, False)}


def test_a_vowel_sign_makes_another_word_and_a_width_does_not() -> None:
    assert pairs(["की", "कि"], ["कि"]) == {(1, 0, True)}
    assert pairs(["ＡＢＣ　１２"], ["abc 12"]) == {(0, 0, True)}
