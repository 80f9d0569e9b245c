"""The selection part of the large plan, really run: ten million prompts, 2,000 tasks; writes its section of docs/SCALING.md.

Run: python -m tests.evidence.ten_million     (about 40 minutes on two cores, 12 GB of memory, 12 GB of disk)

A synthetic pool; every part in a process of its own, one at a time, with its seconds and its highest resident memory. A part
that passes `MEMORY_GIB` fails, and the page says so. What the parts do stands in `ten_million_parts`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from taskdiv_assets.selection import STRATEGIES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "SCALING.md"
MACHINE = "2 cores (one used), 24 GB, no GPU"
GREEDY = tuple(name for name, strategy in STRATEGIES.items() if strategy.is_greedy)
TABLES = ("random", "task_diversity", "weighted_task_diversity_min_margin", "least_confidence")
MEASURED = "measured at ten million"


class Sizes(NamedTuple):
    """What is run; the miniature's are smaller."""

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
        """Names of the parts, in the order they run."""
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
    seconds: float
    peak_gib: float  # highest resident memory of the process in this step, memory-mapped files included
    note: str = ""


def measure(sizes: Sizes, folder: Path, parts: Sequence[str], results: Path) -> None:
    """Run parts one after another; a part's earlier results are replaced, others stay."""
    for part in parts:
        print(part, flush=True)
        command = [sys.executable, "-W", "ignore", "-m", "tests.evidence.ten_million_parts", part, str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "SIZES": json.dumps(sizes._asdict())}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        found = [Measured(*json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]
        if done.returncode:
            found.append(Measured(part, "failed", 0.0, 0.0, f"ended with {done.returncode}"))
        for one in found:
            print(f"  {one.what}: {one.seconds:.2f} s, {one.peak_gib:.2f} GiB {one.note}", flush=True)
        kept = [one for one in read(results) if one.part != part]
        results.write_text(json.dumps([*kept, *found], indent=0), encoding="utf-8")


def read(results: Path) -> list[Measured]:
    """What was measured so far."""
    return [Measured(*row) for row in json.loads(results.read_text(encoding="utf-8"))] if results.exists() else []


def main() -> None:
    """Run all parts, or some anew, and write the section."""
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
        measure(sizes, folder, wanted, folder / "results.json")


if __name__ == "__main__":
    main()
