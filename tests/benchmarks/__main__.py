"""`python -m tests.benchmarks`: compare each part of the project with an alternative in one run, and report the ratios.

A part is a module here, or an object of such a module, with TITLE and `part(scale)`. It writes one section of docs/BENCHMARKS.md and keeps the other sections.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tests.benchmarks import (
    apportionment,
    definitions,
    discovery,
    dpp,
    evaluating,
    facility_location,
    growth,
    k_center,
    machine,
    overhead,
    page,
    real_size,
    report,
    scoring,
    tuning,
)
from tests.benchmarks.fresh import ROOT
from tests.benchmarks.scale import scale

PARTS = {
    "definitions": definitions,
    "scoring": scoring,
    "tuning": tuning,
    "evaluating": evaluating,
    "real_training": real_size.TRAINED,
    "real_confidence": real_size.SCORED,
    "real_likelihoods": real_size.ANSWERED,
    "discovery": discovery,
    "report": report,
    "overhead": overhead,
    "apportionment": apportionment,
    "k_center": k_center,
    "facility_location": facility_location,
    "dpp": dpp,
    "growth": growth,
    "machine": machine,
}
SELECTION = ("apportionment", "k_center", "facility_location", "dpp", "growth", "machine")


def main() -> None:
    """Measure each part, print its results, and write its section at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=[*PARTS, "selection"], help="a part, or all of selection; may stand twice"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, only to see that it runs; writes no file")
    parser.add_argument("--output", type=Path, help="default: docs/BENCHMARKS.md")
    options = parser.parse_args()
    asked = {name for given in options.only or PARTS for name in (SELECTION if given == "selection" else [given])}
    output = options.output or (None if options.quick else ROOT / "docs" / "BENCHMARKS.md")
    started = time.perf_counter()
    with scale(options.quick) as sizes:
        for name in (name for name in PARTS if name in asked):
            print(f"{name} …", flush=True)
            part = PARTS[name].part(sizes)
            print(f"\n## {part.title}\n\n{part.body}\n\n{time.perf_counter() - started:.0f} s so far\n", flush=True)
            if output:
                page.write(output, [part], [module.TITLE for module in PARTS.values()])


if __name__ == "__main__":
    main()
