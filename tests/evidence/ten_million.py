"""The selection part of the large plan, with ten million real rows and 2,000 tasks: writes its section of docs/SCALING.md.

Run: python -m tests.evidence.ten_million     (about 40 minutes on two cores, 12 GB of memory, 12 GB of disk)

The pool is synthetic. Each part runs alone in its own process, and its seconds and highest resident memory are recorded. A part
that needs more than `MEMORY_GIB` fails, and the page reports it. `ten_million_parts` has the parts.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from taskdiv_assets.selection import STRATEGIES
from tests.benchmarks.page import table
from tests.evidence.marked import replace_marked

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "SCALING.md"
MACHINE = "2 cores (one used), 24 GB, no GPU"
ELSEWHERE = ("smart",)  # not measured here, but at a million prompts (docs/SELECTION.md)
GREEDY = tuple(name for name, strategy in STRATEGIES.items() if strategy.is_greedy)
TABLES = ("random", "weighted_task_diversity_min_margin")
MEASURED = "measured at ten million"
EXTRAPOLATED_TO = 50_000  # the default depth of greedy orders


class Sizes(NamedTuple):
    """The sizes of the run. Those of the miniature are smaller."""

    prompts_n: int = 10_000_000
    tasks_n: int = 2_000
    width: int = 32
    seeds_n: int = 5
    budgets: tuple[int, ...] = tuple(1_000 * i for i in range(1, 51))
    allocated: tuple[int, ...] = (1_000, 50_000, 1_000_000)  # budgets whose allocation is made as a table
    depths: tuple[int, ...] = (500, 1_000, 2_000)
    graph_rows: tuple[int, ...] = (20_000, 40_000, 80_000)
    read_rows: tuple[int, ...] = (1_000_000, 2_000_000)

    def parts(self) -> list[str]:
        """Return the names of the parts in the order in which they run."""
        return [
            "pool",
            *(f"order {name}" for name in STRATEGIES if name not in GREEDY),
            *(f"picks {name} {depth} {self.prompts_n}" for name in ("k_center", "dpp") for depth in self.depths),
            *(f"picks facility_location {self.depths[1]} {rows_n}" for rows_n in self.graph_rows),
            "inputs",
            *(f"tables {name}" for name in TABLES),
            *(f"read {rows_n}" for rows_n in self.read_rows),
        ]


class Measured(NamedTuple):
    """One step of a part."""

    part: str
    what: str
    seconds: float  # of the process's own, user and system, all threads: neighbours move it less than the clock
    peak_gib: float  # highest resident memory of the process in this step, memory-mapped files included
    note: str = ""
    wall_s: float = 0.0


def measure(sizes: Sizes, folder: Path, parts: Sequence[str], results: Path) -> None:
    """Run parts one after another. Earlier results of these parts are replaced; other results are kept."""
    for part in parts:
        print(part, flush=True)
        command = [sys.executable, "-W", "ignore", "-m", "tests.evidence.ten_million_parts", part, str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "SIZES": json.dumps(sizes._asdict())}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        found = [Measured(*json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]
        if done.returncode:
            found.append(Measured(part, "failed", 0.0, 0.0, f"ended with {done.returncode}"))
        for one in found:
            print(
                f"  {one.what}: {one.seconds:.2f} s of {one.wall_s:.2f}, {one.peak_gib:.2f} GiB {one.note}", flush=True
            )
        kept = [one for one in read(results) if one.part != part]
        results.write_text(json.dumps([*kept, *found], indent=0), encoding="utf-8")


def read(results: Path) -> list[Measured]:
    """Return the measurements so far."""
    return [Measured(*row) for row in json.loads(results.read_text(encoding="utf-8"))] if results.exists() else []


# --- the section -------------------------------------------------------------------------------------------------


def section(sizes: Sizes, found: Sequence[Measured], day: str) -> str:
    """Return the measurements as Markdown."""
    head = (
        f"*{MACHINE}; {day}. Seconds are the process's own, user and system, since the machine was shared; a c marks seconds by "
        f"the clock. Peaks are of the whole process. {sizes.prompts_n:,} prompts, {sizes.tasks_n:,} tasks of sizes that fall as 1 / rank^0.7, {len(sizes.budgets)} "
        f"budgets ({sizes.budgets[0]:,} to {sizes.budgets[-1]:,}), {sizes.seeds_n} seeds, embeddings of {sizes.width} numbers.*"
    )
    failed = [f"`{one.part}` failed: {one.note}." for one in found if one.what == "failed"]
    parts = {
        "Orders at full depth": orders(sizes, found),
        "Coverage": coverage(sizes, found),
        "Tables through contract and store": steps(found, ("inputs", "tables")),
        "Reading a pool": steps(found, ("read",)),
    }
    body = [f"### {title}\n\n{text}" for title, text in parts.items()]
    return "\n\n".join([head, *failed, *body])


def orders(sizes: Sizes, found: Sequence[Measured]) -> str:
    """Return one line for each strategy that always orders the whole pool."""
    heads = ["strategy", "one seed, s", f"{sizes.seeds_n} seeds, s", "peak, GiB"]
    heads += [f"{len(sizes.budgets)} allocations as prefixes, s", "the same counts by `allocate`, s"]
    rows = []
    for name in (name for name in STRATEGIES if name not in GREEDY):
        some = {one.what: one for one in found if one.part == f"order {name}"}
        if "rank, one seed" not in some:
            continue
        whats = ("rank, one seed", f"rank, {sizes.seeds_n} seeds")
        whats += tuple(f"{len(sizes.budgets)} allocations {how}" for how in ("as prefixes", "in closed form"))
        one, every, prefixes, closed = (_seconds(some[what], 2) if what in some else "" for what in whats)
        peak = max(measured.peak_gib for measured in some.values())
        rows.append([name, one, every or "the same for every seed", f"{peak:.2f}", prefixes, closed])
    return table(heads, rows)


def coverage(sizes: Sizes, found: Sequence[Measured]) -> str:
    """Return the measured greedy orders, and extrapolations from the last two sizes."""
    rows, said = [], []
    for name in GREEDY:
        some = [one for one in found if one.part.startswith(f"picks {name} ") and one.seconds]
        along = [(*map(int, one.part.split()[2:]), one) for one in some]
        rows += [[name, f"{n:,}", f"{k:,}", _seconds(one), f"{one.peak_gib:.2f}"] for k, n, one in along]
        if not along:
            continue
        if len(along) == 1:
            ((picks_n, rows_n, one),) = along
            minutes = one.seconds * EXTRAPOLATED_TO / picks_n / 60
            said.append(
                f"{name}, {EXTRAPOLATED_TO:,} picks of {rows_n:,} prompts: {minutes:,.0f} min (in proportion to one size)"
            )
        elif name == "facility_location":  # its graph is what takes the time, whatever the picks
            seconds, exponent = as_power([(n, one.seconds) for _, n, one in along], sizes.prompts_n)
            largest_n, last_s = max((n, one.seconds) for _, n, one in along)
            square = last_s * (sizes.prompts_n / largest_n) ** 2  # what all pairs come to in the end
            span = f"{seconds / 3600:,.0f} h as n^{exponent:.2f}, {square / 3600:,.0f} h as n²"
            said.append(f"{name}, {sizes.prompts_n:,} prompts: {span}")
        else:
            seconds = as_line([(k, one.seconds) for k, _, one in along], EXTRAPOLATED_TO)
            said.append(
                f"{name}, {EXTRAPOLATED_TO:,} picks of {sizes.prompts_n:,} prompts: {seconds / 60:,.0f} min (so much a pick)"
            )
    heads = ["strategy", "prompts", "picks", "seconds", "peak, GiB"]
    led = "\n\n**Extrapolated from the last two sizes, not run**: " + "; ".join(said) + "." if said else ""
    return table(heads, rows) + led


def as_power(along: Sequence[tuple[int, float]], to: int) -> tuple[float, float]:
    """Return the seconds at another size, and the exponent, by a power law through the last two sizes.

    >>> as_power([(10, 9.0), (100, 1.0), (200, 4.0)], 400)
    (16.0, 2.0)
    """
    (small, before), (large, after) = sorted(along)[-2:]
    exponent = math.log(after / before) / math.log(large / small)
    return after * (to / large) ** exponent, exponent


def as_line(along: Sequence[tuple[int, float]], to: int) -> float:
    """Return the seconds at another size on the line through the last two sizes.

    >>> as_line([(10, 9.0), (100, 10.0), (200, 14.0)], 300)
    18.0
    """
    (small, before), (large, after) = sorted(along)[-2:]
    return after + (after - before) / (large - small) * (to - large)


def steps(found: Sequence[Measured], parts: Sequence[str]) -> str:
    """Return every step that took a tenth of a second or wrote a file."""
    rows = [
        [one.part, one.what, _seconds(one), f"{one.peak_gib:.2f}", _spelled(one.note)]
        for one in found
        if one.part.split()[0] in parts and one.what != "failed" and (one.seconds >= 0.1 or one.what.endswith("stored"))
    ]
    return table(["part", "step", "seconds", "peak, GiB", ""], rows)


def _seconds(one: Measured, digits: int = 1) -> str:
    is_clock = one.seconds and not one.wall_s  # of a part that told no other time
    return f"{one.seconds:.{digits}f}{' c' if is_clock else ''}" if one.seconds else ""


def _spelled(note: str) -> str:
    return re.sub(r"[0-9]{4,}", lambda number: f"{int(number.group()):,}", note).strip()


def main() -> None:
    """Run all parts, or some again, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, help="where pool, tables and results stand; removed afterwards unless named"
    )
    parser.add_argument("--only", action="append", help="parts whose names begin so; with --folder")
    parser.add_argument("--prompts", type=int, default=Sizes().prompts_n)
    arguments = parser.parse_args()
    sizes = Sizes(prompts_n=arguments.prompts)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        wanted = [one for one in sizes.parts() if not arguments.only or any(map(one.startswith, arguments.only))]
        results = folder / "results.json"
        measure(sizes, folder, wanted, results)
        if sizes == Sizes() and PAGE.exists():
            replace_marked(PAGE, MEASURED, section(sizes, read(results), str(datetime.date.today())))


if __name__ == "__main__":
    main()
