"""What the base model's own continuation of a prompt looks like: one greedy pass, statistics taken while decoding.

In: prompts, already rendered into the experiment's template. Out: a column for each statistic of the confidence
table. No logits of past steps are kept, so memory does not grow with steps × vocabulary. Choosing the column that
is called `confidence` belongs to the asset; sampling prompts and resuming belong around `score`.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from taskdiv_assets.language_model.batching import Batch, fixed_batches, position_ids, tokenise
from taskdiv_assets.language_model.loading import LanguageModel, context_tokens, end_tokens

if TYPE_CHECKING:
    import torch

FloatArray = npt.NDArray[np.float64]
SMALLEST = float(np.finfo(np.float32).tiny)  # probabilities are floored here, so that none is 0


class Confidences(NamedTuple):
    """Statistics of each prompt's greedy continuation, all (n,); EOS counts as a token.

    Probabilities are those of the chosen tokens, margins the lead over the runner-up, entropies and log-probabilities
    in nats. `truncated` means that no EOS came within the tokens allowed. `truncated_prompts_n` counts prompts that
    lost their beginning to fit into the context, `tokens_n` generated tokens, `score_s` is wall time.
    """

    generated_n: npt.NDArray[np.int32]
    truncated: npt.NDArray[np.bool_]
    mean_probability: FloatArray
    first_probability: FloatArray
    min_probability: FloatArray
    sequence_log_probability: FloatArray
    mean_entropy: FloatArray
    mean_margin: FloatArray
    min_margin: FloatArray
    truncated_prompts_n: int
    tokens_n: int
    score_s: float

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The columns of the confidence table by name, without `prompt_id` and `confidence`."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, np.ndarray)}


class Step(NamedTuple):
    """What one decoding step says of each row, float32 but for the token."""

    token: torch.Tensor
    probability: torch.Tensor
    log_probability: torch.Tensor
    entropy: torch.Tensor
    margin: torch.Tensor


def score(
    lm: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    progress: Callable[[int, int], None] | None = None,
) -> Confidences:
    """Continue every prompt greedily and say how sure the model was.

    On a CPU in float32 with one thread, the statistics of a prompt are bit-identical whatever else is scored with it
    (`batching`). Prompts longer than the model's context less `max_new_tokens` lose their beginning, and are counted.

    Args:
        lm: a causal language model.
        prompts: n rendered prompts.
        max_new_tokens: tokens a continuation may have, EOS included.
        progress: called with (prompts done, prompts in all) after every batch.

    Raises:
        ValueError: a prompt without tokens, a context too short for `max_new_tokens`, or logits that are not finite.
    """
    import torch

    started = time.perf_counter()
    context = context_tokens(lm)
    limit = None if context is None else context - max_new_tokens
    if limit is not None and limit < 1:
        raise ValueError(
            f"max_new_tokens {max_new_tokens} leaves no room for a prompt in this model's context of {context} tokens; "
            f"set `confidence: {{max_new_tokens: …}}` below {context}"
        )
    tokens = tokenise(lm, prompts, limit)
    sums = Running(len(prompts))
    done_n = 0
    with torch.inference_mode():
        for batch in fixed_batches(lm, tokens.rows, limit):
            _continue(lm, batch, max_new_tokens, sums)
            done_n += len(batch.positions)
            if progress:
                progress(done_n, len(prompts))
    return sums.finish(tokens.truncated_prompts_n, time.perf_counter() - started)


class Running:
    """Sums and least values so far, float64, one row a prompt."""

    def __init__(self, count_n: int) -> None:
        self.generated_n = np.zeros(count_n, np.int32)
        self.has_ended = np.zeros(count_n, np.bool_)
        self.first_probability = np.full(count_n, np.nan)
        self.sums = np.zeros((4, count_n))  # probability, log-probability, entropy, margin
        self.least = np.full((2, count_n), np.inf)  # probability, margin

    def add(self, positions: npt.NDArray[np.int64], step: Step, is_open: npt.NDArray[np.bool_]) -> None:
        """Count one token of the prompts at `positions` whose row is still open."""
        import torch

        stacked = torch.stack([step.probability, step.log_probability, step.entropy, step.margin])
        values = stacked[:, : len(positions)].double().cpu().numpy()[:, is_open]
        rows = positions[is_open]
        if not np.isfinite(values).all():
            bad = rows[~np.isfinite(values).all(axis=0)][0]
            raise ValueError(
                f"the model's logits for the prompt in row {bad} are not finite (token {self.generated_n[bad] + 1} of "
                "its continuation): the weights are damaged, or the dtype overflows; try `base_model: {dtype: float32}`"
            )
        is_first = self.generated_n[rows] == 0
        self.first_probability[rows[is_first]] = values[0, is_first]
        self.generated_n[rows] += 1
        self.sums[:, rows] += values
        self.least[:, rows] = np.minimum(self.least[:, rows], values[[0, 3]])

    def finish(self, truncated_prompts_n: int, score_s: float) -> Confidences:
        """The means."""
        means = self.sums / np.maximum(self.generated_n, 1)
        return Confidences(
            generated_n=self.generated_n,
            truncated=~self.has_ended,
            mean_probability=means[0],
            first_probability=self.first_probability,
            min_probability=self.least[0],
            sequence_log_probability=self.sums[1],
            mean_entropy=means[2],
            mean_margin=means[3],
            min_margin=self.least[1],
            truncated_prompts_n=truncated_prompts_n,
            tokens_n=int(self.generated_n.sum()),
            score_s=score_s,
        )


def _continue(lm: LanguageModel, batch: Batch, max_new_tokens: int, running: Running) -> None:
    """Decode one batch greedily until every real row has ended; rows that ended keep their place, so shapes stay."""
    import torch

    accepted = inspect.signature(lm.model.forward).parameters
    takes_positions = "position_ids" in accepted or "kwargs" in accepted
    ends = torch.tensor(end_tokens(lm), device=lm.device)
    mask = torch.nn.functional.pad(batch.attention_mask, (0, max_new_tokens), value=1)
    positions = position_ids(mask)
    inputs, width = batch.input_ids, batch.input_ids.shape[1]
    is_open = np.ones(len(batch.positions), np.bool_)
    cache = None
    for index in range(max_new_tokens):
        extra: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        if takes_positions:
            extra["position_ids"] = positions[:, width - inputs.shape[1] : width]
        output = lm.model(
            input_ids=inputs, attention_mask=mask[:, :width], past_key_values=cache, use_cache=True, **extra
        )
        step = statistics(output.logits[:, -1])
        running.add(batch.positions, step, is_open)
        if len(ends):
            has_ended = torch.isin(step.token[: len(is_open)], ends).cpu().numpy() & is_open
            running.has_ended[batch.positions[has_ended]] = True
            is_open &= ~has_ended
        if not is_open.any() or index + 1 == max_new_tokens:
            return
        inputs, width, cache = step.token[:, None], width + 1, output.past_key_values


def statistics(
    logits: torch.Tensor,  # (rows, vocabulary)
) -> Step:
    """The greedy token and how sure it was, from one step's logits."""
    log_probabilities = logits.float().log_softmax(-1)
    probabilities = log_probabilities.exp()
    best, second = log_probabilities.topk(2, dim=-1).values.unbind(-1)
    top = best.exp()
    return Step(
        token=logits.argmax(-1),
        probability=top.clamp(min=SMALLEST),
        log_probability=best,
        entropy=-(probabilities * log_probabilities).sum(-1),
        margin=top - second.exp(),
    )
