"""What each asset's step asks its engine for: processors, memory and GPUs, in one table, each figure with its reason.

The figures are those of a 7B model in 16 bits. The lab's models, and any model where `$TASKDIV_STEP_GPUS` is 0, take no GPU and
the little that a small model takes on a processor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from taskdiv_assets.experiment import Experiment
from taskdiv_assets.settings import machine

RAY_TAG, K8S_TAG = "dagster-ray/config", "dagster-k8s/config"
GPU_RESOURCE = "nvidia.com/gpu"
# Asking for no card does not hide those of the node: neither Ray nor a container of a CUDA image.
HIDDEN = {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}


class Needs(NamedTuple):
    """What one step asks for.

    Attributes:
        cpus_n: processors.
        memory_gib: host memory.
        gpus_n: cards, whole ones.
        reason: for the figures.
    """

    cpus_n: int
    memory_gib: int
    gpus_n: int
    reason: str


HOLDS_7B = "one copy of the model on one card; 13 GiB of weights pass through host memory"
NEEDS: Mapping[str, Needs] = {
    "raw_pool": Needs(1, 8, 0, "texts of the pool as read and as a table; nothing is computed"),
    "task_labels": Needs(1, 8, 0, "one column beside the pool"),
    "annotations": Needs(1, 4, 0, "answers that were bought, which are few"),
    "base_model": Needs(2, 24, 1, "number format and attention are decided here once, by the card that is there"),
    "confidence_table": Needs(4, 24, 1, f"{HOLDS_7B}; tokenising keeps the card fed"),
    "confidence_comparison": Needs(4, 24, 1, HOLDS_7B),
    "confidence_accuracy": Needs(2, 24, 1, f"{HOLDS_7B}; few items"),
    "prompt_embeddings": Needs(4, 24, 1, f"{HOLDS_7B}; a shard of 8,192 rows at d = 4,096 is 64 MiB"),
    "base_scores": Needs(4, 24, 1, f"{HOLDS_7B}; every item of every benchmark"),
    "tuning_choice": Needs(4, 32, 1, f"{HOLDS_7B}, and checkpoints of what is trained"),
    "adapter": Needs(4, 32, 1, f"{HOLDS_7B}, and checkpoints of what is trained; a card for each training process"),
    "benchmark_scores": Needs(4, 24, 1, f"{HOLDS_7B}; all adapters of a cell over it"),
    "task_confidence": Needs(1, 4, 0, "means of one column"),
    "ranking": Needs(2, 16, 0, "orders are numpy's work; coverage reads the embeddings, memory-mapped"),
    "allocation": Needs(1, 4, 0, "a prefix of the order"),
    "annotation_batch": Needs(1, 4, 0, "the allocation less what is known"),
    "strategy_report": Needs(1, 8, 0, "item-level scores of all cells, read once"),
}
# Where no card is taken: torch and its friends are 1 GiB once imported, and a model that a processor serves is small.
SMALL = Needs(1, 3, 0, "a small model on one processor")
WAITING = Needs(1, 8, 0, "the workers hold the model; the step holds the pool and its statistics, and waits")
SHARDED = frozenset({"confidence_table", "confidence_comparison", "prompt_embeddings"})  # `shards` spreads them


def needs(asset: str, experiment: Experiment) -> Needs:
    """What a step of an experiment asks for.

    Args:
        asset: whose step.
        experiment: the lab's models take no card.

    Raises:
        ValueError: a setting is no whole number.
    """
    found = NEEDS[asset]
    if asset in SHARDED and scorers_n():
        return SMALL if experiment.has_lab_model else WAITING
    if experiment.has_lab_model:
        return SMALL if found.gpus_n else found._replace(memory_gib=min(found.memory_gib, SMALL.memory_gib), cpus_n=1)
    if not found.gpus_n:
        return found
    ours = machine()
    gpus_n = found.gpus_n if ours.step_gpus is None else ours.step_gpus
    chosen = found._replace(gpus_n=gpus_n) if gpus_n else SMALL
    if asset == "adapter":
        chosen = chosen._replace(gpus_n=chosen.gpus_n * ours.training_processes)
    return chosen if ours.step_memory_gib is None else chosen._replace(memory_gib=ours.step_memory_gib)


def scorer_needs(experiment: Experiment) -> Needs:
    """What one worker asks for that holds the model and scores shards of a pool."""
    found = NEEDS["confidence_table"]
    wanted_n = machine().step_gpus
    gpus_n = 0 if experiment.has_lab_model else found.gpus_n if wanted_n is None else wanted_n
    return found._replace(gpus_n=gpus_n) if gpus_n else SMALL


def scorers_n() -> int:
    """Workers that score one pool together, by `$TASKDIV_SCORERS`; 0 where the step does it alone.

    Raises:
        ValueError: the setting is no whole number.
    """
    return machine().scorers


def op_tags(asset: str, experiment: Experiment) -> dict[str, Any]:
    """The same needs in the words of each engine: tags of the asset's op, of which an engine reads its own."""
    found = needs(asset, experiment)
    gpus = {GPU_RESOURCE: str(found.gpus_n)} if found.gpus_n else {}
    memory = f"{found.memory_gib}Gi"
    resources = {
        "requests": {"cpu": str(found.cpus_n), "memory": memory, **gpus},
        "limits": {"memory": memory, **gpus},  # no limit of processors: what is idle may be used
    }
    tolerations = [{"key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"}] if gpus else []
    hidden = {} if gpus else HIDDEN
    is_waiting = asset in SHARDED and scorers_n() > 0
    # Ray hands the environment of a job on to its workers: hidden from the step that waits, cards would be hidden from them.
    seen = {"runtime_env": {"env_vars": hidden}} if hidden and not is_waiting else {}
    return {
        RAY_TAG: {
            "num_cpus": 0 if is_waiting else found.cpus_n,  # or it keeps from its workers what they wait for
            "num_gpus": found.gpus_n,
            "memory": found.memory_gib * 2**30,
            **seen,
        },
        K8S_TAG: {
            "container_config": {
                "resources": resources,
                "env": [{"name": name, "value": value} for name, value in hidden.items()],
            },
            "pod_spec_config": {"tolerations": tolerations} if tolerations else {},
            # A pod that is gone is a step that failed: Dagster's retry starts it anew, Kubernetes' own would start a second.
            "job_spec_config": {"backoff_limit": 0, "ttl_seconds_after_finished": 86_400},
        },
    }
