"""Reader of workbooks: one sheet of an XLSX or ODS file as a table. The first filled row has the column names.

python-calamine reads both formats (openpyxl reads only XLSX; odfpy, for ODS, had its last release in 2020). A cell gives its
stored value, which may differ from the displayed one. Of merged cells, only the first has a value. Empty rows are skipped.
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

from taskdiv_assets.pools.values import Choice, Options, Source, chosen_columns
from taskdiv_assets.storage import remote

BYTES_MAX = 2 * 2**30  # limit of the decompressed size of a workbook
READ_S_MAX = 900
WORKER = Path(__file__).with_name("sheet_worker.py")  # run by its path, so that the process does not import the package
SAVE_AS = "save the sheet as “CSV UTF-8” and name that file"


class Sheet(NamedTuple):
    """One sheet of a workbook as text."""

    sheets: list[str]  # names of all sheets of the workbook
    names: list[str]  # names of the columns; "" for a column without a name
    rows: list[list[str | None]]  # one cell per column


def read_workbook(path: str, choose: Choice, options: Options) -> Source:
    with remote.fetched(path) as local:
        sheet = read_sheet(local, path, options.sheet)
    places = {name: sheet.names.index(name) for name in chosen_columns(choose, sheet.names, path)}
    return Source(path, {name: [row[i] for row in sheet.rows] for name, i in places.items()}, len(sheet.rows))


def read_sheet(local: Path, path: str, wanted: str | None) -> Sheet:
    """Read the sheet `wanted` of a workbook (None for the first one); raise ValueError if it cannot be read or has no rows."""
    if importlib.util.find_spec("python_calamine") is None:
        raise ValueError(
            f"{path} is a workbook, which needs a package that is not installed; "
            f"pip install 'taskdiv-assets[sheets]', or {SAVE_AS}."
        )
    _check_size(local, path)
    sheets, *rows = _worker_lines(local, path, wanted)
    names = [str(name) for name in sheets]
    if wanted is not None and wanted not in names:
        raise ValueError(f"{path} has no sheet {wanted!r}; its sheets are {', '.join(map(repr, names))}.")
    filled = [row for row in rows if any(cell is not None for cell in row)]
    if len(filled) < 2:
        of = wanted if wanted is not None else names[0]
        raise ValueError(f"sheet {of!r} of {path} holds no rows; expected column names and rows. Set another `sheet:`.")
    width = max(map(len, filled))
    header, *body = ([*row, *[None] * (width - len(row))] for row in filled)
    return Sheet(names, [(name or "").strip() for name in header], body)


def _check_size(local: Path, path: str) -> None:
    try:
        with zipfile.ZipFile(local) as archive:
            bytes_n = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is not a workbook, despite its name ({error}); is it truncated, or in another format?"
        ) from None
    if bytes_n > BYTES_MAX:
        raise ValueError(f"{path} unpacks to {bytes_n / 2**30:,.1f} GB; expected at most 2; {SAVE_AS}.")


def _worker_lines(local: Path, path: str, sheet: str | None) -> Sequence[list[str | None]]:
    command = [sys.executable, "-P", str(WORKER), str(local), *([] if sheet is None else [sheet])]
    try:
        done = subprocess.run(command, capture_output=True, timeout=READ_S_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{path} could not be read within {READ_S_MAX // 60} minutes; {SAVE_AS}.") from None
    if done.returncode:
        errors = done.stderr.decode(errors="replace").strip().splitlines()
        reason = "it needs too much memory; is there a stray cell far below or to the right?"
        if errors and done.returncode == 1:
            reason = errors[-1][:200]
        raise ValueError(f"{path} cannot be read as a workbook ({reason}); {SAVE_AS}.")
    return [json.loads(line) for line in done.stdout.decode().split("\n") if line]
