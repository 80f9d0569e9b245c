"""The drafts of `taskdiv annotations export --drafts`, and lines about them and about what came back unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow as pa

from taskdiv_assets.annotating import drafts
from taskdiv_assets.annotating.drafts import Drafts
from taskdiv_assets.annotating.ledger import Entry
from taskdiv_assets.annotating.lists import Seeds
from taskdiv_assets.annotating.replies import SCHEMA, known, read_parts
from taskdiv_assets.commands import model_messages
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.storage.locks import hold


def drafts_for(
    kind: str | None, lineage: Lineage, cells: Sequence[Cell], seeds: Seeds, on_wait: Callable[[str], None]
) -> Drafts | None:
    """Return the drafts for the prompts that an export would send now; None for `kind` None.

    `kind` is base or endpoint (see `drafts.check`). Drafts that are stored are neither paid nor written again.
    """
    if kind is None:
        return None
    prompts = drafts.unsent(lineage, cells, seeds)
    if kind == "endpoint":
        return drafts.by_endpoint(lineage, prompts, on_wait=on_wait)
    return _by_base(lineage, prompts, on_wait)


def _by_base(lineage: Lineage, prompts: Mapping[str, str], on_wait: Callable[[str], None]) -> Drafts:
    from taskdiv_assets.services import base_drafts

    keys = base_drafts.keys_of(lineage, prompts)
    with hold(lineage.store, drafts.DRAFT_LOCK, on_wait=on_wait):
        there = known(read_parts(lineage.store, drafts.FOLDER))
        missing = {prompt_id: text for prompt_id, text in prompts.items() if keys[prompt_id] not in there}
        base_drafts.write_base_drafts(lineage, missing, keys, drafts.FOLDER, SCHEMA)
    return drafts.of_replies(base_drafts.BASE, keys, read_parts(lineage.store, drafts.FOLDER))


def sent(experiment: Experiment, found: Drafts | None) -> list[str]:
    """Return lines about the drafts of an export: how many, by whom, and what they cost."""
    if found is None:
        return []
    all_n = len(found.texts) + found.missing_n
    lines = [f"drafts: {len(found.texts):,} of {all_n:,} prompts have one, written by {found.writer}"]
    if found.bill is not None and found.replies:
        calls_n = sum(reply.calls_n for reply in found.replies)
        cost = model_messages.said(found.bill, experiment.annotation)
        lines.append(f"drafts: {calls_n:,} calls, {model_messages.of_kinds(found.replies)}{cost}")
    if found.missing_n and found.bill is not None:
        lines.append(
            f"without a draft: {found.missing_n:,}, because the model gave no text, or the `calls` under `annotation: "
            "{drafts: …}` are used up"
        )
    return lines


def kept(entries: Sequence[Entry], newest: pa.Table) -> Iterator[str]:
    """Yield a line for each annotator and task: how many drafts were left as they were."""
    for one in drafts.anchoring(newest, drafts.tasks_of(entries)):
        who = one.annotator or "annotators without a name"
        of_task = f" in {one.task}" if one.task else ""
        yield f"drafts left as they were: {one.kept_n:,} of {one.answers_n:,} by {who}{of_task}"
