"""Compute a model's loss on held-out examples: prompts that the model was not trained on, with their known answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from taskdiv_assets.language_model.apart import switches_of
from taskdiv_assets.language_model.batching import vocabulary_size
from taskdiv_assets.language_model.likelihood import logits_at
from taskdiv_assets.language_model.loading import context_tokens, load
from taskdiv_assets.language_model.quiet import quiet
from taskdiv_assets.language_model.token_statistics import likeliest_and_log_sum
from taskdiv_assets.language_model.tuning import Base, Example, encode
from taskdiv_assets.language_model.tuning.steps import Layout, batch_of, lay_out, learnt_tokens_n
from taskdiv_assets.language_model.tuning.training_examples import IGNORED, checked
from taskdiv_assets.language_model.tuning.trl_parts import tensors

PASS_TOKENS_N = 4096
PASS_LOGITS_N = 2**28  # of all tokens of a pass, 1 GiB; only the logits of completions are computed


def validation_loss(
    base: Base,
    adapter: Path | None,  # a folder that `tune` wrote, with an adapter or a full model; None for the base model
    examples: Sequence[Example],
    max_length: int,  # largest number of tokens of an example, as in training
    progress: Callable[[int, int], None] | None = None,  # called with (examples done, examples in all)
) -> float:
    """Return the mean loss over the completion tokens of the examples, EOS included, in nats a token; 0 without such tokens."""
    import torch

    is_whole = adapter is not None and not (adapter / "adapter_config.json").exists()
    lm = load(adapter if adapter is not None and is_whole else base.folder, dtype=base.dtype, attention=base.attention)
    model: Any = lm.model
    if adapter is not None and not is_whole:
        from peft import PeftModel

        with quiet():
            model = PeftModel.from_pretrained(lm.model, str(adapter))
    model.eval()
    room = min(max_length, context_tokens(lm) or max_length)
    rows = [encode(lm, example, room) for example in checked(examples)]
    lengths = np.array([len(row.input_ids) for row in rows])
    total, done_n = 0.0, 0
    pass_n = min(PASS_TOKENS_N, max(1, PASS_LOGITS_N // vocabulary_size(lm)))
    layout = Layout(pass_n, switches=switches_of(lm.model.config))
    for part in lay_out(np.arange(len(rows)), lengths, layout):
        batch = tensors(batch_of(rows, part, is_packed=False, padding=0), lm.device)
        labels = batch.pop("labels")[:, 1:]
        places = (labels != IGNORED).nonzero().T
        with torch.inference_mode():
            logits = logits_at(lm, model, {**batch, "use_cache": False}, *places)
            own = logits.gather(-1, labels[tuple(places)][:, None])[:, 0]
            total += float((likeliest_and_log_sum(logits)[1] - own).double().sum())
        done_n += len(part)
        if progress:
            progress(done_n, len(rows))
    return total / max(learnt_tokens_n(rows, np.arange(len(rows))), 1)
