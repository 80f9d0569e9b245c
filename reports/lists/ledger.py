"""The export ledger and the imported answers, read as the few things that the report counts.

`taskdiv_assets.annotating.ledger` writes `exports/*.json`, and an import `annotations/*.parquet`. Files that cannot be read
become sentences in the reader's problems; nothing here writes.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reports import words
from reports.reader import Reader

TIME_FORMAT = "%Y%m%dT%H%M%S.%fZ"  # of the ledger
SHOWN_FORMAT = "%Y-%m-%d %H:%M"


class Export(NamedTuple):
    """One export: prompts of one list that went out together."""

    sent_at: str  # UTC, in minutes
    strategy: str
    budget: str  # digits, as the ledger holds them
    selection_seed: str
    prompt_ids: frozenset[str]


class Answers(NamedTuple):
    """Imported answers that are not blank."""

    prompt_ids: frozenset[str]
    imports_n: int
    last_at: str  # UTC, in minutes; empty where nothing was imported


def read_exports(reader: Reader) -> tuple[Export, ...]:
    """Return every export that can be read, the oldest first; a file name begins with its time."""
    found = []
    for name in _names(reader, "exports", ".json"):
        try:
            found.append(_export(json.loads(reader.store.text("exports", name) or "")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = f"is not an entry of the export ledger ({type(error).__name__}); what it sent out is not counted"
            reader.problems.append(f"exports/{name} {what}")
    return tuple(found)


def read_answers(reader: Reader) -> Answers:
    """Return the prompts that an import answered; of a file that cannot be read, nothing is counted."""
    tables = list(_imports(reader))
    ids = frozenset(prompt_id for table in tables for prompt_id in table["prompt_id"].to_pylist())
    times = [pc.max(table["imported_at"]).as_py() for table in tables]
    last = max((time for time in times if isinstance(time, datetime)), default=None)
    return Answers(ids, len(tables), _shown(last) if last else "")


def _imports(reader: Reader) -> Iterable[pa.Table]:
    """Rows of each import whose answer is not blank."""
    for name in _names(reader, "annotations", ".parquet"):
        try:
            with reader.store.fs.open(reader.store.join("annotations", name), "rb") as handle:
                table = pq.read_table(handle, columns=["prompt_id", "response", "imported_at"], partitioning=None)
            text = table["response"].cast(pa.string())
            table = table.set_column(0, "prompt_id", table["prompt_id"].cast(pa.string()))
            yield table.filter(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(text)), 0))
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            what = f"is not an import of answers ({type(error).__name__}); its answers are not counted"
            reader.problems.append(f"annotations/{name} {what}")


def _export(raw: Any) -> Export:
    budget, _, strategy = str(raw["cell"]).partition("|")
    ids = frozenset(str(one) for one in raw["prompt_ids"])
    return Export(_time(str(raw["exported_at"])), strategy, budget, str(raw["selection_seed"]), ids)


def _time(text: str) -> str:
    """Return a time of the ledger as it is shown; a text that is no time is shown as it is, cut."""
    try:
        return _shown(datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC))
    except ValueError:
        return words.clean(text, 20)


def _shown(time: datetime) -> str:
    return (time.astimezone(UTC) if time.tzinfo else time).strftime(SHOWN_FORMAT)


def _names(reader: Reader, folder: str, ending: str) -> list[str]:
    root = reader.store.join(folder)
    return [path[len(root) + 1 :] for path in reader.store.files(folder) if path.endswith(ending)]
