"""Predict how much memory a stage needs, from the sizes of a model, its number format and the settings.

A model without weights is enough (`without_weights`), so `taskdiv plan` predicts before a model is downloaded. The code that
forms batches uses the same numbers: it makes batches smaller if they would not fit into the free memory. On a machine with
enough memory no batch changes, so results stay bit-identical. docs/SCALING.md compares predicted and measured memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from taskdiv_assets.language_model.batching import CPU_TOKENS, LOGITS_AT_ONCE, row_steps, shapes_of, vocabulary_size
from taskdiv_assets.language_model.key_values import ROOM_TOKENS
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.language_model.memory import free_bytes
from taskdiv_assets.language_model.packed import PACK_LOGITS, PACK_ROWS, PACK_TOKENS, is_suitable
from taskdiv_assets.language_model.prefixes import can_share
from taskdiv_assets.language_model.quiet import quiet

if TYPE_CHECKING:
    import torch

    from taskdiv_assets.tuning_settings import Tuning

# Bytes of a worker process of `taskdiv run` on a CPU (Python, torch, transformers, Dagster, lm-eval, peft and trl); measured.
PROCESS_BYTES = 600 * 10**6
WORD_BYTES = 1_800  # of a tokenizer, for each word of the vocabulary; measured with 262,144 words
GPU_BYTES = 600 * 10**6  # of a process on a GPU, before it loads a model
SHARE = 0.8  # a batch may take this share of the free memory; the rest is for fragmentation and other processes
FULL_WIDTH = 4  # bytes of a number in float32
NF4_WIDTH = 0.55  # bytes of a weight in NormalFloat4, its scale included
# Hidden states of a token that a layer keeps for its gradient, and that it needs to read.
LAYER_KEEPS, LAYER_READS = 2, 4
STATISTICS = 3  # numbers in float32 for each logit of a text's own tokens, the logit included


class Shape(NamedTuple):
    """The sizes of a model that determine its work and its memory."""

    parameters_n: int  # tied weights count once
    vocabulary_n: int
    layers_n: int
    hidden_n: int
    inner_n: int  # width of the feed-forward part, summed over the experts that read one token
    queries_n: int  # heads × width of a head
    norms_n: int  # normalisations of hidden states in a layer
    kept_n: int  # numbers in the keys and values of one token, over all layers
    adapted_n: int  # rows plus columns of all linear layers except the head; a LoRA adapter has `rank` times this
    weights_n: int  # weights that multiply hidden states: all weights except an embedding that is not tied to the head


class Memory(NamedTuple):
    """The memory of one process at its peak, in bytes, by cause."""

    process_n: int  # the interpreter, its libraries and the tokenizer; on a GPU what CUDA needs
    weights_n: int
    trained_n: int  # in a training: the adapter, gradients and the optimiser's state
    batch_n: int  # the largest batch: activations, keys and values, logits
    tokens_n: int  # tokens of the largest batch, padding included (a count, not bytes)

    @property
    def total_n(self) -> int:
        return self.process_n + self.weights_n + self.trained_n + self.batch_n

    def while_converting(self, files_n: int) -> Memory:
        """Return the memory of a process that also converts weight files of `files_n` bytes before its first batch."""
        return self._replace(batch_n=max(self.batch_n, files_n))


def shape_of(model: Any) -> Shape:
    """Return the sizes of a transformers model, which may be on the device `meta` (see `without_weights`)."""
    config = model.config.get_text_config()
    embedded, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    is_tied = head is not None and head.weight is embedded
    linear = _linear(model, head)
    hidden_n = _size(config, "hidden_size") or int(embedded.shape[1])
    layers_n, heads_n = max(_size(config, "num_hidden_layers"), 1), _size(config, "num_attention_heads")
    width_n = _size(config, "head_dim") or hidden_n // max(heads_n, 1)
    norms = (getattr(one, "weight", None) for one in model.modules() if "Norm" in type(one).__name__)
    norms_n = sum(weight is not None and weight.shape == (hidden_n,) for weight in norms)
    parameters_n = int(model.num_parameters())
    return Shape(
        parameters_n=parameters_n,
        vocabulary_n=_size(config, "vocab_size") or int(embedded.shape[0]),
        layers_n=layers_n,
        hidden_n=hidden_n,
        inner_n=max([hidden_n, _experts_n(model, config), *(inputs_n for inputs_n, _ in linear)]),
        queries_n=heads_n * width_n,
        norms_n=max(1, round(norms_n / layers_n)),
        kept_n=2 * layers_n * (_size(config, "num_key_value_heads") or heads_n) * width_n,
        adapted_n=sum(map(sum, linear)),
        weights_n=parameters_n - (0 if is_tied else embedded.numel()),
    )


def _size(config: Any, name: str) -> int:
    """Return the number `name` of a configuration, or the largest of its list of numbers; 0 if there is none."""
    found = getattr(config, name, None)
    numbers = found if isinstance(found, list | tuple) else [found]
    return max((one for one in numbers if isinstance(one, int)), default=0)


def _linear(model: Any, head: Any) -> list[tuple[int, int]]:
    """Return the numbers of inputs and outputs of all linear layers except the head."""
    import torch
    from transformers.pytorch_utils import Conv1D

    layers = [one for one in model.modules() if one is not head]
    plain = [(one.in_features, one.out_features) for one in layers if isinstance(one, torch.nn.Linear)]
    return plain + [tuple(one.weight.shape) for one in layers if isinstance(one, Conv1D)]


def _experts_n(model: Any, config: Any) -> int:
    """Return the feed-forward width of an expert times the number of experts a token is sent to, times 1.5; 0 without experts.

    The half more is for copies of activations.
    """
    width_n = _size(config, "moe_intermediate_size") or _size(config, "intermediate_size")
    has_experts = any(one.ndim == 3 for one in model.parameters())
    return _size(config, "num_experts_per_tok") * width_n * 3 // 2 if has_experts else 0


def without_weights(config: Any, dtype: str, device: torch.device, attention: str = "sdpa") -> LanguageModel:
    """Return a model of a configuration as it would be on `device`, but without weights and without a tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    with quiet(), torch.device("meta"):  # a device with shapes and no memory
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation=attention)
    return LanguageModel(model.eval(), None, device, dtype)  # type: ignore[arg-type]  # nothing is tokenised


# --- one token ---------------------------------------------------------------------------------------------------


def width_of(lm: LanguageModel) -> int:
    """Return the bytes of a number in a model's number format."""
    import torch

    return int(getattr(torch, lm.dtype).itemsize)


def token_bytes(lm: LanguageModel, *, has_cache: bool) -> int:
    """Return the bytes that one token of a batch needs while a model reads it, with its keys and values if `has_cache`."""
    shape = shape_of(lm.model)
    numbers = LAYER_READS * shape.hidden_n + 3 * shape.inner_n + (shape.kept_n if has_cache else 0)
    return numbers * width_of(lm)


def logits_token_bytes(lm: LanguageModel) -> int:
    """Return the bytes of one token of a batch with logits at every place, statistics of the logits included."""
    return token_bytes(lm, has_cache=False) + STATISTICS * FULL_WIDTH * vocabulary_size(lm)


def fitting_tokens(memory: Memory, device: torch.device) -> int | None:
    """Return how many tokens of a batch fit into the free memory, at least 1; None if the largest batch fits.

    `memory` is the prediction for the stage that forms the batches.
    """
    room_n = int(SHARE * free_bytes(device))
    return None if memory.batch_n <= room_n else max(1, memory.tokens_n * room_n // memory.batch_n)


def training_bytes(lm: LanguageModel, tokens_n: int, *, is_recomputed: bool = False) -> int:
    """Return the bytes of the activations that a training keeps for a pass, and of the largest gradients beside them.

    For each token a layer keeps the hidden states around its normalisations, queries, keys and values (repeated for every head),
    the result of attention twice, and four times the width of the feed-forward part. If activations are recomputed, each layer
    keeps only its input, and one layer at a time keeps all.
    """
    shape = shape_of(lm.model)
    layer_n = (LAYER_KEEPS + shape.norms_n) * shape.hidden_n + 5 * shape.queries_n + 4 * shape.inner_n
    layers_n = layer_n + shape.layers_n * shape.hidden_n if is_recomputed else shape.layers_n * layer_n
    return (layers_n + 2 * shape.inner_n) * tokens_n * width_of(lm)


def work_of(shape: Shape, read_n: int, said_n: int) -> int:
    """Return the expected multiplications for a text: `read_n` tokens without logits, and `said_n` more tokens with logits."""
    return (read_n + said_n) * shape.weights_n - read_n * shape.vocabulary_n * shape.hidden_n


# --- one stage ---------------------------------------------------------------------------------------------------


def embedding(lm: LanguageModel, longest_n: int, *, has_layers: bool = False) -> Memory:
    """Predict the memory for embedding prompts of up to `longest_n` tokens, with full batches: padding rows are included.

    If `has_layers` is True, the hidden states of all layers are kept until the end of a batch.
    """
    shapes, shape = shapes_of(lm), shape_of(lm.model)
    tokens_n = _largest(longest_n, shapes.rows, shapes.tokens)
    kept_n = (shape.layers_n + 1) * shape.hidden_n * width_of(lm) if has_layers else 0
    return _inference(lm, tokens_n, tokens_n * (token_bytes(lm, has_cache=False) + kept_n))


def continuing(lm: LanguageModel, longest_n: int, prompts_n: int, new_n: int) -> Memory:
    """Predict the memory for scoring `prompts_n` prompts of up to `longest_n` tokens by continuations of `new_n` tokens."""
    shapes, vocabulary_n, width = shapes_of(lm), vocabulary_size(lm), width_of(lm)
    if is_suitable(lm):
        rows_n = min(prompts_n, PACK_ROWS, max(1, PACK_LOGITS // vocabulary_n))
        tokens_n = _largest(longest_n, rows_n, PACK_TOKENS)
    else:
        rows_n = min(shapes.rows, max(row_steps(lm).step, shapes.logits // vocabulary_n))
        tokens_n = _largest(longest_n, rows_n, shapes.tokens)
        rows_n = max(1, min(rows_n, tokens_n // longest_n))
    kept_n = (tokens_n + rows_n * min(new_n, ROOM_TOKENS)) * shape_of(lm.model).kept_n * width
    step_n = max(tokens_n * token_bytes(lm, has_cache=False), rows_n * vocabulary_n * width)
    return _inference(lm, tokens_n, kept_n + step_n)


def reading(lm: LanguageModel, longest_n: int) -> Memory:
    """Predict the memory for scoring prompts of up to `longest_n` tokens by their own tokens, with logits at every place."""
    shapes = shapes_of(lm)
    rows_n = min(shapes.rows, max(1, LOGITS_AT_ONCE // (longest_n * vocabulary_size(lm))))
    tokens_n = _largest(longest_n, rows_n, shapes.tokens)
    return _inference(lm, tokens_n, tokens_n * logits_token_bytes(lm))


def weighing(lm: LanguageModel, longest_n: int, answer_n: int) -> Memory:
    """Predict the memory for likelihoods of answers of up to `answer_n` tokens, in texts of up to `longest_n` tokens."""
    shapes = shapes_of(lm)
    is_passed = lm.device.type == "cpu" and not can_share(lm)
    tokens_n = _largest(longest_n, shapes.rows, CPU_TOKENS if is_passed else shapes.tokens)
    # `logits_n` counts twice, because the sum of their exponentials needs as many numbers.
    logits_n = max(min(LOGITS_AT_ONCE, tokens_n * vocabulary_size(lm)), answer_n * vocabulary_size(lm))
    return _inference(lm, tokens_n, tokens_n * token_bytes(lm, has_cache=not is_passed) + 2 * FULL_WIDTH * logits_n)


def writing(lm: LanguageModel, longest_n: int) -> Memory:
    """Predict the memory for writing answers. A text has up to `longest_n` tokens, with the answer."""
    shapes = shapes_of(lm)
    tokens_n = _largest(longest_n, shapes.rows, shapes.tokens)
    logits_n = max(1, tokens_n // longest_n) * vocabulary_size(lm)
    return _inference(lm, tokens_n, tokens_n * token_bytes(lm, has_cache=True) + logits_n * width_of(lm))


def training(lm: LanguageModel, tuning: Tuning, longest_n: int, *, is_recomputed: bool = False) -> Memory:
    """Predict the memory for a training on examples of up to `longest_n` tokens."""
    shape, width = shape_of(lm.model), width_of(lm)
    longest_n = min(longest_n, tuning.max_length)
    tokens_n = _largest(longest_n, tuning.batch_size, tuning.pass_tokens)
    layers_n = shape.weights_n - shape.vocabulary_n * shape.hidden_n
    if tuning.method == "full":  # gradients, and two moments of AdamW
        weights_n, trained_n = FULL_WIDTH * shape.parameters_n, 3 * FULL_WIDTH * shape.parameters_n
    else:
        frozen = NF4_WIDTH if tuning.quantization else width
        weights_n = int(frozen * layers_n) + width * (shape.parameters_n - layers_n)
        trained_n = 4 * FULL_WIDTH * tuning.rank * shape.adapted_n
    logits_n = min(LOGITS_AT_ONCE, tokens_n * shape.vocabulary_n)
    batch_n = training_bytes(lm, tokens_n, is_recomputed=is_recomputed) + FULL_WIDTH * logits_n
    return Memory(_process_n(lm), weights_n, trained_n, batch_n, tokens_n)


def _inference(lm: LanguageModel, tokens_n: int, batch_n: int) -> Memory:
    weights_n = width_of(lm) * shape_of(lm.model).parameters_n
    return Memory(_process_n(lm), weights_n, 0, batch_n, tokens_n)


def _process_n(lm: LanguageModel) -> int:
    return PROCESS_BYTES + WORD_BYTES * vocabulary_size(lm) if lm.device.type == "cpu" else GPU_BYTES


def _largest(longest_n: int, rows_n: int, tokens_n: int) -> int:
    """Return the number of tokens of the largest batch: at most `rows_n` rows and `tokens_n` tokens, but at least one row."""
    return max(longest_n, min(rows_n * longest_n, tokens_n))
