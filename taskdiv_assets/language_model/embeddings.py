"""A prompt as a vector: the base model's last hidden state, averaged over the prompt's tokens, of length 1.

In: prompts, already rendered. Out: one float16 row a prompt. Storing them belongs to the asset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from taskdiv_assets.language_model.batching import fixed_batches, tokenise
from taskdiv_assets.language_model.loading import LanguageModel, context_tokens


def embed(
    lm: LanguageModel,
    prompts: Sequence[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float16]:
    """Embed every prompt.

    Args:
        lm: a causal language model; its last hidden state is the one that the output layer reads.
        prompts: n rendered prompts; the beginning of one that is longer than the context is cut.
        progress: called with (prompts done, prompts in all) after every batch.

    Returns:
        (n, d), L2-normalised in float64 before the cast to float16.

    Raises:
        ValueError: a prompt without tokens, or a hidden state that is not finite.
    """
    import torch

    limit = context_tokens(lm)
    rows = tokenise(lm, prompts, limit).rows
    width = lm.model.config.get_text_config().hidden_size
    vectors = np.zeros((len(prompts), width), np.float16)
    done_n = 0
    with torch.inference_mode():
        for batch in fixed_batches(lm, rows, limit, padding="right"):
            # No attention mask: attention is causal, so padding at the end is never looked at by a real token.
            output = lm.model.base_model(input_ids=batch.input_ids, use_cache=False)
            hidden = output.last_hidden_state[: len(batch.positions)]
            mask = batch.attention_mask[: len(batch.positions), :, None].bool()
            sums = hidden.float().masked_fill(~mask, 0).sum(1, dtype=torch.float64)  # (real, d)
            vectors[batch.positions] = _unit(sums.cpu().numpy(), batch.positions).astype(np.float16)
            done_n += len(batch.positions)
            if progress:
                progress(done_n, len(prompts))
    return vectors


def _unit(sums: npt.NDArray[np.float64], positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Rows of length 1; a sum points where the mean does."""
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    is_bad = ~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0))
    if is_bad.any():
        raise ValueError(
            f"the model's hidden state for the prompt in row {positions[is_bad][0]} is zero or not finite: the weights "
            "are damaged, or the dtype overflows; try `base_model: {dtype: float32}`"
        )
    unit: npt.NDArray[np.float64] = sums / norms
    return unit
