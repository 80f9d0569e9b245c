"""Choose, with reasons, whether a training packs examples into rows, and whether it recomputes activations.

The choice of packing follows from the examples, the model and the experiment. The identity of the result already depends on
these, so the choice itself is not a part of it. The choice to recompute activations follows from the free memory. It is not a
part of the identity either, because the result is bit-identical with both choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from taskdiv_assets.language_model.apart import switches_of
from taskdiv_assets.language_model.footprint import Shape, shape_of, training_bytes
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.language_model.memory import free_bytes
from taskdiv_assets.language_model.tuning.steps import IntArray, Layout, lay_out

if TYPE_CHECKING:
    from taskdiv_assets.tuning_settings import Tuning

# Rows are packed only if packing saves this share of the work, and if a step has this number of tokens. In a smaller step, the
# work takes only a small part of the time.
LEAST_SAVING = 0.10
LEAST_STEP_TOKENS_N = 1024
LOOKED_AT_STEPS_N = 64
ACTIVATIONS_SHARE = 0.6  # share of the free memory; the rest is for gradients, the optimiser and fragmentation
GIB = 2**30


class PackingChoice(NamedTuple):
    """The layout of examples in rows, and the reason for it."""

    layout: Layout
    reason: str


class RecomputeChoice(NamedTuple):
    """Whether activations are computed again in the backward pass (gradient checkpointing), and why."""

    is_on: bool
    reason: str


def choose_packing(
    lm: LanguageModel,
    lengths: IntArray,  # (N,) tokens of every example
    steps: Sequence[IntArray],  # positions of each step's examples
    tuning: Tuning,
    room: int,  # largest number of tokens of an example
) -> PackingChoice:
    """Choose the layout of rows; raise ValueError if packing is requested, but the model mixes the examples of one row."""
    switches = switches_of(lm.model.config)
    alone = Layout(tuning.pass_tokens, switches=switches)
    if tuning.packing is False:
        return PackingChoice(alone, "one example a row: the experiment file asks for it")
    is_flat = lm.model.config._attn_implementation == "flash_attention_2"  # takes one packed row of any length
    row_tokens_n = max(tuning.pass_tokens, room) if is_flat else max(room, int(lengths.max()))
    packed = Layout(tuning.pass_tokens, row_tokens_n, switches)
    looked_at = steps[:LOOKED_AT_STEPS_N]
    step_tokens_n = sum(int(lengths[step].sum()) for step in looked_at) / len(looked_at)
    if tuning.packing == "auto" and step_tokens_n < LEAST_STEP_TOKENS_N:
        return PackingChoice(alone, f"one example a row: a step has {step_tokens_n:,.0f} tokens, too few to matter")
    shape = shape_of(lm.model)
    saved = 1 - _work(shape, lengths, looked_at, packed, is_flat) / _work(shape, lengths, looked_at, alone, False)
    if tuning.packing == "auto" and saved < LEAST_SAVING:
        return PackingChoice(alone, f"one example a row: packed rows would be {_compared(saved)}")
    if not keeps_examples_apart(lm):
        if tuning.packing == "auto":
            return PackingChoice(alone, "one example a row: this model lets examples of a packed row see each other")
        raise ValueError(
            "`tuning.packing: true`, but this model lets examples of one row see each other; use `packing: false`"
        )
    said = "packed rows: the experiment file asks for it" if tuning.packing is True else "packed rows"
    return PackingChoice(packed, f"{said}, {_compared(saved)} than one example a row")


def _compared(saved: float) -> str:
    return f"{saved:.0%} less work" if saved >= 0 else f"{-saved:.0%} more work"


def widest_pass(lengths: IntArray, steps: Sequence[IntArray], layout: Layout) -> int:
    """Return the number of tokens of the largest pass of some steps, padding included."""
    passes = (rows for step in steps for rows in lay_out(step, lengths, layout))
    return max(len(rows) * max(int(lengths[list(row)].sum()) for row in rows) for rows in passes)


def keeps_examples_apart(lm: LanguageModel) -> bool:
    """Return True if the outputs for the second example of a row stay bit-identical when the first example is replaced."""
    import torch

    size = lm.model.get_input_embeddings().weight.shape[0]
    first, second = torch.arange(8) % size, torch.arange(16, 24) % size
    positions = torch.arange(8).repeat(2)[None].to(lm.device)
    outputs = []
    with torch.inference_mode():
        for before in (first, first.flip(0)):
            row = torch.cat([before, second])[None].to(lm.device)
            try:
                logits = lm.model(input_ids=row, position_ids=positions, use_cache=False).logits
            except TypeError:  # without position_ids the model cannot separate examples
                return False
            outputs.append(logits[:, 8:])
    return torch.equal(*outputs)


def choose_recompute(lm: LanguageModel, pass_tokens_n: int) -> RecomputeChoice:
    """Choose to keep a pass's activations if they take at most ACTIVATIONS_SHARE of the free memory, else to recompute them."""
    needed = training_bytes(lm, pass_tokens_n)
    free = free_bytes(lm.device)
    said = f"activations of {pass_tokens_n:,} tokens take about {needed / GIB:.2g} GiB, {free / GIB:.3g} GiB are free"
    if needed <= ACTIVATIONS_SHARE * free:
        return RecomputeChoice(False, f"kept: {said}")
    return RecomputeChoice(True, f"computed again in the backward pass: {said}")


def _work(shape: Shape, lengths: IntArray, steps: Sequence[IntArray], layout: Layout, is_flat: bool) -> float:
    """Return the number of multiplications in the forward passes of some steps, padding included.

    These are weights × tokens, plus 2 × layers × hidden size × pairs of tokens for attention.
    """
    total = 0.0
    for step in steps:
        for rows in lay_out(step, lengths, layout):
            fill = [int(lengths[list(row)].sum()) for row in rows]
            tokens_n = len(rows) * max(fill)
            pairs_n = float(np.square(lengths[np.concatenate(rows)]).sum()) if is_flat else tokens_n * max(fill)
            total += shape.weights_n * tokens_n + 2 * shape.layers_n * shape.hidden_n * pairs_n
    return total
