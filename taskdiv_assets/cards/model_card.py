"""The card of an adapter or of a fully tuned model: the README.md that the hub shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from taskdiv_assets.cards.facts import ModelFacts, TrainingFacts
from taskdiv_assets.cards.rendering import UNCHOSEN_LICENSE, render, source_words
from taskdiv_assets.graph.markdown import one_line, text

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

VERSIONS = ("torch", "transformers", "tokenizers", "peft", "trl", "accelerate", "taskdiv-assets")
BENCHMARK_NAMES = {"bbh": "BIG-Bench Hard"}
NAME_DIGITS_N = 12


def model_card(facts: ModelFacts) -> str:
    """Return the README.md of the folder of an adapter or a fully tuned model."""
    training = facts.training
    return render(
        "model_card.md.j2",
        _metadata(facts),
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


def _metadata(facts: ModelFacts) -> ModelCardData:
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
    settings = [
        (text(name.replace("_", " ")), text(value))
        for name, value in training.tuning.items()
        if value is not None and value != {}
    ]
    return [
        *settings,
        ("examples", f"{training.examples_n:,}"),
        ("tokens trained on", f"{training.trained_tokens_n:,}"),
        ("steps", f"{training.steps_n:,}"),
        ("examples that were cut", f"{training.cut_n:,}"),
        ("loss of the last step", f"{training.final_loss:.4f} nats a completion token"),
        ("training seed", str(training.training_seed)),
        ("selection seed", str(training.selection_seed)),
        ("hash of the data", f"`{training.pairs}`"),
        ("pool", source_words(training.pool)),
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
