"""Test for visible characters. `str.strip` keeps zero-width characters, which no annotator can see."""

import unicodedata

# Invisible, but letters and symbols by category: fillers of Hangul, a Braille cell without dots, a joiner.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# Visible, but of category Cf: signs of numbers.
_SEEN = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")


def is_blank(text: str | None) -> bool:
    r"""Return True for None, and for a text without a visible character.

    >>> is_blank(" \u200b\n"), is_blank("."), is_blank(None)
    (True, False, True)
    """
    return not text or all(_is_unseen(character) for character in text)


def _is_unseen(character: str) -> bool:
    if character.isspace() or character in _UNSEEN:
        return True
    category = unicodedata.category(character)
    is_selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return (category in ("Cc", "Cf", "Zs", "Zl", "Zp") and character not in _SEEN) or is_selector
