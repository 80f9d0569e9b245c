"""The export ledger and the imported answers, read as the few things that the report counts.

`taskdiv_assets.annotating.ledger` writes `exports/*.json`, and an import `annotations/*.parquet`. Files that cannot be read
become sentences in the reader's problems; nothing here writes.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reports import words
from reports.reader import Reader

TIME_FORMAT = "%Y%m%dT%H%M%S.%fZ"  # of the ledger
SHOWN_FORMAT = "%Y-%m-%d %H:%M"


COPIES_NOTE = "copies_file"  # of raw_pool's footer: where the dropped copies of prompts are, with those that are kept


class Export(NamedTuple):
    """One list of an export: prompts of it that went out together."""

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
    """Return every list of every export that can be read, the oldest first; a file name begins with its time."""
    found: list[Export] = []
    kept = read_kept(reader)
    for name in _names(reader, "exports", ".json"):
        try:
            found += _exports(json.loads(reader.store.text("exports", name) or ""), kept)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = f"is not an entry of the export ledger ({type(error).__name__}); what it sent out is not counted"
            reader.problems.append(f"exports/{name} {what}")
    return tuple(found)


def read_answers(reader: Reader) -> Answers:
    """Return the prompts that an import answered; of a file that cannot be read, nothing is counted."""
    tables = list(_imports(reader))
    kept = read_kept(reader)
    ids = frozenset(kept.get(one, one) for table in tables for one in table["prompt_id"].to_pylist())
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


def read_kept(reader: Reader) -> Mapping[str, str]:
    """Return the kept prompt id by that of each dropped copy; none where the pool has dropped none, or cannot say it."""
    table = reader.listing.tables.get(("raw_pool", None))
    path = None if table is None else table.footer.notes.get(COPIES_NOTE)
    if not isinstance(path, str) or not path.startswith("copies/") or ".." in path:
        return {}
    try:
        with reader.store.fs.open(reader.store.join(*path.split("/")), "rb") as handle:
            found = pq.read_table(handle, columns=["copy_id", "kept_id"], partitioning=None)
        return dict(zip(*(found[name].cast(pa.string()).to_pylist() for name in ("copy_id", "kept_id")), strict=True))
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        reader.problems.append(f"{path} does not say which prompts are copies ({type(error).__name__})")
        return {}


def _exports(raw: Any, kept: Mapping[str, str]) -> list[Export]:
    """Lists of one entry of the ledger; an entry of one list is that list."""
    time = _time(str(raw["exported_at"]))
    found = []
    for one in raw.get("lists") or [raw]:
        budget, _, strategy = str(one["cell"]).partition("|")
        ids = frozenset(kept.get(str(name), str(name)) for name in one["prompt_ids"])
        found.append(Export(time, strategy, budget, str(one["selection_seed"]), ids))
    return found


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
