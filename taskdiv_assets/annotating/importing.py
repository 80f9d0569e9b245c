"""Bring answers back: judge a file's rows, report what cannot be used, store the rest as one immutable file.

In: an experiment's store and a file that was read. Out: `annotations/<sha256>.parquet`, named by what it holds, and a report
beside the user's file. Which answer counts among several imports is decided in `answers`.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

import data_contracts
from taskdiv_assets.annotating import ledger, problems
from taskdiv_assets.annotating.answer_files import Answer, AnswerFile
from taskdiv_assets.annotating.exporting import LOCK
from taskdiv_assets.annotating.judging import judge
from taskdiv_assets.annotating.resolving import PoolIds, bare, resolve
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.known_answers import imported_table, newest_annotations
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools import copies
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.locks import hold
from taskdiv_assets.storage.store import Store, home


class Import(NamedTuple):
    """What came back.

    Attributes:
        answers_n: that are stored.
        prompts_n: prompts they are for.
        batch: name of the stored file, by what it holds.
        is_new: False for answers that were stored before and still count.
        left_out: rows that cannot be used, listed in `report`.
        replaced_n: prompts that had another answer from an earlier import.
    """

    answers_n: int
    prompts_n: int
    batch: str
    is_new: bool
    left_out: Sequence[problems.Problem] = ()
    report: Path | None = None
    replaced_n: int = 0


class Brought(NamedTuple):
    """An import as it is stored.

    Attributes:
        batch: name of its file.
        imported_at: None for a file without rows.
        answers_n: that it holds.
        replaced_n: prompts of it that a later import gave another answer.
    """

    batch: str
    imported_at: datetime | None
    answers_n: int
    replaced_n: int


def own_id_columns(store: Store, experiment: Experiment | None = None) -> set[str]:
    """Return what the user's own ids are called: in the experiment file, and in the lists that were sent out."""
    columns = experiment.pool.columns if experiment else None
    named = {columns.id} if columns and columns.id else set()
    return named | {entry.layout.own_id for entry in ledger.entries(store) if entry.layout.own_id}


def stored_experiments() -> list[str]:
    """Return the names of everything in `$TASKDIV_HOME` that has a ledger."""
    fs, root = remote.filesystem(home())
    entries = fs.glob(f"{glob.escape(root)}/*/exports/*.json")
    return sorted({str(path).rsplit("/", 3)[-3] for path in entries})


def find_experiment(file: AnswerFile) -> str:
    """Return the name of the one experiment of `$TASKDIV_HOME` whose ledger sent prompts of this file out.

    Raises:
        ValueError: none did, or several; or the file holds nothing to go by, and a report lies beside it.
    """
    if not file.answers:
        raise ValueError(_refusal(file, file.problems, 0))
    prompt_ids = {answer.prompt_id for answer in file.answers if answer.prompt_id}
    own_ids = {bare(own) for answer in file.answers for _, own in answer.own_ids}
    found = [name for name in stored_experiments() if _sent_some(ledger.entries(Store(name)), prompt_ids, own_ids)]
    if len(found) == 1:
        return found[0]
    said = f"{', '.join(found)} all sent some of these prompts out" if found else "no experiment sent these prompts out"
    raise ValueError(
        f"{said} (looked into the export ledgers of {home()}); say which experiment the answers belong to: "
        "`taskdiv annotations import EXPERIMENT FILE`"
    )


def _sent_some(entries: Sequence[ledger.Entry], prompt_ids: set[str], own_ids: set[str]) -> bool:
    """True if an export sent one of the prompts out; by own ids only where the file has no other."""
    if prompt_ids:
        return bool(prompt_ids & ledger.sent_prompt_ids(entries))
    return any(bare(own) in own_ids for entry in entries for row in entry.rows if (own := row.get("own_id")))


def import_answers(
    lineage: Lineage,
    file: AnswerFile,
    annotator: str | None,
    *,
    is_accepting_valid: bool = False,
    on_wait: Callable[[str], None] | None = None,
) -> Import:
    """Store a file's answers: all of them, or those that are valid, or none. The same answers twice are stored once.

    Args:
        lineage: a look at the store of the experiment whose prompts were answered.
        file: as it was read.
        annotator: who answered, where the file does not say.
        is_accepting_valid: store the valid rows although others are not.
        on_wait: told who exports or imports, when there is somebody to wait for.

    Raises:
        ValueError: rows cannot be used; a report lies beside the file.
        StaleInputError: the pool was not read yet, or has changed since.
    """
    store = lineage.store
    lineage.fresh(Unit("raw_pool"))
    ids = pool_ids(store)
    resolved, unresolved = resolve([*file.answers, *file.unanswered], ids)
    valid, unusable = judge([answer for answer in resolved if answer.response], ids.prompt_ids)
    blank = judge([answer for answer in resolved if not answer.response], ids.prompt_ids)
    unusable = sorted([*file.problems, *unresolved, *unusable, *blank.problems])
    if unusable and not (is_accepting_valid and valid):
        raise ValueError(_refusal(file, unusable, len(valid)))
    report = problems.write_report(file.path, unusable) if unusable else None
    with hold(store, LOCK, on_wait=on_wait):
        stored = store_answers(store, valid, annotator)
    if not unusable:
        problems.remove_report(file.path)
    return stored._replace(left_out=unusable, report=report)


def pool_ids(store: Store) -> PoolIds:
    """Return the ids under which answers to a pool may come back."""
    table = store.read_table("raw_pool").table
    pairs = zip(table["prompt_id"].to_pylist(), table["source_id"].to_pylist(), strict=True)
    return PoolIds.of(pairs, copies.kept_of(store))


def imports(store: Store) -> list[Brought]:
    """Return every stored import, the oldest first. Each is a file that nothing changes afterwards."""
    newest = newest_annotations(store)
    counting = dict(zip(newest["prompt_id"].to_pylist(), newest["response"].to_pylist(), strict=True))
    kept = copies.kept_of(store)
    found = [_brought(store, name, counting, kept) for name in store.names("annotations") if name.endswith(".parquet")]
    return sorted(found, key=lambda one: (one.imported_at or datetime.min.replace(tzinfo=UTC), one.batch))


def _brought(store: Store, name: str, counting: Mapping[str, str], kept: Mapping[str, str]) -> Brought:
    table = imported_table(store, name)
    answers = dict(zip(table["prompt_id"].to_pylist(), table["response"].to_pylist(), strict=True))  # the last of each
    replaced_n = sum(counting.get(kept.get(id_, id_)) != response for id_, response in answers.items())
    times = table["imported_at"].to_pylist()
    return Brought(name.removesuffix(".parquet"), times[0] if times else None, table.num_rows, replaced_n)


def store_answers(store: Store, answers: Sequence[Answer], annotator: str | None) -> Import:
    """Store valid answers, the newest last, as one immutable file.

    It is newer than every file before it, even where the clock was put back in between: the last import counts.
    """
    who = [answer.annotator or annotator for answer in answers]
    ids, responses = [answer.prompt_id for answer in answers], [answer.response for answer in answers]
    content = json.dumps(list(map(list, zip(ids, responses, who, strict=True)))).encode()
    batch, newest = hashlib.sha256(content).hexdigest(), newest_annotations(store)
    latest = max(newest["imported_at"].to_pylist(), default=datetime.min.replace(tzinfo=UTC))
    now = max(datetime.now(UTC), latest + timedelta(microseconds=1))
    last = dict(zip(ids, responses, strict=True))
    counting = dict(zip(newest["prompt_id"].to_pylist(), newest["response"].to_pylist(), strict=True))
    if store.get("annotations", f"{batch}.parquet") is not None:
        if all(counting.get(prompt_id) == response for prompt_id, response in last.items()):
            return Import(len(ids), len(last), batch, is_new=False)
        # The same answers again, after others came in between: they are the newest now.
        batch = hashlib.sha256(content + now.isoformat().encode()).hexdigest()
    columns = {
        "prompt_id": ids,
        "response": responses,
        "annotator": who,
        "imported_at": [now] * len(ids),
        "batch": [batch] * len(ids),
        "row": list(range(len(ids))),
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=data_contracts.load("annotations").arrow_schema), buffer)
    store.put(buffer.getvalue(), "annotations", f"{batch}.parquet")
    replaced_n = sum(counting.get(prompt_id, response) != response for prompt_id, response in last.items())
    return Import(len(ids), len(last), batch, is_new=True, replaced_n=replaced_n)


def _refusal(file: AnswerFile, unusable: Sequence[problems.Problem], valid_n: int) -> str:
    try:
        report = f"report: {problems.write_report(file.path, unusable)}{_why_beside(file.path)}"
    except OSError as error:  # the sentence below is worth more than the report
        report = f"the report could not be written: {error}"
    lost = f"; {file.unread_n:,} line(s) below such rows were not read either" if file.unread_n else ""
    advice = f"repair them and import again, or say --accept-valid to store the other {valid_n:,}"
    said = f"nothing was imported; {len(unusable):,} row(s) of {file.path} cannot be used"
    return f"{said}:{problems.shown(unusable)}\n{report}{lost}\n" + (
        advice if valid_n else "repair them and import again"
    )


def _why_beside(path: Path) -> str:
    """Why the report of a file has not its usual name; empty where it has."""
    other = problems.strangers(path)
    return "" if other is None else f" ({other.name} is a file of your own, and stays as it is)"
