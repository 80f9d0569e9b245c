"""Formatting of numbers and intervals for the page, and of texts that the report did not write, such as prompts."""

import math
import unicodedata
from collections.abc import Callable

from reports.statistics import Difference, Savings

_DIRECTION = {"\u061c", "\u200e", "\u200f", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def clean(text: object, length_n: int = 120) -> str:
    """Return a text as one line of at most `length_n` characters. Unsafe characters are replaced. HTML is not escaped.

    >>> clean("a\\x00b\\u202ec")
    'a\ufffdb\ufffdc'
    """
    line = safe(" ".join(str(text)[: length_n * 4].split()))
    return line if len(line) <= length_n else line[: length_n - 1] + "…"


def safe(line: str) -> str:
    """Return a line with unsafe characters (control and direction characters, surrogates, unassigned ones) replaced by U+FFFD."""
    if line.isprintable():  # the same result, a hundred times faster
        return line
    return "".join(
        "\ufffd" if letter in _DIRECTION or unicodedata.category(letter) in ("Cc", "Cs", "Cn", "Co") else letter
        for letter in line
    )


def tail(text: object, length_n: int = 500) -> str:
    """Return the last `length_n` characters of a text, cleaned, after "…" if it is longer. A prompt ends with its question.

    >>> tail("a b c d", 3)
    '…c d'
    """
    whole = str(text)
    return clean(whole, length_n) if len(whole) <= length_n else f"…{clean(whole[-length_n:], length_n)}"


def clean_lines(text: str, length_n: int = 20_000) -> str:
    """Clean each line of a text, but keep line breaks and indentation. Cut the text to `length_n` characters, a line to 400."""
    lines = text[:length_n].splitlines()
    return "\n".join(" " * (len(line) - len(line.lstrip(" "))) + clean(line, 400) for line in lines)


def score(value: float) -> str:
    """Return a score with three decimals, or "not known" if it is not finite."""
    return "not known" if not math.isfinite(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """Return a difference with its sign and three decimals, or "not known" if it is not finite."""
    return "not known" if not math.isfinite(value) else f"{round(value, 3) + 0.0:+.3f}".replace("-", "−")


def share(value: float) -> str:
    """Return a share as a percentage with one decimal, or "not known" if it is not finite.

    >>> share(0.0314), share(0.0)
    ('3.1%', '0.0%')
    """
    return "not known" if not math.isfinite(value) else f"{value:.1%}"


def correlation(value: float | None) -> str:
    """Return a rank correlation with two decimals. If it is None, return "cannot be estimated".

    >>> correlation(-0.314), correlation(None)
    ('−0.31', 'cannot be estimated')
    """
    return "cannot be estimated" if value is None else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def interval(difference: Difference, form: Callable[[float], str] = signed) -> str:
    """Return the ends of a 95% interval as text; "no interval" if they are unknown. Use `form=score` for a score."""
    return f"{form(difference.low)} to {form(difference.high)}" if math.isfinite(difference.low) else "no interval"


def interval_of_difference(difference: Difference) -> str:
    """Return a phrase on the 95% interval of a difference, or on why there is none, for the middle of a sentence."""
    known = f"95% interval of the difference {interval(difference)}"
    return known if math.isfinite(difference.low) else "too few items for an interval"


def p_value(value: float | None) -> str:
    """Return a p-value with three decimals, "< 0.001" for a smaller one, and a dash if there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_equals(value: float | None) -> str:
    """Return a p-value for a sentence, such as "p = 0.012"."""
    text = p_value(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun.

    >>> count(1, "seed"), count(4437, "prompt")
    ('1 seed', '4,437 prompts')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listing(names: list[str] | tuple[str, ...], last: str = "and", most_n: int = 99) -> str:
    """Join names for a sentence. Of more than `most_n` names, give the first `most_n` − 1 and the number of the others."""
    if len(names) > most_n:
        return f"{', '.join(names[: most_n - 1])} {last} {len(names) - most_n + 1} more"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def basis(difference: Difference) -> str:
    """Return the numbers of seeds, items and tasks behind a difference, with notes on the limits of its interval."""
    seeds = count(difference.seeds_n, "seed")
    if difference.reference_seeds_n and difference.reference_seeds_n != difference.seeds_n:
        seeds += f" against {difference.reference_seeds_n}"
    items = f"{count(difference.items_n, 'item')} of {count(difference.tasks_n, 'task')}"
    note = "" if difference.has_seed_uncertainty else "; the interval counts items only"
    borrowed = "; the single seed is assumed to vary as the other arm's seeds do" if difference.is_borrowed else ""
    return f"{seeds}, {items}{note}{borrowed}"


def rounded(labels_n: float) -> float:
    """Round a number of labels to a whole number with three significant digits."""
    return float(round(float(f"{labels_n:.3g}")))


def labels(value: float) -> str:
    """Return a number of labels as text. An int (a budget) is not rounded; a float is."""
    return f"{value if isinstance(value, int) else rounded(value):,.0f}"


def savings_set(one: Savings, form: Callable[[float], str] = labels) -> str:
    """Return the confidence set of needed labels as text. `form` turns a number of labels into text: the number or its cost."""
    if one.is_empty:
        return f"more than {form(one.largest_n)}"
    if one.low_n is None and one.high_n is None:
        both = f"open at both ends of {form(one.smallest_n)} to {form(one.largest_n)}"
        return both if one.has_curve else "not known from one budget"
    if one.low_n is None:
        return f"at most {form(one.high_n or one.largest_n)}"
    low = form(one.low_n)
    return f"{low} or more, open-ended" if one.high_n is None else f"{low} to {form(one.high_n)}"


def labels_needed(one: Savings, form: Callable[[float], str] = labels) -> str:
    """Return as text how many labels match the target, or `outcome` if the mean curve does not reach the target.

    `form` turns a number of labels into text: the number itself, or its cost.
    """
    if one.labels_n is None:
        return one.outcome
    return f"at most {form(one.smallest_n)}" if one.is_reached_at_first else form(one.labels_n)


def duration(seconds: float) -> str:
    """Return a time as text in a suitable unit.

    >>> duration(0.032), duration(12.5), duration(600)
    ('32 ms', '12.5 s', '10.0 min')
    """
    if 0 < seconds < 0.95:
        return f"{max(1, round(1000 * seconds))} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
