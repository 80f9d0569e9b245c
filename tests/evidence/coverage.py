"""The coverage of the report's intervals and the error rates of its verdicts: writes the tables of docs/STATISTICS.md.

Run: python -m tests.evidence.coverage     (about seven minutes on one core; `make evidence` calls it)

This module defines the numbers of draws and the tables. `simulations` and `near_the_ends` draw and count.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from reports import words
from reports.statistics import EQUIVALENCE_MARGIN
from tests.benchmarks.page import table
from tests.evidence import mean_squares, near_the_ends, stated_power
from tests.evidence.drawn_scores import CURVES, SETTINGS
from tests.evidence.simulations import (
    LAB_NOISE,
    Coverage,
    Crowned,
    Null,
    Saved,
    Share,
    coverage,
    crowned,
    null,
    savings,
    wilson_coverage,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "STATISTICS.md"
SEEDS_N = (3, 5, 10)
STREAMS = ("coverage", "savings", "null", "tails", "crowned", "ends", "stated")  # a new name goes to the end


def main() -> None:
    """Simulate, and write the tables between the marks of the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.evidence.coverage", description=__doc__.split("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the numbers of draws (default: 1)")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write into (default: docs/STATISTICS.md)")
    arguments = parser.parse_args()
    started = time.monotonic()
    text = measured(arguments.scale)
    arguments.page.write_text(fill(arguments.page.read_text(encoding="utf-8"), text), encoding="utf-8")
    print(f"{arguments.page} written in {time.monotonic() - started:.0f} s")


def measured(scale: float) -> dict[str, str]:
    """Return all tables by the name of their mark on the page."""

    def times(draws_n: int) -> int:
        return max(2, round(draws_n * scale))

    root = np.random.default_rng(20_261_125)
    streams = dict(zip(STREAMS, root.spawn(len(STREAMS)), strict=True))
    kept = [coverage(setting, seeds_n, times(1200), streams["coverage"]) for setting in SETTINGS for seeds_n in SEEDS_N]
    saved = [savings(curve, times(400), streams["savings"]) for curve in CURVES]
    nulls = [
        null(13, 5, 5, times(800), times(80), streams["null"]),
        null(5, 3, 3, times(2000), times(500), streams["null"]),
    ]
    crowns = [
        crowned(levels, seeds_n, times(1000), streams["crowned"])
        for levels in ((0.1, 0.1, 0, 0, 0), (0.01, 0, 0, 0, 0), (0.1, 0, 0, 0, 0))
        for seeds_n in (3, 5)
    ]
    return {
        "coverage": coverage_table(kept),
        "savings": savings_table(saved),
        "null": null_table(nulls),
        "crowned": crowned_table(crowns),
        "tails": tails_table(times(400_000), streams["tails"]),
        "rules": rules_table(times(400_000), streams["tails"]),
        "power": power_table(times(400_000), streams["tails"]),
        "stated": stated_table(times(1000), streams["stated"]),
        "wilson": wilson_table((5, 10, 20, 40)),
        **ends_tables(times(1000), streams["ends"]),
    }


def ends_tables(draws_n: int, generator: np.random.Generator) -> dict[str, str]:
    """Return the tables for scores near 0 or 1, and for seeds with uneven variance."""
    places = [(level, design) for level in near_the_ends.LEVELS for design in near_the_ends.DESIGNS]
    means = [[near_the_ends.near(*place, n, draws_n, generator) for n in near_the_ends.SEEDS_N] for place in places]
    places = [(level, design) for level in near_the_ends.MARGIN_LEVELS for design in near_the_ends.DESIGNS]
    gaps = [[near_the_ends.at_margin(*place, n, draws_n, generator) for n in SEEDS_N[:2]] for place in places]
    return {
        "near": near_table(means),
        "margin": margin_table(gaps),
        "collapse": uneven_table(
            "a collapsed run is lower by", near_the_ends.DEPTHS, near_the_ends.collapsing, draws_n, generator
        ),
        "borrowed": uneven_table(
            "its seed variance, times the others’",
            near_the_ends.VARIANCE_RATIOS,
            near_the_ends.borrowing,
            draws_n,
            generator,
        ),
    }


def fill(page: str, tables: dict[str, str]) -> str:
    """Return the page with each table between `<!-- name -->` and `<!-- /name -->`. Raise ValueError if a mark is missing."""
    for name, text in tables.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if page.count(start) != 1 or page.count(end) != 1:
            raise ValueError(f"the page has no single pair of marks {start} … {end}; put them where the table belongs")
        page = page[: page.index(start) + len(start)] + f"\n{text}\n" + page[page.index(end) :]
    return page


def coverage_table(rows: Sequence[Coverage]) -> str:
    """Return one line for each setting. A cell contains the values for all numbers of seeds."""
    lines = []
    for name in dict.fromkeys(row.setting for row in rows):
        mine = [row for row in rows if row.setting == name]
        columns = [
            [str(getattr(row, field)) for row in mine] for field in ("area", "by_budget", "negative", "equivalent")
        ]
        lines.append([name, *(" / ".join(column) for column in columns)])
    heads = ["setting", "area", "budget-wise", "seeds below residual", "equivalence wrong"]
    note = (
        f"{rows[0].area.draws_n:,} draws a cell, {rows[0].by_budget.draws_n:,} budget-wise; each cell for "
        f"{', '.join(str(n) for n in SEEDS_N)} seeds. Standard error at .95: {Share(95, 100).error * 10 / rows[0].area.draws_n ** 0.5:.4f}."
    )
    return f"{table(heads, lines)}\n\n{note}"


def savings_table(rows: Sequence[Saved]) -> str:
    """Return one line for each true curve."""
    heads = [
        "true curve",
        "true labels",
        "covered",
        "smooth covered",
        "open above",
        "open below",
        "mean below",
        "all below",
        "fewer",
    ]
    lines = [
        [
            row.curve.name,
            f"{row.truth_n:,.0f}" if row.truth_n else "never",
            *(str(one) for one in row[2:]),
        ]
        for row in rows
    ]
    return f"{table(heads, lines)}\n\n{rows[0].covered.draws_n:,} draws a line; standard error at .95: {(0.0475 / rows[0].covered.draws_n) ** 0.5:.3f}."


def null_table(rows: Sequence[Null]) -> str:
    """Return one column for each experiment."""
    names = (
        ("cells “better” after Holm", "better_cells"),
        ("any cell “better” or “worse” after Holm", "cells_family"),
        ("the same with the p-values used before", "cells_family_before"),
        ("cells with p < .05 and no correction", "raw_cells"),
        ("any area “better” or “worse” after Holm", "areas_family"),
        ("the same with the p-values used before", "areas_family_before"),
        ("budgets at which someone is called best", "crowned"),
    )
    heads = ["verdict on equal strategies", *(f"{r.strategies_n} × {r.budgets_n} × {r.seeds_n}" for r in rows)]

    def cell(one: Share, draws_n: int) -> str:
        error = max(one.error, (one.value * (1 - one.value) / draws_n) ** 0.5)  # cells of one draw are not independent
        return f"{one.value:.4f} ± {error:.4f}"

    lines = [[name, *(cell(getattr(row, field), row.cells_family.draws_n) for row in rows)] for name, field in names]
    draws = " and ".join(f"{row.cells_family.draws_n:,}" for row in rows)
    return f"{table(heads, lines)}\n\nStrategies × budgets × seeds; {draws} draws; ± one standard error, counting a draw once."


def crowned_table(rows: Sequence[Crowned]) -> str:
    """Return one line for each setting."""
    lines = [[", ".join(f"{level:g}" for level in r.levels), str(r.seeds_n), *map(str, r[2:])] for r in rows]
    heads = [
        "true scores above the lowest",
        "seeds",
        "wrongly called best",
        "rightly called best",
        "set has the truly best",
    ]
    return f"{table(heads, lines)}\n\n{rows[0].wrongly.draws_n:,} draws a line."


def tails_table(draws_n: int, generator: np.random.Generator) -> str:
    """Return error rates as multiples of the nominal alpha, for the earlier rule and for Banerjee's."""
    lines = []
    for parts in ((0.05, 0.75, 0.2), (0.3, 0.6, 0.1), (0.0, 0.0, 1.0)):
        for seeds_n in SEEDS_N:
            one = mean_squares.drawn(parts, seeds_n, draws_n, generator)
            cells = [
                " / ".join(f"{mean_squares.errors(rule, one, alpha) / alpha:.2f}" for alpha in mean_squares.ALPHAS)
                for rule in (mean_squares.BEFORE, mean_squares.BANERJEE)
            ]
            lines.append([_ratio(parts), str(seeds_n), *cells])
    return table(["items : seeds : rest", "seeds", "Satterthwaite", "Banerjee"], lines)


def rules_table(draws_n: int, generator: np.random.Generator) -> str:
    """Return the coverage of 95% intervals by rule. A cell contains the values for all numbers of seeds."""
    designs = ((0.0, 0.0, 1.0), (0.0, 0.5, 0.5), (0.0, 0.8, 0.2), (0.1, 0.8, 0.1), (0.3, 0.3, 0.4))
    drawn = [[mean_squares.drawn(parts, n, draws_n, generator) for n in SEEDS_N] for parts in designs]
    lines = [
        [rule, *(" / ".join(f"{1 - mean_squares.errors(rule, one, 0.05):.3f}" for one in row) for row in drawn)]
        for rule in mean_squares.RULES
    ]
    return table(["rule", *(_ratio(parts) for parts in designs)], lines)


def power_table(draws_n: int, generator: np.random.Generator) -> str:
    """Return the detectable differences with the lab's noise; in brackets with the p-values that Holm received earlier."""
    _, seed, seed_task, rest = LAB_NOISE
    lines = []
    for seeds_n in SEEDS_N:
        parts = (1e-5, 2 * (seed**2 + seed_task**2 / 24) / seeds_n, 2 * rest**2 / 960 / seeds_n)
        one = mean_squares.drawn(parts, seeds_n, draws_n, generator)
        alone, *corrected = mean_squares.ALPHAS
        shown, margin = mean_squares.equivalence_margin(one, EQUIVALENCE_MARGIN)
        found = [
            f"{mean_squares.detectable(mean_squares.BANERJEE, one, alpha):.3f} "
            f"({mean_squares.detectable(mean_squares.BEFORE, one, alpha):.3f})"
            for alpha in corrected
        ]
        first = f"{mean_squares.detectable(one.used, one, alone):.3f}"
        lines.append([str(seeds_n), f"{sum(parts) ** 0.5:.4f}", first, *found, f"{shown:.2f}", f"{margin:.3f}"])
    heads = ["seeds", "standard error", "primary, alone", "first of 4 by Holm", "first of 60 by Holm"]
    return table([*heads, "equivalence shown", "margin for 80%"], lines)


def stated_table(draws_n: int, generator: np.random.Generator) -> str:
    """Return how often a difference of the stated size is shown. A cell contains the values for all numbers of seeds."""
    lines = []
    for noise in stated_power.NOISES:
        cells = []
        for comparisons_n in (0, 4):
            row = [stated_power.powered(noise, n, comparisons_n, draws_n, generator) for n in SEEDS_N]
            cells += [" / ".join(f"{one.stated:.3f}" for one in row), " / ".join(str(one.shown) for one in row)]
        planned = [stated_power.powered(noise, n, 0, draws_n, generator, planned=True) for n in SEEDS_N]
        lines.append([noise.name, *cells, " / ".join(str(one.shown) for one in planned)])
    heads = ["noise", "stated, alone", "shown", "stated, of 4 by Holm", "shown", "planned from five seeds: shown"]
    error = (0.16 / draws_n) ** 0.5
    return f"{table(heads, lines)}\n\n{draws_n:,} draws a cell; standard error at .80: {error:.3f}."


def _ratio(parts: tuple[float, float, float]) -> str:
    return " : ".join(f"{part:g}" for part in parts)


def near_table(rows: Sequence[Sequence[near_the_ends.Near]]) -> str:
    """Return one line for each level and design, and one column for each number of seeds."""
    lines = [
        [f"{row[0].level:g}", _design(row[0].design), *(" / ".join(map(str, one.covered)) for one in row)]
        for row in rows
    ]
    heads = ["true mean", "tasks × items", *(words.count(one.seeds_n, "seed") for one in rows[0])]
    return f"{table(heads, lines)}\n\n{_draws(rows[0][0].covered[0])}"


def margin_table(rows: Sequence[Sequence[near_the_ends.AtMargin]]) -> str:
    """Return one line for each level and design, with coverage and wrong equivalence by number of seeds."""
    lines = [
        [
            f"{row[0].level:g}",
            _design(row[0].design),
            *(" / ".join(map(str, cell)) for one in row for cell in (one.covered, one.equivalent)),
        ]
        for row in rows
    ]
    kinds = ("covered", "equivalence wrong")
    heads = ["better arm", "tasks × items", *(f"{kind}, {one.seeds_n} seeds" for one in rows[0] for kind in kinds)]
    return f"{table(heads, lines)}\n\n{_draws(rows[0][0].covered[0])}"


def uneven_table(
    what: str,
    sizes: Sequence[float],
    covered: Callable[[float, int, int, np.random.Generator], Share],
    draws_n: int,
    generator: np.random.Generator,
) -> str:
    """Return one line for each size, and one column for each number of seeds."""
    lines = [[f"{size:g}", *(str(covered(size, n, draws_n, generator)) for n in SEEDS_N)] for size in sizes]
    return f"{table([what, *(f'{n} seeds' for n in SEEDS_N)], lines)}\n\n{draws_n:,} draws a cell."


def _design(design: tuple[int, int]) -> str:
    return f"{design[0]} × {design[1]}"


def _draws(one: Share) -> str:
    return f"{one.draws_n:,} draws a cell; standard error at .95: {(0.0475 / one.draws_n) ** 0.5:.3f}."


def wilson_table(sizes: Sequence[int]) -> str:
    """Return the exact coverage over true shares from .005 to .995."""
    lines = [[str(n), *(f"{value:.3f}" for value in wilson_coverage(n))] for n in sizes]
    return table(["items", "mean coverage", "smallest"], lines)


if __name__ == "__main__":
    main()
