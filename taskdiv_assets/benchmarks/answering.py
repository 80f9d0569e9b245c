"""The answers of one model to the questions of a benchmark.

Questions are planned once for all adapters. Answers are yielded in batches, so that the caller can store each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from taskdiv_assets.benchmarks.encoding import Encoded, Encoder, is_greedy
from taskdiv_assets.language_model.continuation import Wanted, WritingPlan, can_write
from taskdiv_assets.language_model.faults import first_line, refuse_full
from taskdiv_assets.language_model.footprint import shape_of, work_of
from taskdiv_assets.language_model.likelihood import Asked, LikelihoodPlan
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.language_model.quiet import quiet_harness

HARNESS_BATCH = 8


class Answer(NamedTuple):
    """The answer of a model to one question: a generated text, or the log-likelihood (in nats) of a given answer."""

    text: str | None = None
    nats: float | None = None
    is_greedy: bool | None = None
    mean_probability: float | None = None  # of the given answer's tokens
    first_choice: float | None = None  # share of the given answer's tokens that are the likeliest at their position
    is_cut: bool | None = None  # whether the limit of new tokens ended the text; None: not known, or no generated text

    @property
    def response(self) -> str | tuple[float, bool]:
        """Return the answer in the form that lm-eval's tasks expect."""
        return self.text if self.text is not None else (float(self.nats or 0.0), bool(self.is_greedy))


Answers = dict[str, Answer]  # by the question's key


def cut_counts(answers: Iterable[Answer]) -> dict[str, int]:
    """Return `written_n`, the number of generated texts, and `cut_answers_n`, those that the limit of new tokens ended.

    Return {} if this is not known of some text. Earlier versions, and lm-eval's own loop, do not say it.

    >>> cut_counts([Answer("a", is_cut=True), Answer("b", is_cut=False), Answer(None, -1.0)])
    {'written_n': 2, 'cut_answers_n': 1}
    >>> cut_counts([Answer("a", is_cut=True), Answer("b")])
    {}
    """
    known = [answer.is_cut for answer in answers if answer.text is not None]
    return {} if None in known else {"written_n": len(known), "cut_answers_n": sum(map(bool, known))}


class Answerer:
    """The questions of one benchmark, planned for one model and its adapters. `Encoder` explains `as_trained` and `written`.

    `encode` turns a request into tokens. The default is `Encoder.encode`, which uses lm-eval's rules. With another `encode`, our
    own loop writes all answers.
    """

    def __init__(
        self,
        lm: LanguageModel,
        requests: Mapping[str, Any],
        *,
        as_trained: bool = False,
        written: Sequence[str] = (),
        encode: Callable[[Any], Encoded] | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.requests, self.shape = requests, shape_of(lm.model)
        self._encoder = partial(Encoder, lm, as_trained=as_trained, written=written)
        with quiet_harness():  # a tokenizer warns of each text that is longer than the context; `cut` counts them
            to_tokens = encode or self.encoder.encode
            encoded = {key: to_tokens(request) for key, request in requests.items()}
        self.cut = {key for key, one in encoded.items() if one.is_cut}
        self.asked = {key: one.question for key, one in encoded.items() if isinstance(one.question, Asked)}
        self.wanted = {key: one.question for key, one in encoded.items() if isinstance(one.question, Wanted)}
        self.likelihoods = LikelihoodPlan(lm, list(self.asked.values()), log)
        is_plain = encode is not None or (can_write(lm) and all(is_greedy(requests[key]) for key in self.wanted))
        self.by_harness = bool(self.wanted) and not is_plain
        self.writing = WritingPlan(lm, [] if self.by_harness else list(self.wanted.values()), log)
        if self.by_harness and log:
            log(
                "lm-eval's own loop writes the answers: the model's configuration or the task's generation_kwargs change what "
                "is written, or the model has no cache of keys and values"
            )

    @cached_property
    def encoder(self) -> Encoder:
        return self._encoder()

    def work(self) -> dict[str, int]:
        """Return the expected work for each question, in a unit that only serves to compare questions."""
        weighed = {key: (len(one.context), len(one.answer)) for key, one in self.asked.items()}
        written = {key: (len(one.context), one.new_n) for key, one in self.wanted.items()}
        return {key: work_of(self.shape, *sizes) for key, sizes in (weighed | written).items()}

    def run(self, known: Mapping[str, Answer]) -> Iterator[Answers]:
        """Yield answers, batch by batch, to the questions whose key is not in `known`."""
        keys = list(self.asked)
        for found in self.likelihoods.run(np.array([key in known for key in keys], np.bool_)):
            rows = zip(*(column.tolist() for column in found), strict=True)
            yield {keys[place]: Answer(None, *values) for place, *values in rows}
        keys = list(self.wanted)
        if not self.by_harness:
            for written in self.writing.run(np.array([key in known for key in keys], np.bool_)):
                rows = zip(written.positions, written.texts, written.is_cut, strict=True)
                yield {keys[place]: Answer(text, is_cut=is_cut) for place, text, is_cut in rows}
            return
        keys = [key for key in keys if key not in known]
        for start in range(0, len(keys), HARNESS_BATCH):
            some = keys[start : start + HARNESS_BATCH]
            texts = self._generated([self.requests[key] for key in some])
            yield {key: Answer(str(text)) for key, text in zip(some, texts, strict=True)}

    def _generated(self, requests: Sequence[Any]) -> list[str]:
        """Return the texts that lm-eval generates. Raise ValueError if this fails; an out-of-memory error is raised unchanged."""
        try:
            texts: list[str] = self.encoder.harness.generate_until(requests, disable_tqdm=True)
        except Exception as error:  # each architecture raises other exceptions
            refuse_full(error)
            name = type(self.encoder.harness.model).__name__
            raise ValueError(
                f"{name} cannot write answers ({type(error).__name__}: {first_line(error)}); "
                "use another base model, or benchmarks that are scored by log-likelihood"
            ) from error
        return texts
