"""Terminal output of `taskdiv run` and `taskdiv plan`: progress bars, progress lines, tables and sentences."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.annotation_messages import which_counts
from taskdiv_assets.commands.benchmark_plan import BenchmarkPlan
from taskdiv_assets.commands.consoles import escaped, folded, visible
from taskdiv_assets.commands.planning import CellPlan, Plan
from taskdiv_assets.commands.workers import Event, Outcome
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.storage.progress import describe, spell

BEAT_S = 30.0  # longest time without a line about a running task, if the output is not a terminal
SHOWN_CELLS_N = 6  # up to this number, each waiting cell has its own line; more cells share one line


@dataclass
class Running:
    """Progress of a running task."""

    started_s: float
    said_s: float  # time at which the task's last line was printed
    last: tuple[Event, float] | None = None  # newest progress event and its time, until the last event
    first: tuple[Event, float] | None = None  # first progress event of the current count, and its time

    def note(self, event: Event, now_s: float) -> None:
        if self.first is None or self.first[0].name != event.name:
            self.first = (event, now_s)
        self.last = (event, now_s) if event.done < event.total else None

    def line(self, name: str, now_s: float) -> str:
        """Return a progress line: count, rate and remaining time if they are known, and the elapsed time."""
        elapsed = spell(now_s - self.started_s)
        if self.last is None or self.first is None:
            return f"{name}: still at work, {elapsed}"
        (last, last_s), (first, first_s) = self.last, self.first
        per_s = (last.done - first.done) / (now_s - first_s) if now_s > first_s else 0.0
        left_s = None if last.left_s is None else max(0.0, last.left_s - (now_s - last_s))
        text = describe(last.name, "", last.done, last.total, per_s or None, left_s=left_s)
        return f"{text if last.name.startswith(name) else f'{name}: {text}'}, {elapsed} so far"


class RunDisplay:
    """A progress bar for all runs, and one for each step that reports progress. Without a terminal, lines replace the bars."""

    def __init__(self, console: Console, experiment: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.experiment = experiment
        self.clock = clock
        self.started = clock()
        self.done = self.total = 0
        self.running: dict[str, Running] = {}
        self.bars: dict[str, TaskID] = {}
        text, count = TextColumn("{task.description}"), TextColumn("{task.completed:.0f}/{task.total:.0f}")
        columns = (SpinnerColumn(), text, BarColumn(), count, TimeElapsedColumn())
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.overall = self.progress.add_task(experiment, total=0)

    def __enter__(self) -> RunDisplay:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.progress.stop()

    def tell(self, event: Event) -> None:
        now_s = self.clock()
        if event.kind == "planned":
            self.total += event.total
        elif event.kind == "started":
            self.running[event.name] = Running(now_s, now_s)
            self._say(f"{event.name} started")
        elif event.kind == "progress":
            if event.task in self.running:
                self.running[event.task].note(event, now_s)
            self._step(event)
        elif event.kind == "note":
            task = f"{event.task}: " if event.task else ""
            self.console.print(visible(f"{self.experiment}: {task}{event.name}"), markup=False, soft_wrap=True)
        elif event.kind == "beat":
            self._beat(now_s)
        elif event.kind in ("ended", "skipped") and event.outcome is not None:
            self.running.pop(event.name, None)
            self.done += 1
            self._line(event.outcome)
        self.progress.update(self.overall, completed=self.done, total=self.total)

    def _beat(self, now_s: float) -> None:
        for name, task in self.running.items():
            if now_s - task.said_s >= BEAT_S:
                task.said_s = now_s
                self._say(task.line(name, now_s))

    def _say(self, text: str) -> None:
        if not self.console.is_terminal:
            self.console.print(visible(f"{self.experiment}: {text}"), markup=False, soft_wrap=True)

    def _step(self, event: Event) -> None:
        if event.name not in self.bars:
            self.bars[event.name] = self.progress.add_task(f"  {escaped(event.name)}", total=event.total)
        text = f"  {escaped(event.name)}" + (f" [dim]{escaped(event.also)}[/]" if event.also else "")
        self.progress.update(self.bars[event.name], completed=event.done, total=event.total, description=text)
        if event.done >= event.total:
            self.progress.remove_task(self.bars.pop(event.name))

    def _line(self, outcome: Outcome) -> None:
        mark = "done" if outcome.is_success else "FAILED"
        text = f"{mark:6} {self.done}/{self.total} {outcome.name} ({outcome.wall_s:.1f} s)"
        self.console.print(text, markup=False)

    def summary(self, outcomes: Sequence[Outcome]) -> str:
        """Return a line with the elapsed time and, if there were runs, the numbers of successful and of failed runs."""
        elapsed_s = self.clock() - self.started
        if not outcomes:
            return f"{self.experiment}: everything is up to date ({elapsed_s:.1f} s)"
        failed_n = sum(not outcome.is_success for outcome in outcomes)
        return f"{self.experiment}: {len(outcomes) - failed_n} runs done, {failed_n} failed, in {elapsed_s:.0f} s"


def waiting_lines(waiting: Mapping[Cell, int], blocked: str = "") -> list[str]:
    """Return one line per cell that waits for answers, or a single line for more than six cells.

    `waiting` maps a cell to the number of its missing answers. `blocked` is the reason why cells with all answers wait for a
    learning rate; if it is not empty, a last line gives this reason.

    >>> waiting_lines({Cell(512, "random"): 312})
    ['512|random waits for 312 answers']
    """
    lines = [f"{cell.key} waits for {n:,} answer{'' if n == 1 else 's'}" for cell, n in waiting.items()]
    if len(lines) > SHOWN_CELLS_N:
        least, most = min(waiting.values()), max(waiting.values())
        each = f"{most:,}" if least == most else f"{least:,} to {most:,}"
        lines = [f"{len(waiting):,} cells wait for answers, {each} each"]
    return lines + ([f"cells with all their answers wait for a learning rate: {blocked}"] if blocked else [])


# Words for the states of results, in the printed order.
STATUS_WORDS = {"missing": "not made yet", "stale": "out of date", "blocked": "made after these"}


def print_plan(
    out: Console, experiment: Experiment, plan: Plan, steps: Sequence[str] = (), shown: Sequence[str] = ()
) -> None:
    """Print a plan as tables and sentences, then `shown` (what the run can show, variants), then `steps` (the next commands)."""
    out.print(_by_cell(experiment, plan, "cells", lambda entry: _mark(entry.missing)))
    by_status: dict[str, list[str]] = {}
    for name, status in {**plan.unpartitioned, **{f"ranking/{k}": v for k, v in plan.rankings.items()}}.items():
        by_status.setdefault(status, []).append(name)
    for status, words in STATUS_WORDS.items():
        if status in by_status:
            out.print(f"{words}: {', '.join(by_status[status])}", markup=False)
    last = REGISTRY.cell_assets(experiment)[-1]
    done_n = sum(last not in entry.missing for entry in plan.cells)
    out.print(f"cells: {done_n} done, {len(plan.cells) - done_n} missing")
    sampling = f" ({plan.sampling})" if plan.sampling else ""
    out.print(f"pool: {_count(plan.pool_n)} prompts; to score: {_count(plan.prompts_to_score_n)}{sampling}")
    _print_labels(out, experiment, plan)
    if experiment.base_model is not None:
        _print_training(out, plan)
    for line in [] if plan.memory is None else plan.memory.lines():
        out.print(line, soft_wrap=True, highlight=False, markup=False)
    for benchmark in plan.benchmarks:
        out.print(_benchmark(benchmark), soft_wrap=True, highlight=False, markup=False)
    for line in (*shown, *steps):
        out.print(line, soft_wrap=True, markup=False)


def _print_training(out: Console, plan: Plan) -> None:
    out.print(
        f"to train: {plan.examples_to_train_n:,} examples (over epochs and seeds), {_count(plan.tokens_to_train_n)} tokens"
    )
    disk = "not measured yet" if plan.disk_bytes is None else f"{plan.disk_bytes / 2**20:,.1f} MiB"
    out.print(f"disk for adapters: {disk}")
    out.print(f"time of one process: scoring {_seconds(plan.scoring_s)}, training {_seconds(plan.training_s)}")


def _benchmark(plan: BenchmarkPlan) -> str:
    line = f"benchmark {plan.name}: "
    if plan.is_skipped:
        return f"{line}left out, because it has no `judge`"
    of = "all items of its tasks" if plan.asked_n is None else f"{plan.asked_n:,} of {_count(plan.items_n)} items"
    error = f" (a standard error of up to {plan.sampling_error:.3f} a mean)" if plan.sampling_error else ""
    line += f"{of}{error}, to {plan.models_n:,} models"
    if plan.open_n:
        line += f"; {plan.open_n:,} have no answer yet"
    if not plan.judge:
        return line
    if plan.calls_left_n is None:
        return f"{line}; verdicts of {plan.judge} are imported with `taskdiv verdicts import`"
    cost = "" if plan.cost is None else f", {plan.cost:,.2f} in all"
    over = "; cells that would exceed them are refused before they ask" if plan.calls_n > plan.calls_left_n else ""
    return f"{line}; judge {plan.judge}: at most {plan.calls_n:,} calls{cost}, {plan.calls_left_n:,} allowed{over}"


def _by_cell(experiment: Experiment, plan: Plan, title: str, text_of: Callable[[CellPlan], str]) -> Table:
    table = folded("budget", *experiment.strategies, title=f"{experiment.name}: {title}")
    for budget_n in sorted({entry.cell.budget_n for entry in plan.cells}):
        row = {entry.cell.strategy: entry for entry in plan.cells if entry.cell.budget_n == budget_n}
        label = f"{budget_n} (full pool)" if any(entry.is_full_pool for entry in row.values()) else str(budget_n)
        table.add_row(label, *(text_of(row[name]) if name in row else "" for name in experiment.strategies))
    return table


def _print_labels(out: Console, experiment: Experiment, plan: Plan) -> None:
    annotation, total_n = experiment.annotation, plan.labels_to_buy_n
    each = "" if annotation.price is None else f", at {annotation.unit_price} each"
    if any(entry.labels_to_buy_n for entry in plan.cells):
        title = f"labels to buy{each}"
        out.print(_by_cell(experiment, plan, title, lambda entry: _labels(experiment, entry.labels_to_buy_n)))
    sent = f", of which {plan.labels_out_n:,} are sent out" if plan.labels_out_n else ""
    cost = f", {annotation.cost(total_n)} in all" if total_n is not None and annotation.price is not None else ""
    out.print(f"labels to buy: {_count(total_n)}{sent}{cost}", highlight=False)
    if plan.answers_differ_n:
        out.print(which_counts(experiment, plan.answers_differ_n), highlight=False)
    if experiment.purpose == "study" and annotation.price is not None:
        budgets = sorted({entry.cell.budget_n for entry in plan.cells})
        parts = ", ".join(f"{n:,} labels {annotation.cost(n)}" for n in budgets)
        out.print(f"one list of a study would cost{each}: {parts} (nothing is bought if the answers are known)")
    for entry in plan.cells:
        if entry.bought_outside_n:
            advice = "" if experiment.keeps_annotated else "; `keep_annotated: true` puts annotated prompts first"
            out.print(
                f"{entry.cell.key}: {entry.bought_outside_n:,} labels bought for it are not in its selection{advice}"
            )


def _labels(experiment: Experiment, labels_n: int | None) -> str:
    cost = "" if labels_n is None else experiment.annotation.cost(labels_n)
    return _count(labels_n) + (f" ({cost})" if cost else "")


def _mark(missing: Sequence[str]) -> str:
    return "done" if not missing else f"missing {', '.join(missing)}" if len(missing) < 3 else "missing"


def _count(value: int | None) -> str:
    return "not known yet" if value is None else f"{value:,}"


def _seconds(value: float | None) -> str:
    return "not measured yet" if value is None else spell(value)
