"""Reader of stored reports: the present one, in the folder `report`, and the earlier ones, in `report/earlier/<time>`.

The asset `strategy_report` writes them. A folder of an earlier report contains `index.html` and, written last,
`results.parquet`. The footer in `results.parquet` gives the time when the report was made, and the identity of each table that
the report used. The folder's name is this time, in UTC, so that the names sort by age.
"""

import io
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_contracts.footer import Footer
from data_contracts.stored import Folder

FOLDER = ("report", "earlier")
KEPT_N = 20  # earlier reports; when there are more, the oldest ones are removed
PAGE, TABLE = "index.html", "results.parquet"
NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z")
IDENTITY = re.compile(r"[0-9a-f]{32}")
# Numbers over all tasks and seeds. Numbers of one seed or task are left out, because these numbers are made from them.
QUANTITIES = (
    "mean", "difference", "area", "gain", "labels_to_match", "chosen", "overlap", "tokens", "sent", "answered",
)  # fmt: skip
OF_ALL_BUDGETS = (
    "area",
    "labels_to_match",
    "overlap",
)  # one number for each pair of strategies, whatever the budgets are


class Figure(NamedTuple):
    """One row of a results table (docs/RESULTS.md) without its seed and its task, which are empty."""

    quantity: str
    benchmark: str
    metric: str
    strategy: str
    reference: str
    budget_n: int
    estimate: float | None
    low: float | None
    high: float | None
    verdict: str
    family: str

    @property
    def key(self) -> tuple[str, str, str, str, str, int]:
        """The quantity that this row estimates. The key of a number over all budgets contains no budget."""
        return *self[:5], 0 if self.quantity in OF_ALL_BUDGETS else self.budget_n


Figures = Mapping[tuple[str, str, str, str, str, int], Figure]
_TYPES = {"budget_n": pa.int64(), **dict.fromkeys(("estimate", "low", "high"), pa.float64())}
SCHEMA = pa.schema(
    [pa.field(name, _TYPES.get(name, pa.string())) for name in (*Figure._fields, "training_seed", "task")]
)
SCHEMA = SCHEMA.set(SCHEMA.get_field_index("training_seed"), pa.field("training_seed", pa.int64()))


class StoredReport(NamedTuple):
    """The numbers of a stored report, and the identities of the tables that it used."""

    name: str  # of its folder
    made_at: datetime  # UTC
    identities: Mapping[str, str]  # by unit, such as "adapter/512|random"; without tables that were out of date
    figures: Figures


def name_of(finished_at: str) -> str:
    """Return the name of the folder of a report, given the time in its footer; empty if there is no time with a time zone.

    >>> name_of("2026-11-30T06:06:25.846+02:00")
    '2026-11-30T04-06-25.846Z'
    """
    try:
        made_at = datetime.fromisoformat(finished_at)
        if made_at.tzinfo is None:
            return ""
        text = made_at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):
        return ""
    return f"{text.replace(':', '-')}Z"


def name_in(table: bytes) -> str:
    """Return the name of the folder of a report, given its `results.parquet`; empty if the file has no usable footer."""
    try:
        footer = Footer.from_metadata(pq.read_metadata(pa.BufferReader(table)).metadata)
    except (OSError, ValueError, pa.ArrowException):
        return ""
    return name_of(footer.finished_at) if footer else ""


def newest_first(files: Folder) -> Iterator[str]:
    """Yield the paths of the stored `results.parquet`: first that of the present report, then those of the earlier reports."""
    yield files.join("report", TABLE)
    for name in sorted(files.children(*FOLDER), reverse=True):
        if NAME.fullmatch(name):
            yield files.join(*FOLDER, name, TABLE)


def read_report(files: Folder, path: str) -> StoredReport | None:
    """Return a stored report; None if there is no file, or if its footer has no time, as in reports that no asset made.

    Raise OSError, ValueError, KeyError or pa.ArrowException if the file cannot be read.
    """
    try:
        data: bytes = files.fs.cat_file(path)
    except FileNotFoundError:
        return None
    table = pq.read_table(io.BytesIO(data), columns=SCHEMA.names, partitioning=None)
    footer = Footer.from_metadata(table.schema.metadata)
    name = name_of(footer.finished_at) if footer else ""
    if footer is None or not name:
        return None
    made_at = datetime.fromisoformat(footer.finished_at).astimezone(UTC)
    used = {unit: identity for unit, identity in footer.inputs.items() if IDENTITY.fullmatch(identity)}
    return StoredReport(name, made_at, used, figures(table))


def figures(table: pa.Table) -> Figures:
    """Return the rows of a results table that are over all tasks and seeds.

    Raise KeyError or pa.ArrowException if the table has other columns.
    """
    plain = table.select(SCHEMA.names).cast(SCHEMA)
    is_over_all = pc.and_(pc.is_null(plain["training_seed"]), pc.equal(plain["task"], ""))
    is_shown = pc.is_in(plain["quantity"], pa.array(QUANTITIES))
    rows = plain.filter(pc.and_(is_over_all, is_shown)).select(list(Figure._fields)).to_pylist()
    return {one.key: one for one in (Figure(**row) for row in rows)}
