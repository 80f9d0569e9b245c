"""Check that a model gives the same numbers in our batches and over our cache as for a text alone.

We rely on two properties: later tokens change no prediction, so padding at the end is harmless, and a text that grows token by
token over a cache is read as if it were read whole. transformers loads models without the first (encoders) or the second, and
raises no error. So a few short passes test each model once. `counted` tests padding.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from taskdiv_assets.language_model.batching import Group, as_batch, vocabulary_size
from taskdiv_assets.language_model.decoding import Decoding, NoCacheError
from taskdiv_assets.language_model.faults import first_line
from taskdiv_assets.language_model.loading import context_tokens
from taskdiv_assets.language_model.memory import refuse_full

if TYPE_CHECKING:
    import torch

    from taskdiv_assets.language_model.loading import LanguageModel

SHORT_N, LONG_N, NEW_N = 13, 21, 3  # tokens of the two texts, and of what is decoded after them
# Nats by which log-probabilities may differ on average over the vocabulary: rounding stays below, another text far above.
TOLERANCE = {"float32": 1e-3}
TOLERANCE_16_BITS = 0.2
NO_CACHE = "it keeps no key-value cache"


class NotFiniteError(ValueError):
    """The logits of a text alone are not finite, so nothing can be compared with them."""


def why_not_causal(lm: LanguageModel, most_n: int | None = None) -> str:
    """Return why a model is not causal: predictions within a text differ from those for its beginning alone. Empty if it is.

    It is also empty for numbers that are not finite, which are refused where they are used. `most_n` is the model's context in
    tokens.
    """
    import torch

    long_n = min(LONG_N, most_n or LONG_N)
    short_n = max(1, long_n * SHORT_N // LONG_N)
    tokens = torch.tensor([_tokens(lm, long_n)], device=lm.device)
    with torch.inference_mode():
        whole = lm.model(input_ids=tokens, use_cache=False).logits[0, :short_n]
        alone = lm.model(input_ids=tokens[:, :short_n], use_cache=False).logits[0]
    if not _are_finite(whole, alone):
        return ""
    return "" if _is_same(whole, alone, lm.dtype) else "what follows a token changes what it predicts"


def why_not_continued(lm: LanguageModel) -> str:
    """Return why a model cannot be decoded in batches over a cache; empty if it can.

    Two texts without padding are decoded and compared with plain passes over each text alone. The answer is a property of the
    architecture: it is remembered for a loaded model, also for adapters over it.
    """
    if lm.model not in _CONTINUED:
        try:
            _CONTINUED[lm.model] = _compared(lm)
        except NotFiniteError:  # perhaps only with this adapter, so nothing is remembered
            return ""
        except NoCacheError:
            _CONTINUED[lm.model] = NO_CACHE
        except Exception as error:  # whatever an architecture raises for a position or a cache that it does not take
            refuse_full(error)
            _CONTINUED[lm.model] = f"it fails over a cache ({type(error).__name__}: {first_line(error)})"
    return _CONTINUED[lm.model]


_CONTINUED: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()


def _compared(lm: LanguageModel) -> str:
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
            if not _are_finite(expected):
                raise NotFiniteError
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


def _are_finite(*logits: torch.Tensor) -> bool:
    return all(bool(one.isfinite().all()) for one in logits)


def _tokens(lm: LanguageModel, tokens_n: int) -> list[int]:
    """Return different tokens from the middle half of the vocabulary, which has no control tokens."""
    size = min(vocabulary_size(lm), lm.model.get_input_embeddings().weight.shape[0])
    return [size // 4 + (size // 2) * place // LONG_N for place in range(tokens_n)]


def _is_same(found: torch.Tensor, expected: torch.Tensor, dtype: str) -> bool:
    """Compare logits, (places, vocabulary): all places in 32 bits; half of them in 16, where rounding may choose another expert.

    Logits that are not finite in a plain pass are damaged weights; scoring reports them with the prompt.
    """
    if not bool(expected.isfinite().all()):
        return True
    distances = (found.float().log_softmax(-1) - expected.float().log_softmax(-1)).abs().mean(-1)
    if dtype in TOLERANCE:
        return bool(distances.max() <= TOLERANCE[dtype])
    return bool(distances.median() <= TOLERANCE_16_BITS)
