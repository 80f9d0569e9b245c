"""Import the answers of a file: report the rows that cannot be used, and store the other answers as one immutable file.

The stored file is `annotations/<sha256>.parquet`. If some rows cannot be used, the answers in the other rows are stored only if
the user accepts this. The report is usually beside the user's file (see `problems`). If several imports contain an answer to the
same prompt, `graph.known_answers` decides which answer counts.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import data_contracts
from taskdiv_assets.annotating import ledger, problems
from taskdiv_assets.annotating.answer_files import Answer, AnswerFile
from taskdiv_assets.annotating.drafts import is_kept, sent_drafts, without_guard
from taskdiv_assets.annotating.exporting import LOCK
from taskdiv_assets.annotating.gone import sent_ids
from taskdiv_assets.annotating.judging import PoolIds, bare, judge, resolve
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph import fixed_tasks
from taskdiv_assets.graph.known_answers import (
    MODEL_FILE,
    all_annotations,
    folded_name,
    imported_table,
    in_contract_columns,
)
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools import copies, held_items
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.locks import hold
from taskdiv_assets.storage.store import Store, home


class Import(NamedTuple):
    """Result of an import."""

    answers_n: int
    prompts_n: int  # prompts that these answers belong to
    batch: str  # name of the stored file, a hash
    is_new: bool  # False if the same answers were stored before and still count
    left_out: Sequence[problems.Problem] = ()  # rows that cannot be used
    report: Path | None = None  # report of these rows; None without such rows
    replaced_n: int = (
        0  # prompts that had another answer of the same annotator (or without a name) from an earlier import
    )
    held_out_n: int = 0  # prompts that are held-out items
    differing_n: int = 0  # prompts to which annotators gave different answers, in this import and earlier ones
    dealt_to: str | None = None  # annotator to whom the prompts of the file were sent, if that decided who answered


class StoredImport(NamedTuple):
    """One stored import."""

    batch: str  # name of the stored file
    imported_at: datetime | None  # None for a file without rows
    answers_n: int  # answers in the file
    replaced_n: int  # prompts of the file whose answer was replaced by a later import


def own_id_columns(store: Store, experiment: Experiment | None = None) -> set[str]:
    """Return the names of the columns with the user's own ids, in the exported lists and (if given) in the experiment file."""
    columns = experiment.pool.columns if experiment else None
    named = {columns.id} if columns and columns.id else set()
    return named | {entry.layout.own_id for entry in ledger.entries(store) if entry.layout.own_id}


def stored_experiments() -> list[str]:
    """Return the sorted names of the experiments in `$TASKDIV_HOME` that have exported a list."""
    fs, root = remote.filesystem(home())
    entries = fs.glob(f"{glob.escape(root)}/*/exports/*.json")
    return sorted({str(path).rsplit("/", 3)[-3] for path in entries})


def find_experiment(file: AnswerFile) -> str:
    """Return the name of the only experiment in `$TASKDIV_HOME` that exported a prompt of this file.

    Raise ValueError if no experiment or several experiments did so, or (with a report) if the file has no usable answer.
    """
    if not file.answers:
        raise ValueError(_refusal(file, file.problems, 0))
    prompt_ids = {answer.prompt_id for answer in file.answers if answer.prompt_id}
    own_ids = {bare(own) for answer in file.answers for _, own in answer.own_ids}
    found = [name for name in stored_experiments() if _sent_some(ledger.entries(Store(name)), prompt_ids, own_ids)]
    if len(found) == 1:
        return found[0]
    senders = f"{', '.join(found)} all sent some of these prompts" if found else "no experiment sent these prompts"
    raise ValueError(
        f"{senders} (according to the export ledgers of {home()}); name the experiment that the answers belong to: "
        "`taskdiv annotations import EXPERIMENT FILE`"
    )


def _sent_some(entries: Sequence[ledger.Entry], prompt_ids: set[str], own_ids: set[str]) -> bool:
    """Return True if an export sent a prompt with one of the ids. `own_ids` are compared only if `prompt_ids` is empty."""
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
    """Store the answers of a file. If the same answers were stored before and still count, they are not stored again.

    `annotator` is the name for rows without an annotator; by default the only person to whom the prompts of the file were sent
    (see `dealt_to`). If Label Studio names one user by a number alone, this name replaces the number. If some rows cannot be
    used, the valid rows are stored only if `is_accepting_valid` is True. If the import waits for another import or export,
    `on_wait` receives a sentence about it.

    Raises:
        ValueError: some rows cannot be used, and the valid rows are not stored. A report is written (see `problems`).
        StaleInputError: the pool is missing or stale.
    """
    store = lineage.store
    lineage.fresh(Unit("raw_pool"))
    items = held_items.read(store) if lineage.experiment.has_later_answers else None
    ids = pool_ids(store, items)._replace(sent_ids=sent_ids(store))
    resolved, unresolved = resolve([*file.answers, *file.unanswered], ids)
    by_file = None if annotator else dealt_to(store, {answer.prompt_id for answer in resolved})
    resolved, is_by_file = _named(resolved, annotator or by_file)
    valid, unusable = judge([answer for answer in resolved if answer.response], ids.prompt_ids, ids.sent_ids)
    blank = judge([answer for answer in resolved if not answer.response], ids.prompt_ids, ids.sent_ids)
    unusable = sorted([*file.problems, *unresolved, *unusable, *blank.problems])
    if unusable and not (is_accepting_valid and valid):
        raise ValueError(_refusal(file, unusable, len(valid)))
    report = problems.write_report(file.path, unusable) if unusable else None
    item_ids = set() if items is None else {*items["prompt_id"].to_pylist()}
    held_out_n = len({answer.prompt_id for answer in valid} & item_ids)
    with hold(store, LOCK, on_wait=on_wait):
        if any(answer.prompt_id not in item_ids for answer in valid):
            fixed_tasks.fix(store)
        stored = store_answers(store, valid, annotator)
    if not unusable:
        problems.remove_report(file.path)
    by_whom = by_file if is_by_file else None
    return stored._replace(left_out=unusable, report=report, held_out_n=held_out_n, dealt_to=by_whom)


def dealt_to(store: Store, prompt_ids: Set[str]) -> str | None:
    """Return the only annotator to whom all these prompts were sent; None if there is none, or more than one."""
    sent: dict[str, set[str]] = {}
    names: dict[str, str] = {}
    for entry in ledger.of_kept_prompts(ledger.entries(store), copies.kept_of(store)):
        for one in entry.shares:
            names.setdefault(folded_name(one.annotator), one.annotator)
            sent.setdefault(folded_name(one.annotator), set()).update(one.prompt_ids)
    found = [names[one] for one, ids in sent.items() if prompt_ids and prompt_ids <= ids]
    return found[0] if len(found) == 1 else None


def _named(answers: Sequence[Answer], name: str | None) -> tuple[list[Answer], bool]:
    """Return answers with `name` where they have none, and whether there were such answers.

    Label Studio names its users by a number in most exports. If the file has one such number and no other name, `name` replaces
    the number.
    """
    given = {answer.annotator for answer in answers if answer.annotator and answer.response}
    is_timed = all(answer.answered_at is not None for answer in answers if answer.response)
    numbers = {one for one in given if len(given) == 1 and is_timed and one.isdecimal()}
    nameless = [bool(answer.response) and answer.annotator in (None, *numbers) for answer in answers]
    if name is None or not any(nameless):
        return list(answers), False
    pairs = zip(answers, nameless, strict=True)
    return [answer._replace(annotator=name) if is_nameless else answer for answer, is_nameless in pairs], True


def pool_ids(store: Store, items: pa.Table | None = None) -> PoolIds:
    """Return the ids by which an answer file may name the prompts of the stored pool and the held-out `items`."""
    tables = [store.read_table("raw_pool").table, *([] if items is None else [items])]
    rows = [row for table in tables for row in table.select(["prompt_id", "source_id"]).to_pylist()]
    return PoolIds.of([(row["prompt_id"], row["source_id"]) for row in rows], copies.kept_of(store))


def imports(store: Store) -> list[StoredImport]:
    """Return every stored import, the oldest first."""
    counting, kept = _Counting(all_annotations(store)), copies.kept_of(store)
    found = []
    for name in (name for name in store.names("annotations") if name.endswith(".parquet")):
        table = imported_table(store, name)
        time = next(iter(table["imported_at"].to_pylist()), None)
        table = table.filter(pc.not_equal(table["response"], ""))  # a reply of a model that is no answer
        columns = (table[column].to_pylist() for column in ("prompt_id", "annotator", "response"))
        is_model = name.startswith(MODEL_FILE)  # anybody's answer replaces that of a model
        last = {
            (kept.get(id_, id_), "" if is_model else folded_name(who or "")): text
            for id_, who, text in zip(*columns, strict=True)
        }
        replaced_n = len({key[0] for key, text in last.items() if counting.of(*key) != text})
        found.append(StoredImport(name.removesuffix(".parquet"), time, table.num_rows, replaced_n))
    return sorted(found, key=lambda one: (one.imported_at or datetime.min.replace(tzinfo=UTC), one.batch))


def store_answers(store: Store, answers: Sequence[Answer], annotator: str | None) -> Import:
    """Store valid answers as one immutable file. `answers` are sorted, the oldest first; the last answer to a prompt counts.

    If the same answers were stored before and still count, nothing is stored. The newest import of a prompt counts. The time in
    the new file is therefore later than the times of all earlier answers, even if the clock was set back.
    """
    who = [answer.annotator or annotator for answer in answers]
    drafts = sent_drafts(ledger.entries(store), copies.kept_of(store))
    ids = [answer.prompt_id for answer in answers]
    responses = [without_guard(answer.response, drafts.get(answer.prompt_id)) for answer in answers]
    content = json.dumps(list(map(list, zip(ids, responses, who, strict=True)))).encode()
    batch, before = hashlib.sha256(content).hexdigest(), all_annotations(store)
    latest = max(before["imported_at"].to_pylist(), default=datetime.min.replace(tzinfo=UTC))
    now = max(datetime.now(UTC), latest + timedelta(microseconds=1))
    last: dict[str, dict[str, str]] = {}  # prompt_id → annotator → answer
    for prompt_id, name, response in zip(ids, who, responses, strict=True):
        last.setdefault(prompt_id, {})[folded_name(name or "")] = response
    counting = _Counting(before)
    known = [
        (counting.of(prompt_id, one), text, prompt_id) for prompt_id, by in last.items() for one, text in by.items()
    ]
    if store.get("annotations", f"{batch}.parquet") is not None:
        if all(stored == text for stored, text, _ in known):
            return Import(len(ids), len(last), batch, is_new=False)
        # Other answers were imported in between. These answers become the newest again, under a new name.
        batch = hashlib.sha256(content + now.isoformat().encode()).hexdigest()
    columns: dict[str, object] = {"prompt_id": ids, "response": responses, "annotator": who}
    columns["is_draft_kept"] = [is_kept(drafts.get(one), text) for one, text in zip(ids, responses, strict=True)]
    columns |= {"imported_at": [now] * len(ids), "batch": [batch] * len(ids), "row": list(range(len(ids)))}
    table = in_contract_columns(pa.table(columns), data_contracts.load("annotations").arrow_schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    store.put(buffer.getvalue(), "annotations", f"{batch}.parquet")
    replaced = {prompt_id for stored, text, prompt_id in known if stored not in (None, text)}
    differing_n = sum(counting.differ(prompt_id, by) for prompt_id, by in last.items())
    return Import(len(ids), len(last), batch, is_new=True, replaced_n=len(replaced), differing_n=differing_n)


class _Counting:
    """The stored answers by prompt and annotator. An answer without a name may be anybody's."""

    def __init__(self, rows: pa.Table) -> None:  # of `all_annotations`: the newest last
        self._last: dict[str, dict[str, tuple[int, str]]] = {}
        columns = (rows[name].to_pylist() for name in ("prompt_id", "annotator", "response"))
        for place, (prompt_id, name, response) in enumerate(zip(*columns, strict=True)):
            self._last.setdefault(prompt_id, {})[folded_name(name or "")] = (place, response)

    def of(self, prompt_id: str, one: str) -> str | None:
        """Return the newest answer of an annotator (a folded name) or without a name; of anybody if `one` is ""."""
        found = self._last.get(prompt_id, {})
        own = [answer for name, answer in found.items() if not one or name in (one, "")]
        return max(own)[1] if own else None

    def differ(self, prompt_id: str, new: Mapping[str, str]) -> bool:
        """Return True if named annotators gave different answers to a prompt. `new` has those of a new file by annotator."""
        stored = {name: response for name, (_, response) in self._last.get(prompt_id, {}).items()}
        return len({response for name, response in {**stored, **new}.items() if name}) > 1


def _refusal(file: AnswerFile, unusable: Sequence[problems.Problem], valid_n: int) -> str:
    try:
        report = f"report: {problems.write_report(file.path, unusable)}"
        if (other := problems.strangers(file.path)) is not None:
            report += f" ({other.name} is a file of your own and was kept)"
    except OSError as error:  # the message is more important than the report
        report = f"the report could not be written: {error}"
    lost = f"; {file.unread_n:,} line(s) below such rows were not read either" if file.unread_n else ""
    offer = f", or use --accept-valid to store the other {valid_n:,}" if valid_n else ""
    return (
        f"nothing was imported; {len(unusable):,} row(s) of {file.path} cannot be used:{problems.shown(unusable)}\n"
        f"{report}{lost}\ncorrect them and import again{offer}"
    )
