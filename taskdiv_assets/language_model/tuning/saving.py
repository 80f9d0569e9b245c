"""Write a trained adapter or model. The files contain no path of this machine, so the same training gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
LARGEST_FILE = "5GB"


class HubName(NamedTuple):
    """The name and the revision of a base model on the hub."""

    repository: str
    revision: str


def save_adapter(model: PeftModel, out: Path, base: HubName | None) -> None:
    """Write the weights and the configuration of an adapter in PEFT's format, both sorted by name.

    The configuration names the base model as in `base`, or no base model if `base` is None. It never contains a local path.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    weights = {name: state[name].contiguous().cpu() for name in sorted(state)}
    save_file(weights, out / WEIGHTS, metadata={"format": "pt"})
    name, revision = base or (None, None)
    settings: dict[str, Any] = model.peft_config["default"].to_dict()
    settings |= {"base_model_name_or_path": name, "revision": revision, "inference_mode": True}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    (out / CONFIG).write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n")


def save_model(model: PreTrainedModel, base_folder: Path, dtype: str, out: Path) -> None:
    """Write a fully tuned model in the base model's number format, with the base model's configuration and tokenizer."""
    import torch
    from transformers import GenerationConfig

    if (base_folder / "generation_config.json").is_file():
        # transformers cannot write some configurations that it reads, so the file is copied below.
        model.generation_config = GenerationConfig()
    model.to(getattr(torch, dtype)).save_pretrained(out, max_shard_size=LARGEST_FILE)
    for path in sorted(base_folder.iterdir()):
        is_weights = ".safetensors" in path.name
        if path.is_file() and not is_weights and path.name != "manifest.json":
            shutil.copyfile(path, out / path.name)


def weights_sha256(files: Mapping[str, str]) -> str:
    """Return one hash for the weight files in `files` (SHA-256 by name): the only file's hash, or a hash of names and hashes."""
    weights = {name: value for name, value in files.items() if name.endswith(".safetensors")}
    if len(weights) == 1:
        return next(iter(weights.values()))
    return hashlib.sha256("".join(f"{name} {weights[name]}\n" for name in sorted(weights)).encode()).hexdigest()
