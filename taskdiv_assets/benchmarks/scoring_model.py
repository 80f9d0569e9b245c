"""lm-eval's view of a model that is already loaded: quiet, counting, and cutting text where fine-tuning cuts it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskdiv_assets.benchmarks.quiet import quiet

if TYPE_CHECKING:
    from taskdiv_assets.language_model.loading import LanguageModel


def split(prompt: list[int], whole: list[int]) -> tuple[list[int], list[int]]:
    """Cut the tokens of prompt and answer together where they first differ from those of the prompt alone.

    This is TRL's rule for prompt/completion rows, so what is scored is what was trained. lm-eval's own rule counts
    blanks at the end of a prompt (a template that ends in a line break) as part of the answer.

    >>> split([5, 6, 7], [5, 6, 7, 8, 2]), split([5, 6, 7], [5, 6, 9, 2])
    (([5, 6, 7], [8, 2]), ([5, 6], [9, 2]))
    """
    shared_n = 0
    while shared_n < min(len(prompt), len(whole)) and prompt[shared_n] == whole[shared_n]:
        shared_n += 1
    return whole[:shared_n], whole[shared_n:]


def scoring_model(lm: LanguageModel, batch_size: int, on_item: Callable[[], None]) -> Any:
    """An HFLM over `lm`, which it leaves as it is. `on_item` is called once an answered request.

    Its `cut_prompts_n` counts prompts whose beginning was cut off because they do not fit into the model.
    The batch size is fixed: `auto` costs 10 s on a CPU, and would let the machine at hand change the batches.
    """
    from lm_eval.models.huggingface import HFLM

    class ScoringModel(HFLM):  # type: ignore[misc]  # lm-eval ships no types, so its class is Any to mypy
        cut_prompts_n = 0
        encoded: dict[tuple[str, str], tuple[list[int], list[int]]]

        def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
            """Tokens of prompt and answer, made once for all adapters."""
            pair = (context, continuation)
            if pair not in self.encoded:
                self.encoded[pair] = split(self.tok_encode(context), self.tok_encode(context + continuation))
            return self.encoded[pair]

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> Any:
            return super().loglikelihood(requests, disable_tqdm=True)

        def _loglikelihood_tokens(self, requests: list[Any], **settings: Any) -> Any:
            room_n = self.max_length + 1  # the last token is predicted, never read
            self.cut_prompts_n += sum(len(context) + len(answer) > room_n for _, context, answer in requests)
            return super()._loglikelihood_tokens(requests, **{**settings, "disable_tqdm": True})

        def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> Any:
            for context, settings in (request.args for request in requests):
                new_n = int(settings["max_gen_toks"])
                if new_n >= self.max_length:
                    raise ValueError(
                        f"`max_new_tokens` of the benchmark is {new_n}, but the model reads {self.max_length} tokens "
                        f"at most, prompt included; expected a number well below it, such as {self.max_length // 4}"
                    )
                self.cut_prompts_n += len(self.tok_encode(context)) > self.max_length - new_n
            return super().generate_until(requests, disable_tqdm=True)

    with quiet():
        # A copy of the tokenizer: lm-eval sets a padding token in place.
        model = ScoringModel(pretrained=lm.model, tokenizer=copy.deepcopy(lm.tokenizer), batch_size=batch_size)
    model.encoded = {}
    model.set_cache_hook(_ItemHook(on_item))
    return model


class _ItemHook:
    """lm-eval's own hook for caching: it is told each answer as it comes."""

    def __init__(self, on_item: Callable[[], None]) -> None:
        self.on_item = on_item

    def add_partial(self, _method: str, _request: object, _answer: object) -> None:
        """One request was answered."""
        self.on_item()
