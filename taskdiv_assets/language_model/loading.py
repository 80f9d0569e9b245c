"""Resolve a base model to a folder of files, and load it. No repository's code is executed, and no pickled weights are read."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from taskdiv_assets.language_model import devices as cards
from taskdiv_assets.language_model import model_folder
from taskdiv_assets.language_model.faults import explained
from taskdiv_assets.language_model.gguf_base import is_gguf, unpack
from taskdiv_assets.language_model.quiet import quiet
from taskdiv_assets.language_model.texts import THOUGHT, is_thinking, read_tokenizer, rendered, without_start

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from taskdiv_assets.experiment import BaseModelSource
    from taskdiv_assets.experiment.pool_settings import Pool


# Names of the context's length in configurations. The first name with a positive value is used.
CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions", "model_max_length")
NO_LIMIT = 2**30  # context in tokens of a model whose configuration states none


class DtypeChoice(NamedTuple):
    """The number format of the weights, and the reason for the choice."""

    dtype: str
    reason: str


class AttentionChoice(NamedTuple):
    """The attention implementation, and the reason for the choice."""

    attention: str
    reason: str


class LanguageModel(NamedTuple):
    """A causal language model in evaluation mode with its tokenizer, on one device."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: str


class ResolvedModel(NamedTuple):
    """Facts about a base model in a folder. Only the lab's model has `losses`, one for each training step, in nats a token."""

    source: str
    revision: str | None
    parameters_n: int
    losses: tuple[float, ...] = ()
    unpacked_from: str = ""  # SHA-256 of the GGUF file that the model was unpacked from

    def unpacking(self) -> dict[str, str]:
        """Return the entry `unpacked_from` for the stored notes on a model; {} if the model was not unpacked."""
        return {"unpacked_from": self.unpacked_from} if self.unpacked_from else {}


def choose_dtype(requested: str = "auto", device: torch.device | None = None) -> DtypeChoice:
    """Return the requested number format; for "auto", bfloat16 on a GPU of compute capability 8.0 or higher, else float32."""
    if requested != "auto":
        return DtypeChoice(requested, "the experiment file asks for it")
    device = device or chosen_device()
    if device.type != "cuda":
        return DtypeChoice(
            "float32", f"{device.type}: float32 is as fast as anything there, and bit-identical in any batch"
        )
    import torch

    if torch.cuda.get_device_capability(device) >= (8, 0):
        return DtypeChoice("bfloat16", f"{torch.cuda.get_device_name(device)} multiplies bfloat16 at full speed")
    return DtypeChoice("float32", f"{torch.cuda.get_device_name(device)} has no bfloat16, and float16 can overflow")


def choose_attention(dtype: str = "float32", device: torch.device | None = None) -> AttentionChoice:
    """Return FlashAttention if it is installed, the weights have 16 bits and there is a GPU; else torch's own attention."""
    if dtype in ("bfloat16", "float16") and find_spec("flash_attn") and (device or chosen_device()).type == "cuda":
        return AttentionChoice("flash_attention_2", "flash-attn is installed, and the weights have 16 bits")
    return AttentionChoice("sdpa", "torch's scaled_dot_product_attention: on every device, no extra")


def load(folder: Path, *, dtype: str, attention: str) -> LanguageModel:
    """Load a model and its tokenizer, to a GPU if any. Raise ValueError if a file is damaged or the model is not causal."""
    import torch

    model = _whole_model(folder, attention, dtype=getattr(torch, dtype))
    return _causal(folder, model.to(chosen_device()), dtype)


def _causal(folder: Path, model: PreTrainedModel, dtype: str) -> LanguageModel:
    """Return a model with its tokenizer. Raise ValueError for a model that is not causal, such as BERT as usually configured."""
    from taskdiv_assets.language_model.alone import why_not_causal

    lm = LanguageModel(model.eval(), read_tokenizer(folder).tokenizer, chosen_device(), dtype)
    with explained(folder, "the model", "expected a model that takes texts alone"):
        why = why_not_causal(lm, context_tokens(lm))
    if why:
        raise ValueError(
            f"base model {folder}: {type(lm.model).__name__} is not a causal language model as configured: {why}; expected "
            "a model that was trained to continue texts"
        )
    return lm


def _whole_model(folder: Path, attention: str, **options: Any) -> PreTrainedModel:
    model_folder.check_folder(folder)
    with quiet(), explained(folder, "the model", "copy its folder again"):
        attention = supported_attention(folder, attention)
        model, info = model_folder.from_files(folder, attn_implementation=attention, **options)
    model_folder.refuse_incomplete(folder, info)
    return model


def load_in_4_bits(folder: Path, *, dtype: str, attention: str) -> LanguageModel:
    """Load a model to train an adapter: linear layers in NormalFloat4, computations in `dtype` (QLoRA, arXiv:2305.14314).

    Raise ValueError as `load` does, or if bitsandbytes is not installed.
    """
    import torch
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise ValueError(
            "`tuning.quantization: nf4` needs bitsandbytes; install the extra with `pip install 'taskdiv-assets[qlora]'`"
        )
    number = getattr(torch, dtype)
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=number
    )
    model = _whole_model(folder, attention, dtype=number, quantization_config=nf4, device_map={"": chosen_device()})
    return _causal(folder, model, dtype)


def supported_attention(folder: Path, attention: str) -> str:
    """Return `attention` if the architecture supports it, else the next best implementation. BLOOM supports only "eager"."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    for name, flag in (("flash_attention_2", "_supports_flash_attn"), ("sdpa", "_supports_sdpa")):
        if name == attention:
            if getattr(kind, flag, True):
                return name
            attention = "sdpa"
    return "eager"


def in_chat_template(folder: Path, template: str) -> str:
    """Return a prompt template as a user's turn in a model's chat template, up to the place where the answer starts.

    `template` has one {prompt}. The result has no start token if the tokenizer adds it. Raise ValueError if a tokenizer file is
    damaged. Also raise it if the chat template is missing, reads the date in an unusual way, does not write {prompt} exactly
    once, or opens a thought even with `enable_thinking=False`.
    """
    reading = read_tokenizer(folder)
    if not reading.tokenizer.chat_template:
        raise ValueError(
            "`chat_template: true`, but the model's tokenizer has no chat template; remove the key, or choose an "
            "instruction-tuned model"
        )
    text = rendered(reading.tokenizer, template)
    if is_thinking(text):
        text = rendered(reading.tokenizer, template, enable_thinking=False)
    if is_thinking(text):
        raise ValueError(
            f"the model's chat template opens a thought ({THOUGHT[0]}) before the answer, so answers would be trained as "
            "thoughts; write the turns into `prompt_template` yourself, with the thought closed, and remove `chat_template`"
        )
    if text.count("{prompt}") != 1:
        raise ValueError(f"the model's chat template does not show the prompt once, as it is: {text!r}")
    return without_start(text, reading.start)


def resolve_source(
    source: BaseModelSource,
    pool: Pool,  # the lab's model is trained on the tasks of this pool
    folder: Path,  # an existing, empty folder
    progress: Callable[[int, int], None] | None = None,  # steps done and steps in all of a training of the lab's model
) -> ResolvedModel:
    """Store a base model in `folder`: train the lab's model, copy a folder, unpack a GGUF file, or download from the hub.

    Raise ValueError if the model cannot be fetched from the hub, or is damaged or incomplete. Raise OSError if a remote path
    cannot be read.
    """
    losses: tuple[float, ...] = ()
    unpacked_from = ""
    name, revision = f"lab seed {source.lab.seed}" if source.lab else "", source.revision
    if source.lab:
        from taskdiv_assets.language_model.lab_model import train

        losses = train(source.lab, pool.tasks, folder, progress).losses
    elif source.path:
        name = Path(source.path).name  # not the whole path: results are shared
        from taskdiv_assets.storage import remote
        from taskdiv_assets.storage.store import sha256_file

        if is_gguf(source.path):
            with remote.fetched(source.path) as file:
                unpack(file, folder, source.path)
                unpacked_from = sha256_file(file)
        else:
            with remote.fetched_folder(source.path, model_folder.is_needed) as origin:
                _copy(origin, folder)
    else:
        name = str(source.hub)
        _download(name, str(revision), folder)
    model_folder.check_folder(folder)
    model_folder.check_loads(folder)
    return ResolvedModel(name, revision, model_folder.count_parameters(folder), losses, unpacked_from)


def _copy(origin: Path, folder: Path) -> None:
    """Copy the needed files. Weights are hard-linked if possible, since they are large and never changed in place."""
    model_folder.check_folder(origin)
    for path in sorted(origin.iterdir()):
        if not (path.is_file() and model_folder.is_needed(path.name)):
            continue
        try:
            if not path.name.endswith(".safetensors"):
                raise OSError
            os.link(path.resolve(), folder / path.name)
        except OSError:
            shutil.copyfile(path, folder / path.name)


def _download(repository: str, revision: str, folder: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        with quiet():
            snapshot_download(
                repository,
                revision=revision,
                local_dir=folder,
                allow_patterns=list(model_folder.NEEDED),
                ignore_patterns=["*/*", *model_folder.NOT_NEEDED],
            )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"base model {repository} at revision {revision} cannot be fetched from the hub "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); check both names, your access and the network, "
            "or give a local copy as `base_model: {path: …}`"
        ) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def context_tokens(lm: LanguageModel) -> int | None:
    """Return how many tokens the model can attend to; None if unknown. RoBERTa's configuration states too many tokens."""
    size = context_of(lm.model.config)
    tables = [
        module.num_embeddings - module.padding_idx - 1
        for name, module in lm.model.named_modules()
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
    ]
    return min(tables if size is None else [size, *tables], default=None)


def context_of(config: Any) -> int | None:
    text = config.get_text_config()
    sizes = (getattr(text, name, None) for name in CONTEXT_NAMES)
    return next((int(size) for size in sizes if size and size > 0), None)  # XLNet: -1 for a model without a limit


def end_tokens(lm: LanguageModel) -> tuple[int, ...]:
    """Return the tokens that end a generation, from the generation configuration and from the tokenizer, sorted."""
    found: set[int] = set()
    for value in (lm.model.generation_config.eos_token_id, lm.tokenizer.eos_token_id):
        found.update([value] if isinstance(value, int) else value or [])
    return tuple(sorted(found))


def chosen_device() -> torch.device:
    import torch

    return torch.device("cuda", cards.choose()) if torch.cuda.is_available() else torch.device("cpu")


def release_memory() -> None:
    """Release the memory of models that are no longer referenced, and the GPU memory that torch caches."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()  # does nothing where no GPU was used
