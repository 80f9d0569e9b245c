"""Checks of torch, GPUs, 4-bit weights and the Hugging Face hub.

Only `torch_build` imports torch. The hub gets one small request, which does not contain the token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from taskdiv_assets.commands.doctor.findings import GIB, Finding, reason, within
from taskdiv_assets.experiment import Experiment

HUB_TIMEOUT_S = 3.0


class Card(NamedTuple):
    """A GPU that torch can use."""

    name: str
    memory_bytes: int
    has_bfloat16: bool


class TorchBuild(NamedTuple):
    """The installed torch. `made_for` is its GPU platform, such as "CUDA 12.8", or empty. `cards` are the GPUs torch finds."""

    version: str
    made_for: str
    cards: tuple[Card, ...]


def torch_build() -> TorchBuild | Finding:
    """Describe the installed torch; return a finding if torch cannot be used."""
    try:
        import torch

        found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    except (ImportError, OSError, RuntimeError) as error:
        return Finding("broken", "torch", f"cannot be used: {reason(error)}", "install it again")
    made_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else ""
    made_for = f"ROCm {torch.version.hip}" if torch.version.hip else made_for
    cards = tuple(Card(card.name, card.total_memory, card.major >= 8) for card in found)
    return TorchBuild(torch.__version__, made_for, cards)


def graphics(build: TorchBuild, present_n: int, visible_n: int) -> Iterator[Finding]:
    """Check that torch can use the GPUs of the machine.

    The system lists `present_n` NVIDIA devices, and $CUDA_VISIBLE_DEVICES allows `visible_n` of them.
    """
    found = f"{build.version}, made for {build.made_for or 'the CPU alone'}"
    if visible_n and not build.made_for:
        advice = f"pip uninstall torch, then pip install torch=={build.version.partition('+')[0]} without a CPU index"
        yield Finding("broken", "torch", f"{found}, while the machine has {visible_n} GPU(s)", advice)
    elif visible_n and not build.cards:
        advice = "`nvidia-smi` says whether the driver works, and up to which CUDA"
        yield Finding("broken", "torch", f"{found}, finds none of {visible_n} GPU(s)", advice)
    else:
        yield Finding("well", "torch", found if present_n or build.cards else f"{found}; the machine has no GPU")
    for card in build.cards:
        said = f"{card.name}, {card.memory_bytes / GIB:,.0f} GiB, {'with' if card.has_bfloat16 else 'without'} bfloat16"
        slow = "weights are float32 there and take twice the memory, unless `dtype` says more"
        yield Finding("well", "GPU", said) if card.has_bfloat16 else Finding("look", "GPU", said, slow)
    if visible_n < present_n:
        found = f"CUDA_VISIBLE_DEVICES leaves {visible_n} of {present_n} GPU(s)"
        yield Finding("look", "GPU", found, "unset it unless other users need the others")


def four_bits(experiments: Iterable[Experiment], cards: Sequence[Card]) -> Iterator[Finding]:
    """Check that this machine can run the experiments whose base model is loaded with 4-bit weights."""
    names = ", ".join(entry.name for entry in experiments if entry.tuning.quantization is not None)
    if names and not cards:
        yield Finding("look", "4 bits", f"{names} need a CUDA GPU, and there is none", "run on a machine that has one")
    if names and find_spec("bitsandbytes") is None:
        yield Finding("look", "4 bits", f"{names} need bitsandbytes", "pip install 'taskdiv-assets[qlora]'")


def embedders(experiments: Iterable[Experiment]) -> Iterator[Finding]:
    """Check the sentence embedders by which experiments find tasks: the library, and the folders of local models."""
    from taskdiv_assets.language_model import sentence_embedder

    for entry in experiments:
        source = entry.task_labels.embedder
        if source is None:
            continue
        try:
            sentence_embedder.require_library()
            if source.path is not None:
                sentence_embedder.memory_bytes(Path(source.path))
        except ValueError as error:
            yield Finding("look", "embedder", f"{entry.name}: {error}", "or use another `view` in `task_labels`")
        else:
            yield Finding("well", "embedder", f"{entry.name} finds tasks by {source.hub or source.path}")


def hub(experiments: Iterable[Experiment], timeout_s: float = HUB_TIMEOUT_S) -> Iterator[Finding]:
    """Check that the Hugging Face hub (or $HF_ENDPOINT) answers, and list the experiments that take a model from it.

    The request does not contain the token. If the hub answers, the finding states whether a token exists.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import get_session

    users: dict[str, list[str]] = {}
    for entry in experiments:
        others = (other.model for other in entry.confidence.alternatives)
        models = (entry.base_model, entry.confidence.model, entry.task_labels.embedder, *others)
        for name in sorted({model.hub for model in models if model is not None and model.hub}):
            users.setdefault(name, []).append(entry.name)
    taken = "; ".join(f"{name} is taken by {', '.join(names)}" for name, names in users.items())
    wanted = taken or "no experiment needs it"
    advice = "experiments with a model of their own, such as demo, do not need it"
    if constants.is_offline_mode():
        found = f"HF_HUB_OFFLINE is set, so only what was fetched before is found; {wanted}"
        yield Finding("look", "hub", found, advice)
        return
    try:
        session, url = get_session(), f"{constants.ENDPOINT}/api/models?limit=1"
        status = within(timeout_s, lambda: session.get(url, timeout=timeout_s).status_code)
    except Exception as error:  # the HTTP library of huggingface_hub may raise anything
        found = f"{constants.ENDPOINT} does not answer ({reason(error)}); {wanted}"
        yield Finding("look", "hub", found, advice)
        return
    token = "a token is found" if get_token() else "no token is found, which gated models ask for (`hf auth login`)"
    if status < 400:
        yield Finding("well", "hub", f"{constants.ENDPOINT} answers, and {token}; {wanted}")
    else:
        found = f"{constants.ENDPOINT} answers with status {status}, and {token}; {wanted}"
        yield Finding("look", "hub", found, advice)
