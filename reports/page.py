"""The page: everything the template shows, gathered in the order it is read.

Here belongs what stands where. Numbers come from `analysis`, sentences from `sentences`, tables from `tables`, pictures from `figures`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from reports import analysis, figures, sentences, svg, tables, words
from reports.analysis import Section
from reports.results import UNPARTITIONED, Results
from reports.scores import ScoreSet
from reports.statistics import task_means
from reports.tables import Table

LAB_TRAPS = ("flip", "omen")
FEW_SEEDS_N = 3


class Picture(NamedTuple):
    """A figure with its caption."""

    svg: Markup
    caption: str


class Part(NamedTuple):
    """What the page shows of one benchmark and metric."""

    title: str
    has_title: bool
    name: str  # for ids
    notes: tuple[str, ...]
    savings: Table | None
    full_pool_savings: Table | None
    full_pool_note: str
    curves: Picture
    curves_table: Table
    primary: str
    forest: Picture | None
    areas: Table | None
    by_budget: Table | None
    heat_map: Picture | None
    by_task: Table | None


def render(results: Results) -> str:
    """The whole page as HTML that is also well-formed XML; the same results give the same text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clean"] = words.clean
    found = analysis.sections(results)
    return environment.get_template("report.html.j2").render(_context(results, found)).strip() + "\n"


def _context(results: Results, found: tuple[Section, ...]) -> dict[str, object]:
    experiment = results.experiment
    accuracy = _base_accuracy(found)
    return {
        "experiment": experiment,
        "question": question(results),
        "badges": badges(results, found),
        "claims": sentences.answer(results, found),
        "missing_notes": missing_notes(results, found),
        "parts": [_part(results, section, place, len(found) > 1) for place, section in enumerate(found)],
        "allocation": _allocation(results),
        "confidence": _confidence(results, accuracy),
        "overlap": _overlap(results),
        "rejected": _filled(tables.rejected(results)),
        "warnings": _filled(tables.warnings(results)),
        "rules": _filled(tables.rules(results)),
        "rules_summary": rules_summary(results),
        "facts": facts(results),
        "cells": _filled(tables.missing_cells(results)),
        "cells_summary": cells_summary(results),
        "stages": _filled(tables.stages(results)),
        "tuning": _filled(tables.tuning(results)),
        "identities": _filled(tables.identities(results)),
        "problems": [*results.problems, *results.stale],
        "commands": commands(results),
        "experiment_text": words.clean_lines(results.experiment_text),
        "paper_claims": sentences.paper_claims(results, found),
    }


def question(results: Results) -> str:
    """What the experiment file asks: its leading comments."""
    lines = []
    for line in results.experiment_text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").strip())
    return words.clean(" ".join(lines), 400)


def badges(results: Results, found: tuple[Section, ...]) -> list[tuple[str, str]]:
    """Short warnings at the top: what a reader must know before the first number. (text, why)"""
    experiment, shown = results.experiment, []
    if experiment.is_lab:
        shown.append(
            (
                "designed setting",
                "The pool and the base model are the lab's: made by a procedure, so that confidence has a meaning. They are no evidence about real data.",
            )
        )
    seeds_n = min(
        (
            len(arm.seeds)
            for one in found
            for arm in one.scores.arms.values()
            if arm.seeds and not _is_full(one, arm.seeds)
        ),
        default=0,
    )
    if found and seeds_n < FEW_SEEDS_N:
        shown.append(
            (
                f"{words.count(seeds_n, 'seed')} only",
                "Fewer than three seeds: intervals are very wide, and with one seed they count items only.",
            )
        )
    open_n = sum(cell.status != "done" for cell in results.cells)
    if open_n:
        shown.append(
            (
                f"{open_n} of {words.count(len(results.cells), 'cell')} not done",
                "Some expected cells are missing, partial or rejected; see Provenance.",
            )
        )
    if results.rejected:
        shown.append(
            (
                words.count(len(results.rejected), "rejected table"),
                "A table broke its contract and was not published; see Data contracts.",
            )
        )
    if results.stale:
        shown.append(
            (
                f"{words.count(len(results.stale), 'table')} out of date",
                "Some tables were made from inputs that have changed since; see Provenance.",
            )
        )
    return shown


def _is_full(section: Section, seeds: tuple[int, ...]) -> bool:
    full = section.scores.arms.get(("random", section.full_pool_n or -1))
    return (
        full is not None
        and full.seeds == seeds
        and len(seeds) < max(len(arm.seeds) for arm in section.scores.arms.values())
    )


def missing_notes(results: Results, found: tuple[Section, ...]) -> list[tuple[str, str]]:
    """What is not there, and the command that makes it."""
    name, notes = results.experiment.name, []
    absent = [asset for asset in UNPARTITIONED if (asset, None) not in results.tables]
    if absent:
        notes.append((f"Not stored: {words.listing(absent)}.", f"taskdiv run {name}"))
    if results.cells and all(cell.status == "missing" for cell in results.cells):
        notes.append(("No cell has scores yet.", f"taskdiv run {name}"))
    if found and all(section.base is None for section in found) and "base_scores" not in absent:
        notes.append(
            (
                "The base model's scores share no item with the cells, so no base line is drawn.",
                f"taskdiv run {name}",
            )
        )
    if results.full_pool is None:
        notes.append((f"There is no full-pool line: {_why_no_full_pool(results)}.", f"taskdiv plan {name}"))
    return notes


def _why_no_full_pool(results: Results) -> str:
    if not results.experiment.full_pool_seeds:
        return "the experiment names no full_pool_seeds"
    if results.pool_n is None:
        return "the pool is not stored yet"
    known = results.footer_notes("raw_pool").get("responses_n")
    if isinstance(known, int) and known < results.pool_n:
        return f"{known:,} of the pool's {results.pool_n:,} answers are known, and training on everything needs all of them"
    return f"the budget {results.pool_n:,}, the whole pool, is not registered"


def _part(results: Results, section: Section, place: int, has_title: bool) -> Part:
    scores, name = section.scores, f"b{place}"
    primary = section.primary
    areas = ((primary,) if primary else ()) + section.areas
    comparisons = [one for one in areas if one.reference == section.reference] + [
        one for one in areas if one.reference != section.reference
    ]
    has_forest = bool(comparisons or section.by_budget)
    family = (
        "Area under the curve; the primary comparison stands alone, Holm among the others"
        if primary
        else "Area under the curve; Holm among all"
    )
    notes = [*scores.notes]
    if scores.items_left_out_n:
        notes.append(f"{words.count(scores.items_left_out_n, 'item')} left out: not scored in every arm and seed.")
    return Part(
        f"{words.clean(scores.benchmark, 40)} · {words.clean(scores.metric, 40)}",
        has_title,
        name,
        tuple(notes),
        _filled(tables.savings(section, f"{name}-savings", is_full=False)),
        _filled(tables.savings(section, f"{name}-full-savings", is_full=True)),
        _full_pool_note(section),
        _picture(figures.learning_curves(section), f"{name}-curves", "Learning curves", _curves_caption(section)),
        tables.curves(section, f"{name}-curves-table"),
        _primary_note(section),
        _picture(
            figures.forest(comparisons, section.by_budget, section.strategies, section.reference),
            f"{name}-forest",
            f"Differences from {section.reference}",
            _forest_caption(section, comparisons),
        )
        if has_forest
        else None,
        _filled(tables.differences(areas, f"{name}-areas", family)),
        _filled(
            tables.differences(
                section.by_budget, f"{name}-by-budget", "Budget by budget; Holm among all rows of this table"
            )
        ),
        _heat_map(results, section, name),
        tables.by_task(section, f"{name}-by-task"),
    )


def _picture(figure: Figure, name: str, title: str, caption: str) -> Picture:
    return Picture(Markup(svg.to_svg(figure, name, words.clean(title), words.clean(caption, 600))), caption)


def _curves_caption(section: Section) -> str:
    last = {name: points[-1] for name, points in section.curves.items() if points}
    ranked = sorted(last.items(), key=lambda pair: (-pair[1].mean.estimate, pair[0]))
    ends = [f"{name} {words.score(point.mean.estimate)} at {point.budget_n:,}" for name, point in ranked]
    bands = (
        "95% intervals over items and seeds"
        if section.has_intervals_over_seeds
        else "95% intervals over items only (one seed)"
    )
    return f"Mean score by labels; bands are {bands}, small dots are seeds. Ends of the lines: {words.listing(ends) or 'none'}."


def _forest_caption(section: Section, comparisons: list[analysis.Comparison]) -> str:
    every = [*comparisons, *section.by_budget]
    clear = sum(one.verdict in ("better", "worse") for one in every)
    return f"Paired differences with 95% intervals; {clear} of {len(every)} comparisons separate from 0 after Holm's correction (filled marks), the others are open."


def _primary_note(section: Section) -> str:
    if section.primary:
        one = section.primary
        return (
            f"Named before the run as the one primary comparison: {one.strategy} against {one.reference} on {section.scores.benchmark}, "
            f"{section.scores.metric}, area under the curve on the budgets both have. Its p is {words.p_value(one.difference.p_value)}, not corrected."
        )
    return (
        section.primary_problem
        or "No primary comparison is named for this benchmark and metric: all rows are corrected together."
    )


def _full_pool_note(section: Section) -> str:
    gain = section.full_pool_gain
    if section.full_pool is None:
        return "There is no full-pool score, so labels are compared with the reference's largest budget only."
    if gain is None:
        return "Without the base model's scores it is not known whether the full pool gains anything; the full-pool form is left out."
    if not gain.low > 0:
        return f"The full pool's gain over the base, {words.signed(gain.estimate)} [{words.interval(gain)}], is not above 0 with its interval: labels to match it have no meaning and are left out."
    return f"The full pool gains {words.signed(gain.estimate)} [{words.interval(gain)}] over the base ({words.basis(gain)})."


def _heat_map(results: Results, section: Section, name: str) -> Picture | None:
    found = section.by_task
    if found is None:
        return None
    top, bottom = found.tasks[0], found.tasks[-1]
    caption = (
        f"Score minus {section.reference}'s by task at {found.budget_n:,} labels, highest mean difference first (from {words.clean(top, 40)} to {words.clean(bottom, 40)}). "
        "Single tasks have few items: read patterns, not cells."
    )
    return _picture(
        figures.task_heat_map(found, _marks(results, found.tasks)),
        f"{name}-heat",
        "Differences by task",
        caption,
    )


def _marks(results: Results, tasks: tuple[str, ...]) -> dict[str, str]:
    """Words added to a task's name: the lab's traps, and small pools."""
    marks = {task: f"{results.task_sizes[task]} in pool" for task in tasks if task in results.task_sizes}
    if results.experiment.is_lab:
        marks |= {task: f"trap, {marks[task]}" if task in marks else "trap" for task in tasks if task in LAB_TRAPS}
    return marks


def _base_accuracy(found: tuple[Section, ...]) -> dict[str, float]:
    """The base's score by task on the first benchmark."""
    if not found or found[0].scores.base is None:
        return {}
    scores: ScoreSet = found[0].scores
    base = scores.base
    return {} if base is None else dict(zip(scores.tasks, task_means(base, scores.task_of_item).tolist(), strict=True))


def _allocation(results: Results) -> tuple[Picture, Table] | None:
    budgets = [budget for _, budget in results.allocations]
    if not budgets or not results.task_sizes:
        return None
    budget = max(budgets)
    names = [name for name in results.experiment.strategies if (name, budget) in results.allocations]
    counts = {name: results.allocations[name, budget] for name in names}
    skipped = {
        name: sum(by_task.get(task, 0.0) == 0 for task in results.task_sizes) for name, by_task in counts.items()
    }
    left = [f"{name} leaves out {words.count(n, 'task')}" for name, n in skipped.items() if n]
    caption = (
        f"Prompts chosen from each task against its size in the pool, at {budget:,} labels; each mark is a task. "
        f"{words.listing(left) + '.' if left else 'Every strategy takes from every task.'}"
    )
    figure = figures.allocation(counts, results.task_sizes, "random", results.experiment.strategies, budget)
    return _picture(figure, "allocation-figure", "Allocation by task", caption), tables.allocation(results, budget)


def _confidence(results: Results, accuracy: dict[str, float]) -> tuple[Picture, Table] | None:
    if not results.confidence:
        return None
    shared = {task: value for task, value in accuracy.items() if any(row.task == task for row in results.confidence)}
    least, most = (pick(results.confidence, key=lambda row: (row.mean, row.task)) for pick in (min, max))
    caption = (
        f"Mean confidence by task with 95% intervals, from {words.clean(least.task, 40)} ({words.score(least.mean)}) to "
        f"{words.clean(most.task, 40)} ({words.score(most.mean)})."
        + (" Far from its diamond, confidence says little about being right." if shared else "")
    )
    marks = dict.fromkeys(LAB_TRAPS, "trap") if results.experiment.is_lab else {}
    figure = figures.confidence(results.confidence, shared, marks)
    return _picture(figure, "confidence-figure", "Confidence by task", caption), tables.confidence(results, shared)


def _overlap(results: Results) -> tuple[Picture, Table] | None:
    if not results.overlaps:
        return None
    expected = (results.overlap_budget_n or 0) / results.pool_n if results.pool_n else None
    chance = f" Two independent random choices would share {expected:.2f}." if expected else ""
    caption = f"Share of the chosen prompts that two strategies have in common at {results.overlap_budget_n or 0:,} labels.{chance}"
    figure = figures.overlap_heat_map(results.experiment.strategies, results.overlaps)
    return _picture(figure, "overlap-figure", "Overlap between strategies", caption), tables.overlap(results)


def rules_summary(results: Results) -> str:
    """All rules in one sentence."""
    every = [rule for table in results.tables.values() for rule in table.footer.rules]
    if not every:
        return "No rule has been checked: no stored table carries results of its contract."
    failed = sum(not rule.passed for rule in every)
    without = sum(not table.footer.rules for table in results.tables.values())
    tail = f" {words.count(without, 'table')} carry no results." if without else ""
    return f"{len(every) - failed:,} of {words.count(len(every), 'check')} on {words.count(len(results.tables), 'stored table')} passed.{tail}"


def cells_summary(results: Results) -> str:
    """Done and missing cells in one sentence."""
    if not results.cells:
        return "The experiment names no strategy or no budget: no cell is expected."
    done = sum(cell.status == "done" for cell in results.cells)
    ignored = (
        f" Budgets larger than the pool are ignored: {', '.join(map(str, results.ignored_budgets))}."
        if results.ignored_budgets
        else ""
    )
    return f"{done} of {words.count(len(results.cells), 'expected cell')} done.{ignored}"


def facts(results: Results) -> list[tuple[str, str]]:
    """Provenance in pairs."""
    experiment, pool, base = (
        results.experiment,
        results.footer_notes("raw_pool"),
        results.footer_notes("base_model"),
    )
    environments = [table.footer.environment for table in results.tables.values()]
    times = sorted(
        time
        for table in results.tables.values()
        for time in (table.footer.started_at, table.footer.finished_at)
        if time
    )

    def distinct(values: list[object]) -> str:
        return "; ".join(sorted({str(value) for value in values if value is not None})) or "not recorded"

    def noted(notes: Mapping[str, object], *names: str) -> str:
        pairs = [
            f"{name.removesuffix('_n').replace('_', ' ')} {_plain(notes[name])}" for name in names if name in notes
        ]
        return ", ".join(pairs) or "not recorded"

    versions = sorted(
        {f"{name} {version}" for environment in environments for name, version in environment.versions.items()}
    )
    dirty = {environment.dirty for environment in environments if environment.commit}
    commit = distinct([environment.commit for environment in environments])
    state = " (with uncommitted changes)" if True in dirty else ""
    return [
        (
            "Purpose",
            f"{experiment.purpose}: "
            + (
                "selection, initialisation and data order are redrawn with every seed"
                if experiment.purpose == "study"
                else "one selection; seeds redraw training only"
            ),
        ),
        (
            "Pool",
            f"{results.pool_n or 0:,} prompts, {words.count(len(results.task_sizes), 'task')}; "
            + noted(pool, "source", "rows_read_n", "duplicates_n", "dropped_n", "responses_n"),
        ),
        ("Base model", noted(base, "source", "revision", "dtype", "dtype_reason", "attention", "parameters_n")),
        (
            "Confidence",
            ", ".join(f"{name} {_plain(value)}" for name, value in experiment.confidence.items()) or "default",
        ),
        (
            "Fine-tuning",
            ", ".join(f"{name} {_plain(value)}" for name, value in experiment.tuning.items()) or "not given",
        ),
        (
            "Seeds",
            f"{', '.join(map(str, experiment.seeds)) or 'none'}; full pool: {', '.join(map(str, experiment.full_pool_seeds)) or 'none'}",
        ),
        ("Commit", commit + state),
        (
            "Hardware",
            distinct(
                [f"{one.processor or one.platform}, {one.cores_n} cores, {one.gpu or 'no GPU'}" for one in environments]
            ),
        ),
        ("Python", distinct([one.python for one in environments])),
        ("Versions", ", ".join(versions) or "not recorded"),
        ("Made", f"{times[0]} to {times[-1]}" if times else "not recorded"),
        (
            "Runs",
            distinct([table.footer.run_id for table in results.tables.values()])
            if len({t.footer.run_id for t in results.tables.values()}) <= 6
            else f"{len({t.footer.run_id for t in results.tables.values() if t.footer.run_id})} runs, listed with the identities below",
        ),
    ]


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def commands(results: Results) -> list[tuple[str, str]]:
    """How to make it again."""
    name = results.experiment.name
    return [
        (f"taskdiv plan {name}", "what is stored, what is missing, what it costs"),
        (f"taskdiv run {name}", "makes what is missing; finished cells are kept"),
        (f"taskdiv contracts check {name}", "checks every stored table again"),
        (f"taskdiv report {name}", "makes this page again from what is stored"),
    ]


def _filled(table: Table) -> Table | None:
    return table if table.rows else None
