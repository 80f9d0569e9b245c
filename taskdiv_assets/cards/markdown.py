"""Markdown and YAML from text that nobody has checked: names of tasks, models and data sets, prompt templates.

Whatever stands in a name, it is shown as it is: it ends no table, no code block and no front matter, and is never HTML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

import yaml

LONGEST_N = 200  # characters of a name; what is longer is cut
_ESCAPES = str.maketrans(
    {**{mark: f"\\{mark}" for mark in "\\`*_[]|~$#"}, "&": "&amp;", "<": "&lt;", ">": "&gt;"}
)  # fmt: skip
_JOINERS = "\u200c\u200d"  # not printable, and part of words in Persian or of emoji

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # safe either way; in C it takes a tenth of the time

# What the hub knows as a licence of another name; it is no licence until somebody chooses one.
UNCHOSEN_LICENSE = {"license": "other", "license_name": "to-be-chosen"}


def one_line(value: object) -> str:
    """A value as one line of plain text, cut where it is very long; what cannot be printed becomes U+FFFD.

    >>> one_line("a\\n b")
    'a b'
    """
    line = " ".join(str(value).split())
    shown = "".join(c if c.isprintable() or c in _JOINERS else "\ufffd" for c in line)
    return shown if len(shown) <= LONGEST_N else shown[: LONGEST_N - 1] + "…"


def text(value: object) -> str:
    r"""A value as Markdown that shows it on one line, for the middle of a sentence or a table's cell.

    >>> print(text("a|b <i>"))
    a\|b &lt;i&gt;
    """
    return one_line(value).translate(_ESCAPES)


def literal(value: object) -> str:
    """A value as a string of Python code."""
    return json.dumps(one_line(value), ensure_ascii=False)


def block(content: str, language: str = "") -> str:
    """A code block, its fence longer than any run of backticks inside.

    >>> print(block("``` inside"))
    ````
    ``` inside
    ````
    """
    lines = (
        "".join(c if c.isprintable() or c in f"\t{_JOINERS}" else "\ufffd" for c in x) for x in content.split("\n")
    )
    shown = "\n".join(lines)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence}{language}\n{shown}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown already, numbers stand right."""
    lines = [list(row) for row in rows]
    is_number = [bool(lines) and all(re.fullmatch(r"[-\d.,%–]*", row[i]) for row in lines) for i in range(len(head))]
    rule = ["---:" if right else "---" for right in is_number]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *lines))


def front_matter(fields: Mapping[str, object], remark: str) -> str:
    """The YAML that the hub reads, between its two lines of dashes.

    Args:
        fields: plain values; a None is left out. No value may hold a line break (`one_line`).
        remark: lines for whoever edits the card, as comments above.
    """
    comments = "".join(f"# {line}\n" for line in remark.splitlines())
    given = {name: value for name, value in fields.items() if value is not None}
    # The width keeps values on their line: no line of a value can then be taken for the end of the front matter.
    dumped = yaml.dump(given, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{comments}{dumped}---\n"
