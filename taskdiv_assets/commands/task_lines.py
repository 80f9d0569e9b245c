"""The lines of `taskdiv tasks show` about one found task: its name and size, its terms, and its most central prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.cells import cell_len, set_cell_size

from taskdiv_assets.commands.consoles import visible

CENTRAL_N = 2  # central prompts that are shown
INDENT = "    "


def lines_of(
    task: str, prompts_n: int, found: Mapping[str, Any] | None, width_n: int, finer_n: int | None = None
) -> Iterator[str]:
    """Yield at most four lines about a task, each at most `width_n` terminal cells wide. Longer texts are cut.

    `found` has the keys `terms` and `central`; None for a task that was not found. `finer_n` is the number of finer tasks below
    this one; None if the tasks have no finer ones.
    """
    counts = f": {prompts_n:,} prompt{'s' * (prompts_n != 1)}" + (
        "" if finer_n is None else f", {finer_n:,} finer tasks"
    )
    yield cut(task, width_n - cell_len(counts)) + counts
    if found is None:
        return
    yield INDENT + cut(f"terms: {', '.join(found['terms'])}", width_n - len(INDENT))
    for one in found["central"][:CENTRAL_N]:
        yield INDENT + cut(f"“{one['prompt']}”", width_n - len(INDENT))


def cut(text: str, width_n: int) -> str:
    """Return text as one line of at most `width_n` terminal cells, at least one. Some characters are two cells wide.

    >>> cut("How do I reset my password?", 12), cut("重置密码", 6)
    ('How do I re…', '重置…')
    """
    line = visible(" ".join(text.split()), is_one_line=True)
    return line if cell_len(line) <= width_n else f"{set_cell_size(line, max(0, width_n - 1)).rstrip()}…"
