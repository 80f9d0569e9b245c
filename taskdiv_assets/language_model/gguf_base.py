"""Check a base model in a GGUF file, llama.cpp's format, and unpack it to a folder in transformers' layout.

The weights become float32, so the quantised numbers are not rounded again. transformers reads the file, but it does not report a
tensor or a rotary scaling that it leaves out. So this module rejects a file with such a tensor or scaling.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from taskdiv_assets.language_model.faults import explained
from taskdiv_assets.language_model.gguf_header import Header, Tensor, read_header
from taskdiv_assets.language_model.model_folder import check_folder, refuse_incomplete
from taskdiv_assets.language_model.quiet import quiet_gguf

SUFFIX = ".gguf"
ADVICE = "download it again, or use the model's folder in transformers' layout"
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
# Names in transformers' tables that are not an architecture, or not a causal language model.
_NOT_CAUSAL = {"general", "tokenizer", "t5", "umt5", "deci"}
# Architectures that transformers and GGUF spell differently.
_SPELLED = {"qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gpt_oss": "gpt-oss", "minimax_m2": "minimax-m2"}
_READS_SCALING = "gpt-oss"  # the only architecture whose rotary scaling transformers reads


def is_gguf(path: str) -> bool:
    """Return True if a path or URL ends in .gguf and is not a local folder.

    >>> is_gguf("models/gemma.GGUF"), is_gguf("models/gemma")
    (True, False)
    """
    return path.lower().endswith(SUFFIX) and not Path(path).is_dir()


def check_local(path: Path) -> None:
    """Raise ValueError if the folder or GGUF file `path` cannot be a base model.

    This checks only the names of the files in a folder, or the name, header and size of a GGUF file.
    """
    if is_gguf(str(path)):
        check_gguf(path)
    else:
        check_folder(path)


def architectures() -> list[str]:
    """Return the architectures of causal language models whose GGUF files transformers reads, as GGUF spells them."""
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING  # without torch, so `taskdiv plan` stays quick
    from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS

    return sorted(_SPELLED.get(name, name) for name in {*GGUF_CONFIG_MAPPING, *GGUF_CONFIG_ARCHS} - _NOT_CAUSAL)


def check_gguf(path: Path, name: str = "") -> Header:
    """Read and check the header of a GGUF file. `name` replaces the path in messages.

    Raises:
        ValueError: the file is damaged, incomplete, or of a kind that cannot be unpacked.
    """
    start = f"base model {name or path}: "
    if not path.is_file():
        raise ValueError(f"{start}there is no such file")
    try:
        header = read_header(path)
        end = max((header.weights_start + one.offset + _bytes(one) for one in header.tensors), default=0)
    except ValueError as error:
        raise ValueError(f"{start}{error}; {ADVICE}") from None
    _refuse_kind(start, header.metadata, name or path.name)
    if end > (size := path.stat().st_size):
        raise ValueError(f"{start}it was cut short: its header describes {end:,} bytes, and it has {size:,}; {ADVICE}")
    _refuse_scaling(start, header)
    return header


def _bytes(tensor: Tensor) -> int:
    import gguf

    try:
        block_n, bytes_n = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(tensor.kind)]
    except (KeyError, ValueError):
        raise ValueError(f"tensor {tensor.name[:60]!r} has the number format {tensor.kind}, which is unknown") from None
    return int(tensor.values_n // block_n * bytes_n)


def _refuse_kind(start: str, metadata: dict[str, Any], name: str) -> None:
    """Raise ValueError for an adapter, a part of a split file, a missing tokenizer, or an architecture not in `architectures`."""
    part = _PART.search(name)
    if part or metadata.get("split.count", 0) > 1:
        of = f"part {int(part[1])} of {int(part[2])}" if part else f"one of {metadata['split.count']} parts"
        raise ValueError(f"{start}this is {of}; join them first with `llama-gguf-split --merge FIRST_PART whole.gguf`")
    kind, architecture = metadata.get("general.type", "model"), metadata.get("general.architecture")
    if kind == "adapter":
        raise ValueError(f"{start}this is an adapter; name the model that it was made for")
    if architecture not in architectures():
        raise ValueError(
            f"{start}its architecture is {str(architecture)[:60]!r}, and transformers reads GGUF files of "
            f"{', '.join(architectures())} only; use the model's folder in transformers' layout"
        )
    if "tokenizer.ggml.model" not in metadata or not metadata.get("tokenizer.ggml.tokens"):
        raise ValueError(f"{start}it has no tokenizer; use the model's folder in transformers' layout")


def _refuse_scaling(start: str, header: Header) -> None:
    """Raise ValueError if the rotary positions are scaled in a way that transformers would silently leave out."""
    architecture = header.metadata["general.architecture"]
    scaling = header.metadata.get(f"{architecture}.rope.scaling.type", "none")
    tensor = next((one.name for one in header.tensors if one.name.startswith(("rope_freqs", "rope_factors"))), None)
    if architecture != _READS_SCALING and (tensor or scaling != "none"):
        raise ValueError(
            f"{start}it scales its rotary positions ({tensor or scaling}), which transformers does not read from GGUF files, so "
            "another model would come out; use the model's folder in transformers' layout"
        )


def unpack(path: Path, folder: Path, name: str = "") -> None:
    """Write the model of a GGUF file to an empty folder: float32 safetensors, configuration and tokenizer.

    Raises:
        ValueError: the file cannot be used, or transformers would leave out or make up a part of the model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    header = check_gguf(path, name)
    shown, link = Path(name or path), folder / f"source{SUFFIX}"  # transformers wants a file of this suffix in a folder
    link.symlink_to(path.resolve())
    options = {"gguf_file": link.name, "trust_remote_code": False, "local_files_only": True}
    try:
        with quiet_gguf(), explained(shown, "the model", ADVICE):
            config = AutoConfig.from_pretrained(folder, **options)
            _check_size(config, header)
            # Without `dequantize` the model keeps a quantizer that refuses training and saving.
            model, info = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # refused below, with the name of the tensor
                output_loading_info=True,
                **options,
            )
        refuse_incomplete(shown, info)
        with quiet_gguf(), explained(shown, "the tokenizer", ADVICE):
            AutoTokenizer.from_pretrained(folder, **options).save_pretrained(folder)
            _drop_added(folder, header.metadata["tokenizer.ggml.tokens"])
        with quiet_gguf():
            model.save_pretrained(folder)
    finally:
        link.unlink()


def _drop_added(folder: Path, tokens_n: int) -> None:
    """Remove from the tokenizer in `folder` the added tokens that do not come from the GGUF file, which has `tokens_n` tokens.

    transformers adds <|endoftext|> to every byte-level vocabulary.
    """
    tokenizer, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    content = json.loads(tokenizer.read_bytes())
    added = {one["content"] for one in content["added_tokens"] if one["id"] >= tokens_n}
    if added:
        content["added_tokens"] = [one for one in content["added_tokens"] if one["id"] < tokens_n]
        tokenizer.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        kept = {key: value for key, value in json.loads(settings.read_bytes()).items() if value not in list(added)}
        settings.write_text(json.dumps(kept), encoding="utf-8")


def _check_size(config: Any, header: Header) -> None:
    """Raise ValueError if the file has more or fewer weights than the model that its metadata describe.

    transformers drops a tensor that it does not know. The model is built without its weights, so a wrong size needs no memory.
    """
    import torch
    from transformers import AutoModelForCausalLM

    layers_n = int(config.num_hidden_layers)
    if not 0 < layers_n <= len(header.tensors):
        raise ValueError(f"it states {layers_n:,} layers, and has {len(header.tensors):,} tensors")
    with torch.device("meta"):
        wanted_n = sum(one.numel() for one in AutoModelForCausalLM.from_config(config).parameters())
    is_tied = bool(config.tie_word_embeddings)  # some converters write the head of a tied model too
    found_n = sum(one.values_n for one in header.tensors if not (is_tied and one.name == "output.weight"))
    if found_n != wanted_n:
        raise ValueError(f"it has {found_n:,} weights, and the model it describes has {wanted_n:,}")
