"""A pool of prompts like Dolly's, scored on a card by our code and by transformers; the effect of other prompts in a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.language_model import confidence
from taskdiv_assets.language_model.faults import ran_out
from taskdiv_assets.language_model.loading import LanguageModel
from tests.benchmarks import scorers
from tests.benchmarks.gpu_speed import free_memory, seconds

# Lengths of Dolly's 15,011 prompts in the experiment's template, at four characters a token: the share of prompts that have
# at most so many tokens. The longest 1% are taken to be as long as the shortest of them.
DOLLY_TOKENS = {
    0.0: 9, 0.1: 16, 0.2: 18, 0.3: 20, 0.4: 22, 0.5: 26, 0.6: 35, 0.7: 72, 0.8: 176, 0.9: 301, 0.95: 459, 0.99: 1040,
    1.0: 1040,
}  # fmt: skip
PARTS_N = 4  # into so many pools the prompts are split, so that each has other companions
OURS, PLAIN = "ours", "`generate(output_logits=True)`, order given"


class Scored(NamedTuple):
    """The seconds of one side; None and the reason if the side failed."""

    name: str
    seconds: float | None
    problem: str = ""


class Drift(NamedTuple):
    """The change of the mean log-probability of a prompt (nats) between two scorings."""

    what: str
    median: float
    largest: float
    same_share: float  # prompts whose mean log-probability is the same to the last bit


def dolly_lengths(prompts_n: int, longest_n: int, seed: int = 0) -> NDArray[np.int64]:
    """Return token counts of prompts at equal steps of Dolly's distribution, in random order."""
    return lengths_like(DOLLY_TOKENS, prompts_n, longest_n, seed)


def lengths_like(tokens: Mapping[float, int], texts_n: int, longest_n: int, seed: int = 0) -> NDArray[np.int64]:
    """Return token counts of texts at equal steps of a distribution, in random order.

    Args:
        tokens: for each share of the texts, the largest number of tokens that this share has.
        texts_n: number of texts.
        longest_n: largest number of tokens.
        seed: seed of the order.
    """
    shares = (np.arange(texts_n) + 0.5) / texts_n
    logs = np.interp(shares, list(tokens), np.log(list(tokens.values())))
    lengths = np.minimum(np.rint(np.exp(logs)), longest_n).astype(np.int64)
    return np.random.default_rng(seed).permutation(lengths)


def end_to_end(
    lm: LanguageModel, prompts: Sequence[str], new_n: int, *, continuous_rows_n: int | None, log: Callable[[str], None]
) -> Iterator[Scored]:
    """Measure each side on all prompts after a few prompts as warm-up. A side that fails is reported, and the next side runs."""
    sides: list[tuple[str, scorers.Way]] = [
        (OURS, lambda lm, prompts, new_n: confidence.score(lm, prompts, max_new_tokens=new_n, log=log).columns),
        (PLAIN, scorers.generate),
        ("the same, sorted by length", scorers.generate_sorted),
        ("`generate` with a recording logits processor, sorted", scorers.generate_recording),
        ("continuous batching, fewer columns", partial(scorers.continuous, rows_n=continuous_rows_n, tokens_n=None)),
    ]
    for name, way in sides:
        yield _scored(lm, prompts, new_n, name, way)
        free_memory(lm)


def _scored(lm: LanguageModel, prompts: Sequence[str], new_n: int, name: str, way: scorers.Way) -> Scored:
    try:
        way(lm, prompts[:8], 2)
        return Scored(name, seconds(lm, lambda: way(lm, prompts, new_n)))
    except (RuntimeError, ValueError) as error:  # the scorer says in a ValueError that not even one prompt fits
        is_memory = isinstance(error, RuntimeError) and ran_out(error)
        return Scored(name, None, "out of memory" if is_memory else str(error).splitlines()[0][:200])


def drifts(lm: LanguageModel, prompts: Sequence[str], new_n: int) -> list[Drift]:
    """Return the drifts of a repeated scoring and of scoring in `PARTS_N` pools, by continuations and by own tokens."""
    found = []
    for of, what in (("continuation", f"own continuation, {new_n} tokens"), ("prompt", "the prompt's own tokens")):
        score = partial(_mean_logs, lm, new_n=new_n, of=of)
        together = score(prompts)
        found.append(_drift(f"{what}: scored again", together, score(prompts)))
        apart = np.empty_like(together)
        parts = np.random.default_rng(0).permutation(len(prompts)) % PARTS_N
        for part in range(PARTS_N):
            members = np.flatnonzero(parts == part)
            apart[members] = score([prompts[i] for i in members])
        found.append(_drift(f"{what}: other companions", together, apart))
    return found


def _mean_logs(lm: LanguageModel, prompts: Sequence[str], new_n: int, of: confidence.Of) -> NDArray[np.float64]:
    columns = confidence.score(lm, prompts, max_new_tokens=new_n, of=of).columns
    return np.asarray(columns["sequence_log_probability"] / columns["generated_n"])


def _drift(what: str, left: NDArray[np.float64], right: NDArray[np.float64]) -> Drift:
    moved = np.abs(left - right)
    return Drift(what, float(np.median(moved)), float(moved.max()), float((moved == 0).mean()))
