"""Send questions about prompts to a model, and store each reply as soon as it arrives.

A killed process loses only the calls that are open at that moment, at most `parallel` ones. Every other reply is in the store, so
no question is paid twice. `calls` limits all calls of an experiment, repeated ones included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from taskdiv_assets.annotating.replies import FAILED, ModelReply, reply_of, to_table
from taskdiv_assets.chat.crew import SPENT, ClientOptions, Crew, Outcome
from taskdiv_assets.chat.endpoint import ANNOTATOR, Endpoint, Question
from taskdiv_assets.experiment.annotation_settings import ChatModel
from taskdiv_assets.storage.machine import machine
from taskdiv_assets.storage.parts import Parts
from taskdiv_assets.storage.store import Store

HOPELESS_N = 10  # failures in a row, after which the endpoint is the likely cause
LAST_REPLIES_S = 10.0  # how long open calls may take to end after an error or Ctrl-C; their replies are paid
BEAT_S = 1.0

OnProgress = Callable[[int, int], None]


def open_endpoint(model: ChatModel, options: ClientOptions) -> Endpoint:
    """Return the endpoint of a model without a request. Raise ValueError if address, key or client library cannot be used."""
    found = machine()
    if not found.annotator_url:
        raise ValueError(
            f"the model {model.model!r} is named under `annotation`, but $TASKDIV_ANNOTATOR_URL is not set; set it to an "
            "OpenAI-compatible address such as https://host/v1, and $TASKDIV_ANNOTATOR_KEY to its key"
        )
    return Endpoint(
        model.model,
        url=found.annotator_url,
        key=found.annotator_key.get_secret_value(),
        timeout_s=options.timeout_s,
        max_tokens=model.max_new_tokens,
        service=ANNOTATOR,
    )


def ask(
    store: Store,
    folder: str,  # of the store; each reply becomes a part in it
    model: ChatModel,
    questions: Mapping[str, Question],  # by prompt_id, in the order in which they are asked
    left_n: int,  # calls that may still be made
    *,
    options: ClientOptions | None = None,
    on_progress: OnProgress | None = None,  # receives (finished, all)
) -> list[ModelReply]:
    """Ask a model, store the replies, and return them. Questions that the limit of calls leaves open are not returned.

    Prompts with the same question share one call, and only the first of them is returned.

    Raises:
        ValueError: the endpoint will answer no question (see `chat.endpoint`), or HOPELESS_N questions in a row failed.
    """
    options = options or ClientOptions()
    endpoint = open_endpoint(model, options)
    prompt_of = {question.key: prompt_id for prompt_id, question in reversed([*questions.items()])}
    distinct = [question for prompt_id, question in questions.items() if prompt_of[question.key] == prompt_id]
    parts, found, seen_n = Parts(store, folder), list[ModelReply](), 0
    crew = Crew(endpoint, distinct, parallel=model.parallel, options=options, calls_n=max(left_n, 0))

    def keep(outcome: Outcome) -> None:
        if outcome.calls_n:
            found.append(reply_of(outcome, prompt_of[outcome.key], model.model))
            parts.put(to_table(found[-1:]))

    try:
        while seen_n < len(distinct):
            if (outcome := crew.next_outcome(BEAT_S)) is None:
                continue
            seen_n += 1
            keep(outcome)
            if on_progress is not None:
                on_progress(seen_n, len(distinct))
            _refuse_hopeless(endpoint, found)
    finally:
        for outcome in crew.stop(LAST_REPLIES_S):
            keep(outcome)
        endpoint.close()
    return found


def _refuse_hopeless(endpoint: Endpoint, found: Sequence[ModelReply]) -> None:
    last = found[-HOPELESS_N:]
    if len(last) == HOPELESS_N and all(reply.kind == FAILED and reply.detail != SPENT for reply in last):
        raise ValueError(
            f"{endpoint.name} gave no answer to {HOPELESS_N} questions in a row (the last time: {last[-1].detail}); "
            "run again when it answers, replies so far are kept"
        )
