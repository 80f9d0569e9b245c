"""Turn examples, each a prompt and its known answer, into tokens, and mark the tokens that carry loss."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from taskdiv_assets.language_model.control import Piece, ids_of, pieces
from taskdiv_assets.language_model.loading import LanguageModel

IGNORED = -100  # the label of a token that carries no loss
NO_END = "the base model's tokenizer has no end-of-sequence token, so the model could not learn to end"


class Example(NamedTuple):
    """One prompt, already rendered by the experiment's template, and its known answer."""

    prompt_id: str
    prompt: str
    response: str


class Encoded(NamedTuple):
    """One example as tokens. The labels are IGNORED for the prompt, and the tokens themselves for the completion and its EOS."""

    input_ids: list[int]
    labels: list[int]
    is_cut: bool


def checked(examples: Sequence[Example]) -> list[Example]:
    """Return the examples sorted by prompt_id, then by answer. A prompt may have several answers, each an example of its own.

    Raise ValueError for an empty list, for a prompt with the same answer twice, or for a blank answer.
    """
    if not examples:
        raise ValueError("no examples to train on; expected at least one prompt with its answer")
    ordered = sorted(examples)
    for before, after in itertools.pairwise(ordered):
        if before == after:
            raise ValueError(f"prompt {after.prompt_id} occurs twice with the same answer; expected each example once")
    blank = [example.prompt_id for example in ordered if not example.response.strip()]
    if blank:
        raise ValueError(
            f"{len(blank)} of {len(ordered)} answers are blank, the first for prompt {blank[0]}; import answers"
        )
    return ordered


def encode(lm: LanguageModel, example: Example, room: int, *, has_end: bool = True) -> Encoded:
    """Return tokens and labels of one example, with its EOS if `has_end`. Raise ValueError if the tokenizer then has no EOS.

    As in TRL, the completion starts at the first token that differs from the tokens of the prompt alone. An example of more than
    `room` tokens loses the beginning of its prompt (except a BOS), until the example fits or the prompt takes half of `room`. If
    the example is still too long, its completion loses its end. TRL would cut the end of the whole example, and might lose the
    completion.
    """
    tokenizer: Any = lm.tokenizer
    if has_end and not tokenizer.eos_token:
        raise ValueError(NO_END)
    end = tokenizer.eos_token if has_end else ""
    before = pieces(example.prompt)
    whole = (*before, Piece(example.response, True), Piece(end, False))
    name = f"prompt {example.prompt_id} with its answer"
    prompt, both = (ids_of(tokenizer, parts, name) for parts in (before, whole))
    pairs = zip(prompt, both, strict=False)
    start = next((place for place, (left, right) in enumerate(pairs) if left != right), min(len(prompt), len(both)))
    completion_n = min(len(both) - start, max(room - start, room // 2))
    prompt_n = min(start, room - completion_n)
    has_bos = 0 < prompt_n < start and both[0] == tokenizer.bos_token_id
    kept = both[: int(has_bos)] + both[start - prompt_n + int(has_bos) : start] if prompt_n else []
    completion = both[start : start + completion_n]
    return Encoded(kept + completion, [IGNORED] * len(kept) + completion, len(both) > room)
