"""The processors, memory and GPUs that a step requests, as tags for Ray and Kubernetes.

The declarations of assets contain the resources for a 7B model in 16 bits. `SMALL` replaces them for a step that loads a model,
if the model is the lab's (the built-in demo), or if `$TASKDIV_STEP_GPUS` is 0.
"""

from typing import Any

from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.asset import Asset, Needs
from taskdiv_assets.storage.machine import machine

RAY_TAG, K8S_TAG = "dagster-ray/config", "dagster-k8s/config"
GPU_RESOURCE = "nvidia.com/gpu"
# Without these variables, a step that requests no GPU can still see the node's GPUs, in Ray and in containers of CUDA images.
HIDDEN = {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
# torch and the libraries that need it take 1 GiB after import. A model that runs on a processor is small.
SMALL = Needs(1, 3, 0, "a small model on one processor")
WAITING = Needs(1, 8, 0, "the workers hold the model; the step holds the pool and its statistics, and waits")


def needs(asset: Asset, experiment: Experiment) -> Needs:
    """Return the resources that an asset's step requests. Raise ValueError if an environment variable has an invalid value."""
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
    """Return the resources of one worker that loads the model and scores shards of a pool."""
    found = asset.needs
    wanted_n = machine().step_gpus
    gpus_n = 0 if experiment.has_lab_model else found.gpus_n if wanted_n is None else wanted_n
    return found._replace(gpus_n=gpus_n) if gpus_n else SMALL


def scorers_n() -> int:
    """Return the number of workers that score one pool together (`$TASKDIV_SCORERS`); 0 if the step scores the pool alone."""
    return machine().scorers


def op_tags(asset: Asset, experiment: Experiment) -> dict[str, Any]:
    """Return the resources of an asset's step as tags of its Dagster op: one tag for Ray and one for Kubernetes."""
    found = needs(asset, experiment)
    gpus = {GPU_RESOURCE: str(found.gpus_n)} if found.gpus_n else {}
    memory = f"{found.memory_gib}Gi"
    resources = {
        "requests": {"cpu": str(found.cpus_n), "memory": memory, **gpus},
        "limits": {"memory": memory, **gpus},  # no limit of processors, so a step may use idle processors
    }
    tolerations = [{"key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"}] if gpus else []
    hidden = {} if gpus else HIDDEN
    is_waiting = asset.is_sharded and scorers_n() > 0
    # Ray passes the environment of a step to its workers. If a waiting step hid its GPUs, its workers would see no GPU.
    seen = {"runtime_env": {"env_vars": hidden}} if hidden and not is_waiting else {}
    return {
        RAY_TAG: {
            "num_cpus": 0 if is_waiting else found.cpus_n,  # a waiting step leaves the processors to its workers
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
            # Dagster restarts a step whose pod was lost. A restart by Kubernetes would be a second one, so it is switched off.
            "job_spec_config": {"backoff_limit": 0, "ttl_seconds_after_finished": 86_400},
        },
    }
