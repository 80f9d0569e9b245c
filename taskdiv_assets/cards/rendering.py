"""Rendering of facts as cards. huggingface_hub writes the front matter, and the Jinja templates in `templates/` give the text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from taskdiv_assets.cards.facts import ModelFacts, PoolSource, SelectionFacts, TaskCount, TrainingFacts
from taskdiv_assets.graph import markdown
from taskdiv_assets.graph.markdown import one_line, text
from taskdiv_assets.storage.identity import digest

if TYPE_CHECKING:
    from huggingface_hub import CardData, DatasetCardData, EvalResult, ModelCardData
    from jinja2 import Template

VERSIONS = ("torch", "transformers", "tokenizers", "peft", "trl", "accelerate", "taskdiv-assets")
BENCHMARK_NAMES = {"bbh": "BIG-Bench Hard"}
NAME_DIGITS_N = 12
NAMED_FILES_N = 5
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
TABLE_BESIDE = (
    "The table beside this card has the columns `selection_seed`, `rank`, `prompt_id` and `task`; the text of the prompts is in "
    "the pool."
)
# The hub's value for a licence that is not in its list. The user has to choose a licence.
UNCHOSEN_LICENSE = {"license": "other", "license_name": "to-be-chosen"}


def model_card(facts: ModelFacts) -> str:
    """Return the README.md of the folder of an adapter or a fully tuned model."""
    training = facts.training
    return _render(
        "model_card.md.j2",
        _model_metadata(facts),
        **facts._asdict(),
        base=training.base,
        is_full=_is_full(facts),
        kind="model" if _is_full(facts) else "adapter",
        short_identity=facts.identity[:NAME_DIGITS_N],
        training_rows=_training_rows(training),
        cell_rows=[(text(cell.strategy), f"{cell.budget_n:,}") for cell in facts.cells],
        score_rows=_score_rows(facts),
        measured=", ".join(dict.fromkeys(text(score.benchmark) for score in facts.scores)),
        environment_rows=_environment_rows(training.environment),
    )


def _is_full(facts: ModelFacts) -> bool:
    return facts.training.tuning["method"] == "full"


def _model_metadata(facts: ModelFacts) -> ModelCardData:
    from huggingface_hub import ModelCardData

    base, pool, is_full = facts.training.base, facts.training.pool, _is_full(facts)
    relation = {"base_model_relation": "finetune" if is_full else "adapter"} if base.is_on_hub else {}
    return ModelCardData(
        **UNCHOSEN_LICENSE,
        library_name="transformers" if is_full else "peft",
        pipeline_tag="text-generation",
        base_model=one_line(base.source) if base.is_on_hub else None,
        datasets=[one_line(pool.hub)] if pool.hub else None,
        tags=["fully-fine-tuned" if is_full else "lora", "taskdiv-assets", f"experiment-{one_line(facts.experiment)}"],
        model_name=f"{one_line(facts.experiment)}-{facts.identity[:NAME_DIGITS_N]}" if facts.scores else None,
        eval_results=_eval_results(facts) or None,
        **relation,
    )


def _eval_results(facts: ModelFacts) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-generation",
            task_name="Text Generation",
            dataset_type=one_line(score.benchmark),
            dataset_name=BENCHMARK_NAMES.get(score.benchmark, one_line(score.benchmark)),
            dataset_split=one_line(facts.splits[score.benchmark]) if score.benchmark in facts.splits else None,
            metric_type=one_line(score.metric),
            metric_value=round(score.mean, 6),
            metric_name=f"{one_line(score.metric)}, mean over {score.tasks_n} tasks ({score.items_n} items)",
        )
        for score in facts.scores
    ]


def _training_rows(training: TrainingFacts) -> list[tuple[str, str]]:
    settings = {name.replace("_", " "): value for name, value in training.tuning.items() if value not in (None, {})}
    return [
        *((text(name), text(value)) for name, value in settings.items()),
        ("examples", f"{training.examples_n:,}"),
        ("tokens trained on", f"{training.trained_tokens_n:,}"),
        ("steps", f"{training.steps_n:,}"),
        ("examples that were cut", f"{training.cut_n:,}"),
        ("loss of the last step", f"{training.final_loss:.4f} nats a completion token"),
        ("training seed", str(training.training_seed)),
        ("selection seed", str(training.selection_seed)),
        ("hash of the data", f"`{training.pairs}`"),
        ("pool", _source_words(training.pool)),
        *((f"{text(name)}, as decided", text(reason)) for name, reason in training.choices.items()),
    ]


def _score_rows(facts: ModelFacts) -> list[tuple[str, ...]]:
    of_base = {(score.benchmark, score.metric): f"{score.mean:.4f}" for score in facts.base_scores}
    return [
        (
            text(score.benchmark),
            text(facts.splits.get(score.benchmark, "–")),
            text(score.metric),
            f"{score.mean:.4f}",
            of_base.get((score.benchmark, score.metric), "–"),
            f"{score.items_n:,}",
            f"{score.tasks_n:,}",
        )
        for score in facts.scores
    ]


def _environment_rows(environment: Mapping[str, object]) -> list[tuple[str, str]]:
    versions = environment.get("versions")
    known: Mapping[str, object] = versions if isinstance(versions, Mapping) else {}
    hardware = environment.get("gpu") or environment.get("processor") or "unknown"
    rows = [("hardware", text(hardware)), ("Python", text(environment.get("python", "unknown")))]
    return [*rows, *((name, text(known[name])) for name in VERSIONS if name in known)]


def data_card(facts: SelectionFacts, beside: str = TABLE_BESIDE) -> str:
    """Return the card of a selection. `beside` is a sentence about the files beside the card."""
    n, answered = facts.budget_n, zip(facts.selection_seeds, facts.answered_n, strict=True)
    head, rows = _tasks(facts)
    return _render(
        "data_card.md.j2",
        _data_metadata(facts),
        **facts._asdict(),
        beside=beside,
        pool_n=facts.pool_n,
        seeds_n=len(facts.selection_seeds),
        source_rows=_source_rows(facts),
        answer_rows=[(str(seed), f"{n:,}", f"{known_n:,}", f"{n - known_n:,}") for seed, known_n in answered],
        task_head=head,
        task_rows=rows,
    )


def size_category(rows_n: int) -> str:
    """Return the hub's size category for a number of rows.

    >>> size_category(1_000), size_category(999)
    ('1K<n<10K', 'n<1K')
    """
    return SIZES[min(max(len(str(rows_n)) - 3, 0), len(SIZES) - 1)]


def _data_metadata(facts: SelectionFacts) -> DatasetCardData:
    from huggingface_hub import DatasetCardData

    return DatasetCardData(
        **UNCHOSEN_LICENSE,
        pretty_name=f"{one_line(facts.experiment)}: {facts.budget_n} prompts by {one_line(facts.strategy)}",
        task_categories=["text-generation"],
        size_categories=[size_category(facts.budget_n)],
        source_datasets=[one_line(facts.pool.hub)] if facts.pool.hub else None,
        tags=["taskdiv-assets", f"experiment-{one_line(facts.experiment)}"],
    )


def _source_rows(facts: SelectionFacts) -> list[tuple[str, str]]:
    kept = "kept" if facts.duplicates == "keep" else "all dropped except the first"
    return [
        ("source", _source_words(facts.pool)),
        ("rows read", f"{facts.rows_read_n:,}"),
        ("rows dropped", _by_reason(facts.drops, "rows")),
        ("cells set to null", _by_reason(facts.repairs, "cells")),
        ("rows that repeat an earlier prompt", f"{facts.duplicates_n:,}, {kept}"),
        ("prompts under more than one task of the source", f"{facts.prompts_under_two_tasks_n:,}"),
        ("prompts in the pool", f"{facts.pool_n:,}"),
        ("tasks in the pool", f"{len(facts.tasks):,}"),
        ("how the tasks were found", _by_reason(facts.labels_how, "prompts")),
    ]


def _by_reason(counts: Mapping[str, int], what: str) -> str:
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return "; ".join(f"{text(name.replace('_', ' '))}: {n:,} {what}" for name, n in ordered if n) or "none"


def _tasks(facts: SelectionFacts) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the head and the rows of the table of tasks, the largest task first."""
    ordered = sorted(facts.tasks, key=lambda task: (-task.pool_n, task.task))
    head = ("task", "in the pool", "chosen", "of the selection", "of the task's pool")
    rows = [_task_row(task, facts.budget_n) for task in ordered]
    if len(facts.selection_seeds) == 1:
        return head, rows
    rows = [(*row, f"{min(t.chosen_n):,}", f"{max(t.chosen_n):,}") for row, t in zip(rows, ordered, strict=True)]
    return (*head, "fewest", "most"), rows


def _task_row(task: TaskCount, budget_n: int) -> tuple[str, ...]:
    mean = sum(task.chosen_n) / len(task.chosen_n)
    chosen = f"{mean:,.0f}" if len(task.chosen_n) == 1 else f"{mean:,.1f}"
    return text(task.task), f"{task.pool_n:,}", chosen, f"{mean / budget_n:.1%}", f"{mean / task.pool_n:.1%}"


def _render(template: str, data: CardData, **values: object) -> str:
    """Render the card of a template. huggingface_hub writes the front matter from `data`; `values` are the template's variables.

    `ModelCard.from_template` would parse the card a second time and drop the comments of the front matter.
    """
    return _template(template).render(card_data=data.to_yaml(), **values)


@lru_cache
def _template(name: str) -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals |= {one: getattr(markdown, one) for one in ("text", "table", "block", "literal")}
    return environment.get_template(name)


def _source_words(source: PoolSource) -> str:
    if source.lab_seed is not None:
        return f"the lab's own, made by a procedure from seed {source.lab_seed}"
    if source.hub:
        return f"{text(source.hub)} at revision {text(source.revision)}, split {text(source.split)}, read as {source.reader}"
    if len(source.sha256) > NAMED_FILES_N:
        return f"read as {source.reader} from {len(source.sha256):,} files; digest of their sha256 `{digest(source.sha256)}`"
    hashes = ", ".join(f"`{value}`" for value in source.sha256)
    return f"read as {source.reader} from files with sha256 {hashes}"
