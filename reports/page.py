"""The content of the page, and its rendering to HTML.

Numbers come from `analysis`, sentences from `sentences` and `notes`, tables from `tables`, figures from `figures`.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from data_contracts.cell_keys import FULL_POOL_STRATEGY
from reports import (
    analysis,
    arms_checked,
    contamination_texts,
    cost_points,
    decision,
    envelope,
    expectation,
    figures,
    forecast_sentences,
    notes,
    paper,
    provenance,
    records,
    robustness,
    sentences,
    sources_part,
    tables,
    take_away,
    words,
)
from reports.analysis import Section
from reports.confidence.confidence_parts import confidence_section, effects_section
from reports.earlier.changes_part import since_section
from reports.found.found_parts import found_section
from reports.items.item_parts import items_part
from reports.lists import agreement_texts, list_parts, list_sentences
from reports.results import Results
from reports.statistics import task_means
from reports.svg import Picture, picture
from reports.tables import Table

SHOWN_LENGTH = 400  # characters of the question and of the expectation


class Page(NamedTuple):
    """The page as HTML that is also well-formed XML, and its figures."""

    html: str
    pictures: tuple[Picture, ...]


def render(results: Results, found: tuple[Section, ...], table: pa.Table | None = None) -> Page:
    """Return the page. Equal results give equal text. If the results table `table` is given, the page contains it as a link."""
    context = {**_context(results, found), "agreement": agreement_texts.part(results.agreement, results.experiment)}
    context |= {"take": take_away.part(results, table, context), "contents": _contents(context)}
    context["envelope"] = envelope.envelope(*(["items"] if context["items"] else []))
    html = envelope.environment().get_template("report.html.j2").render(context).strip() + "\n"
    return Page(html, take_away.pictures(context))


def _context(results: Results, found: tuple[Section, ...]) -> dict[str, object]:
    experiment, is_scored = results.experiment, results.is_scored
    asked, expected = provenance.question(results.experiment_text)
    reference, lists = found[0].reference if found else FULL_POOL_STRATEGY, results.lists
    return {
        "experiment": experiment,
        "is_scored": is_scored,
        "question": words.clean(asked, SHOWN_LENGTH),
        "expected": words.clean(expected, SHOWN_LENGTH),
        "came_true": expectation.outcome(expected, results, found),
        "badges": notes.badges(results, found),
        "decision": decision.decide(results, found),
        "is_compared": is_scored and bool(found) and not found[0].says_nothing,
        "claims": sentences.answer(results, found),
        "missing_notes": notes.missing(results, found),
        "parts": [_part(results, section, place, len(found) > 1) for place, section in enumerate(found) if is_scored],
        "robustness": robustness.section(results),
        "allocation": _allocation(results, reference) if is_scored else None,
        "status": list_parts.status(results),
        "sources": sources_part.section(results.sources),
        "since": since_section(results),
        "status_title": "Answers so far" if experiment.is_campaign else "Progress",
        "chosen": None if is_scored else list_parts.chosen(results),
        "firsts": list_parts.firsts(results),
        "found": found_section(results),
        "has_tasks": len(results.task_sizes) > 1,
        "several_budgets": lists is not None and len(lists.budgets) > 1,
        "costs": tables.costs(results),
        "confidence": confidence_section(results, _base_accuracy(found)),
        "effects": effects_section(results),
        "overlap": _overlap(results),
        "examples": results.examples,
        "items": items_part(results.paired) if is_scored else None,
        "tokens": tables.tokens(results, reference),
        **_records(results),
        "problems": [*results.problems, *results.stale],
        "commands": provenance.commands(results),
        "experiment_text": words.clean_lines(results.experiment_text),
        "contamination": contamination_texts.part(results),
        "arms_checked": arms_checked.part(results),
        "paper_claims": paper.paper_claims(results, found),
    }


def _records(results: Results) -> dict[str, object]:
    return {
        "rejected": records.rejected(results),
        "warnings": records.warnings(results),
        "rules": records.rules(results),
        "rules_summary": provenance.rules_summary(results),
        "facts": provenance.facts(results),
        "cells": records.missing_cells(results),
        "cells_summary": provenance.cells_summary(results),
        "stages": records.stages(results),
        "tuning": records.tuning(results),
        "identities": records.identities(results),
    }


def _contents(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the id and the title of each section that this page has."""
    is_scored, confidence, chosen = context["is_scored"], context["confidence"], context["chosen"]
    return [
        (name, title)
        for name, title, has_it in (
            ("answer", "Decision" if is_scored else "Answer", True),
            ("status", context["status_title"], context["status"]),
            ("sources", "Who wrote the answers", context["sources"]),
            ("since", "Since the last report", True),
            ("agreement", "Agreement", context["agreement"]),
            ("savings", "Labels saved", is_scored),
            ("curves", "Learning curves", is_scored),
            ("cost", "Score and cost", is_scored),
            ("differences", "Differences", is_scored),
            ("robustness", "Robustness", is_scored),
            ("tasks", "By task", is_scored),
            ("found", "Found tasks", context["found"]),
            ("allocation", chosen.title if chosen else "Allocation", is_scored or chosen),
            ("confidence", "Confidence", is_scored or confidence.by_task or confidence.against_being_right),
            ("overlap", "Overlap", is_scored or context["overlap"]),
            ("examples", "Examples" if is_scored else "First prompts", is_scored or context["firsts"]),
            ("contracts", "Data contracts", True),
            ("provenance", "Provenance", True),
            ("reproduce", "Reproduce, take away", True),
            ("methods", "Methods and limits", True),
            ("effects", "Appendix: confidence", is_scored or context["effects"].comparison),
        )
        if has_it
    ]


def _part(results: Results, section: Section, place: int, has_title: bool) -> dict[str, object]:
    """Return the template's values for one benchmark and metric. `place`, the position of the section, makes ids unique."""
    name, primary = f"b{place}", section.primary
    areas = ((primary,) if primary else ()) + section.areas
    family = "the primary comparison is not corrected, Holm over the others" if primary else "Holm over all rows"
    area_title = f"{section.area_title[0].upper()}{section.area_title[1:]}; {family}"
    full_title = "At its largest budget against the full pool; Holm over all rows"
    return {
        "title": f"{words.clean(section.scores.benchmark, 40)} · {words.clean(section.scores.label, 40)}",
        "has_title": has_title,
        "notes": notes.scores(results, section),
        "says_nothing": section.says_nothing,
        "savings": tables.savings(section, f"{name}-savings", is_full=False),
        "full_pool_savings": tables.savings(section, f"{name}-full-savings", is_full=True),
        "full_pool_note": notes.full_pool(section),
        "against_full_pool": tables.differences(section.against_full_pool, f"{name}-against-full", full_title),
        "curves": picture(
            figures.learning_curves(section),
            f"{name}-curves",
            "Learning curves",
            notes.curves(section) + forecast_sentences.caption(section),
        ),
        "curves_table": tables.curves(section, f"{name}-curves-table"),
        "forecasts": forecast_sentences.table(section, f"{name}-forecasts"),
        "cost": cost_points.part(results, section, name),
        "primary": notes.primary(section),
        "forest": _forest(section, areas, name),
        "areas": tables.differences(areas, f"{name}-areas", area_title),
        "by_budget": tables.differences(section.by_budget, f"{name}-by-budget", "Budget by budget; Holm over all rows"),
        "heat_map": _heat_map(results, section, name),
        "by_task": tables.by_task(section, f"{name}-by-task"),
    }


def _curves(section: Section, name: str) -> Picture:
    caption = notes.curves(section) + forecast_sentences.caption(section)
    return picture(figures.learning_curves(section), f"{name}-curves", "Learning curves", caption)


def _forest(section: Section, areas: tuple[analysis.Comparison, ...], name: str) -> Picture | None:
    if not areas and not section.by_budget:
        return None
    own_first = sorted(areas, key=lambda one: one.reference != section.reference)
    figure, title = figures.forest(section, own_first), f"Differences from {section.reference}"
    return picture(figure, f"{name}-forest", title, notes.forest(section, own_first))


def _heat_map(results: Results, section: Section, name: str) -> Picture | None:
    found = section.by_task
    if found is None:
        return None
    top, bottom = (words.clean(found.tasks[end], 40) for end in (0, -1))
    caption = (
        f"Score minus {section.reference}'s by task at {found.budget_n:,} labels, highest mean difference first "
        f"(from {top} to {bottom}). Single tasks have few items: read patterns, not cells."
    )
    figure = figures.task_heat_map(found, _marks(results, found.tasks))
    return picture(figure, f"{name}-heat", "Differences by task", caption)


def _marks(results: Results, tasks: tuple[str, ...]) -> dict[str, str]:
    marks = {task: f"{results.task_sizes[task]} in pool" for task in tasks if task in results.task_sizes}
    traps = {task: word for task, word in results.experiment.marks.items() if task in tasks}
    return marks | {task: f"{word}, {marks[task]}" if task in marks else word for task, word in traps.items()}


def _base_accuracy(found: tuple[Section, ...]) -> dict[str, float]:
    scores = found[0].scores if found else None
    if scores is None or scores.base is None:
        return {}
    return dict(zip(scores.tasks, task_means(scores.base, scores.task_of_item).tolist(), strict=True))


def _allocation(results: Results, reference: str) -> tuple[Picture, Table] | None:
    budgets = [budget for _, budget in results.allocations]
    if not budgets or not results.task_sizes:
        return None
    budget = max(budgets)
    names = [name for name in results.experiment.strategies if (name, budget) in results.allocations]
    counts = {name: results.allocations[name, budget] for name in names}
    caption = (
        f"Prompts chosen from each task against its size in the pool, at {budget:,} labels; each mark is a task. "
        f"{list_sentences.left_out(results, counts)}"
    )
    figure = figures.allocation(counts, results.task_sizes, reference, results.experiment.strategies, budget)
    return picture(figure, "allocation-figure", "Allocation by task", caption), tables.allocation(results, budget)


def _overlap(results: Results) -> tuple[Picture, Table] | None:
    if not results.overlaps:
        return None
    budget = results.overlap_budget_n or 0
    chance = f" Two independent random choices would share {budget / results.pool_n:.2f}." if results.pool_n else ""
    own = {name: share for (name, other), share in results.overlaps.items() if name == other and math.isfinite(share)}
    redrawn = [name for name, share in own.items() if share < 1]
    same = "the other orders are the same under every seed"
    seeds = f" Seeds redraw {words.listing(redrawn)}; {same}." if redrawn else ""
    diagonal = "; on the diagonal, two seeds of one strategy" if own else ""
    caption = (
        f"Share of the chosen prompts that two strategies have in common at {budget:,} labels{diagonal}.{chance}{seeds}"
    )
    figure = figures.overlap_heat_map(results.experiment.strategies, results.overlaps)
    return picture(figure, "overlap-figure", "Overlap between strategies", caption), tables.overlap(results)
