"""Division of prompts among annotators. All functions are pure.

The rule: go through the tasks one after the other, and in each task through the prompts in the order of the list. Each prompt
goes to the annotator who has the fewest prompts of its task; then to the one with the fewest prompts in all; then to the one
whose hash with the prompt's id is smallest. A prompt of the overlap goes to a second annotator by the same rule, except that
people who share the fewest prompts with the first one come before the hash. So every annotator gets every task in proportion,
all pairs of people get prompts in common, and neither the order of the names nor a clock or a random number has an effect.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from taskdiv_assets.graph.known_answers import folded_name

NAME_LENGTH_MAX = 60
# A name becomes a part of a file name, on Windows too: no separator, no blank, no leading sign, no point at the end.
_NAME = re.compile(r"[^\W_]([\w.@+-]*[\w@+-])?")


class Wanted(NamedTuple):
    """One prompt to deal out."""

    prompt_id: str
    task: str
    copies_n: int = 1  # how many people get the prompt
    seen_by: frozenset[str] = frozenset()  # folded names of people who must not get it (see `folded_name`)


class Dealt(NamedTuple):
    """Who gets which prompts, in the order of the list. People without a prompt are left out."""

    shares: dict[str, tuple[str, ...]]  # annotator → prompt ids
    left: dict[str, int]  # prompt_id → copies that nobody can get, because everybody has had the prompt


def check_names(texts: Iterable[str], known: Collection[str] = ()) -> tuple[str, ...]:
    """Return the names in texts such as `anna,ben`, each name as it is written in `known` if it is there.

    Raise ValueError if a name cannot be part of a file name, occurs twice, or differs from another only in case.
    """
    written = {folded_name(name): name for name in known}
    found: dict[str, str] = {}
    for given in (unicodedata.normalize("NFC", part).strip() for text in texts for part in text.split(",")):
        if not _NAME.fullmatch(given) or len(given) > NAME_LENGTH_MAX:
            raise ValueError(
                f"{given[:NAME_LENGTH_MAX]!r} is not an annotator's name; expected at most {NAME_LENGTH_MAX} letters, digits and "
                "._@+- that begin with a letter or digit and end with no point, because the name becomes part of a file name"
            )
        if folded_name(given) in found:
            raise ValueError(
                f"the annotators {found[folded_name(given)]!r} and {given!r} are one name; expected each name once"
            )
        if written.get(folded_name(given), given) != given:
            raise ValueError(
                f"the annotator {given!r} is called {written[folded_name(given)]!r} in the ledger; write the name the same way"
            )
        found[folded_name(given)] = given
    return tuple(found.values())


def drawn_twice(prompt_ids: Sequence[str], share: float) -> frozenset[str]:
    """Return the overlap: the share of the prompts that two people get, rounded to the nearest prompt.

    These are the prompts with the smallest hashes, so a larger share contains a smaller one, and the order has no effect.

    >>> len(drawn_twice([f"p{n}" for n in range(20)], 0.1))
    2
    """
    return frozenset(
        sorted(prompt_ids, key=lambda prompt_id: _hash("overlap", prompt_id))[: _rounded(share * len(prompt_ids))]
    )


def deal(wanted: Sequence[Wanted], annotators: Sequence[str]) -> Dealt:
    """Deal the prompts out by the rule of this module. Nobody gets a prompt twice, nor one that he or she has had.

    If nobody has seen any prompt, the numbers of two people differ by at most one, in all and in each task.
    """
    shares: dict[str, set[str]] = {name: set() for name in annotators}
    left: dict[str, int] = {}
    together: Counter[frozenset[str]] = Counter()  # pairs of people → prompts in common
    by_task: dict[str, list[Wanted]] = {}
    for one in wanted:
        by_task.setdefault(one.task, []).append(one)
    for task in sorted(by_task):
        of_task: Counter[str] = Counter()
        for one in by_task[task]:
            got: list[str] = []
            free = [name for name in annotators if folded_name(name) not in one.seen_by]
            while len(got) < one.copies_n and len(got) < len(free):
                got.append(
                    min(
                        (name for name in free if name not in got),
                        key=lambda name: (
                            of_task[name],
                            len(shares[name]),
                            sum(together[frozenset((name, other))] for other in got),
                            _hash(name, one.prompt_id),
                        ),
                    )
                )
                of_task[got[-1]] += 1
                shares[got[-1]].add(one.prompt_id)
            together.update(frozenset((a, b)) for at, a in enumerate(got) for b in got[:at])
            if len(got) < one.copies_n:
                left[one.prompt_id] = one.copies_n - len(got)
    in_order = {name: tuple(one.prompt_id for one in wanted if one.prompt_id in ids) for name, ids in shares.items()}
    return Dealt({name: ids for name, ids in in_order.items() if ids}, left)


def deal_new(tasks: Mapping[str, str], annotators: Sequence[str], overlap: float) -> Dealt:
    """Deal out prompts that nobody has seen: prompt_id → task, in the order of the list.

    Raise ValueError if `overlap` is no share, or if there is an overlap and only one annotator.
    """
    if not (math.isfinite(overlap) and 0 <= overlap <= 1):
        raise ValueError(
            f"--overlap {overlap} is not a share of the prompts; expected a number from 0 to 1, such as 0.1"
        )
    if overlap and len(annotators) < 2:
        raise ValueError("--overlap sends prompts to two annotators; expected at least two names in --annotators")
    twice = drawn_twice(list(tasks), overlap)
    return deal([Wanted(i, task, 2 if i in twice else 1) for i, task in tasks.items()], annotators)


def _hash(*texts: str) -> bytes:
    return hashlib.sha256("\0".join(("annotators", *texts)).encode()).digest()


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)
