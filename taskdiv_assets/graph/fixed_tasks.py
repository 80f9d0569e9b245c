"""Which tasks of an experiment are fixed, and what this means for the identity of task_labels.

Found tasks and tasks by votes are fixed when a list is exported or answers are imported (`fix`). From then on, a grown pool and a
new version of a library keep the tasks, and a changed setting of the tasks is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskdiv_assets.graph.asset import Settings
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import StaleInputError
from taskdiv_assets.pools.discovery import frozen_tasks, partial
from taskdiv_assets.pools.discovery.frozen_tasks import Fixed, Record
from taskdiv_assets.pools.discovery.labelling import NOTE
from taskdiv_assets.storage.store import DamagedError, Store

SETTINGS = "task_settings"  # key in the footer of task_labels: the settings in its identity
FROZEN = "frozen"  # setting in the identity of task_labels: the hash of the fixed tasks that it was made from
NOT_ASKED = (FROZEN, "discovery", "votes", "tasks_for_budget")  # settings that are not in the experiment file


def is_bought(store: Store) -> bool:
    """Return True if annotations of the experiment were exported or imported."""
    return bool(store.names("exports") or store.names("annotations"))


def fix(store: Store) -> bool:
    """Fix found and voted tasks of the stored table task_labels. Return False without any, or if they are fixed already.

    Return False, too, if annotations were bought and other tasks were fixed since the table was made (`taskdiv tasks find-anew`):
    the table is stale then, and the newer tasks stay fixed.
    """
    try:
        stored = store.read_table("task_labels")
    except (DamagedError, FileNotFoundError):  # the run makes the table again, from the tasks that were fixed before
        return False
    notes = stored.footer.notes
    if NOTE not in notes and partial.NOTE not in notes:
        return False
    prompts, settings = stored.footer.inputs["raw_pool.prompts"], notes.get(SETTINGS)
    record = frozen_tasks.newest(store)
    if record is not None and is_bought(store) and not _is_made_from(record, settings):
        return False
    table = stored.table.replace_schema_metadata(None)
    return frozen_tasks.fix(store, Fixed(table, notes), prompts, settings) is not None


def _is_made_from(record: Record, settings: Mapping[str, Any] | None) -> bool:
    """Return True if a table task_labels with these settings was made from the tasks of a record, or is what it fixes.

    A record without settings is of a table from an earlier version; no later search has replaced its tasks.
    """
    return record.settings in (None, settings) or (settings or {}).get(FROZEN) == record.labels


def in_force(lineage: Lineage) -> Record | None:
    """Return the record of the fixed tasks; None if no texts decide tasks, or if no annotations were bought.

    Raise StaleInputError if the record cannot be read.
    """
    return lineage.once(_in_force)


def _in_force(lineage: Lineage) -> Record | None:
    if not lineage.experiment.task_labels.guesses_tasks:
        return None
    try:
        record = frozen_tasks.newest(lineage.store)
    except DamagedError as error:
        raise StaleInputError(str(error)) from None
    return record if record is not None and is_bought(lineage.store) else None


def fixed(lineage: Lineage) -> Fixed | None:
    """Return the fixed tasks; None under the same conditions as `in_force`. Raise StaleInputError if they cannot be read."""
    record = in_force(lineage)
    try:
        return None if record is None else frozen_tasks.read(lineage.store, record)
    except DamagedError as error:
        raise StaleInputError(str(error)) from None


def settled(lineage: Lineage, settings: Settings, prompts: str) -> Settings:
    """Return the settings in the identity of task_labels, given those of the experiment file and the hash of the pool's prompts.

    If the tasks of this pool are fixed, these are the settings at that time, so a stored table stays fresh. If the tasks of an
    earlier pool are fixed, their hash is added. Raise StaleInputError if the experiment file asks for other tasks.
    """
    record = in_force(lineage)
    if record is None:
        return settings
    if record.settings is not None and (changed := changes(record.settings, settings)):
        name = lineage.experiment.name
        raise StaleInputError(
            f"`task_labels` has another {' and '.join(f'`{key}`' for key in changed)} than when annotations of {name} were "
            "bought, and the tasks are fixed since then; set it back, or run `taskdiv tasks find-anew` with this file, which "
            "first says how many bought labels would move to another task"
        )
    made = settings if record.settings is None else record.settings
    return made if record.prompts == prompts else {**made, FROZEN: record.labels}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the keys of `task_labels` whose values differ; only `from` if this key does, since it decides which others count."""
    keys = sorted({*before, *now}.difference(NOT_ASKED))
    changed = [key for key in keys if before.get(key) != now.get(key)]
    return ["from"] if "from" in changed else changed
