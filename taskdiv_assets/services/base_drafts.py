"""Drafts by the base model: its own greedy continuation of each prompt, as the confidence of a continuation measures it.

The confidence tables hold statistics of the continuation, not its text, so the text is decoded here, with the same template and
the same limit of tokens. Texts are stored in parts, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa

from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.language_model.continuation import Wanted, WritingPlan
from taskdiv_assets.language_model.control import pieces, token_ids
from taskdiv_assets.language_model.loading import NO_LIMIT, context_tokens
from taskdiv_assets.services.scoring import load_base
from taskdiv_assets.storage.parts import Parts

BASE = "base"


class Continued(NamedTuple):
    """The continuation of one prompt."""

    key: str
    prompt_id: str
    text: str
    is_cut: bool
    written_at: datetime


def keys_of(lineage: Lineage, prompts: Mapping[str, str]) -> dict[str, str]:
    """Return for each prompt_id the key of its continuation: a hash of the model, the template, the limit and the prompt.

    Raises:
        ValueError: the experiment names no base model.
        StaleInputError: the base model is not stored. `taskdiv run EXPERIMENT --until base_model` stores it.
    """
    experiment = lineage.experiment
    model = lineage.fresh(Unit("base_model")).identity if experiment.base else ""
    rule = [BASE, model, _work(lineage).template, experiment.confidence.max_new_tokens]
    return {
        prompt_id: hashlib.sha256(json.dumps([*rule, prompt]).encode()).hexdigest()[:32]
        for prompt_id, prompt in prompts.items()
    }


def write_base_drafts(
    lineage: Lineage, prompts: Mapping[str, str], keys: Mapping[str, str], folder: str, schema: pa.Schema
) -> None:
    """Decode the continuation of each prompt, and store it as rows of `schema` in `folder`.

    Raise ValueError if the limit of tokens leaves no room for a prompt in the model's context.
    """
    if not prompts:
        return
    work = _work(lineage)
    lm, new_n = load_base(work), lineage.experiment.confidence.max_new_tokens
    room_n = (context_tokens(lm) or NO_LIMIT) - new_n
    if room_n < 1:
        raise ValueError(
            f"`confidence.max_new_tokens` is {new_n}, but the model reads {context_tokens(lm)} tokens, prompt included; expected "
            "a number well below it"
        )
    ids = [*prompts]
    tokens = token_ids(lm.tokenizer, list(map(pieces, work.render([*prompts.values()]))), "drafts: prompt {}".format)
    plan = WritingPlan(lm, [Wanted(tuple(row[-room_n:]), (), new_n) for row in tokens], log=work.log)
    parts, waiting = Parts(lineage.store, folder), list[Continued]()
    try:
        for written in plan.run():
            for place, text, is_cut in zip(written.positions, written.texts, written.is_cut, strict=True):
                waiting.append(Continued(keys[ids[place]], ids[place], text.strip(), is_cut, datetime.now(UTC)))
            if parts.is_due(len(waiting)):
                parts.put(_table(waiting, schema))
                waiting = []
    finally:  # store also after Ctrl-C
        if waiting:
            parts.put(_table(waiting, schema))


def _table(rows: list[Continued], schema: pa.Schema) -> pa.Table:
    columns: dict[str, list[object]] = {
        "key": [row.key for row in rows],
        "prompt_id": [row.prompt_id for row in rows],
        "kind": ["empty" if not row.text else "cut" if row.is_cut else "answered" for row in rows],
        "response": [row.text for row in rows],
        "detail": [""] * len(rows),
        "model": [BASE] * len(rows),
        "input_tokens": [None] * len(rows),
        "output_tokens": [None] * len(rows),
        "calls_n": [0] * len(rows),
        "asked_at": [row.written_at for row in rows],
    }
    return pa.table(columns, schema=schema)


def _work(lineage: Lineage) -> Work:
    """Return the argument of functions that load the base model. No asset is made, so nothing is logged."""
    unit = Unit("base_model")
    return Work(lineage.experiment, lineage.store, lineage, unit, lineage.expect(unit), lambda text: None)
