"""The labels that each budget buys from each task, for the sizes and confidences of two real pools: writes docs/ALLOCATIONS.md.

Run: python -m tests.evidence.allocations     (half an hour of CPU the first time; `make evidence` calls it)

The program runs `taskdiv run` for `task_confidence` of two experiments, dolly_stories and flan_stories, in $TASKDIV_HOME.
Stored results are reused. The real data are found at the paths of the experiment files, or under $TASKDIV_SHARED/data if this
variable is set. All numbers come from `apportionment.allocate` with the costs of `strata`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.selection import SelectionPool, strata
from taskdiv_assets.selection.apportionment import allocate
from taskdiv_assets.storage.store import Store, home
from tests.evidence.quota import Deviation, IntArray, deviation, multiples, spread_evenly

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "tests" / "experiments"
RULES: Mapping[str, Callable[[SelectionPool], IntArray]] = {
    "task_diversity": strata.equal_costs,
    "weighted_task_diversity": strata.confidence_costs,
    "complement_weighted_task_diversity": strata.complement_costs,
}
DOLLY_BUDGETS = (8, 50, 200, 1000, 3000, 10_000)
FLAN_BUDGETS = (3000, 10_000, 30_000, 48_314, 60_000, 80_000)
PICKS_A_TASK = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
CHANGED_AT_N, CHANGED_TASKS_N = 3000, 10
PICTURE = "allocations.svg"
DARK = "--surface:#16181d;--ink:#e8ebef;--muted:#a3acb8;--line:#363c46;--blue:#4fa8e0;--vermillion:#f08a4b"


class Tasks(NamedTuple):
    """The tasks of a pool with their sizes and mean confidences, and the cost of each task by every rule."""

    name: str  # what the page calls the pool
    names: tuple[str, ...]
    sizes: IntArray  # (T,) prompts
    confidence: np.ndarray  # (T,) mean of the task's prompts
    costs: Mapping[str, IntArray]  # rule -> (T,)

    @property
    def prompts_n(self) -> int:
        return int(self.sizes.sum())

    def counts(self, rule: str, budget_n: int) -> IntArray:
        """Return the number of prompts that a budget buys from each task."""
        return allocate(self.costs[rule], self.sizes, budget_n)

    def exhausted_n(self, rule: str, budget_n: int) -> int:
        """Return the number of tasks from which a budget buys every prompt."""
        return int((self.counts(rule, budget_n) == self.sizes).sum())


def tasks_of(name: str, names: Sequence[str], sizes: Sequence[int], confidence: Sequence[float]) -> Tasks:
    """Return the tasks with their costs, computed by the rules of the strategies."""
    sizes_n = np.array(sizes, np.int64)
    pool = SelectionPool(
        prompt_ids=np.arange(sizes_n.sum(), dtype=np.uint64),  # costs look at no prompt
        tasks=np.repeat(np.arange(len(names), dtype=np.int32), sizes_n),
        task_names=tuple(names),
        task_confidence=np.array(confidence),
    )
    return Tasks(
        name, pool.task_names, sizes_n, np.array(confidence), {rule: cost(pool) for rule, cost in RULES.items()}
    )


def read_tasks(experiment: str, name: str, root: str) -> Tasks:
    """Return the stored task_confidence of an experiment."""
    rows = Store(experiment, root).read_table("task_confidence").table.to_pydict()
    return tasks_of(name, rows["task"], rows["pool_n"], rows["mean_confidence"])


def materialise(experiment: str, root: str) -> None:
    """Run the real command up to task_confidence. The command prints its own errors."""
    path = EXPERIMENTS / f"{experiment}.yaml"
    if "TASKDIV_SHARED" in os.environ:
        text = path.read_text(encoding="utf-8").replace("../../../shared", os.environ["TASKDIV_SHARED"])
        path = (
            ROOT / ".taskdiv" / "evidence" / path.name
        )  # the same path each time: it is part of the stored experiment
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "taskdiv_assets.cli", "run", str(path), "--until", "task_confidence"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "TASKDIV_HOME": root})
    if done.returncode:
        raise SystemExit(f"{experiment} was not scored, so the page stays as it was")


def bought_table(tasks: Tasks, budgets: Sequence[int]) -> str:
    """Return each task's counts by round robin and by weights, the least confident task first."""
    pairs = [(tasks.counts("task_diversity", b), tasks.counts("weighted_task_diversity", b)) for b in budgets]
    head = ["task", "prompts", "mean confidence", *(f"{budget:,}" for budget in budgets)]
    rows = []
    for t in np.argsort(tasks.confidence, kind="stable"):
        cells = [" / ".join(_marked(counts[t], tasks.sizes[t]) for counts in pair) for pair in pairs]
        rows.append([f"`{tasks.names[t]}`", f"{tasks.sizes[t]:,}", f"{tasks.confidence[t]:.4f}", *cells])
    return _markdown(head, rows)


def _marked(count: int, size: int) -> str:
    return f"{count:,}*" if count == size else f"{count:,}"


def deviation_table(tasks: Tasks) -> str:
    """Return the distance to the exact quota at budgets of 1, 2, 5, ... picks a task."""
    head = ["budget", "picks a task", "largest", "mean", "distance", "nearest whole numbers"]
    rows = []
    for budget in multiples(len(tasks.sizes), tasks.prompts_n, PICKS_A_TASK):
        at = deviation(tasks.costs["weighted_task_diversity"], tasks.sizes, budget)
        picks = f"{budget // len(tasks.sizes):,}"
        shares = [f"{at.distance:.2%}", f"{at.rounded_distance:.2%}"]
        rows.append([f"{budget:,}", picks, f"{at.largest_n:.2f}", f"{at.mean_n:.2f}", *shares])
    return _markdown(head, rows)


def exhausted_table(tasks: Tasks, budgets: Sequence[int]) -> str:
    """Return the number of exhausted tasks by rule and budget."""
    rows = [[f"`{rule}`", *(f"{tasks.exhausted_n(rule, budget)}" for budget in budgets)] for rule in RULES]
    return _markdown(["strategy", *(f"{budget:,}" for budget in budgets)], rows)


def changed_table(tasks: Tasks, budget_n: int, tasks_n: int) -> str:
    """Return the tasks whose counts the weights change most."""
    even, weighted = (tasks.counts(rule, budget_n) for rule in ("task_diversity", "weighted_task_diversity"))
    most = np.argsort(-np.abs(weighted - even), kind="stable")[:tasks_n]
    head = ["task", "prompts", "mean confidence", "task_diversity", "weighted_task_diversity", "change"]
    rows = [
        [f"`{tasks.names[t]}`", f"{tasks.sizes[t]:,}", f"{tasks.confidence[t]:.4f}", f"{even[t]:,}",
         f"{weighted[t]:,}", f"{weighted[t] - even[t]:+,}"] for t in most
    ]  # fmt: skip
    return _markdown(head, rows)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(head), ["---", *["---:"] * (len(head) - 1)], *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def curve(tasks: Tasks) -> list[Deviation]:
    """Return the deviations over budgets, without those that are almost 0."""
    costs = tasks.costs["weighted_task_diversity"]
    budgets = spread_evenly(len(tasks.sizes), tasks.prompts_n)
    return [at for at in (deviation(costs, tasks.sizes, budget) for budget in budgets) if at.distance > 1e-6]


def below(tasks: Tasks, distance: float) -> int:
    """Return the budget above which the curve stays below `distance`, rounded up to two digits, because the curve has gaps."""
    last: int = next(at.budget_n for at in reversed(curve(tasks)) if at.distance >= distance)
    digit = int(10 ** max(len(str(last)) - 2, 0))
    return -(-last // digit) * digit


def figure_of(pools: Sequence[Tasks]) -> Figure:
    """Draw the total-variation distance to the exact quota against the budget, one line for each pool."""
    from matplotlib.figure import Figure

    from reports import svg

    with svg.style():
        figure = Figure(figsize=(7.6, 4.2), facecolor=svg.SURFACE)
        axes = figure.add_axes((0.12, 0.13, 0.85, 0.82))
        for tasks, colour, dash in zip(pools, (svg.BLUE, svg.VERMILLION), ("-", (0, (5, 1.5))), strict=True):
            points = curve(tasks)
            budgets = np.array([at.budget_n for at in points])
            axes.plot(budgets, [at.distance for at in points], color=colour, linestyle=dash)
            axes.plot(
                budgets, len(tasks.sizes) / 4 / budgets, color=colour, linestyle=(0, (1, 2)), linewidth=1, alpha=0.8
            )
            middle = points[len(points) // 3]
            axes.annotate(
                f"{tasks.name}: {len(tasks.sizes)} tasks",
                (middle.budget_n, middle.distance),
                (8, 12),
                textcoords="offset points",
                color=colour,
            )
        axes.set(xscale="log", yscale="log", xlabel="budget (prompts)", ylabel="share of picks in another task")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.10g}" if value >= 1 else f"{100 * value:.4g}%")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(which="major")
        axes.set_axisbelow(True)
        return figure


def picture(pools: Sequence[Tasks]) -> str:
    """Return the figure as an SVG file that follows the reader's light or dark mode."""
    from reports import svg

    text = svg.to_svg(
        figure_of(pools),
        "allocations",
        "Distance of small budgets from the exact quota",
        "The share of picks that are in another task than the exact quota's falls in inverse proportion to the budget.",
    )
    style = f"<style>text{{font-family:sans-serif}}@media(prefers-color-scheme:dark){{svg{{{DARK}}}}}</style>"
    return text.replace("</desc>", f"</desc>{style}", 1) + "\n"


def page(dolly: Tasks, flan: Tasks, tokens: tuple[int, int]) -> str:
    """Return the whole page. All its numbers are computed here."""
    return _bought(dolly, flan, tokens) + _quota(dolly, flan) + _used_up(flan)


def _bought(dolly: Tasks, flan: Tasks, tokens: tuple[int, int]) -> str:
    """Return the introduction of the page, and Dolly's table."""
    shares = [
        f"{c.min():.3f} to {c.max():.3f}, {c.max() / c.min():.1f}-fold" for c in (dolly.confidence, flan.confidence)
    ]
    return f"""# What a budget buys

This page shows how the two task strategies share a budget among the tasks of real pools, and how far small budgets are from the exact quota.
**The confidences are those of stories260K, a model of 260,032 parameters that tells toddlers' stories: they say nothing about
a real base model.** The sizes are real, so the tables show how the rule works, not which tasks deserve labels.

`python -m tests.evidence.allocations` (a step of `make evidence`) writes this page from real data; it first scores both pools by
`taskdiv run` if they are not scored yet. Change the program, not this page.

- **Dolly**: databricks-dolly-15k, {dolly.prompts_n:,} prompts of {len(dolly.sizes)} tasks; confidence over at most {tokens[0]} new tokens: {shares[0]}.
- **FLAN pool**: T0 (P3) with FLAN 2021 and chain-of-thought sets of FLAN v2, {flan.prompts_n:,} prompts of {len(flan.sizes)} tasks with
  {flan.sizes.min():,} to {flan.sizes.max():,} prompts, median {np.median(flan.sizes):,.0f}; at most {tokens[1]} new tokens: {shares[1]}.

## Dolly: prompts from each task

Left of the slash: `task_diversity` (round robin); right of it: `weighted_task_diversity` (shares in inverse proportion to the
confidence). A star marks all prompts of the task. If tasks tie for the last pick, the table gives it to the first name; a ranking lets
the seed decide.

{bought_table(dolly, DOLLY_BUDGETS)}

"""


def _quota(dolly: Tasks, flan: Tasks) -> str:
    """Return the section on small budgets and the exact quota: tables, picture and text."""
    small, large = (deviation(p.costs["weighted_task_diversity"], p.sizes, len(p.sizes)) for p in (dolly, flan))
    at_3000 = deviation(flan.costs["weighted_task_diversity"], flan.sizes, 3000)
    dolly_200 = deviation(dolly.costs["weighted_task_diversity"], dolly.sizes, 200)
    worst = max(curve(dolly), key=lambda at: at.distance)
    ends = f"{below(dolly, 0.01):,} labels on Dolly and {below(flan, 0.01):,} on the FLAN pool"
    return f"""## How far small budgets are from the exact quota

The exact quota is what the weights would buy if fractions of a prompt could be bought, limited by the size of each task. `largest` and
`mean` are absolute differences between the counts of `weighted_task_diversity` and that quota, in prompts per task. `distance` is the
total-variation distance: the share of picks that are in another task than the quota's. The last column is that distance for
the whole numbers nearest to the quota (largest remainders). No method is nearer, but its counts may fall as a budget grows.

**Dolly**

{deviation_table(dolly)}

**FLAN pool**

{deviation_table(flan)}

![Distance from the exact quota against the budget, on logarithmic axes]({PICTURE})

Dotted: half a pick per task, T / 4k for T tasks and a budget of k.

- The rule is Adams' divisor method: every task gets its first pick before any gets a second, for any weights. So a budget of one
  pick per task is spread evenly, {small.distance:.1%} (Dolly) and {large.distance:.1%} (FLAN pool) away from the quota.
- It rounds every task's share *up*, so about half a pick per task is distributed evenly before the weights act. At any budget, a task with r
  times the average share is about (r − 1) / 2 picks short, and one with little weight has up to half a pick too many.
- So the difference stays at about one pick per task while the budget grows, and its share of the budget falls as T / k. From about
  {ends} on it stays below 1% of the picks and can be ignored.
- If the weights are nearly equal, as on Dolly here, multiples of the number of tasks have a small distance. In between some tasks have one
  pick more than others, and no whole numbers avoid that: the worst is {worst.distance:.0%} at {worst.budget_n}, and {worst.rounded_distance:.0%} for the nearest whole numbers.
- Most of the distance comes from whole numbers as such: at 200 on Dolly {dolly_200.distance:.2%} against {dolly_200.rounded_distance:.2%} for the nearest ones, at 3,000 on the
  FLAN pool {at_3000.distance:.2%} against {at_3000.rounded_distance:.2%}. The small rest is the price of counts that never fall, so that every label of a smaller budget is
  used again. It grows with the differences between weights.
- When tasks are used up, the counts and the quota agree again, because such a task's count is its size in both. On the FLAN pool this holds for
  {flan.exhausted_n("weighted_task_diversity", 60_000)} tasks at 60,000. At the whole pool both are everything.

"""


def _used_up(flan: Tasks) -> str:
    """Return the section on exhausted tasks, and on the tasks that the weights change most."""
    return f"""## FLAN pool: tasks that are used up

Of {len(flan.sizes)} tasks, by strategy and budget. The rest of the share of such a task goes to the others by the same rule. Only {(flan.sizes < 100).sum()} tasks have fewer
than 100 prompts, and {(flan.sizes == 200).sum()} have exactly 200 (this copy of T0 was cut there), so hardly any is used up at small budgets and most are used up together.

{exhausted_table(flan, FLAN_BUDGETS)}

The {CHANGED_TASKS_N} tasks that the weights change most at {CHANGED_AT_N:,}:

{changed_table(flan, CHANGED_AT_N, CHANGED_TASKS_N)}
"""


def _distance(tasks: Tasks, budget_n: int) -> str:
    return f"{deviation(tasks.costs['weighted_task_diversity'], tasks.sizes, budget_n).distance:.2%}"


def main() -> None:
    """Score the pools if needed, and write the page and its picture."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.evidence.allocations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--home", default=home(), help="where results lie (default: $TASKDIV_HOME, else .taskdiv)")
    parser.add_argument("--no-run", action="store_true", help="read what lies there, and run nothing")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder of the page (default: docs)")
    arguments = parser.parse_args()
    os.environ["TASKDIV_HOME"] = arguments.home
    pools, tokens = [], []
    for experiment, name in (("dolly_stories", "Dolly"), ("flan_stories", "FLAN pool")):
        if not arguments.no_run:
            materialise(experiment, home())
        pools.append(read_tasks(experiment, name, home()))
        tokens.append(experiment_file.load(str(EXPERIMENTS / f"{experiment}.yaml")).confidence.max_new_tokens)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / PICTURE).write_text(picture(pools), encoding="utf-8")
    (arguments.output / "ALLOCATIONS.md").write_text(page(pools[0], pools[1], (tokens[0], tokens[1])), encoding="utf-8")
    print(f"{arguments.output / 'ALLOCATIONS.md'} and {PICTURE} written")


if __name__ == "__main__":
    main()
