"""Functions that make Markdown from unchecked text, such as names of tasks, models and data sets, and prompt templates.

Special characters are escaped or quoted. So a name cannot end a table, a code block or a card's front matter, or add HTML.
"""

import json
import re
from collections.abc import Iterable, Sequence

LONGEST_N = 200  # largest number of characters of a name; a longer name is cut
_ESCAPES = str.maketrans({**{mark: f"\\{mark}" for mark in "\\`*_[]|~$#"}, "&": "&amp;", "<": "&lt;", ">": "&gt;"})
_JOINERS = "\u200c\u200d"  # unprintable characters that are part of Persian words and of emoji


def one_line(value: object) -> str:
    """Return a value as one line of plain text, cut at LONGEST_N characters.

    U+FFFD replaces each unprintable character that is not in _JOINERS.

    >>> one_line("a\\n b")
    'a b'
    """
    shown = _printable(" ".join(str(value).split()), _JOINERS)
    return shown if len(shown) <= LONGEST_N else shown[: LONGEST_N - 1] + "…"


def text(value: object) -> str:
    r"""Return a value as Markdown on one line, for use inside a sentence or a table cell.

    >>> print(text("a|b <i>"))
    a\|b &lt;i&gt;
    """
    return one_line(value).translate(_ESCAPES)


def literal(value: object) -> str:
    return json.dumps(one_line(value), ensure_ascii=False)


def block(content: str, language: str = "") -> str:
    """Return a code block whose fence is longer than any run of backticks in the content.

    >>> print(block("``` inside"))
    ````
    ``` inside
    ````
    """
    shown = "\n".join(_printable(line, f"\t{_JOINERS}") for line in content.split("\n"))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence}{language}\n{shown}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table. The cells must be Markdown. Columns of numbers are aligned to the right."""
    lines = [list(row) for row in rows]
    is_number = [bool(lines) and all(re.fullmatch(r"[-\d.,%–]*", row[i]) for row in lines) for i in range(len(head))]
    rule = ["---:" if right else "---" for right in is_number]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *lines))


def _printable(line: str, also: str) -> str:
    return "".join(c if c.isprintable() or c in also else "\ufffd" for c in line)
