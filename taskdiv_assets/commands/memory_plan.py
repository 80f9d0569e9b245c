"""Prediction, for `taskdiv plan`, of the memory of each stage that holds the model, and the number of processes that fit.

The prediction needs the model's config.json and the lengths of the pool's longest texts. No weights are read.
"""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from taskdiv_assets.assets.template_embeddings import TEMPLATE
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.benchmark_settings import BbhBenchmark, HarnessBenchmark, HeldOutBenchmark, asked
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.language_model.gguf_base import is_gguf
from taskdiv_assets.storage.room import GB

if TYPE_CHECKING:
    from taskdiv_assets.language_model.footprint import Memory
    from taskdiv_assets.language_model.loading import LanguageModel

EMBEDDER = "sentence embedding"
STAGES = {
    "embedding": ("prompt_embeddings", "template_embeddings"),
    "confidence": ("confidence_table", "confidence_accuracy"),
    "tuning": ("adapter", "tuning_choice"),
    "scoring": ("benchmark_scores", "base_scores"),
}
ADVICE = {
    "embedding": "use a smaller model",
    EMBEDDER: "use a smaller sentence embedder",
    "confidence": "use a smaller model, or let one score in its place: `confidence: {model: …}`",
    "tuning": "lower `tuning.pass_tokens` or `max_length`, use `quantization: nf4` (on a GPU), or a smaller model",
    "scoring": "use a smaller model",
}
TOKEN_BYTES = 3  # bytes of text for one token; English has about four, so the lengths are rather too large
ITEM_TOKENS = 1_500  # of a benchmark's prompt with its worked examples
HUB_S = 5.0  # longest wait for a configuration on the hub
CONFIG = "config.json"


class TextBytes(NamedTuple):
    """The lengths of a pool's longest texts, in bytes of UTF-8."""

    prompt_n: int
    pair_n: int  # a prompt with its answer


class StageMemory(NamedTuple):
    """The predicted memory of one process of a stage, in bytes."""

    name: str
    total_n: int
    least_n: int  # with the smallest batches, which are used if memory is short; a training has no smaller batches


class MemoryPlan(NamedTuple):
    """The memory of the stages to run, and the free memory in bytes. If nothing is predicted, `why_not` is the reason."""

    stages: tuple[StageMemory, ...] = ()
    free_n: int = 0
    device: str = "cpu"
    why_not: str = ""

    def lines(self) -> list[str]:
        """Return lines with the memory of each stage, the number of processes, and warnings; or one line with `why_not`."""
        if self.why_not:
            return [f"memory: not predicted, because {self.why_not}"]
        lines = [f"memory of {one.name}: about {_gb(one.total_n)} a process" for one in self.stages]
        fitting = [one for one in self.stages if one.least_n <= self.free_n]
        what = "free" if self.device == "cpu" else f"free on {self.device}"
        if fitting:
            processes_n = max(1, self.free_n // max(one.total_n for one in fitting))
            many = "1 process fits" if processes_n == 1 else f"{processes_n} processes fit"
            lines.append(f"memory: {_gb(self.free_n)} are {what}, so {many} side by side (`--workers`)")
        lines += [
            f"warning: {one.name} needs about {_gb(one.least_n)} even with the smallest batches, and {_gb(self.free_n)} are "
            f"{what}; {ADVICE[one.name]}"
            for one in self.stages
            if one not in fitting
        ]
        return lines


def memory_plan(
    experiment: Experiment, lineage: Lineage, missing: AbstractSet[str], texts: TextBytes | None
) -> MemoryPlan | None:
    """Predict the memory of the stages with assets in `missing`.

    Return None if there is no such stage, if there is no base model, or if the base model is the lab's small one. If the model's
    configuration cannot be read, the plan contains only the reason.
    """
    chosen = [name for name, assets in STAGES.items() if not missing.isdisjoint(assets)]
    own = _of_embedder(experiment) if "sentence_embeddings" in missing else ()
    is_small = experiment.base_model is None or experiment.has_lab_model
    if (not chosen or is_small) and not own:
        return None
    from taskdiv_assets.language_model.footprint import without_weights
    from taskdiv_assets.language_model.loading import chosen_device
    from taskdiv_assets.language_model.memory import free_bytes

    if not chosen or is_small:
        return MemoryPlan(own, free_bytes(chosen_device()), str(chosen_device()))
    try:
        config = _config(experiment, lineage)
    except (ValueError, OSError) as error:
        return MemoryPlan(why_not=str(error).splitlines()[0])
    device, decision = chosen_device(), lineage.models.decision
    lm = without_weights(config, decision["dtype"], device)
    files_n = 0
    if device.type == "cpu" and (stored := getattr(config, "dtype", None)) is not None:
        is_same = str(stored).removeprefix("torch.") == decision["dtype"]
        files_n = 0 if is_same else lm.model.num_parameters() * stored.itemsize
    predicted = _predicted(experiment, lm, texts, chosen, missing)
    stages = tuple(_stage(name, memory.while_converting(files_n)) for name, memory in predicted)
    return MemoryPlan((*own, *stages), free_bytes(device), str(device))


def _of_embedder(experiment: Experiment) -> tuple[StageMemory, ...]:
    """Return the memory of the sentence embedder if it is in a local folder; empty if it is on the hub, or not usable."""
    from taskdiv_assets.language_model.footprint import PROCESS_BYTES
    from taskdiv_assets.language_model.sentence_embedder import memory_bytes

    source = experiment.task_labels.embedder
    try:
        total_n = PROCESS_BYTES + memory_bytes(Path(source.path)) if source and source.path else 0
    except ValueError:  # the run says what is wrong with the folder
        total_n = 0
    return (StageMemory(EMBEDDER, total_n, total_n),) if total_n else ()


def _predicted(
    experiment: Experiment,
    lm: LanguageModel,
    texts: TextBytes | None,
    chosen: list[str],
    missing: AbstractSet[str],
) -> list[tuple[str, Memory]]:
    from taskdiv_assets.language_model import footprint
    from taskdiv_assets.language_model.loading import context_tokens
    from taskdiv_assets.language_model.packed import PACK_ROWS

    tuning, confidence = experiment.tuning, experiment.confidence
    most_n = context_tokens(lm) or tuning.max_length
    bound = TextBytes(TOKEN_BYTES * tuning.max_length, TOKEN_BYTES * tuning.max_length)
    extra_n = len(experiment.prompt_template.encode())
    prompt_n, pair_n = (min(most_n, (size + extra_n) // TOKEN_BYTES + 1) for size in texts or bound)
    found: dict[str, list[Memory]] = {name: [] for name in chosen}
    if "prompt_embeddings" in missing:
        found["embedding"].append(footprint.embedding(lm, prompt_n))
    if "template_embeddings" in missing:
        found["embedding"].append(footprint.embedding(lm, min(most_n, prompt_n + len(TEMPLATE)), has_layers=True))
    if "confidence" in found and confidence.of == "prompt":
        found["confidence"] = [footprint.reading(lm, prompt_n)]
    elif "confidence" in found:
        found["confidence"] = [footprint.continuing(lm, prompt_n, PACK_ROWS, confidence.max_new_tokens)]
    if "confidence_accuracy" in missing:  # reads answers with logits at every place
        found["confidence"].append(footprint.reading(lm, pair_n))
    if "tuning" in found:
        found["tuning"] = [_tuning(lm, experiment, pair_n)]
    if "scoring" in found:
        item_n = min(most_n, ITEM_TOKENS)
        for one in asked(experiment.benchmarks):
            is_own = isinstance(one, HeldOutBenchmark)
            found["scoring"].append(
                footprint.weighing(lm, pair_n if is_own else item_n, pair_n - prompt_n if is_own else 1)
            )
            if isinstance(one, BbhBenchmark | HarnessBenchmark):
                found["scoring"].append(footprint.writing(lm, item_n))
    return [(name, max(some, key=lambda one: one.total_n)) for name, some in found.items() if some]


def _tuning(lm: LanguageModel, experiment: Experiment, pair_n: int) -> Memory:
    """Predict the memory of a training, in which activations are computed again if they would not fit (`tuning.choices`)."""
    from taskdiv_assets.language_model import footprint
    from taskdiv_assets.language_model.memory import free_bytes
    from taskdiv_assets.language_model.tuning.choices import ACTIVATIONS_SHARE

    kept = footprint.training(lm, experiment.tuning, pair_n)
    left_n = free_bytes(lm.device) - kept.process_n - kept.weights_n
    if footprint.training_bytes(lm, kept.tokens_n) <= ACTIVATIONS_SHARE * left_n:
        return kept
    return footprint.training(lm, experiment.tuning, pair_n, is_recomputed=True)


def _stage(name: str, memory: Memory) -> StageMemory:
    least_n = memory.total_n  # a training does not cut its passes
    if name != "tuning":
        least_n -= memory.batch_n - memory.batch_n // max(memory.tokens_n // ITEM_TOKENS, 1)
    return StageMemory(name, memory.total_n, least_n)


def _config(experiment: Experiment, lineage: Lineage) -> Any:
    """Return the configuration of the base model. Raise ValueError or OSError if it cannot be read."""
    from taskdiv_assets.language_model.model_folder import read_config

    source = experiment.base
    if lineage.is_fresh(Unit("base_model")):
        identity = lineage.fresh(Unit("base_model")).identity
        return _parsed(lineage.store.get("folders", identity, CONFIG))
    if source.path is not None:
        if is_gguf(source.path) or "://" in source.path:
            raise ValueError("the model's configuration is known only after `base_model` was made")
        return read_config(Path(source.path))
    return _parsed(_from_hub(str(source.hub), str(source.revision)))


def _parsed(data: bytes | None) -> Any:
    from taskdiv_assets.language_model.model_folder import read_config

    if data is None:
        raise ValueError(f"the stored model has no {CONFIG}")
    with TemporaryDirectory() as folder:
        (Path(folder) / CONFIG).write_bytes(data)
        return read_config(Path(folder))


def _from_hub(repository: str, revision: str) -> bytes:
    """Return a model's config.json from the local cache of the hub, or by one request. Raise ValueError if this fails."""
    from huggingface_hub import get_session, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils import build_hf_headers

    cached = try_to_load_from_cache(repository, CONFIG, revision=revision)
    if isinstance(cached, str):
        return Path(cached).read_bytes()
    try:
        reply = get_session().get(
            hf_hub_url(repository, CONFIG, revision=revision),
            headers=build_hf_headers(),
            timeout=HUB_S,
            follow_redirects=True,
        )
        reply.raise_for_status()
        content: bytes = reply.content
        json.loads(content)
    except Exception as error:  # any error of the network, the hub or its libraries: the plan does without
        raise ValueError(f"{CONFIG} of {repository} cannot be read from the hub ({type(error).__name__})") from None
    return content


def _gb(bytes_n: int) -> str:
    return f"{bytes_n / GB:,.1f} GB"


def text_bytes(prompts: Any, responses: Any) -> TextBytes:
    """Return the lengths of the longest prompt, and of the longest prompt with its answer. A missing answer counts as empty."""
    import pyarrow.compute as pc

    sizes, answers = (pc.fill_null(pc.binary_length(one), 0) for one in (prompts, responses))
    return TextBytes(*(int(pc.max(one).as_py() or 0) for one in (sizes, pc.add(sizes, answers))))
