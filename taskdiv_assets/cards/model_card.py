"""The card of an adapter, or of a fully tuned model: facts to the README.md that the hub shows beside its files."""

from __future__ import annotations

from collections.abc import Mapping

from taskdiv_assets.cards.card_words import source_words
from taskdiv_assets.cards.facts import BaseFacts, MeanScore, ModelFacts, TrainingFacts
from taskdiv_assets.cards.markdown import UNCHOSEN_LICENSE, block, front_matter, literal, one_line, table, text

REMARK = """The licence is yours to fill in: replace license and license_name before you share this.
The licences of the base model and of the training data have their say in it."""
VERSIONS = ("torch", "transformers", "tokenizers", "peft", "trl", "accelerate", "taskdiv-assets")
BENCHMARK_NAMES = {"bbh": "BIG-Bench Hard"}
NAME_DIGITS_N = 12


def model_card(facts: ModelFacts) -> str:
    """README.md of one folder."""
    parts = [
        _front_matter(facts),
        f"# {_kind(facts).capitalize()} {facts.identity[:NAME_DIGITS_N]} of experiment {text(facts.experiment)}",
        _opening(facts),
        "## Base model\n\n" + _base(facts.training.base),
        "## Training\n\n" + _training(facts.training),
        "## Selections that it serves\n\n" + _cells(facts),
        "## Scores\n\n" + _scores(facts),
        "## Made with\n\n" + _environment(facts.training.environment),
        "## How to load it\n\n" + _loading(facts),
        "## Limits\n\n" + _limits(facts),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _is_full(facts: ModelFacts) -> bool:
    return facts.training.tuning["method"] == "full"


def _kind(facts: ModelFacts) -> str:
    return "model" if _is_full(facts) else "adapter"


def _front_matter(facts: ModelFacts) -> str:
    base, pool = facts.training.base, facts.training.pool
    tags = ["fully-fine-tuned"] if _is_full(facts) else ["lora"]
    fields: dict[str, object] = {
        **UNCHOSEN_LICENSE,
        "library_name": "transformers" if _is_full(facts) else "peft",
        "pipeline_tag": "text-generation",
        "base_model": one_line(base.source) if base.is_on_hub else None,
        "base_model_relation": ("finetune" if _is_full(facts) else "adapter") if base.is_on_hub else None,
        "datasets": [one_line(pool.hub)] if pool.hub else None,
        "tags": [*tags, "taskdiv-assets", f"experiment-{one_line(facts.experiment)}"],
        "model-index": _model_index(facts) if facts.scores else None,
    }
    return front_matter(fields, REMARK)


def _model_index(facts: ModelFacts) -> list[dict[str, object]]:
    """Scores as the hub's widget reads them."""
    by_benchmark: dict[str, list[MeanScore]] = {}
    for score in facts.scores:
        by_benchmark.setdefault(score.benchmark, []).append(score)
    results = [
        {
            "task": {"type": "text-generation", "name": "Text Generation"},
            "dataset": {
                "type": one_line(name),
                "name": BENCHMARK_NAMES.get(name, one_line(name)),
                **({"split": one_line(facts.splits[name])} if name in facts.splits else {}),
            },
            "metrics": [
                {
                    "type": one_line(score.metric),
                    "value": round(score.mean, 6),
                    "name": f"{one_line(score.metric)}, mean over {score.tasks_n} tasks ({score.items_n} items)",
                }
                for score in scores
            ],
        }
        for name, scores in by_benchmark.items()
    ]
    return [{"name": f"{one_line(facts.experiment)}-{facts.identity[:NAME_DIGITS_N]}", "results": results}]


def _opening(facts: ModelFacts) -> str:
    base = text(facts.training.base.source)
    what = f"All weights of {base}, fine-tuned" if _is_full(facts) else f"A LoRA adapter for {base}, trained"
    return (
        f"{what} on {facts.training.examples_n:,} prompts and their answers, which the {text(facts.purpose)} "
        f"{text(facts.experiment)} chose from a pool. Identity: `{facts.identity}`."
    )


def _base(base: BaseFacts) -> str:
    rows = [
        ("name", text(base.source)),
        ("revision", text(base.revision) if base.revision else "none: it did not come from the hub"),
        ("identity", f"`{base.identity}`"),
        ("number format", text(base.dtype)),
    ]
    return table(("", ""), rows)


def _training(training: TrainingFacts) -> str:
    settings = [
        (text(name.replace("_", " ")), text(value))
        for name, value in training.tuning.items()
        if value is not None and value != {}
    ]
    rows = [
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
    where = ", inside the base's own chat template" if training.has_chat_template else ""
    return (
        table(("", ""), rows)
        + "\n\nThe hash is over the sorted pairs of prompt id and sha256 of the answer: equal data have equal hashes. "
        + "Loss on answers only.\n\n"
        + f"Prompts were read as{where}:\n\n"
        + block(training.prompt_template, "text")
    )


def _cells(facts: ModelFacts) -> str:
    if not facts.cells:
        return "None: no selection of the experiment leads to it as things stand."
    rows = [(text(cell.strategy), f"{cell.budget_n:,}") for cell in facts.cells]
    told = "Equal selections share one training.\n\n" if len(rows) > 1 else ""
    return told + table(("strategy", "prompts"), rows)


def _scores(facts: ModelFacts) -> str:
    if not facts.scores:
        return "Not scored yet."
    of_base = {(score.benchmark, score.metric): f"{score.mean:.4f}" for score in facts.base_scores}
    rows = [
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
    head = ("benchmark", "split", "metric", f"this {_kind(facts)}", "base", "items", "tasks")
    return (
        "Means over tasks, each of which weighs the same, by lm-eval.\n\n"
        + table(head, rows)
        + "\n\nOne seed is one draw: intervals over seeds, and what differs between strategies, are in the strategy "
        + f"report of {text(facts.experiment)}."
    )


def _environment(environment: Mapping[str, object]) -> str:
    versions = environment.get("versions")
    known: Mapping[str, object] = versions if isinstance(versions, Mapping) else {}
    hardware = environment.get("gpu") or environment.get("processor") or "unknown"
    rows = [("hardware", text(hardware)), ("Python", text(environment.get("python", "unknown")))]
    return table(("", ""), [*rows, *((name, text(known[name])) for name in VERSIONS if name in known)])


def _loading(facts: ModelFacts) -> str:
    base = facts.training.base
    folder = '"path/to/this/folder"'
    number = f"dtype={literal(base.dtype)}"
    if _is_full(facts):
        lines = [
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n",
            f"model = AutoModelForCausalLM.from_pretrained({folder}, {number})",
            f"tokenizer = AutoTokenizer.from_pretrained({folder})",
        ]
        return block("\n".join(lines), "python")
    revision = f", revision={literal(base.revision)}" if base.is_on_hub else ""
    name = literal(base.source) if base.is_on_hub else '"path/to/the/base/model"'
    lines = [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n",
        f"base = AutoModelForCausalLM.from_pretrained({name}{revision}, {number})",
        f"tokenizer = AutoTokenizer.from_pretrained({name}{revision})",
        f"model = PeftModel.from_pretrained(base, {folder})",
    ]
    return block("\n".join(lines), "python")


def _limits(facts: ModelFacts) -> str:
    measured = ", ".join(dict.fromkeys(text(score.benchmark) for score in facts.scores))
    lines = [
        "The prompts and answers are the user's own; what they say was not examined.",
        f"The scores are of this experiment: its template, seeds and items of {measured}."
        if measured
        else "It was not scored.",
        "Nothing else was measured: no other language, task or use, and no safety.",
        f"It was made to compare ways of choosing prompts; the comparison is the strategy report of "
        f"{text(facts.experiment)}.",
    ]
    return "\n".join(f"- {line}" for line in lines)
