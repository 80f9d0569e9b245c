"""Convert questions to the tokens that lm-eval's HFLM would read, with two exceptions (see `Encoder`)."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from taskdiv_assets.language_model.continuation import Wanted
from taskdiv_assets.language_model.control import Piece, control_names, ids_of, names_pattern
from taskdiv_assets.language_model.likelihood import Asked
from taskdiv_assets.language_model.loading import LanguageModel, context_tokens
from taskdiv_assets.language_model.quiet import quiet_harness

# Keys of `generation_kwargs` that only decide where an answer ends, or that have an effect only if answers are sampled.
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
PLAIN = ("until", *LENGTHS, "do_sample", "temperature", "top_p", "top_k")


class Encoded(NamedTuple):
    """A question as tokens."""

    question: Asked | Wanted
    is_cut: bool  # the beginning of the prompt was dropped, because the prompt is longer than the model's context


def is_greedy(request: Any) -> bool:
    """Return True if a request's `generation_kwargs` have only keys in PLAIN. `questions` has rejected requests that sample."""
    return set(request.args[1]) <= set(PLAIN)


def split(prompt: list[int], whole: list[int]) -> tuple[list[int], list[int]]:
    """Split the tokens `whole` of prompt and answer at the first token that differs from the tokens of the prompt alone.

    This is TRL's rule for prompt/completion rows, so the scored and the trained tokens are the same. lm-eval's rule is different:
    it counts blanks and line breaks at the end of a prompt as part of the answer.

    >>> split([5, 6, 7], [5, 6, 7, 8, 2]), split([5, 6, 7], [5, 6, 9, 2])
    (([5, 6, 7], [8, 2]), ([5, 6], [9, 2]))
    """
    shared_n = 0
    while shared_n < min(len(prompt), len(whole)) and prompt[shared_n] == whole[shared_n]:
        shared_n += 1
    return whole[:shared_n], whole[shared_n:]


class Encoder:
    """The converter of lm-eval's requests to tokens, for one loaded model. The model is not changed.

    The tokens differ from lm-eval's in two cases. First, if `as_trained`, prompt and answer are separated as in fine-tuning (see
    `split`). Second, special tokens in an item are read as plain text. `written` contains the texts that the tasks write around
    their items. If a special token occurs in `written`, it is read as a special token everywhere, also in items.

    Raises:
        ValueError: the model's tokenizer has neither a start nor an end token.
    """

    def __init__(self, lm: LanguageModel, *, as_trained: bool = False, written: Sequence[str] = ()) -> None:
        from lm_eval.models.huggingface import HFLM

        if lm.tokenizer.bos_token_id is None and lm.tokenizer.eos_token_id is None:
            raise ValueError(
                "the base model's tokenizer has neither a start nor an end token, but lm-eval needs one of them; set "
                "`eos_token` in tokenizer_config.json of the model's folder"
            )

        with quiet_harness():
            # The tokenizer is copied, because lm-eval sets the padding token of the object that it receives.
            tokenizer, context_n = copy.deepcopy(lm.tokenizer), context_tokens(lm)
            self.harness: Any = HFLM(pretrained=lm.model, tokenizer=tokenizer, batch_size=1, max_length=context_n)
        names = {name for name in control_names(tokenizer) if any(name in text for text in written)}
        self.own = re.compile(f"({names_pattern(names)})")
        # Consecutive requests have the same prompt: with this cache, 8,000 MMLU requests take 8.0 s instead of 10.7 s.
        self.harness.tok_encode = lru_cache(maxsize=4)(self._tokens)
        # lm-eval's own loop calls this method.
        self.harness.tok_batch_encode = partial(self._batch, self.harness.tok_batch_encode)
        self.as_trained = as_trained
        self.room_n = int(self.harness.max_length)

    def _tokens(self, text: str, add_special_tokens: bool | None = None) -> list[int]:
        """Return the tokens of a text by lm-eval's rules for a start token. Special tokens outside `written` are plain text."""
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        parts = self._pieces(text)
        start = self.harness.tok_decode([self.harness.prefix_token_id], skip_special_tokens=False)
        if add_special_tokens is None and start and parts[0].text == "" and len(parts) > 1 and parts[1].text == start:
            options = {"add_special_tokens": False}  # the task writes its start token itself
        return ids_of(self.harness.tokenizer, parts, "a question", **options)

    def _pieces(self, text: str) -> tuple[Piece, ...]:
        return tuple(Piece(part, place % 2 == 0) for place, part in enumerate(self.own.split(text)))

    def _with_end(self, text: str) -> list[int]:
        """Return the tokens of `text`, a prompt with its answer. An end token at the end of `text` is read as a special token."""
        before = text.removesuffix(str(self.harness.tokenizer.eos_token or ""))
        pieces = (*self._pieces(before), Piece(text[len(before) :], False))
        return ids_of(self.harness.tokenizer, pieces, "a question")

    def _batch(self, by_harness: Callable[..., Any], texts: list[str], **options: Any) -> Any:
        """Return the tokens of `_tokens` and their mask for lm-eval's own loop, padded on the left."""
        import torch

        ids, mask = by_harness(texts, **options)
        rows = [self._tokens(text) for text in texts]
        if [row[one.bool()].tolist() for row, one in zip(ids, mask, strict=True)] == rows:
            return ids, mask
        most_n = options.get("left_truncate_len") or self.room_n
        rows = [row[-most_n:] for row in rows]
        width, pad = max(map(len, rows)), self.harness.tokenizer.pad_token_id
        padded = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
        return padded, torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])

    def encode(self, request: Any) -> Encoded:
        """Return the tokens of one lm-eval request.

        Raises:
            ValueError: the prompt or the answer has no tokens, the answer or its maximum length leaves no room for a prompt in
                the model's context, or the tokenizer always reads the text of a special token as this token.
        """
        return self._asked(*request.args) if request.request_type == "loglikelihood" else self._wanted(*request.args)

    def _asked(self, context: str, answer: str) -> Encoded:
        before, after = self._parts(context, answer)
        if not before or not after or len(after) > self.room_n:
            raise ValueError(
                f"an answer of {len(after)} tokens after a prompt of {len(before)} cannot be scored by a model that reads "
                f"{self.room_n} tokens: {answer[:80]!r}; expected at least one token of each, and an answer that fits"
            )
        over_n = len(before) + len(after) - (self.room_n + 1)  # the model predicts the last token and does not read it
        return Encoded(Asked(tuple(before[max(0, over_n) :]), tuple(after)), over_n > 0)

    def _parts(self, context: str, answer: str) -> tuple[list[int], list[int]]:
        encode = self.harness.tok_encode
        if self.as_trained:
            return split(encode(context), self._with_end(context + answer))
        if context:
            parts: tuple[list[int], list[int]] = self.harness._encode_pair(context, answer)
            return parts
        first, tokens = self.harness.prefix_token_id, encode(answer, add_special_tokens=False)
        return (tokens[:1], tokens[1:]) if tokens[:1] == [first] else ([first], tokens)

    def _wanted(self, context: str, settings: dict[str, Any]) -> Encoded:
        from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

        rules = dict(normalize_gen_kwargs(settings, self.harness.max_gen_toks))
        eos = self.harness.eot_token_id  # None: the tokenizer has no end token, and only stop texts end an answer
        end = None if eos is None else self.harness.tok_decode(eos, skip_special_tokens=False)
        stop = handle_stop_sequences(rules["until"], eos=end)
        new_n = int(rules["max_gen_toks"])
        if new_n >= self.room_n:
            raise ValueError(
                f"`max_new_tokens` of the benchmark is {new_n}, but the model reads {self.room_n} tokens "
                f"at most, prompt included; expected a number well below it, such as {self.room_n // 4}"
            )
        tokens = self.harness.tok_encode(context)
        if not tokens:
            raise ValueError(f"the prompt {context!r} has no token for this model's tokenizer; expected some text")
        room_n = self.room_n - new_n
        return Encoded(Wanted(tuple(tokens[-room_n:]), tuple(stop), new_n), len(tokens) > room_n)
