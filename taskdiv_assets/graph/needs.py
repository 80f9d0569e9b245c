"""What each asset's step asks its engine for: processors, memory and GPUs, in one table, each figure with its reason.

The figures are those of a 7B model in 16 bits. The lab's models, and any model where `$TASKDIV_STEP_GPUS` is 0, take no GPU and
the little that a small model takes on a processor.
"""

from __future__ import annotations

from typing import Any

from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.asset import Asset, Needs
from taskdiv_assets.settings import machine

RAY_TAG, K8S_TAG = "dagster-ray/config", "dagster-k8s/config"
GPU_RESOURCE = "nvidia.com/gpu"
# Asking for no card does not hide those of the node: neither Ray nor a container of a CUDA image.
HIDDEN = {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}


# Where no card is taken: torch and its friends are 1 GiB once imported, and a model that a processor serves is small.
SMALL = Needs(1, 3, 0, "a small model on one processor")
WAITING = Needs(1, 8, 0, "the workers hold the model; the step holds the pool and its statistics, and waits")


def needs(asset: Asset, experiment: Experiment) -> Needs:
    """What a step of an experiment asks for.

    Args:
        asset: whose step.
        experiment: the lab's models take no card.

    Raises:
        ValueError: a setting is no whole number.
    """
    found = asset.needs
    if asset.is_sharded and scorers_n():
        return SMALL if experiment.has_lab_model else WAITING
    if experiment.has_lab_model:
        return SMALL if found.gpus_n else found._replace(memory_gib=min(found.memory_gib, SMALL.memory_gib), cpus_n=1)
    if not found.gpus_n:
        return found
    ours = machine()
    gpus_n = found.gpus_n if ours.step_gpus is None else ours.step_gpus
    chosen = found._replace(gpus_n=gpus_n) if gpus_n else SMALL
    if asset.name == "adapter":
        chosen = chosen._replace(gpus_n=chosen.gpus_n * ours.training_processes)
    return chosen if ours.step_memory_gib is None else chosen._replace(memory_gib=ours.step_memory_gib)


def scorer_needs(asset: Asset, experiment: Experiment) -> Needs:
    """What one worker asks for that holds the model and scores shards of a pool."""
    found = asset.needs
    wanted_n = machine().step_gpus
    gpus_n = 0 if experiment.has_lab_model else found.gpus_n if wanted_n is None else wanted_n
    return found._replace(gpus_n=gpus_n) if gpus_n else SMALL


def scorers_n() -> int:
    """Workers that score one pool together, by `$TASKDIV_SCORERS`; 0 where the step does it alone.

    Raises:
        ValueError: the setting is no whole number.
    """
    return machine().scorers


def op_tags(asset: Asset, experiment: Experiment) -> dict[str, Any]:
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
    is_waiting = asset.is_sharded and scorers_n() > 0
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
