"""Bring answers back: judge a file's rows, report what cannot be used, store the rest as one immutable file.

In: an experiment's store and a file that was read. Out: `annotations/<sha256>.parquet`, named by what it holds, and a report
beside the user's file. Which answer counts among several imports is decided in `answers`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

import data_contracts
from taskdiv_assets.annotating import ledger, problems
from taskdiv_assets.annotating.answer_files import Answer, AnswerFile
from taskdiv_assets.annotating.exporting import LOCK
from taskdiv_assets.annotating.judging import judge
from taskdiv_assets.answers import newest_annotations
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.lineage import Lineage
from taskdiv_assets.locks import hold
from taskdiv_assets.store import Store, home
from taskdiv_assets.units import Unit


class Import(NamedTuple):
    """What came back: answers, prompts they are for, and the rows that were left out, with their report."""

    answers_n: int
    prompts_n: int
    batch: str
    is_new: bool
    left_out: Sequence[problems.Problem] = ()
    report: Path | None = None


def find_experiment(file: AnswerFile) -> str:
    """Name of the one experiment of `$TASKDIV_HOME` whose ledger sent prompts of this file out.

    Raises:
        ValueError: none did, or several; or the file holds nothing to go by, and a report lies beside it.
    """
    if not file.answers:
        raise ValueError(_refusal(file, file.problems, 0))
    fs, root = fsspec.core.url_to_fs(home())
    names = sorted(
        str(path).rstrip("/").rsplit("/", 1)[-1] for path in (fs.ls(root, detail=False) if fs.exists(root) else [])
    )
    wanted = {answer.prompt_id for answer in file.answers}
    found = [name for name in names if wanted & ledger.sent_prompt_ids(ledger.entries(Store(name)))]
    if len(found) == 1:
        return found[0]
    said = f"{', '.join(found)} all sent some of these prompts out" if found else "no experiment sent these prompts out"
    raise ValueError(
        f"{said} (looked into the export ledgers of {home()}); say which experiment the answers belong to: "
        "`taskdiv annotations import EXPERIMENT FILE`"
    )


def import_answers(
    experiment: Experiment,
    store: Store,
    file: AnswerFile,
    annotator: str | None,
    *,
    is_accepting_valid: bool = False,
    on_wait: Callable[[str], None] | None = None,
) -> Import:
    """Store a file's answers: all of them, or those that are valid, or none. The same answers twice are stored once.

    Args:
        experiment: whose prompts were answered.
        store: of this experiment.
        file: as it was read.
        annotator: who answered, where the file does not say.
        is_accepting_valid: store the valid rows although others are not.
        on_wait: told who exports or imports, when there is somebody to wait for.

    Raises:
        ValueError: rows cannot be used; a report lies beside the file.
        StaleInputError: the pool was not read yet, or has changed since.
    """
    Lineage(experiment, store).fresh(Unit("raw_pool"))
    valid, unusable = judge(file.answers, set(store.read_table("raw_pool").table["prompt_id"].to_pylist()))
    unusable = sorted([*file.problems, *unusable])
    if unusable and not (is_accepting_valid and valid):
        raise ValueError(_refusal(file, unusable, len(valid)))
    report = problems.write_report(file.path, unusable) if unusable else None
    with hold(store, LOCK, on_wait=on_wait):
        stored = store_answers(store, valid, annotator)
    if not unusable:
        problems.remove_report(file.path)
    return stored._replace(left_out=unusable, report=report)


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
    if store.get("annotations", f"{batch}.parquet") is not None:
        counting = dict(zip(newest["prompt_id"].to_pylist(), newest["response"].to_pylist(), strict=True))
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
    return Import(len(ids), len(last), batch, is_new=True)


def _refusal(file: AnswerFile, unusable: Sequence[problems.Problem], valid_n: int) -> str:
    try:
        report = f"report: {problems.write_report(file.path, unusable)}"
    except OSError as error:  # the sentence below is worth more than the report
        report = f"the report could not be written: {error}"
    lost = f"; {file.unread_n:,} line(s) below such rows were not read either" if file.unread_n else ""
    advice = f"repair them and import again, or say --accept-valid to store the other {valid_n:,}"
    said = f"nothing was imported; {len(unusable):,} row(s) of {file.path} cannot be used"
    return f"{said}:{problems.shown(unusable)}\n{report}{lost}\n" + (
        advice if valid_n else "repair them and import again"
    )
