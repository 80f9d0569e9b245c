"""Check that the files of a folder form a usable model, and compute facts about them, such as hashes.

The checks read configuration, tokenizer and only the headers of the weight files, so they are fast for large models too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatch
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskdiv_assets.language_model.faults import explained, first_line
from taskdiv_assets.language_model.quiet import quiet
from taskdiv_assets.language_model.texts import read_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The files that a model needs. Pickles, code and copies of the weights in other formats are left out.
NEEDED = (
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json", "tokenizer.model",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
    "chat_template.json",
)  # fmt: skip
NOT_NEEDED = ("consolidated*", "adapter_*")


def check_folder(folder: Path) -> None:
    """Raise ValueError if a folder is missing, or lacks a file with configuration, weights (safetensors) or tokenizer."""
    if not folder.is_dir():
        raise ValueError(f"base model {folder}: there is no such folder")
    names = sorted(path.name for path in folder.iterdir())
    if "config.json" not in names:
        if "adapter_config.json" in names:
            raise ValueError(
                f"base model {folder}: this is an adapter (adapter_config.json); name the model it was made for"
            )
        if packed := [name for name in names if name.lower().endswith(".gguf")]:
            raise ValueError(
                f"base model {folder}: no config.json; to use a GGUF file, name it: `path: {folder / packed[0]}`"
            )
        raise ValueError(f"base model {folder}: no config.json; expected a folder in transformers' layout")
    if not any(name.endswith(".safetensors") and is_needed(name) for name in names):
        pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
        found = f"only {pickles[0]}, which may run code when read" if pickles else "no weights"
        raise ValueError(f"base model {folder}: {found}; expected *.safetensors (model.save_pretrained writes them)")
    if not any(name in names for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ValueError(f"base model {folder}: no tokenizer; expected tokenizer.json beside the weights")


def check_loads(folder: Path) -> None:
    """Raise ValueError if the files of a folder do not form one complete model.

    transformers only warns of a missing tensor, and fills it with random numbers.
    """
    _check_weight_files(folder)
    config = read_config(folder)
    tokenizer = read_tokenizer(folder).tokenizer
    _check_vocabulary(folder, tokenizer, _check_weights(folder, config))


def _check_weight_files(folder: Path) -> None:
    """Raise ValueError if a weight file's header shows damage, or if an index is damaged or names a file that is missing."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        if not is_needed(path.name):
            continue
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"base model {folder}: {path.name} is damaged or was cut short ({first_line(error)}); copy it again"
            ) from None
    for path in sorted(folder.glob("*.safetensors.index.json")):
        try:
            named = set(json.loads(path.read_bytes())["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise ValueError(
                f"base model {folder}: {path.name} is not an index of weight files; copy it again"
            ) from None
        missing = sorted(str(name) for name in named if not (folder / str(name)).is_file())
        if missing:
            raise ValueError(
                f"base model {folder}: {path.name} names {len(missing)} file(s) that are not there, the first is "
                f"{missing[0]}; copy the whole folder"
            )


def read_config(folder: Path) -> Any:
    """Read a model's configuration; raise ValueError if the file is damaged or the model's architecture is unknown."""
    import transformers

    advice = f"expected the `model_type` of an architecture that transformers {transformers.__version__} has"
    with quiet(), explained(folder, "config.json", advice):
        return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def _check_weights(folder: Path, config: Any) -> int:
    """Return the number of rows of the embedding. Raise ValueError if a weight is missing or has a wrong shape."""
    advice = "expected a causal language model whose configuration and weights belong together"
    with quiet(), explained(folder, "the model", advice):
        model, info = from_files(folder, config=config, device_map="meta")  # a device with shapes and no memory
        rows_n = int(model.get_input_embeddings().weight.shape[0])
    refuse_incomplete(folder, info)
    return rows_n


def from_files(folder: Path, **options: Any) -> Any:
    """Return a model of transformers and its loading info, which `refuse_incomplete` checks for wrong tensors."""
    from transformers import AutoModelForCausalLM

    options |= {"ignore_mismatched_sizes": True, "output_loading_info": True, "use_safetensors": True}
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **options)


def refuse_incomplete(folder: Path, info: Mapping[str, Any]) -> None:
    """Raise ValueError if the loading info of `from_pretrained` lists tensors that are missing or have another shape."""
    mismatched = sorted(info["mismatched_keys"], key=str)
    if mismatched:
        name, stored, wanted = mismatched[0]
        raise ValueError(
            f"base model {folder}: {len(mismatched)} tensor(s) do not have the shape that config.json asks for, "
            f"the first is {name} with {tuple(stored)} where {tuple(wanted)} is expected; copy both from one model"
        )
    missing, unexpected = sorted(map(str, info["missing_keys"])), sorted(map(str, info["unexpected_keys"]))
    if missing:
        others = f" The files hold {len(unexpected)} others, such as {unexpected[0]}." if unexpected else ""
        raise ValueError(
            f"base model {folder}: {len(missing)} tensor(s) are not in the weight files, the first is {missing[0]}.{others} "
            "They would be filled with random numbers; copy the whole model, or save it again with save_pretrained"
        )


def _check_vocabulary(folder: Path, tokenizer: PreTrainedTokenizerBase, rows_n: int) -> None:
    """Raise ValueError if a token has no row in the embedding. The padding token is never read, so it is not checked."""
    beyond = {name: row for name, row in tokenizer.get_vocab().items() if row >= rows_n and name != tokenizer.pad_token}
    if beyond:
        name = min(beyond, key=lambda token: beyond[token])
        raise ValueError(
            f"base model {folder}: the tokenizer has {len(beyond)} token(s) that the model has no row for, the first is {name!r} "
            f"with number {beyond[name]} in a vocabulary of {rows_n}; use the tokenizer of this model, or resize its embedding"
        )


def model_fingerprint(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each needed file of a local model."""
    from taskdiv_assets.storage.store import sha256_file  # imports pyarrow, which scoring alone does not need

    check_folder(folder)
    needed = (path for path in sorted(folder.iterdir()) if path.is_file() and is_needed(path.name))
    return {path.name: sha256_file(path) for path in needed}


def is_needed(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in NEEDED) and not any(fnmatch(name, it) for it in NOT_NEEDED)


def count_parameters(folder: Path) -> int:
    """Return the number of parameters in the weight files, read from their headers. Tied weights are counted once."""
    from safetensors import safe_open

    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as weights:
            total += sum(prod(weights.get_slice(name).get_shape()) for name in weights.offset_keys())
    return total
