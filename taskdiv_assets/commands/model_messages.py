"""Lines about the replies of models: what `taskdiv annotations ask` got, and what `taskdiv annotations list` shows of it.

The lines contain texts of an endpoint, so commands must print them with `consoles.say`.
"""

from __future__ import annotations

from collections.abc import Sequence

from data_contracts import money
from taskdiv_assets.annotating.model_answers import Asked
from taskdiv_assets.annotating.replies import ANSWERED, Bill, ModelReply, bill, kinds
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.annotation_settings import Annotation, ChatModel

SHOWN_N = 10
SHOWN_CHARS = 80


def asked(experiment: Experiment, model: ChatModel, result: Asked) -> list[str]:
    """Return lines about one run of `annotations ask`: answers, cost, and the prompts that have none."""
    calls_n = sum(reply.calls_n for reply in result.replies)
    lines = [
        f"{model.model} has {result.share_n:,} unanswered prompts of these lists; {result.answers_n:,} answers stored"
    ]
    if result.replies:
        lines.append(f"{calls_n:,} calls, {of_kinds(result.replies)}{said(result.bill, experiment.annotation)}")
    if result.out_n:
        lines.append(f"not asked: {result.out_n:,} are on lists that people have")
    if result.known_n:
        lines.append(f"not asked again: {result.known_n:,} have a reply of this model")
    lines += without_answer(result.replies)
    if result.open_n:
        lines.append(
            f"open: {result.open_n:,} prompts; {result.calls_left_n:,} of {model.calls:,} `calls` are left. Run the command "
            "again, or raise `calls` under `annotation: {annotator: …}`"
        )
    return lines


def without_answer(replies: Sequence[ModelReply]) -> list[str]:
    """Return one line for each of the first replies that are no answer, and the number of the others."""
    bad = [reply for reply in replies if reply.kind != ANSWERED]
    lines = [f"no answer to {reply.prompt_id}: {reply.kind} ({reply.detail[:SHOWN_CHARS]})" for reply in bad[:SHOWN_N]]
    if len(bad) > SHOWN_N:
        lines.append(f"… and {len(bad) - SHOWN_N:,} more without an answer")
    if bad:
        lines.append("prompts without an answer stay in the list for people: taskdiv annotations export")
    return lines


def in_ledger(replies: Sequence[ModelReply], annotation: Annotation) -> list[str]:
    """Return a line for each annotating model with its replies so far, and their cost if the file has its prices."""
    lines = []
    for name in sorted({reply.model for reply in replies}):
        of_model = [reply for reply in replies if reply.model == name]
        model = annotation.annotator
        cost = said(bill(of_model, model), annotation) if model is not None and model.model == name else ""
        lines.append(f"model {name}: {sum(reply.calls_n for reply in of_model):,} calls, {of_kinds(of_model)}{cost}")
    return lines


def of_kinds(replies: Sequence[ModelReply]) -> str:
    return ", ".join(f"{n:,} {kind}" for kind, n in kinds(replies).items())


def said(bill: Bill, annotation: Annotation) -> str:
    """Return tokens and cost as the end of a line, with what is not counted."""
    text = f"; {bill.input_tokens:,} + {bill.output_tokens:,} tokens"
    if bill.cost is not None:
        text += f", {money.amount(float(money.to_the_cent(bill.cost)), annotation.currency)}"
    if bill.uncounted_n:
        text += f", without {bill.uncounted_n:,} replies whose tokens the endpoint did not count"
    return text
