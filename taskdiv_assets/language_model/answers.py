"""Test whether a model's greedy continuation of a prompt starts with the known answer.

The model reads prompt and answer in one pass, and generates no text. At each place of the answer, the likeliest token must be
the answer's token, as in lm-eval's `is_greedy`. A correct answer in other words than the known answer counts as wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from taskdiv_assets.language_model.batching import Group, as_batch, groups, row_steps, shapes_of, vocabulary_size
from taskdiv_assets.language_model.confidence import rows_for_logits
from taskdiv_assets.language_model.counted import apart_of
from taskdiv_assets.language_model.footprint import fitting_tokens, reading
from taskdiv_assets.language_model.loading import NO_LIMIT, LanguageModel, context_tokens
from taskdiv_assets.language_model.memory import Room
from taskdiv_assets.language_model.token_statistics import statistics
from taskdiv_assets.language_model.tuning import IGNORED, Example, encode


class Judged(NamedTuple):
    """The results of `judge`, one for each of n prompts, (n,)."""

    is_right: npt.NDArray[np.bool_]  # the greedy continuation starts with the answer
    probability: npt.NDArray[np.float64]  # mean probability of the answer's tokens; NaN if there are none


def judge(
    lm: LanguageModel,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    with_end: bool,  # the EOS counts as the last token of the answer
    name_of: Callable[[int], str] = "in row {}".format,  # name of the i-th prompt in a message
) -> Judged:
    """Return whether each prompt's greedy continuation starts with its answer, and the mean probability of the answer's tokens.

    A prompt and an answer that do not fit into the context together are cut as in training (see `encode`). Raise ValueError if
    `with_end` is True and the tokenizer has no EOS.
    """
    limit = context_tokens(lm)
    room_n = limit or NO_LIMIT
    pairs = zip(prompts, answers, strict=True)
    examples = [Example(name_of(place), *pair) for place, pair in enumerate(pairs)]
    encoded = [encode(lm, example, room_n, has_end=with_end) for example in examples]
    rows, labels = [one.input_ids for one in encoded], [one.labels for one in encoded]
    is_right, probability = np.zeros(len(rows), np.bool_), np.full(len(rows), np.nan)

    def look(group: Group) -> None:
        import torch

        room.rows_now_n = len(group.positions)
        batch = as_batch(lm, rows, group, len(group.positions), "right")
        targets = np.full(tuple(batch.input_ids.shape), IGNORED, np.int64)
        for row, position in enumerate(group.positions):
            targets[row, : len(labels[position])] = labels[position]
        is_answer = torch.from_numpy(targets[:, 1:] != IGNORED).to(lm.device)
        logits, tokens = lm.model(input_ids=batch.input_ids, use_cache=False).logits[:, :-1], batch.input_ids[:, 1:]
        probabilities = statistics(logits, tokens).probability.double()
        is_greedy = ((logits.argmax(-1) == tokens) | ~is_answer).all(1) & is_answer.any(1)
        is_right[group.positions] = is_greedy.cpu().numpy()
        means = probabilities.where(is_answer, 0.0).sum(1) / is_answer.sum(1)
        probability[group.positions] = means.cpu().numpy()

    memory = reading(lm, max(map(len, rows), default=1))
    room = Room(lm.device, row_steps(lm).step, tokens_at_most=fitting_tokens(memory, lm.device))
    rows_of = partial(rows_for_logits, vocabulary_n=vocabulary_size(lm), steps=row_steps(lm), shapes=shapes_of(lm))
    for _ in room.run(groups(rows, limit, rows_of, apart_of(lm, "right")), look):
        pass
    return Judged(is_right, probability)
