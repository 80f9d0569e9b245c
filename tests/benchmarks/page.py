"""docs/BENCHMARKS.md: one section for each part, with the hardware and the day of its run, so that each part can be run alone."""

from __future__ import annotations

import datetime
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from taskdiv_assets.graph import environment

PREAMBLE = """\
# Benchmarks

`make bench` writes this page; `python -m tests.benchmarks --only PART` repeats one part. The sides of a comparison ran in one
run and took turns, one thread each. The best turn counts. Seconds of selection are processor time, user and system.
"""


class Line(NamedTuple):
    """One side of a comparison."""

    side: str
    seconds: float
    extra_mib: float | None = None
    quality: float | None = None  # what the table's quality column says
    time_target: float | None = None  # ours shall be so many times as fast as this side
    memory_target: float | None = None  # and take so many times less memory
    quality_target: float | None = None  # of ours: at least so good
    how: str = ""


class Part(NamedTuple):
    """A title and the text that a part writes."""

    title: str
    body: str


def comparison(lines: Sequence[Line], quality: str = "") -> str:
    """Return a Markdown table. The first line is ours. A ratio is a side's value over ours. Targets are marked as met or not."""
    ours, *_ = lines
    heads = ["side", "seconds", "time / ours", "extra MiB", "memory / ours", quality, "target", "met", "how"]
    rows = [_cells(line, ours) for line in lines]
    used = [i for i, head in enumerate(heads) if i < 2 or any(row[i] for row in rows)]
    return table([heads[i] for i in used], [[row[i] for i in used] for row in rows])


def _cells(line: Line, ours: Line) -> list[str]:
    time_ratio = line.seconds / ours.seconds
    memory_ratio = None
    if line.extra_mib is not None and ours.extra_mib is not None:
        memory_ratio = line.extra_mib / max(ours.extra_mib, 1)
    targets = [
        (line.time_target, time_ratio, "time × {:g}"),
        (line.memory_target, memory_ratio, "memory × {:g}"),
        (line.quality_target, line.quality, "≥ {:g}"),
    ]
    asked = [(text.format(target), value >= target) for target, value, text in targets if target and value is not None]
    return [
        line.side,
        f"{line.seconds:.4g}",
        "" if line is ours else f"{time_ratio:,.1f}",
        "" if line.extra_mib is None else f"{line.extra_mib:,.0f}",
        "" if line is ours or memory_ratio is None else f"{memory_ratio:,.1f}",
        "" if line.quality is None else f"{line.quality:.5f}",
        ", ".join(text for text, _ in asked),
        ", ".join("yes" if is_met else "**no**" for _, is_met in asked),
        line.how,
    ]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows))


def write(path: Path, parts: Sequence[Part], order: Sequence[str]) -> None:
    """Replace the sections of these parts, sort all sections by `order`, and remove sections that `order` does not contain."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", old, re.DOTALL | re.MULTILINE))
    sections |= {part.title: f"\n{_run_on()}\n\n{part.body.strip()}\n\n" for part in parts}
    kept = [f"## {title}\n{sections[title].rstrip()}\n" for title in order if title in sections]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([PREAMBLE, *kept]), encoding="utf-8")


def _run_on() -> str:
    machine = environment.describe()
    commit = (machine["commit"] or "no commit")[:10] + (" with changes" if machine["dirty"] else "")
    return (
        f"*{machine['processor']}, {machine['cores_n']} cores, Python {platform.python_version()}, "
        f"numpy {machine['versions']['numpy']}; {datetime.date.today()}, {commit}.*"
    )
