"""Form batches so that a model's results for a prompt do not depend on the other prompts.

Three properties of a batch could change a prompt's results. First, the padding. So its length depends on the prompt's own length
only. Second, the number of rows, which decides which kernel multiplies matrices. From 16 rows on we saw one kernel only, and
`rows_matter` tests this processor. Third, a remainder: element-wise functions work on 32 numbers at once, and treat a remainder
differently. So the number of rows is chosen such that no remainder is left (see `RowSteps`).

On a CPU in float32 with one thread, a prompt's results are therefore bit-identical in any pool. Mixtures of experts are an
exception, because an expert multiplies rows of several prompts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from math import gcd
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from taskdiv_assets.language_model.apart import Apart
from taskdiv_assets.language_model.control import pieces, plain, token_ids
from taskdiv_assets.language_model.memory import cut

if TYPE_CHECKING:
    import torch

    from taskdiv_assets.language_model.loading import LanguageModel

SHORTEST = 4
EXACT_UP_TO = 16  # longer prompts are padded
KERNEL_ROWS = 16  # from this number of rows on, matrix products use one kernel
VECTOR = 32  # numbers that an element-wise function works on at once: two registers of 512 bits
TOGETHER = Apart()  # any prompts may share a batch, as for most models
LOGITS_AT_ONCE = 2**25  # largest number of logits in a pass over many positions; 128 MiB in float32
# Tokens of one pass over texts with answers, on a CPU, so that the data of the pass fit into the CPU's caches. With 8,192, the
# lab's items took 1.6 to 1.9 times as long, and MMLU over shared examples (hidden size 256) 1.5 to 1.9 times. With 512, the lab's
# items took 10% longer.
CPU_TOKENS = 1024
TOKENISED_AT_ONCE = 4096  # prompts; the tokenizer's own records took 6 GB for 96,628 prompts at once


class Shapes(NamedTuple):
    """Limits on the size of a batch. They may change the last digits of results, except on a CPU in float32."""

    rows: int = 512
    tokens: int = 8192  # tokens of prompts
    logits: int = 2**22  # logits of one step, 16 MiB in float32; statistics take several times as much


CPU_SHAPES = Shapes()
GPU_SHAPES = Shapes(tokens=65_536, logits=2**25)  # each step reads all weights once, whatever the number of rows
# Part of the identity of all results that are computed with these shapes.
FIXED_SHAPES = {
    "cpu": list(CPU_SHAPES),
    "gpu": list(GPU_SHAPES),
    "shortest": SHORTEST,
    "exact": EXACT_UP_TO,
    "vector": VECTOR,
}


Row = Sequence[int] | npt.NDArray[np.int32]


class Tokens(NamedTuple):
    """The tokens of every prompt, and the prompts that were cut to fit the model's context."""

    rows: list[npt.NDArray[np.int32]]
    cut: npt.NDArray[np.int64]  # positions of the prompts that were cut


class Group(NamedTuple):
    """Prompts that are computed together, padded to one length."""

    positions: npt.NDArray[np.int64]  # (r,) of the prompts in the list of all prompts
    length: int
    is_padded: bool


class Batch(NamedTuple):
    """A group as tensors. Rows after those of `positions` are copies of the first row that fill up the batch."""

    positions: npt.NDArray[np.int64]  # (real,) of the prompts in the first rows
    input_ids: torch.Tensor  # (rows, length)
    attention_mask: torch.Tensor  # (rows, length) 0 on the padding
    is_padded: bool  # False: the mask is 1 everywhere


def tokenise(
    lm: LanguageModel,
    prompts: Sequence[str],
    limit: int | None,
    *,
    name_of: Callable[[int], str] = "in row {}".format,
) -> Tokens:
    """Return the tokens of each prompt, and which prompts were cut.

    A prompt of more than `limit` tokens (None: no limit) loses its beginning, but keeps its BOS if `limit` is 2 or more.
    `name_of` returns a prompt's name for messages. Raise ValueError for a prompt without tokens, or as
    `control.token_ids` does.
    """
    rows: list[npt.NDArray[np.int32]] = []
    cut: list[int] = []
    for start in range(0, len(prompts), TOKENISED_AT_ONCE):
        some = list(prompts[start : start + TOKENISED_AT_ONCE])
        names = [f"prompt {name_of(start + place)}" for place in range(len(some))]
        read = token_ids(lm.tokenizer, list(map(pieces, some)), names.__getitem__)
        for place, tokens in enumerate(read, start):
            if not tokens:
                raise ValueError(
                    f"prompt {name_of(place)} ({plain(prompts[place])!r}) has no token for this model's tokenizer; remove it "
                    "from the pool, or add text to the prompt template"
                )
            if limit is not None and len(tokens) > limit:
                tokens = _end_of(tokens, limit, lm.tokenizer.bos_token_id)
                cut.append(place)
            rows.append(np.array(tokens, np.int32))
    return Tokens(rows, np.array(cut, np.int64))


def _end_of(tokens: list[int], limit: int, bos: int | None) -> list[int]:
    has_start = tokens[0] == bos and limit > 1
    return tokens[:1] + tokens[1 - limit :] if has_start else tokens[-limit:]


def padded_length(tokens_n: int, limit: int | None = None) -> int:
    """Return the length that a prompt is padded to.

    A prompt of up to 16 tokens keeps its length, but gets at least 4 tokens. A longer prompt is padded to a multiple of a power
    of two. This power is an eighth to a quarter of the prompt's length. There is at least one token of padding (except at
    `limit`), so that prompts of one padded length can share a group. Smaller powers would save a few per cent of the tokens, but
    double the number of groups.

    >>> [padded_length(n) for n in (1, 9, 16, 17, 32, 100, 500)], padded_length(500, 500)
    ([4, 9, 16, 20, 40, 112, 512], 500)
    """
    if tokens_n <= EXACT_UP_TO:
        return max(tokens_n, SHORTEST)
    step = 1 << (tokens_n.bit_length() - 3)
    length = -(-(tokens_n + 1) // step) * step
    return length if limit is None else max(min(length, limit), tokens_n)


class RowSteps(NamedTuple):
    """The allowed numbers of rows of a batch. With these, a prompt's results do not depend on the row in which the prompt is."""

    step: int  # at least KERNEL_ROWS; the number of rows may be any multiple
    least: int  # a smaller batch has a multiple of this number of rows, which is the same for all prompts of one length


def row_steps(lm: LanguageModel) -> RowSteps:
    """Return steps that leave no remainder for any width of a model's weights, nor for half of it, as rotary embeddings need."""
    widths = {size for weights in lm.model.parameters() for size in weights.shape} - {vocabulary_size(lm)}
    odd_widths = 2 * VECTOR // gcd(2 * VECTOR, *widths)
    least = max(odd_widths, VECTOR // gcd(VECTOR, vocabulary_size(lm)))
    return RowSteps(max(KERNEL_ROWS, least), least)


def rows_in_batch(length: int, vocabulary_n: int, steps: RowSteps, shapes: Shapes = CPU_SHAPES) -> int:
    """Return how many prompts of one length form a batch: a multiple of `steps.step` if this number fits, else of `steps.least`.

    >>> [rows_in_batch(n, 32_000, RowSteps(16, 1)) for n in (8, 100, 500, 1000, 9000)]
    [128, 80, 16, 8, 1]
    >>> [rows_in_batch(n, 181, RowSteps(32, 32)) for n in (8, 100, 500, 1000, 9000)]
    [512, 64, 32, 32, 32]
    """
    rows = min(shapes.rows, shapes.tokens // length, max(steps.step, shapes.logits // vocabulary_n))
    step = steps.step if rows >= steps.step else steps.least
    return max(rows // step * step, steps.least)


def keeps_bits(lm: LanguageModel) -> bool:
    """Return True on a CPU in float32. A prompt's results then do not depend on other prompts (exceptions: see the module)."""
    return lm.device.type == "cpu" and lm.dtype == "float32"


def shapes_of(lm: LanguageModel) -> Shapes:
    return CPU_SHAPES if lm.device.type == "cpu" else GPU_SHAPES


def vocabulary_size(lm: LanguageModel) -> int:
    return int(lm.model.config.get_text_config().vocab_size)


def groups(
    rows: Sequence[Row],
    limit: int | None,  # the largest length that a prompt may be padded to
    rows_of: Callable[[int], int],  # maps a length to the size of its groups
    apart: Apart = TOGETHER,
) -> list[Group]:
    """Group prompts by padded length, longest first so that memory runs out early. Prompts of one length keep their order."""
    sizes = np.array([len(tokens) for tokens in rows], np.int64)
    classes: dict[tuple[int, bool, tuple[int, int]], list[int]] = {}
    for size in np.unique(sizes).tolist():
        length = apart.longest(size, padded_length(size, limit))
        classes.setdefault((length, size < length, apart.key(size)), []).append(size)
    found = []
    for length, is_padded, key in sorted(classes, reverse=True):
        members = np.flatnonzero(np.isin(sizes, classes[length, is_padded, key]))
        starts = range(0, len(members), rows_of(length))
        found += [Group(members[i : i + rows_of(length)], length, is_padded) for i in starts]
    return found


def sorted_groups(rows: Sequence[Row], rows_of: Callable[[int], int], apart: Apart = TOGETHER) -> list[Group]:
    """Group prompts of similar length, longest first. Rounding depends on the other prompts.

    There are fewer groups than with the function `groups`.
    """
    sizes = np.array([len(tokens) for tokens in rows], np.int64)
    order = np.argsort(-sizes, kind="stable").tolist()
    batches = cut(order, lambda left: apart.run_n(sizes[left[: rows_of(int(sizes[left[0]]))]].tolist()))
    ends = ((some, int(sizes[some[0]]), int(sizes[some[-1]])) for some in batches)
    return [Group(np.array(some), longest_n, shortest_n < longest_n) for some, longest_n, shortest_n in ends]


def as_batch(
    lm: LanguageModel,
    rows: Sequence[Row],
    group: Group,
    rows_n: int,
    padding: Literal["left", "right"] = "left",
) -> Batch:
    """Return a group's tokens on the model's device, filled up to `rows_n` rows. Padding on the right needs no attention mask."""
    import torch

    filled = [*group.positions, *[group.positions[0]] * (rows_n - len(group.positions))]
    ids, mask = np.zeros((2, len(filled), group.length), np.int64)
    for row, position in enumerate(filled):
        tokens = rows[position]
        place = slice(group.length - len(tokens), None) if padding == "left" else slice(len(tokens))
        ids[row, place], mask[row, place] = tokens, 1
    return Batch(
        group.positions, torch.from_numpy(ids).to(lm.device), torch.from_numpy(mask).to(lm.device), group.is_padded
    )


def filled_rows(real_n: int, most_n: int, step: int | None) -> int:
    """Return the number of rows for `real_n` prompts: `real_n`, rounded up to a multiple of `step`.

    If `step` is None or above `most_n`, return `most_n`, or `real_n` if this is larger.

    >>> filled_rows(17, 128, 16), filled_rows(17, 128, None), filled_rows(3, 8, 16)
    (32, 128, 8)
    """
    return -(-real_n // step) * step if step and most_n >= step else max(most_n, real_n)


def rows_matter(lm: LanguageModel) -> bool:
    """Return True if, in a test on this processor, a row's results are not bit-identical in a small and in a large batch.

    The model reads four tokens, then a fifth over the cache, first in a batch of `RowSteps.step` rows, then with eight times as
    many rows.
    """
    import torch

    step = row_steps(lm).step
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary_size(lm), (8 * step, SHORTEST + 1), generator=random)
    accepted = signature(lm.model.forward).parameters
    last: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def logits(rows_n: int) -> torch.Tensor:
        prompt = lm.model(input_ids=ids[:rows_n, :-1], use_cache=True, **last)
        after = lm.model(input_ids=ids[:rows_n, -1:], past_key_values=prompt.past_key_values, use_cache=True, **last)
        return torch.stack([output.logits[:step, -1].clone() for output in (prompt, after)])

    with torch.inference_mode():
        return not torch.equal(logits(step), logits(8 * step))


def position_ids(attention_mask: torch.Tensor) -> torch.Tensor:
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)
