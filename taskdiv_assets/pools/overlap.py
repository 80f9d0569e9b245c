"""Near-duplicates of benchmark items in a pool: equal texts, and texts with most of an item's word 8-grams.

Case, punctuation and white space are ignored. A text of fewer than 8 words is one gram, so it is compared as a whole.

Source: the threshold of 70% of 8-grams is from PaLM's definition of contamination (Chowdhery et al., arXiv:2204.02311, section
8). PaLM looks for an item's 8-grams anywhere in the training data. We look for them in one prompt, so each match names a prompt.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GRAM_N = 8  # words
SHARE = 0.7  # of an item's different 8-grams
# Beginnings of the Unicode names of letters in scripts without spaces between words.
UNSPACED = ("CJK ", "HIRAGANA ", "KATAKANA ", "THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ")


class _Spaces(dict[int, str]):
    """A table for `str.translate`: it replaces punctuation with spaces, and puts spaces around letters of `UNSPACED` scripts.

    The entry of a character is computed at its first use.
    """

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        is_word = unicodedata.category(letter)[0] in "LNM"  # letters, numbers, marks
        found = letter if is_word else " "
        if is_word and unicodedata.name(letter, "").startswith(UNSPACED):
            found = f" {letter} "
        self[code] = found
        return found


_SPACES = _Spaces()


class Match(NamedTuple):
    """A text of the pool that is equal or nearly equal to an item."""

    text: int  # position of the text
    item: int  # position of the item
    is_exact: bool  # the words are the same


def words(text: str) -> list[str]:
    """Return the words of a text without case, punctuation and compatibility forms (NFKC).

    In a script without spaces between words, such as Chinese, each character counts as a word. If the text has no word, all its
    characters except white space are one word.

    >>> words("What’s  UP?"), words("?!"), words("你好！")
    (['what', 's', 'up'], ['?!'], ['你', '好'])
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return plain.translate(_SPACES).split() or ["".join(plain.split())]


def grams(found: Sequence[str]) -> set[str]:
    """Return the different 8-grams of the words of a text; fewer than 8 words are one gram.

    >>> sorted(grams("a b c d e f g h i".split())), grams(["a", "b"])
    (['a b c d e f g h', 'b c d e f g h i'], {'a b'})
    """
    return {" ".join(found[start : start + GRAM_N]) for start in range(max(1, len(found) - GRAM_N + 1))}


def matches(texts: Sequence[str], items: Sequence[str]) -> Iterator[Match]:
    """Yield each pair of a text and an item where the text has the same words, or at least 70% of the item's different 8-grams.

    Items with fewer than 8 words match only texts with the same words. The time grows with the number of words in all texts and
    items, and with the number of 8-grams that pairs have in common. Pairs without a common 8-gram cost no time.
    """
    of_gram: defaultdict[str, list[int]] = defaultdict(list)
    wholes: list[str] = []
    sizes: list[int] = []
    for place, item in enumerate(items):
        split = words(item)
        own = grams(split)
        wholes.append(" ".join(split))
        sizes.append(len(own))
        for gram in own:
            of_gram[gram].append(place)
    for text_place, text in enumerate(texts):
        split = words(text)
        shared = Counter(place for gram in grams(split) if gram in of_gram for place in of_gram[gram])
        for place, shared_n in sorted(shared.items()):
            if shared_n >= SHARE * sizes[place]:
                yield Match(text_place, place, " ".join(split) == wholes[place])


def near(texts: Sequence[str], items: Sequence[str]) -> NDArray[np.bool_]:  # (n,)
    """Return a mask of the texts that match an item."""
    found = np.zeros(len(texts), np.bool_)
    for match in matches(texts, items):
        found[match.text] = True
    return found
