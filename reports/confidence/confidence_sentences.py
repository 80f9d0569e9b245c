"""Sentences on confidence: captions, meanings of sources and definitions, and reasons why something is missing."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from data_contracts.shared_statistics import PAIRS_MIN_N
from reports import words
from reports.confidence import confidence_numbers as numbers
from reports.confidence.confidence_figures import INTERVALS_MAX_N, LABELLED_MAX_N
from reports.confidence.confidence_numbers import CONFIDENT_AND_WRONG, Comparison, Effect, Sampled
from reports.reader import ComparedTask, TaskAccuracy, TaskConfidence
from reports.results import Results

_MEANINGS = {  # by what is scored
    "continuation": {
        "mean_probability": "mean over generated tokens of the chosen token’s probability",
        "geometric_mean": "geometric mean of the chosen tokens’ probabilities: 1 / perplexity",
        "min_probability": "least probability of a chosen token",
        "first_probability": "probability of the first generated token",
        "sequence_probability": "probability of the whole continuation",
    },
    "prompt": {
        "mean_probability": "mean over the prompt’s tokens of their probability",
        "geometric_mean": "geometric mean of the prompt’s tokens’ probabilities: 1 / perplexity",
        "min_probability": "least probability of a token of the prompt",
        "first_probability": "probability of the prompt’s first predicted token",
        "sequence_probability": "probability of the whole prompt",
    },
}


def by_task(results: Results, has_scores: bool) -> str:
    """Return the caption of the figure of confidence by task. The caption explains the intervals in the figure."""
    rows = results.confidence
    by_mean = sorted(rows, key=lambda row: (row.mean, row.task))
    least, most = by_mean[0], by_mean[-1]
    return (
        f"Mean confidence by task, from {words.clean(least.task, 40)} ({words.score(least.mean)}) to "
        f"{words.clean(most.task, 40)} ({words.score(most.mean)}). {scored(rows)}"
        + (" Far from its diamond, confidence says little about accuracy." if has_scores else "")
    )


def scored(rows: Sequence[TaskConfidence]) -> str:
    """Return sentences on how many prompts were scored and what the intervals mean."""
    scored_n, pool_n = sum(row.scored_n for row in rows), sum(row.pool_n for row in rows)
    if numbers.is_all_scored(rows):
        return f"All {words.count(pool_n, 'prompt')} scored: these are the pool’s own means and have no interval."
    whole_n = sum(row.scored_n >= row.pool_n for row in rows)
    unknown_n = sum(row.scored_n < row.pool_n and row.standard_error is None for row in rows)
    text = (
        f"Scored {scored_n:,} of {words.count(pool_n, 'prompt')}, a sample of each task: "
        "the lines are 95% intervals of the mean over the whole task (finite population)."
    )
    if whole_n:
        text += f" {words.count(whole_n, 'task')} with all prompts scored: no interval."
    if unknown_n:
        text += f" {words.count(unknown_n, 'task')} with too few scored: the interval cannot be estimated."
    return text


def against_being_right(rows: Sequence[TaskAccuracy], compared: Sequence[ComparedTask] = ()) -> str:
    """Return the caption of the figure of confidence against accuracy. `compared` shows which tasks get few labels."""
    wrong = numbers.confident_and_wrong(rows)
    which = "" if len(rows) <= INTERVALS_MAX_N else ", drawn for the tasks with names; the stored table has all"
    text = (
        "Each mark is a task: mean confidence on its validation items, and the share answered right with its 95% interval "
        f"(Wilson{which}). Confident and wrong (confidence more than {CONFIDENT_AND_WRONG} above the interval): "
    )
    if not wrong:
        return f"{text}no task."
    names = [f"{words.clean(row.task, 24)} ({row.mean_confidence:.2f}, right {row.accuracy:.2f})" for row in wrong]
    return (
        f"{text}{words.listing(names, most_n=LABELLED_MAX_N)}{_few_labels(wrong, numbers.below_even_share(compared))}."
    )


def _few_labels(wrong: Sequence[TaskAccuracy], below: Collection[str]) -> str:
    few = [row.task for row in wrong if row.task in below]
    if not few:
        return ""
    if len(few) == len(wrong):
        return f"; weighting by confidence gives {'them' if len(few) > 1 else 'it'} few labels"
    names = words.listing([words.clean(task, 24) for task in few], most_n=LABELLED_MAX_N)
    return f"; weighting by confidence gives few labels of {names}"


def correlation_with_right(results: Results) -> str:
    """Return sentences on the correlation of confidence and accuracy, on the items, and on what counts as right."""
    rows = results.accuracy
    found, tasks = numbers.accuracy_correlation(rows), words.count(len(rows), "task")
    if found is None:
        why = f"fewer than {PAIRS_MIN_N} tasks" if len(rows) < PAIRS_MIN_N else "all tasks have the same value"
        text = (
            f"The rank correlation (Spearman) between confidence and accuracy cannot be estimated over {tasks}: {why}."
        )
    else:
        text = (
            f"Over {tasks} the rank correlation (Spearman) between mean confidence and the share right is "
            f"{words.correlation(found)}; it describes these tasks and has no interval."
        )
    items = words.count(sum(row.items_n for row in rows), "item")
    if results.experiment.is_lab:
        origin, end = f"The {items} are the lab’s validation items", ", and ends there"
    else:
        origin, end = f"The {items} are prompts of the pool whose answers are known", ""
    return (
        f"{text} {origin}, never a benchmark’s. Right means: the base’s greedy continuation starts with the known answer, "
        f"token by token{end}; an answer in other words counts as wrong.{_other_source(results.experiment.confidence)}"
    )


def _other_source(settings: Mapping[str, Any]) -> str:
    if settings.get("of") != "prompt" and not settings.get("model"):
        return ""
    return " Confidence is that of the experiment’s own source, not of what the base generates; accuracy is the base’s."


def no_accuracy(results: Results) -> str:
    """Return a sentence on why there is no figure of confidence against accuracy."""
    if ("confidence_accuracy", None) not in results.tables:
        return "Confidence against accuracy is not stored yet."
    if results.experiment.confidence.get("validation_items") == 0:
        return "Confidence is not compared with accuracy: the experiment file asks for no validation_items."
    return "Confidence is not compared with accuracy: the answers to validation items are not known."


def no_comparison(results: Results) -> str:
    """Return a sentence on why there is no comparison of sources and definitions."""
    if ("confidence_comparison", None) not in results.tables:
        return "No comparison of sources and definitions of confidence is stored yet."
    if not results.compared:
        return "No comparison of sources and definitions of confidence: no budget of the experiment fits into the pool."
    return "No comparison: the experiment’s own source and definition is not among the stored ones."


def comparison(found: Comparison) -> str:
    """Return sentences on what the table of variants compares, and how."""
    own = words.clean(found.chosen.definition, 40)
    return (
        f"The experiment weights tasks by {own}. Each row is another definition from the same pass, or another source by "
        "the same definition, over the same prompts: how alike it ranks the tasks, and what share of the labels "
        "weighted_task_diversity would give to other tasks (half the sum of absolute differences, over the budget)."
    )


def meaning(one: Effect, settings: Mapping[str, Any]) -> str:
    """Describe a variant: its definition and, if its source is not the base model, the model of its source.

    `settings` is the section `confidence` of the experiment file.
    """
    entry = settings if one.is_same_pass else _alternative(settings, one.variant.source)
    if entry is None:
        return "a source that the experiment file does not name"
    of = "prompt" if entry.get("of") == "prompt" else "continuation"
    definition = one.variant.definition
    text = _MEANINGS[of].get(definition, definition)
    model = entry.get("model")
    if not isinstance(model, Mapping):
        return text
    source = next((model[kind] for kind in ("hub", "path") if model.get(kind)), None)
    return f"{text}, by {words.clean(source, 80) if source else 'another base of the lab'}"


def _alternative(settings: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    entries = settings.get("alternatives") or ()
    if not isinstance(entries, Sequence):
        return None
    return next((entry for entry in entries if isinstance(entry, Mapping) and entry.get("name") == name), None)


def moved(found: Comparison) -> str:
    """Return the caption of the figure of labels by task under other sources and definitions."""
    budget = found.budgets[-1]
    known = [one for one in found.effects[1:] if budget in one.distances] or list(found.effects[:1])
    least = min(known, key=lambda one: one.distances[budget])
    most = max(known, key=lambda one: one.distances[budget])
    ends = " to ".join(f"{words.share(one.distances[budget])} ({words.clean(one.name, 40)})" for one in (least, most))
    return (
        f"Labels more or fewer by task than by {words.clean(found.chosen.definition, 40)}, at {budget:,} labels, least "
        f"confident task first. From {ends} of the labels would go to other tasks."
    )


def sampling(results: Results, found: Sampled) -> str:
    """Return a sentence on the share of labels that sampling is expected to move to other tasks."""
    scored_n = sum(row.scored_n for row in results.confidence)
    pool_n = sum(row.pool_n for row in results.confidence)
    shares = [f"{words.share(value)} of {budget:,} labels" for budget, value in found.distances.items()]
    what = f"Scoring {scored_n:,} of {words.count(pool_n, 'prompt')}" if pool_n else "Scoring a sample of the pool"
    return f"{what}: {words.listing(shares)} are expected to go to other tasks than if all were scored."
