"""Test for visible characters. `str.strip` does not remove zero-width characters, which annotators cannot see."""

import unicodedata

# Invisible characters whose Unicode category is that of letters or symbols: fillers of Hangul, an empty Braille cell, a joiner.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# Visible characters of the category Cf: signs of numbers.
_SEEN = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")


def is_blank(text: str | None) -> bool:
    r"""Return True if `text` is None or has no visible character.

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
