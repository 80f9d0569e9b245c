"""Workbooks: one sheet of an XLSX or ODS file as a table whose first filled row holds the column names.

python-calamine reads both formats (openpyxl reads XLSX alone; odfpy, for ODS, had its last release in 2020). A cell is what
is stored in it, not how it is shown: a formula's last result, a date as 2026-01-31, a number with all its digits. Of merged
cells the first has the value and the others are empty. Rows without any value are skipped.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from taskdiv_assets.pools.values import Choice, Options, Source, require_distinct
from taskdiv_assets.storage import remote

BYTES_MAX = 2 * 2**30  # of all parts of a workbook, unpacked
READ_S_MAX = 900
WORKER = Path(__file__).with_name("sheet_worker.py")  # by its file: it starts without the package
SAVE_AS = "save the sheet as “CSV UTF-8” and name that file"


class Sheet(NamedTuple):
    """A sheet as text.

    Attributes:
        sheets: names of all sheets of the workbook.
        names: of the columns; empty for a column without a name.
        rows: as many cells as there are columns.
    """

    sheets: list[str]
    names: list[str]
    rows: list[list[str | None]]


def read_workbook(path: str, choose: Choice, options: Options) -> Source:
    """Return the chosen columns of one sheet."""
    with remote.fetched(path) as local:
        sheet = read_sheet(local, path, options.sheet)
    require_distinct(sheet.names, path)
    chosen = dict.fromkeys(choose(tuple(sheet.names), path))
    places = {name: sheet.names.index(name) for name in chosen}
    return Source(path, {name: [row[i] for row in sheet.rows] for name, i in places.items()}, len(sheet.rows))


def read_sheet(local: Path, path: str, wanted: str | None) -> Sheet:
    """Read one sheet of a workbook.

    Args:
        local: the file.
        path: what messages call it.
        wanted: name of the sheet; None for the first.

    Raises:
        ValueError: python-calamine is not installed, the file is no workbook or too large, or the sheet is not there.
    """
    if importlib.util.find_spec("python_calamine") is None:
        raise ValueError(
            f"{path} is a workbook, which needs a package that is not installed; "
            f"pip install 'taskdiv-assets[sheets]', or {SAVE_AS}."
        )
    check_size(local, path)
    sheets, *rows = _asked(local, path, wanted)
    names = [str(name) for name in sheets]
    if wanted is not None and wanted not in names:
        raise ValueError(f"{path} has no sheet {wanted!r}; its sheets are {', '.join(map(repr, names))}.")
    filled = [row for row in rows if any(cell is not None for cell in row)]
    if len(filled) < 2:
        of = wanted if wanted is not None else names[0]
        raise ValueError(
            f"sheet {of!r} of {path} holds no rows; expected column names and rows. Name another by `sheet:`."
        )
    width = max(map(len, filled))
    header, *body = ([*row, *[None] * (width - len(row))] for row in filled)
    return Sheet(names, [(name or "").strip() for name in header], body)


def check_size(local: Path, path: str) -> None:
    """Raise ValueError if a workbook is no zip archive, or would unpack to more than 2 GB by what it says itself."""
    try:
        with zipfile.ZipFile(local) as archive:
            bytes_n = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is no workbook, though its name says so ({error}); is it cut, or another format?"
        ) from None
    if bytes_n > BYTES_MAX:
        raise ValueError(f"{path} unpacks to {bytes_n / 2**30:,.1f} GB; expected at most 2. Otherwise {SAVE_AS}.")


def _asked(local: Path, path: str, sheet: str | None) -> Sequence[list[str | None]]:
    """What the process that reads a workbook prints."""
    command = [sys.executable, "-P", str(WORKER), str(local), *([] if sheet is None else [sheet])]
    try:
        done = subprocess.run(command, capture_output=True, timeout=READ_S_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{path} could not be read within {READ_S_MAX // 60} minutes; {SAVE_AS}.") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = (
            said[-1][:200]
            if said and done.returncode == 1
            else "it needs more memory than it may take; is there a stray cell far below or to the right?"
        )
        raise ValueError(f"{path} cannot be read as a workbook ({reason}); {SAVE_AS}.")
    return [json.loads(line) for line in done.stdout.decode().split("\n") if line]
