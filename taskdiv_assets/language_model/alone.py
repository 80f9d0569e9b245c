"""Test two properties of a model that scoring and writing rely on.

First, a token does not change the logits at earlier positions. Second, decoding token by token over a key-value cache gives the
logits of one pass over the whole text. transformers also loads models without these properties, so we test each model.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from taskdiv_assets.language_model.batching import Group, as_batch, vocabulary_size
from taskdiv_assets.language_model.decoding import Decoding, NoCacheError
from taskdiv_assets.language_model.faults import first_line, refuse_full
from taskdiv_assets.language_model.loading import context_tokens

if TYPE_CHECKING:
    import torch

    from taskdiv_assets.language_model.loading import LanguageModel

SHORT_N, LONG_N, NEW_N = 13, 21, 3  # tokens of a short and a long test text, and tokens decoded after it
# Largest mean difference of log-probabilities over the vocabulary, in nats. Rounding causes less, and another text far more.
TOLERANCE, TOLERANCE_16_BITS = 1e-3, 0.2
NO_CACHE = "it keeps no key-value cache"


def why_not_causal(
    lm: LanguageModel,
    most_n: int | None = None,  # largest number of tokens of the test text
) -> str:
    """Return why a model is not causal; empty if it is causal, or if its logits are not finite.

    A model is not causal if the first logits of a test text depend on later tokens.
    """
    import torch

    long_n = min(LONG_N, most_n or LONG_N)
    short_n = max(1, long_n * SHORT_N // LONG_N)
    tokens = torch.tensor([_tokens(lm, long_n)], device=lm.device)
    with torch.inference_mode():
        whole = lm.model(input_ids=tokens, use_cache=False).logits[0, :short_n]
        alone = lm.model(input_ids=tokens[:, :short_n], use_cache=False).logits[0]
    if not bool(torch.cat([whole, alone]).isfinite().all()) or _is_same(whole, alone, lm.dtype):
        return ""
    return "what follows a token changes what it predicts"


def why_not_continued(lm: LanguageModel) -> str:
    """Return why a model cannot decode batches over a cache; an empty text if it can, or if it cannot be tested.

    It cannot be tested if its context is too short or its logits are not finite. Results are cached if the logits are finite.
    """
    if lm.model not in _CONTINUED:
        try:
            why = _compared(lm)
        except NoCacheError:
            why = NO_CACHE
        except Exception as error:  # any error of an architecture that does not support a position or a cache
            refuse_full(error)
            why = f"it fails over a cache ({type(error).__name__}: {first_line(error)})"
        if why is None:  # logits are not finite, perhaps only with this adapter, so the result is not cached
            return ""
        _CONTINUED[lm.model] = why
    return _CONTINUED[lm.model]


_CONTINUED: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()


def _compared(lm: LanguageModel) -> str | None:
    """Return why decoding over a cache fails; empty if it works or the context is too short; None if logits are not finite."""
    import torch

    if "past_key_values" not in inspect.signature(lm.model.forward).parameters:
        return NO_CACHE
    long_n = min(LONG_N, (context_tokens(lm) or 2 * LONG_N) - NEW_N)
    if long_n < 2:
        return ""
    text = _tokens(lm, long_n)
    texts = [text, text[::-1]]
    batch = as_batch(lm, texts, Group(np.arange(2), long_n, False), 2)
    with torch.inference_mode():
        decoding = Decoding(lm, batch, NEW_N)
        for step in range(NEW_N):
            found = decoding.next_logits()
            alone = [lm.model(input_ids=torch.tensor([text], device=lm.device), use_cache=False) for text in texts]
            expected = torch.stack([output.logits[0, -1] for output in alone])
            if not bool(expected.isfinite().all()):
                return None
            if not _is_same(found, expected, lm.dtype):
                return "over a cache it gives other numbers than for the whole text"
            tokens = expected.argmax(-1)
            texts = [[*text, int(token)] for text, token in zip(texts, tokens, strict=True)]
            if step == 0:
                decoding.go_on(tokens, None)
            elif step + 1 < NEW_N:  # as if the second text had ended
                decoding.go_on(tokens, torch.tensor([0], device=lm.device))
                texts = texts[:1]
    return ""


def _tokens(lm: LanguageModel, tokens_n: int) -> list[int]:
    """Return `tokens_n` tokens from the middle half of the vocabulary, where no special tokens are expected."""
    size = min(vocabulary_size(lm), lm.model.get_input_embeddings().weight.shape[0])
    return [size // 4 + (size // 2) * place // LONG_N for place in range(tokens_n)]


def _is_same(found: torch.Tensor, expected: torch.Tensor, dtype: str) -> bool:
    """Return True if logits, (places, vocabulary), agree within a tolerance: in 16 bits, at half of the places or more."""
    distances = (found.float().log_softmax(-1) - expected.float().log_softmax(-1)).abs().mean(-1)
    if dtype == "float32":
        return bool(distances.max() <= TOLERANCE)
    return bool(distances.median() <= TOLERANCE_16_BITS)  # rounding may select another expert at some places
