"""The coverage of forecasts: in simulation, and on the lab's stored scores. Writes two tables of docs/STATISTICS.md.

Run: python -m tests.evidence.forecasts     (four minutes on one core, and about 15 CPU minutes for the lab's adapters if they are
not stored; `make evidence` calls it). `--no-lab` leaves the lab out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reports import forecast, results
from reports.difference import EQUIVALENCE_MARGIN, Arm
from reports.forecast import BUDGETS_MIN_N, FARTHEST, Forecast
from reports.statistics import seed_means
from taskdiv_assets.storage.store import home
from tests.benchmarks.page import table
from tests.evidence import drawn_curves
from tests.evidence.coverage import PAGE, fill
from tests.evidence.drawn_curves import LADDERS, SHAPES, Shape
from tests.evidence.drawn_scores import IntArray
from tests.evidence.simulations import Share, share

LAB = Path(__file__).with_name("forecast_lab.yaml")
SEEDS_N = 3
STRIDES = (1, 2)  # every budget of the lab, or every second one


class Held(NamedTuple):
    """Forecasts of one shape from one ladder of budgets, at each of `drawn_curves.FACTORS`."""

    shape: str
    budgets_n: int
    measured: tuple[Share, ...]  # the interval holds the measured gain
    true: tuple[Share, ...]  # the interval holds the true gain
    width: tuple[float, ...]  # mean
    wrong: (
        Share  # "gain expected" where the true gain is not above 0, or "little to gain" where it is at least the margin
    )


def held(
    shape: Shape,
    ladder: tuple[float, ...],
    draws_n: int,
    generator: np.random.Generator,
    *,
    seeds_n: int = SEEDS_N,
    noise: float = 1.0,
) -> Held:
    """Measure how often the forecasts hold."""
    of_item, rows = drawn_curves.tasks(), []
    for _ in range(draws_n):
        drawn = drawn_curves.draw(shape, ladder, seeds_n, generator, noise=noise)
        made = forecast.forecast(drawn.curve, of_item, drawn.targets)
        rows.append([_outcome(*one) for one in zip(made, drawn.measured.tolist(), drawn.true.tolist(), strict=True)])
    found = np.array(rows, dtype=np.float64)  # (draws, targets, 4)
    measured, true = ([share(found[:, t, column]) for t in range(found.shape[1])] for column in (0, 1))
    wrong = share(found[..., 3].ravel())
    return Held(shape.name, len(ladder), tuple(measured), tuple(true), tuple(found[..., 2].mean(axis=0)), wrong)


def _outcome(one: Forecast, measured: float, true: float) -> tuple[bool, bool, float, bool]:
    said = one.verdict
    wrong = (said == "gain expected" and true <= 0) or (said == "little to gain" and true >= EQUIVALENCE_MARGIN)
    return one.low <= measured <= one.high, one.low <= true <= one.high, one.high - one.low, wrong


def simulated_table(rows: Sequence[Held]) -> str:
    """Return one line for each shape. Cells are for all ladders, and within them for both targets."""
    lines = []
    for name in dict.fromkeys(row.shape for row in rows):
        mine = [row for row in rows if row.shape == name]
        cells = [[f"{row.measured[t]} ({row.true[t]})" for row in mine] for t in range(len(drawn_curves.FACTORS))]
        widths = " / ".join(f"{row.width[-1] / 2:.3f}" for row in mine)
        wrong = Share(sum(row.wrong.happened_n for row in mine), sum(row.wrong.draws_n for row in mine))
        lines.append([name, *(" / ".join(cell) for cell in cells), f"±{widths}", str(wrong)])
    heads = ["true curve", "held at × 1.5 (true gain)", "held at × 2 (true gain)", "half-width at × 2", "wrong verdict"]
    draws_n = rows[0].measured[0].draws_n
    ladders = ", ".join(str(len(ladder)) for ladder in LADDERS)
    note = f"{draws_n:,} draws a cell; {SEEDS_N} seeds; each cell for {ladders} budgets. Standard error at .95: {(0.0475 / draws_n) ** 0.5:.3f}."
    return f"{table(heads, lines)}\n\n{note}"


class Left(NamedTuple):
    """One forecast of a budget that was left out."""

    strategy: str
    stride: int
    budgets_n: int
    made: Forecast
    measured: float

    @property
    def is_held(self) -> bool:
        return self.made.low <= self.measured <= self.made.high


def left_out(curves: Mapping[str, Mapping[int, Arm]], tasks: IntArray) -> Iterator[Left]:
    """Yield all forecasts from the smaller budgets of each strategy, at the next ones up to `FARTHEST` times as large."""
    for strategy, curve in curves.items():
        for stride in STRIDES:
            for start in range(stride):
                yield from _along(strategy, stride, dict(sorted(curve.items())[start::stride]), tasks)


def _along(strategy: str, stride: int, curve: Mapping[int, Arm], tasks: IntArray) -> Iterator[Left]:
    budgets = list(curve)
    means = {budget: float(seed_means(arm, tasks).mean()) for budget, arm in curve.items()}
    for seen_n in range(BUDGETS_MIN_N, len(budgets)):
        seen, last = budgets[:seen_n], budgets[seen_n - 1]
        targets = [budget for budget in budgets[seen_n:] if budget <= FARTHEST * last]
        for made in forecast.forecast({budget: curve[budget] for budget in seen}, tasks, targets):
            yield Left(strategy, stride, seen_n, made, means[made.budget_n] - means[last])


def lab_table(found: Sequence[Left]) -> str:
    """Return one line for each strategy, and one for all."""
    lines = []
    for name in (*dict.fromkeys(one.strategy for one in found), "all"):
        mine = [one for one in found if name in (one.strategy, "all")]
        groups = [[one for one in mine if one.budgets_n in range(*ends)] for ends in ((3, 4), (4, 5), (5, 99))]
        held_in = [f"{sum(one.is_held for one in group)} of {len(group)}" for group in (mine, *groups)]
        width = np.mean([(one.made.high - one.made.low) / 2 for one in mine])
        miss = np.mean([abs(one.made.gain - one.measured) for one in mine])
        none = np.mean([abs(one.measured) for one in mine])
        lines.append([name, *held_in, f"±{width:.3f}", f"{miss:.3f}", f"{none:.3f}"])
    heads = ["strategy", "held", "from 3 budgets", "from 4", "from 5 to 7"]
    heads += ["mean half-width", "mean error", "mean error of “no gain”"]
    return table(heads, lines)


def lab(url: str) -> tuple[dict[str, dict[int, Arm]], IntArray]:
    """Return the learning curves of a stored experiment on its first benchmark, and the task codes."""
    stored = results.load(url)
    scores = stored.score_sets[0]
    curves = {
        name: {budget: scores.arms[name, budget] for budget in stored.budgets if (name, budget) in scores.arms}
        for name in stored.experiment.strategies
    }
    return curves, scores.task_of_item


def simulated(scale: float) -> list[Held]:
    """Return the results of all shapes and ladders. Each shape has a stream of its own."""
    streams = np.random.default_rng(20_261_201).spawn(len(SHAPES))
    draws_n = max(2, round(1000 * scale))
    return [held(shape, one, draws_n, stream) for shape, stream in zip(SHAPES, streams, strict=True) for one in LADDERS]


def main() -> None:
    """Simulate, run the lab's experiment where its scores are missing, and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.evidence.forecasts", description=__doc__.split("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of draws (default: 1)")
    parser.add_argument("--no-lab", action="store_true", help="leave the lab out")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to write into (default: docs/STATISTICS.md)")
    arguments = parser.parse_args()
    found = {"forecasts": simulated_table(simulated(arguments.scale))}
    if not arguments.no_lab:
        subprocess.run([sys.executable, "-m", "taskdiv_assets.cli", "run", str(LAB)], check=True)
        found["forecast lab"] = lab_table(list(left_out(*lab(f"{home()}/forecast_lab"))))
    arguments.page.write_text(fill(arguments.page.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
