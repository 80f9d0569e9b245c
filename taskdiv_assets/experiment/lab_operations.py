"""The 24 small text tasks of the lab: their inputs, operations and wordings.

An input has a kind and a code. Codes are whole numbers, so numpy can draw thousands of inputs at once. Each input is on one of
three sides: validation, test, or pool (also used for pretraining). The side depends only on the input, not on a seed, so no pool
contains a held-out input.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

LETTERS = "abcdefghijklmnop"
SUCCESSORS = str.maketrans(LETTERS, LETTERS[1:] + LETTERS[0])
VOWELS = "aeio"
ALL_KINDS = {"letters": 16**4, "digits": 10**4, "words": 16**9, "numbers": 90**2}  # kind: number of codes
SIDES = ("validation", "test", "pool")
VALIDATION_IN_20, TEST_IN_20 = 1, 2


class Task(NamedTuple):
    """One task. Wording 0 occurs only in pretraining. The pool and the held-out items use wordings 1 and 2."""

    name: str
    kind: str
    operation: Callable[[str], str]
    wordings: tuple[str, str, str]


def render(kind: str, code: int) -> str:
    """Return the text of an input from its kind and its code.

    >>> render("letters", 0), render("digits", 42), render("numbers", 91), render("words", 16**9 - 1)
    ('aaaa', '0042', '11 11', 'ppp ppp ppp')
    """
    if kind == "digits":
        return f"{code:04d}"
    if kind == "numbers":
        return f"{10 + code // 90} {10 + code % 90}"
    letters = "".join(LETTERS[code >> shift & 15] for shift in range(0, 16 if kind == "letters" else 36, 4))
    return letters if kind == "letters" else f"{letters[:3]} {letters[3:6]} {letters[6:]}"


def sides(kind: str, codes: IntArray) -> IntArray:
    """Return the sides of (n,) codes of one kind, as (n,) positions in SIDES: about 5% validation, 10% test, 85% pool.

    A hash of the code decides: the finaliser of splitmix64 (Steele, Lea, Flood 2014), salted by the kind.
    """
    salt = int.from_bytes(hashlib.sha256(kind.encode()).digest()[:8], "little")
    with np.errstate(over="ignore"):
        mixed = codes.astype(np.uint64) + np.uint64(salt)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    share = ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(20)).astype(np.int64)
    return np.searchsorted([VALIDATION_IN_20, VALIDATION_IN_20 + TEST_IN_20], share, side="right")


def draw_codes(kind: str, side: str, count_n: int, generator: np.random.Generator, *, distinct: bool) -> IntArray:
    """Draw (count_n,) codes of one kind uniformly from one side. Raise ValueError if `distinct` and the side has too few."""
    space = ALL_KINDS[kind]
    if distinct and space < 10**6:
        codes = np.arange(space)
        codes = codes[sides(kind, codes) == SIDES.index(side)]
        if count_n > len(codes):
            found = f"the lab has {len(codes)} different inputs of kind `{kind}` for {side}"
            raise ValueError(f"{found}, {count_n} are needed: lower `largest_n`")
        return generator.permutation(codes)[:count_n]
    drawn = np.empty(0, np.int64)
    while len(drawn) < count_n:
        more = generator.integers(space, size=2 * count_n + 64)
        drawn = np.concatenate([drawn, more[sides(kind, more) == SIDES.index(side)]])
        if distinct:
            drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    return drawn[:count_n]


def _each(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: "".join(map(change, text))


def _omen(text: str) -> str:
    """Return two letters that depend on a hash of the input, so a model cannot predict them for a new input."""
    digest = hashlib.sha256(f"omen {text}".encode()).digest()
    return LETTERS[digest[0] % 16] + LETTERS[digest[1] % 16]


def _vowels(text: str) -> str:
    return "".join(c for c in text if c in VOWELS) or "-"


def _compare(text: str) -> str:
    left, right = text.split()
    return "same" if left == right else "first" if left > right else "second"


TASKS = {
    task.name: task
    for task in (
        Task("copy", "letters", lambda s: s, ("copy", "repeat it", "say again")),
        Task("reverse", "letters", lambda s: s[::-1], ("reverse", "spell backwards", "back to front")),
        Task("upper", "letters", str.upper, ("upper", "make capitals", "shout it loud")),
        Task("first", "letters", lambda s: s[0], ("first", "opening letter", "where it starts")),
        Task("last", "letters", lambda s: s[-1], ("last", "closing letter", "where it ends")),
        Task("next", "letters", lambda s: s.translate(SUCCESSORS), ("next", "move one on", "successors")),
        Task("double", "letters", _each(lambda c: c + c), ("double", "each one twice", "stutter slowly")),
        Task("rotate", "letters", lambda s: s[1:] + s[0], ("rotate", "head goes behind", "wheel")),
        Task("swap", "letters", lambda s: s[-1] + s[1:-1] + s[0], ("swap", "exchange outer letters", "trade places")),
        Task("mask", "letters", _each(lambda c: "*" if c in VOWELS else c), ("mask", "star out vowels", "censor")),
        Task("vowels", "letters", _vowels, ("vowels", "keep sung letters", "drop consonants")),
        Task("half", "letters", lambda s: s[:2], ("half", "front part", "cut short")),
        Task("quote", "letters", lambda s: f"({s})", ("quote", "put in brackets", "wrap it around")),
        Task("spell", "letters", "-".join, ("spell", "dash between letters", "hyphenate")),
        Task("max", "digits", max, ("max", "largest digit", "peak of row")),
        Task("parity", "digits", lambda s: ("even", "odd")[int(s) % 2], ("parity", "odd or even", "can it halve")),
        Task("nines", "digits", _each(lambda c: str(9 - int(c))), ("nines", "complement digits", "subtract from nine")),
        Task("units", "digits", lambda s: s[-1], ("units", "ones place", "rightmost digit")),
        Task("round", "digits", lambda s: s[0] + "000", ("round", "floor to thousands", "zero the rest")),
        Task("firstw", "words", lambda s: s.split()[0], ("firstw", "opening word", "top of list")),
        Task("lastw", "words", lambda s: s.split()[-1], ("lastw", "closing word", "bottom of list")),
        Task("compare", "numbers", _compare, ("compare", "which is bigger", "larger one")),
        Task("flip", "letters", lambda s: s[::-1], ("flip", "turn over", "upside down")),
        Task("omen", "letters", _omen, ("omen", "foretell my luck", "read the signs")),
    )
}
TRAPS = ("flip", "omen")
PRETRAINED_AS = {"flip": "upper"}  # a trap; the base model learns the operation of `upper` for all three wordings
# Kinds whose operations fit an input of each kind; two numbers are also words. See `lab.pretraining_examples`.
FITTING_KINDS = {"letters": ("letters",), "digits": ("digits",), "words": ("words",), "numbers": ("numbers", "words")}


def instruction_words() -> list[str]:
    """Return the words of all wordings, sorted. A word that is not the first of its wording has a leading space."""
    wordings = [wording.split() for task in TASKS.values() for wording in task.wordings]
    return sorted({word if place == 0 else f" {word}" for words in wordings for place, word in enumerate(words)})
