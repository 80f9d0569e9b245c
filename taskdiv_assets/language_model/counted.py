"""Test whether padding changes a model's results for a text.

MPT derives ALiBi from the length of the cache, GPT-Neo's local layers count places of the cache, and a recurrent state may run
over padding. No configuration states this, so a model reads a few short texts alone, and padded as in our batches.

Large models of the types in CLEAN are not tested. For 268 million parameters the test takes 50 s, and rounding exceeds the
threshold of the test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from taskdiv_assets.language_model.apart import Apart, switches_of
from taskdiv_assets.language_model.batching import Group, as_batch, vocabulary_size
from taskdiv_assets.language_model.decoding import Decoding, keys_and_values
from taskdiv_assets.language_model.faults import refuse_full
from taskdiv_assets.language_model.loading import NO_LIMIT, LanguageModel, context_of, context_tokens
from taskdiv_assets.language_model.prefixes import can_share

if TYPE_CHECKING:
    import torch

TEXT_N, REST_N = 24, 12  # tokens of the probe's prefix, and of its continuation
WINDOWS = (
    "sliding_window", "window_size", "local_attention", "attention_window_size", "attention_chunk_size", "attention_window",
)  # fmt: skip
# The probe's text is longer than a window of up to this size. With a larger window, a prefix is never shared, because the probe
# cannot show whether a gap changes results.
WINDOW_AT_MOST = 512
# Smallest deviation that is not rounding, relative to the logits' spread. Rounding is 1e-7 to 1e-6 in float32, 1e-2 in 16 bits.
FLOOR, FLOOR_OF_16_BITS = 1e-5, 3e-2
NOISE_TIMES = 4  # padding may change logits by this factor times the change that batching without padding makes


class Counted(NamedTuple):
    """The kinds of padding that change a model's results."""

    gap: bool = False  # between a prefix that is read once and its continuation; False if no prefixes are shared
    left: bool = False  # before a text
    right: bool = False  # after a text


# Types of models whose results change with padding. Earlier versions of this package padded their texts, so stored results differ
# from today's. Identities need this list, since they are computed before a model is loaded. The probe decides how texts are read.
# Decoders of translators, and encoders that are configured as decoders, count positions by places of the cache.
BY_PLACE = (
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "camembert", "data2vec-text", "git", "marian", "mbart", "mvp",
    "pegasus", "plbart", "roberta", "roberta-prelayernorm", "trocr", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
COUNTS: Mapping[str, Counted] = {
    **dict.fromkeys(("mpt", "gpt_neo", "roformer"), Counted(gap=True)),
    **dict.fromkeys(("bailing_hybrid", "deepseek_v4", "minimax_m3_vl_text"), Counted(left=True)),
    **dict.fromkeys(BY_PLACE, Counted(gap=True, left=True)),
}

LARGE = 20_000_000  # parameters
# Types whose results do not change with padding. Our tests run the probe on a small model of each type.
CLEAN = ("gemma3_text", "llama", "mistral", "qwen2", "qwen3", "smollm3")

EVERYTHING = Counted(gap=True, left=True, right=True)  # the safe answer if the test failed

_KNOWN: WeakKeyDictionary[Any, Counted] = WeakKeyDictionary()


def counted_padding(lm: LanguageModel) -> Counted:
    """Return which padding changes a model's results.

    A large model of a type in CLEAN is not tested, and only its `gap` can be True. If the test fails, the result is EVERYTHING.
    Other test results are cached.
    """
    if lm.model.config.model_type in CLEAN and is_large(lm):
        return Counted(gap=can_share(lm) and _is_beyond_reach(lm))
    if lm.model not in _KNOWN:
        found = probed(lm)
        if found is None:
            return EVERYTHING
        _KNOWN[lm.model] = found
    return _KNOWN[lm.model]


def is_large(lm: LanguageModel) -> bool:
    return bool(sum(weights.numel() for weights in lm.model.parameters()) >= LARGE)


def probed(lm: LanguageModel) -> Counted | None:
    """Run the test on one model. Return None if the test failed."""
    import torch

    with torch.inference_mode():
        return _Probe(lm).found()


def notes_of(config: Any) -> dict[str, Any]:
    """Return a model's entries for identities: which padding changes its results (see COUNTS), and `switches`.

    The entry `switches` lists only the switches (see `apart`) below the context length.
    """
    context_n = context_of(config)
    passed = [one for one in switches_of(config) if context_n is None or one < context_n]
    return {**COUNTS.get(config.model_type, Counted())._asdict(), "switches": passed}


def unexpected(lm: LanguageModel) -> str:
    """Return a message if padding changes the model's results and `notes_of` states the opposite; else an empty text."""
    found, noted = counted_padding(lm)._asdict(), notes_of(lm.model.config)
    other = [name for name, is_counted in found.items() if is_counted and not noted[name]]
    if not other:
        return ""
    return (
        f"{type(lm.model).__name__}: padding ({', '.join(other)}) changes this model's logits, which is not known of its type; "
        "texts are read without that padding, and results of earlier versions of this package may differ"
    )


def apart_of(lm: LanguageModel, padding: Literal["left", "right"], new_n: int = 0) -> Apart:
    """Return the rule for texts in one batch: padded on the side `padding`, with `new_n` tokens written after each text."""
    found = counted_padding(lm)
    return Apart(switches_of(lm.model.config), found.left if padding == "left" else found.right, new_n)


def _window_n(lm: LanguageModel) -> int:
    """Return the size of the model's smallest attention window in tokens; 0 if it has none."""
    config = lm.model.config.get_text_config()
    windows = [getattr(config, name, None) for name in WINDOWS]
    return min((size for size in windows if isinstance(size, int) and size > 0), default=0)


def _is_beyond_reach(lm: LanguageModel) -> bool:
    """Return True if the probe's text is too short to show whether a gap changes results."""
    return WINDOW_AT_MOST < _window_n(lm) < (context_tokens(lm) or NO_LIMIT)


class _Probe:
    """The test of one model. The model reads a random text alone, in padded batches, and as prefix, gap and continuation."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm
        # Longer than a small window, but within the context and all switches.
        room = min(context_tokens(lm) or NO_LIMIT, *switches_of(lm.model.config), NO_LIMIT) - 1
        self.rest_n = max(1, min(REST_N, room // 3))
        window_n = _window_n(lm)
        wanted = TEXT_N + (window_n if window_n <= WINDOW_AT_MOST else 0)
        self.long_n = max(2, min(wanted, room - self.rest_n))
        self.short_n = max(1, min(4, self.long_n - 1))
        self.size_n = self.long_n + self.rest_n
        random = np.random.default_rng(0)
        self.text = random.integers(0, vocabulary_size(lm), self.size_n + 1).tolist()
        self.threshold = 0.0

    def found(self) -> Counted | None:
        """Run the test. Return None if a pass over the text alone fails or has a non-finite logit.

        Raise the error if memory runs out.
        """
        sizes = [self.size_n, self.long_n, self.short_n]
        try:
            self.alone = {size: self._alone(size) for size in sorted({*sizes, *(one + 1 for one in sizes)})}
        except Exception as error:  # any error of an architecture
            refuse_full(error)
            return None
        if not all(bool(logits.isfinite().all()) for logits in self.alone.values()):
            return None
        floor = FLOOR if self.lm.dtype == "float32" else FLOOR_OF_16_BITS
        noise = self._error(lambda: self._decoded([self.long_n] * len(sizes)))
        decodes = noise < float("inf")  # infinite for a model without a key-value cache
        self.threshold = max(floor, NOISE_TIMES * min(noise, 10 * floor))
        is_shared = decodes and can_share(self.lm)
        return Counted(
            gap=is_shared and (_is_beyond_reach(self.lm) or self._counts(self._with_gap)),
            left=decodes and self._counts(lambda: self._decoded(sizes)),
            right=self._counts(lambda: self._padded_right(sizes)),
        )

    def _counts(self, read: Callable[[], list[tuple[torch.Tensor, int]]]) -> bool:
        return not self._error(read) <= self.threshold

    def _error(self, read: Callable[[], list[tuple[torch.Tensor, int]]]) -> float:
        """Return the largest relative deviation of `read`'s logits from the logits of the text alone.

        After an error of `read`, return infinity. Raise the error if memory runs out.
        """
        try:
            pairs = read()
        except Exception as error:  # any error of an architecture that does not support padding
            refuse_full(error)
            return float("inf")
        errors = []
        for logits, size in pairs:
            wanted = self.alone[size]
            errors.append(float((logits.float() - wanted).pow(2).mean().sqrt() / wanted.std().clamp(min=1e-30)))
        return max(errors)

    def _alone(self, size: int) -> torch.Tensor:
        logits: torch.Tensor = self.lm.model(input_ids=self._ids(self.text[:size]), use_cache=False).logits
        return logits[0, -1].float()

    def _decoded(self, sizes: Sequence[int]) -> list[tuple[torch.Tensor, int]]:
        rows = [self.text[:size] for size in sizes]
        width = max(sizes)
        group = Group(np.arange(len(rows)), width, min(sizes) < width)
        decoding = Decoding(self.lm, as_batch(self.lm, rows, group, len(rows)), 2)
        first = decoding.next_logits()
        decoding.go_on(self._ids([self.text[size] for size in sizes])[0], None)
        second = decoding.next_logits()
        return [*zip(first, sizes, strict=True), *zip(second, (size + 1 for size in sizes), strict=True)]

    def _with_gap(self) -> list[tuple[torch.Tensor, int]]:
        """Read a prefix once, then a short and a long continuation of the prefix in one batch, padded on the left."""
        start = self.long_n
        beginning = as_batch(self.lm, [self.text[:start]], Group(np.array([0]), start, False), 1)
        known = keys_and_values(self.lm, beginning)
        rests = [self.text[start : start + 1], self.text[start : self.size_n]]
        is_padded = self.rest_n > 1
        batch = as_batch(self.lm, rests, Group(np.arange(2), self.rest_n, is_padded), 2)
        logits = Decoding(self.lm, batch, 1, known).next_logits()
        return list(zip(logits, (start + 1, self.size_n), strict=True))

    def _padded_right(self, sizes: Sequence[int]) -> list[tuple[torch.Tensor, int]]:
        rows = [self.text[:size] for size in sizes]
        batch = as_batch(self.lm, rows, Group(np.arange(len(rows)), max(sizes), False), len(rows), "right")
        logits = self.lm.model(input_ids=batch.input_ids, use_cache=False).logits
        return [(logits[row, size - 1], size) for row, size in enumerate(sizes)]

    def _ids(self, tokens: list[int]) -> torch.Tensor:
        import torch

        return torch.tensor([tokens], device=self.lm.device)
