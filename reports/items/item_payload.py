"""The items as text for the page: JSON, compressed by gzip, in base64. The size has a bound, and every text has a largest length.

Items are left out from the end of the order of `paired_items` until the bound holds. So every pattern of right and wrong stays.
"""

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from reports import words
from reports.items.answer_texts import QUESTION_N
from reports.items.paired_items import PairedItem, PairedItems

BYTES_MAX = 1_800_000  # of the base64 text; with a page of 1 MB, the file stays below 3 MB
TEXT_MAX = 6_000_000  # characters before compression, which bounds time and memory
ANSWER_N, ANSWER_START_N = 700, 300  # characters of an answer that are kept, and how many of them from its start
TARGET_N, NAME_N = 300, 60
LEVEL, FAST_LEVEL = (
    6,
    1,
)  # of gzip; the fast level only estimates how many items fit, and its text is about a sixth longer
FAST_EXCESS = 1.15


class Payload(NamedTuple):
    """The compressed items, and their number."""

    data: str
    items_n: int


def payload(paired: PairedItems, bytes_max: int) -> Payload:
    """Return the first items of `paired` that fit into `bytes_max` bytes of base64. Equal items give equal text."""
    rows = list(_fitting(paired))
    expected_n = len(_compressed(paired, rows, FAST_LEVEL)) / FAST_EXCESS
    kept_n = len(rows) if expected_n <= bytes_max else int(len(rows) * bytes_max / expected_n)
    while True:
        data = _compressed(paired, rows[:kept_n], LEVEL)
        if len(data) <= bytes_max or not kept_n:
            return Payload(data, kept_n)
        kept_n = int(kept_n * 0.98 * bytes_max / len(data))


def _fitting(paired: PairedItems) -> Iterator[tuple[PairedItem, str]]:
    """Yield the first items that have at most `TEXT_MAX` characters in all, each with its row as JSON without brackets."""
    left_n = TEXT_MAX
    for item in paired.items:
        row = _json(_row(item))[1:-1]
        left_n -= len(row)
        if left_n < 0:
            return
        yield item, row


def _row(item: PairedItem) -> list[object]:
    said = [None if text is None else _answer(text, item.target) for text in item.said]
    scores, means = ([None if value is None else _short(value) for value in own] for own in (item.scores, item.means))
    return [
        words.clean(item.item_id, NAME_N),
        item.digest[:12],
        words.clean(item.prompt_hash[:16], 16),
        question(item.question),
        shown(item.target, TARGET_N, TARGET_N // 2),
        said,
        scores,
        None if means == scores else means,
    ]


def _answer(text: str, target: str) -> str:
    """Return an answer, cut. Blanks around it can make it wrong, and the page does not show them, so a remark says so."""
    is_blank = text != target and text.strip() == target.strip()
    return f"{shown(text)} (the model wrote blanks around it)" if is_blank else shown(text)


def _short(value: float) -> float:
    return int(value) if value == int(value) else value


def _compressed(paired: PairedItems, rows: Sequence[tuple[PairedItem, str]], level: int) -> str:
    """Return the items sorted by benchmark, task and hash: similar texts side by side are compressed better."""
    ordered = sorted(rows, key=lambda pair: (pair[0].benchmark, pair[0].task, pair[0].digest))
    tasks = list(dict.fromkeys((item.benchmark, item.task) for item, _ in ordered))
    place = {task: n for n, task in enumerate(tasks)}
    about = {
        "budget": paired.budget_n,
        "models": [words.clean(name, NAME_N) for name in paired.models],
        "compared": paired.compared,
        "benchmarks": [
            [words.clean(one.name, NAME_N), words.clean(one.label, NAME_N), one.seed, one.seeds_n]
            for one in paired.benchmarks
        ],
        "tasks": [[benchmark, words.clean(task, NAME_N)] for benchmark, task in tasks],
    }
    items = ",".join(f"[{place[item.benchmark, item.task]},{row}]" for item, row in ordered)
    text = f'{_json(about)[:-1]},"items":[{items}]}}'
    return base64.b64encode(gzip.compress(text.encode(), level, mtime=0)).decode()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def question(text: str) -> str:
    """Return the end of a question, cleaned, after "…" if it was longer."""
    return lines(text) if len(text) <= QUESTION_N else f"…{lines(text[-QUESTION_N:])}"


def shown(text: str, length_n: int = ANSWER_N, start_n: int = ANSWER_START_N) -> str:
    """Return the start and the end of a text, cleaned, with " … " between them if it is longer than `length_n` characters.

    >>> shown("abcdefgh", 5, 2)
    'ab … fgh'
    """
    return lines(text) if len(text) <= length_n else f"{lines(text[:start_n])} … {lines(text[start_n - length_n :])}"


def lines(text: str) -> str:
    """Return a text with cleaned lines. Blanks at the start of a line stay; of several empty lines in a row, one stays.

    >>> lines("a\\n\\n\\n  b\\u202e\\tc ")
    'a\\n\\n  b\ufffd c'
    """
    found: list[str] = []
    for line in text.strip().splitlines():
        whole = " " * (len(line) - len(line.lstrip(" "))) + words.safe(" ".join(line.split()))
        if whole or (found and found[-1]):
            found.append(whole)
    return "\n".join(found)
