"""LoRA with a model of a 7B's shape on a card: tokens a second, memory, share of the bound.

The base model is in 16 and in 4 bits. The bound counts only necessary operations, at the measured rate of a matrix product. A
frozen weight is multiplied twice with each token: in the forward pass, and for the gradient of the layer's input (4 operations
for each weight and token). LoRA's weights are multiplied three times (6 operations), and the head only with tokens that carry
loss. The attention itself is not counted. If activations are computed again, the worked share also counts the second forward
pass (2 more operations for each weight and token). The worked share shows how busy the card is, not how far the training is
from the bound.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.language_model import tuning as package
from taskdiv_assets.language_model.faults import ran_out
from taskdiv_assets.language_model.tuning import Base, Example, tune
from taskdiv_assets.tuning_settings import Tuning
from tests.benchmarks.fresh import _forget_peak, _memory_mib
from tests.benchmarks.gpu_scoring import lengths_like
from tests.benchmarks.random_llama import Shape, random_prompts

# Tokens of Dolly's 15,011 prompts with their answers, at four characters a token: the share that has at most so many. The
# longest 1% are taken to be as long as the shortest of them; 46% of the tokens are the answers'.
DOLLY_TOKENS = {
    0.0: 9, 0.1: 29, 0.2: 43, 0.3: 63, 0.4: 86, 0.5: 116, 0.6: 155, 0.7: 209, 0.8: 285, 0.9: 429, 0.95: 619, 0.99: 1328,
    1.0: 1328,
}  # fmt: skip
ANSWER_SHARE = 0.46
# QLoRA's set-up for a 7B, as in the experiment `dolly`.
RECIPE = Tuning(
    rank=64, alpha=16, dropout=0.1, learning_rate=2e-4, scheduler="constant_with_warmup", warmup_ratio=0.0, epochs=1,
    max_grad_norm=0.3,
)  # fmt: skip
UNTIMED_N = 2  # first steps, in which memory is asked for and kernels are chosen
GIB = 2**30


class Tuned(NamedTuple):
    """The result of one training; None and the reason if the training failed.

    Attributes:
        what: number format of the base model, and the examples.
        tokens_s: real tokens a second in forward pass, backward pass and optimiser; padding is not counted.
        share: share of the bound.
        worked_share: the same share, including operations that were repeated.
        peak_gib: largest use of the card's memory, including the model.
        choices: the choices of rows and activations.
        problem: reason why there is no result.
    """

    what: str
    tokens_s: float | None = None
    share: float | None = None
    worked_share: float | None = None
    peak_gib: float | None = None
    choices: str = ""
    problem: str = ""


class Work(NamedTuple):
    long_n: int = 2_048  # tokens of an example, and of a row, at most
    batch_size: int = 16
    steps_n: int = 8
    rank: int = 64


@dataclass
class Stopwatch:
    """Seconds, tokens and highest memory of the steps after the first ones."""

    is_cuda: bool
    started: float = 0.0
    before_n: int = 0
    seconds: float = 0.0
    tokens_n: int = 0
    peak_gib: float = 0.0

    def on_step(self, done: int, steps_n: int, loss: float, tokens_n: int) -> None:
        import torch

        if done not in (UNTIMED_N, steps_n):
            return
        if self.is_cuda:
            torch.cuda.synchronize()
        if done == UNTIMED_N:
            if self.is_cuda:
                torch.cuda.reset_peak_memory_stats()
            else:
                _forget_peak()
            self.started, self.before_n = time.perf_counter(), tokens_n
        else:
            self.seconds, self.tokens_n = time.perf_counter() - self.started, tokens_n - self.before_n
            self.peak_gib = torch.cuda.max_memory_allocated() / GIB if self.is_cuda else _memory_mib("VmHWM") / 1024


def trainings(
    folder: Path, shape: Shape, dtype: str, attention: str, multiplied: float | None, work: Work
) -> Iterator[Tuned]:
    """Train with both number formats, on Dolly's lengths (packed) and on full rows. If a training fails, the next one runs.

    Args:
        folder: folder of a saved model with this shape.
        shape: shape of the model.
        dtype: number format of its weights.
        attention: attention implementation.
        multiplied: operations a second in a matrix product on this card; None if this was not measured.
        work: sizes.
    """
    lengths = lengths_like(DOLLY_TOKENS, work.batch_size * work.steps_n, work.long_n)
    sequences = [
        ("Dolly's lengths, packed", lengths, True),
        (f"{work.long_n:,} tokens each", np.full_like(lengths, work.long_n), False),
    ]
    for quantization, numbers in ((None, dtype), ("nf4", "nf4")):
        for said, some, packing in sequences:
            update = {"rank": work.rank, "batch_size": work.batch_size, "max_length": work.long_n}
            tuning = RECIPE.model_copy(update={**update, "quantization": quantization, "packing": packing})
            what = f"LoRA over {numbers}, {said}"
            yield _trained_or_not(what, Base(folder, dtype, attention), shape, some, tuning, multiplied)


def _trained_or_not(
    what: str, base: Base, shape: Shape, lengths: NDArray[np.int64], tuning: Tuning, multiplied: float | None
) -> Tuned:
    import torch

    try:
        return trained(what, base, shape, lengths, tuning, multiplied)
    except (RuntimeError, ValueError) as error:  # no bitsandbytes is a ValueError
        is_memory = isinstance(error, RuntimeError) and ran_out(error)
        problem = "out of memory" if is_memory else str(error).splitlines()[0][:200]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # after the error is gone, and with it what its frames held
    return Tuned(what, problem=problem)


def trained(
    what: str, base: Base, shape: Shape, lengths: NDArray[np.int64], tuning: Tuning, multiplied: float | None
) -> Tuned:
    """Train once by `tune`, as an experiment does."""
    import torch

    watch = Stopwatch(torch.cuda.is_available())
    rows, learnt_share = examples(lengths, shape.vocabulary)
    with tempfile.TemporaryDirectory() as out, mock.patch.object(package, "fit", wraps=package.fit) as fit:
        choices = tune(base, rows, tuning, seed=0, out=Path(out), on_step=watch.on_step).choices
    tokens_s = watch.tokens_n / watch.seconds
    shares: list[float | None] = [None, None]
    if multiplied:
        both = (False, bool(fit.call_args.kwargs["recompute"]))
        needed = (operations(shape, tuning.rank, learnt_share, is_again=is_again) for is_again in both)
        shares = [tokens_s * each / multiplied for each in needed]
    said = ", ".join(choices[name].split(":")[0].split(",")[0] for name in ("rows", "activations"))
    return Tuned(what, tokens_s, *shares, watch.peak_gib, f"{said} (activations); {choices['passes'].split(',')[0]}")


def examples(lengths: Sequence[int] | NDArray[np.int64], vocabulary_n: int) -> tuple[list[Example], float]:
    """Return random examples of these lengths, including the EOS, and the share of their tokens that carry loss."""
    answers = np.maximum(np.rint(ANSWER_SHARE * np.asarray(lengths)).astype(int) - 1, 1)
    prompts = np.asarray(lengths) - answers - 1
    words_n = vocabulary_n - 1  # the last one is the EOS
    texts = zip(random_prompts(prompts, words_n, seed=0), random_prompts(answers, words_n, seed=1), strict=True)
    rows = [Example(f"{place:05}", f"{prompt} ", answer) for place, (prompt, answer) in enumerate(texts)]
    return rows, float((answers + 1).sum() / np.sum(lengths))


def operations(shape: Shape, rank: int, learnt_share: float, *, is_again: bool) -> float:
    """Return the multiplications and additions for each token, with LoRA on all linear layers except the head.

    Args:
        shape: shape of the model.
        rank: rank of the adapter.
        learnt_share: share of the tokens that carry loss.
        is_again: activations are computed again in the backward pass.
    """
    wide, narrow = shape.intermediate, shape.hidden
    inner = shape.layers * (4 * narrow * narrow + 3 * narrow * wide)
    added = shape.layers * rank * (4 * 2 * narrow + 3 * (narrow + wide))
    head = narrow * shape.vocabulary
    return 4.0 * (inner + head * learnt_share) + 6.0 * added + (2.0 * (inner + added) if is_again else 0.0)
