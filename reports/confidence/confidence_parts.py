"""The page's two sections on confidence.

The first shows confidence by task and against accuracy. The second shows the effects of other sources, of other definitions and
of sampling.
"""

from collections.abc import Mapping
from typing import NamedTuple

from reports.confidence import confidence_figures as figures
from reports.confidence import confidence_numbers as numbers
from reports.confidence import confidence_sentences as sentences
from reports.confidence import confidence_tables as tables
from reports.results import Results
from reports.svg import Picture, picture
from reports.tables import Table


class ConfidenceSection(NamedTuple):
    """The section on confidence by task, and on confidence against accuracy."""

    by_task: tuple[Picture, Table] | None
    against_being_right: tuple[Picture, Table] | None
    note: str  # on accuracy: the result, or why there is none


class EffectsSection(NamedTuple):
    """The section on other definitions and sources, and on the effect of sampling."""

    note: str  # what the table compares, or why there is no table
    comparison: Table | None
    moved: tuple[Picture, Table] | None
    sampling_note: str
    sampling: Table | None


def confidence_section(results: Results, accuracy: Mapping[str, float]) -> ConfidenceSection:
    """Return the section on the base model's confidence. `accuracy` is the base model's benchmark score by task."""
    if not results.accuracy:
        return ConfidenceSection(_by_task(results, accuracy), None, sentences.no_accuracy(results))
    drawn = figures.against_being_right(results.accuracy, results.experiment.marks)
    caption = sentences.against_being_right(results.accuracy, results.compared)
    shown = picture(drawn, "accuracy-figure", "Confidence against accuracy", caption)
    pair = shown, tables.against_being_right(results.accuracy)
    return ConfidenceSection(_by_task(results, accuracy), pair, sentences.correlation_with_right(results))


def _by_task(results: Results, accuracy: Mapping[str, float]) -> tuple[Picture, Table] | None:
    if not results.confidence:
        return None
    shared = {row.task: accuracy[row.task] for row in results.confidence if row.task in accuracy}
    drawn = figures.confidence(results.confidence, shared, results.experiment.marks)
    shown = picture(drawn, "confidence-figure", "Confidence by task", sentences.by_task(results, bool(shared)))
    return shown, tables.by_task(results, shared)


def effects_section(results: Results) -> EffectsSection:
    """Return the section on the changes that another definition, another source or scoring all prompts would cause."""
    found, sample = numbers.comparison(results.compared), numbers.sampled(results.compared)
    if found is None:
        return EffectsSection(sentences.no_comparison(results), None, None, "", None)
    moved = None
    if numbers.moved_labels(found).any():
        drawn = figures.moved(found, results.experiment.marks)
        shown = picture(drawn, "moved-figure", "Labels that would move", sentences.moved(found))
        moved = shown, tables.moved(found)
    text, table = (sentences.sampling(results, sample), tables.sampling(results, sample)) if sample else ("", None)
    compared = tables.comparison(found, results.experiment.confidence)
    return EffectsSection(sentences.comparison(found), compared, moved, text, table)
