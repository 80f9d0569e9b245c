"""Functions that read exports and imported answers. They add a sentence to `Reader.problems` for each file that cannot be read.

`taskdiv_assets.annotating.ledger` writes `exports/*.json`. An import writes `annotations/*.parquet`.
"""

import json
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.cell_keys import split_key
from reports import words
from reports.reader import Reader

TIME_FORMAT = "%Y%m%dT%H%M%S.%fZ"  # times in the ledger
SHOWN_FORMAT = "%Y-%m-%d %H:%M"
COPIES_NOTE = "copies_file"  # note in the footer of raw_pool: path of the table of dropped copies


class Export(NamedTuple):
    """One list of an export: prompts that were sent out together. An export of held-out items counts as one list."""

    sent_at: str  # UTC, in minutes
    strategy: str  # `held_out` for held-out items
    budget: str  # digits, as in the ledger; empty for held-out items
    selection_seed: str
    prompt_ids: frozenset[str]


class Answers(NamedTuple):
    """The prompts for which an answer was imported. Blank answers do not count."""

    prompt_ids: frozenset[str]
    imports_n: int  # files
    last_at: str  # time of the last import: UTC, in minutes; empty if there is none


def read_exports(reader: Reader) -> tuple[Export, ...]:
    """Return all lists of all readable exports, in the order of file names. A file name starts with the time of the export."""
    found: list[Export] = []
    kept = read_kept(reader)
    for name in _names(reader, "exports", ".json"):
        try:
            found += _exports(json.loads(reader.files.text("exports", name) or ""), kept)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = f"is not an entry of the export ledger ({type(error).__name__}); what it sent out is not counted"
            reader.problems.append(f"exports/{name} {what}")
    return tuple(found)


def read_answers(reader: Reader) -> Answers:
    """Return the prompts with imported answers. For an answer to a dropped copy, the kept prompt counts as answered."""
    tables = list(_imports(reader))
    kept = read_kept(reader)
    ids = frozenset(kept.get(one, one) for table in tables for one in table["prompt_id"].to_pylist())
    times = [pc.max(table["imported_at"]).as_py() for table in tables]
    last = max((time for time in times if isinstance(time, datetime)), default=None)
    return Answers(ids, len(tables), _shown(last) if last else "")


def read_texts(reader: Reader) -> dict[str, dict[str, str]]:
    """Return each named annotator's newest answer to each prompt: prompt_id → name in lower case → answer."""
    kept = read_kept(reader)
    tables = _imports(reader, "annotator", "row")
    rows = [
        row
        for table in tables
        for row in table.to_pylist()
        if row["annotator"] and not row["file"].startswith("model-")
    ]
    rows.sort(key=lambda row: (row["imported_at"], row["file"], row["row"]))
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        name = unicodedata.normalize("NFC", str(row["annotator"])).strip().casefold()
        if name:
            found.setdefault(kept.get(row["prompt_id"], row["prompt_id"]), {})[name] = row["response"]
    return found


def _imports(reader: Reader, *others: str) -> Iterable[pa.Table]:
    for name in _names(reader, "annotations", ".parquet"):
        try:
            path = reader.files.join("annotations", name)
            table = reader.files.columns(path, ["prompt_id", "response", "imported_at", *others])
            table = table.append_column("file", pa.array([name] * table.num_rows, pa.string()))
            text = table["response"].cast(pa.string())
            table = table.set_column(0, "prompt_id", table["prompt_id"].cast(pa.string()))
            yield table.filter(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(text)), 0))
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            what = f"is not an import of answers ({type(error).__name__}); its answers are not counted"
            reader.problems.append(f"annotations/{name} {what}")


def read_kept(reader: Reader) -> Mapping[str, str]:
    """Return a mapping from the id of each dropped copy to the id of the kept prompt; empty if no readable file has copies."""
    table = reader.listing.tables.get(("raw_pool", None))
    path = None if table is None else table.footer.notes.get(COPIES_NOTE)
    if not isinstance(path, str) or not path.startswith("copies/") or ".." in path:
        return {}
    try:
        found = reader.files.columns(reader.files.join(*path.split("/")), ["copy_id", "kept_id"])
        return dict(zip(*(found[name].cast(pa.string()).to_pylist() for name in ("copy_id", "kept_id")), strict=True))
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        reader.problems.append(f"{path} does not say which prompts are copies ({type(error).__name__})")
        return {}


def _exports(raw: Any, kept: Mapping[str, str]) -> list[Export]:
    time = _time(str(raw["exported_at"]))
    found = []
    for one in raw.get("lists") or [raw]:
        budget, strategy = split_key(str(one["cell"]))
        ids = frozenset(kept.get(str(name), str(name)) for name in one["prompt_ids"])
        found.append(Export(time, strategy, budget, str(one["selection_seed"]), ids))
    return found


def _time(text: str) -> str:
    """Return a ledger time in the format of the page. Other text is cleaned and cut."""
    try:
        return _shown(datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC))
    except ValueError:
        return words.clean(text, 20)


def _shown(time: datetime) -> str:
    return (time.astimezone(UTC) if time.tzinfo else time).strftime(SHOWN_FORMAT)


def _names(reader: Reader, folder: str, ending: str) -> list[str]:
    root = reader.files.join(folder)
    return [path[len(root) + 1 :] for path in reader.files.files(folder) if path.endswith(ending)]
