"""What a reader takes from the page: its numbers as one zip file inside the page, and a line that cites the report.

A page that is sent by e-mail arrives without the files beside it. So the page contains its numbers, as a link whose address is
the file itself (`data:`).
"""

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.spreadsheet_cells import csv_bytes
from data_contracts.table_paths import REPORT_TABLE
from reports import words, writing
from reports.provenance import made_by
from reports.results import Results
from reports.svg import Picture
from reports.tables import Table

RESULT_ROWS_MAX_N = 10_000  # about 1 MB of CSV, 150 kB in the zip file
ZIP_MAX_N = 1_000_000  # bytes
SOFTWARE = "taskdiv-assets"
PAPER = (
    "Arabelly, Nemade, Nowak, Zhang (2025): Improving Task Diversity in Label Efficient Supervised Finetuning of LLMs. "
    "arXiv:2507.21482"
)
_NUMBER = re.compile(r"[−+-]?([1-9]\d{0,2}(,\d{3})+|0|[1-9]\d*)(\.\d+)?", re.ASCII)  # not 007, which may be a name
_Kind = TypeVar("_Kind")
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest one of the format, so that equal numbers give equal files


class Part(NamedTuple):
    """The template's values of the part of the page on its numbers and its citation."""

    file: str  # name of the zip file
    link: str  # the zip file as an address; empty if it is too large
    said: str  # what the zip file contains
    citation: str


def part(results: Results, table: pa.Table | None, context: Mapping[str, object]) -> Part:
    """Return the values. `table` is the results table, and `context` holds the tables that the page shows."""
    return part_of(results.experiment.name, table, context, citation(results))


def part_of(name: str, table: pa.Table | None, context: Mapping[str, object], cited: str) -> Part:
    """Return the values of a page called `name`, with the citation `cited`. `part` describes the other arguments."""
    file = f"{name}-numbers.zip"
    shown = {one.name: one for one in found(context, Table) if one.rows}
    raw, which = numbers_zip(table, shown), _which(table)
    if len(raw) > ZIP_MAX_N:
        said = f"The numbers are too large to be inside this page ({len(raw) / 1e6:.1f} MB as a zip file)."
        return Part(file, "", said, cited)
    said = f"{which}the {words.count(len(shown), 'table')} of this page as CSV ({max(1, len(raw) // 1000):,} kB)."
    return Part(file, f"data:application/zip;base64,{base64.b64encode(raw).decode()}", said, cited)


def _which(table: pa.Table | None) -> str:
    if table is None:
        return ""
    few = small(table)
    rows = words.count(few.num_rows, "row")
    if few.num_rows == table.num_rows:
        return f"results.csv with all its {rows}, and "
    return f"the {rows} of results.csv that are not about a single task (of {table.num_rows:,}), and "


def small(table: pa.Table) -> pa.Table:
    """Return the results table or, if it has more than RESULT_ROWS_MAX_N rows, its rows that are not about a single task."""
    return table if table.num_rows <= RESULT_ROWS_MAX_N else table.filter(pc.equal(table["task"], ""))


def numbers_zip(table: pa.Table | None, shown: Mapping[str, Table]) -> bytes:
    """Return a zip file with results.csv, one CSV for each shown table, and the list of these. Equal numbers give equal bytes."""
    files = {} if table is None else {"results.csv": writing.as_csv(small(table))}
    listed = [(f"tables/{name}.csv", words.clean(one.caption, 300)) for name, one in shown.items()]
    files["tables.csv"] = csv_bytes(("file", "table"), listed)
    files |= {f"tables/{name}.csv": as_csv(one) for name, one in shown.items()}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, raw in files.items():
            archive.writestr(zipfile.ZipInfo(name, _FIRST_DATE), raw, zipfile.ZIP_DEFLATED, 9)
    return made.getvalue()


def as_csv(table: Table) -> bytes:
    """Return a table of the page as CSV. Numbers lose the signs that only a reader needs: 1,200 and −0.5 become 1200 and -0.5."""
    return csv_bytes(
        [words.clean(name, 60) for name in table.head], ([_cell(cell) for cell in row] for row in table.rows)
    )


def _cell(shown: str) -> object:
    text = words.clean(shown, 200)
    return Decimal(text.replace(",", "").replace("−", "-")) if _NUMBER.fullmatch(text) else text


def citation(results: Results) -> str:
    """Return a line that cites this report, the software and the paper."""
    footers = [table.footer for table in results.tables.values() if table.asset != REPORT_TABLE]
    versions = sorted({made_by(footer).versions.get(SOFTWARE, "") for footer in footers} - {""})
    date = max((footer.finished_at[:10] for footer in footers if footer.finished_at), default="")
    of = f", results of {words.clean(date, 10)}" if date else ""
    software = f"{SOFTWARE} {words.clean(words.listing(versions), 60)}".strip()
    return f"{results.experiment.name}: a report of {software}{of}, identity {identity(results)}. Method: {PAPER}."


def identity(results: Results) -> str:
    """Return twelve hex digits that identify the stored tables behind the page: a hash of their names and identities."""
    stored = [table for table in results.tables.values() if table.asset != REPORT_TABLE]
    lines = sorted(f"{table.name} {table.footer.identity}" for table in stored)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "backslashreplace")).hexdigest()[:12]


def pictures(context: Mapping[str, object]) -> tuple[Picture, ...]:
    return tuple({one.name: one for one in found(context, Picture)}.values())


def found(value: object, kind: type[_Kind]) -> Iterator[_Kind]:
    """Yield each value of type `kind` inside mappings, lists and tuples, in order."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from found(one, kind)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from found(one, kind)
