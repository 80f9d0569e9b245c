"""Load several LoRA adapters over one base model, and activate at most one at a time.

Scores are bit-equal to the scores of each adapter over a fresh base model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskdiv_assets.language_model.faults import refuse_full
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.language_model.quiet import quiet_peft

if TYPE_CHECKING:
    from peft import PeftModel

FILES = ("adapter_config.json", "adapter_model.safetensors")


@contextmanager
def loaded_adapters(lm: LanguageModel, folders: Mapping[int, Path]) -> Iterator[Callable[[int | None], None]]:
    """Load the adapters of all seeds into `lm.model`; yield a function that activates the adapter of one seed (None: no adapter).

    Raises:
        ValueError: there is no adapter, or one is incomplete, does not fit the base model, or has weights that are not finite.
    """
    from peft import PeftModel

    if not folders:
        raise ValueError("no adapter to score; expected at least one training seed")
    configs = {seed: _read_config(seed, folder) for seed, folder in folders.items()}
    model: Any = lm.model
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    first = next(iter(folders))
    try:
        with quiet_peft():  # low_cpu_mem_usage: do not create random weights, because the next step replaces them
            wrapped = PeftModel(model, configs[first], adapter_name=_name(first), low_cpu_mem_usage=True)
    except ValueError as error:
        raise ValueError(f"adapter of training seed {first} does not fit this base model: {error}") from None
    try:
        for seed, folder in folders.items():
            _load_weights(wrapped, seed, folder, device=str(lm.device))
        yield lambda seed: _activate(wrapped, seed)
    finally:
        wrapped.unload()
        for parameter in trainable:  # PEFT has frozen the base model
            parameter.requires_grad_(True)


def _activate(wrapped: PeftModel, seed: int | None) -> None:
    if seed is None:
        wrapped.base_model.disable_adapter_layers()
    else:
        wrapped.base_model.enable_adapter_layers()
        wrapped.set_adapter(_name(seed))


def _name(seed: int) -> str:
    return f"seed{seed}"


def _read_config(seed: int, folder: Path) -> Any:
    """Return the configuration of an adapter. Raise ValueError if a file is missing: PEFT would look for it on the hub."""
    from peft import PeftConfig

    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"adapter of training seed {seed} is incomplete: {', '.join(missing)} missing in {folder}; train it again"
        )
    return PeftConfig.from_pretrained(str(folder))


def _load_weights(wrapped: PeftModel, seed: int, folder: Path, *, device: str) -> None:
    name = _name(seed)
    try:
        result = wrapped.load_adapter(str(folder), adapter_name=name, torch_device=device, low_cpu_mem_usage=True)
    except RuntimeError as error:
        refuse_full(error)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[min(1, len(lines) - 1)]  # PyTorch's first line only states that something does not fit
        raise ValueError(f"adapter of training seed {seed} does not fit this base model: {reason}") from None
    strangers = [*result.missing_keys, *result.unexpected_keys]
    if strangers:
        raise ValueError(
            f"adapter of training seed {seed} does not fit this base model: {len(strangers)} weights have no "
            f"counterpart, such as {strangers[0]}; was it trained on another base?"
        )
    for key, weight in wrapped.named_parameters():
        if f".{name}." in key and not weight.isfinite().all():
            raise ValueError(
                f"adapter of training seed {seed} holds weights that are not finite ({key}): its training diverged; "
                "expected a lower `learning_rate`"
            )
