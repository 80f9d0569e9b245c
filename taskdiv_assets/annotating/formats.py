r"""Writer of lists of prompts as JSON lines, as CSV for a spreadsheet program, or as tasks for Label Studio.

The CSV is written for Excel and LibreOffice, which change plain CSV in several ways:

- The file starts with a byte order mark, and a text that would become a formula gets an apostrophe in front
  (`data_contracts.spreadsheet_cells`). The import removes the apostrophe from column names and ids; it does not read the other
  texts of the list.
- A prompt_id such as `1234567890123456` or `12345678901234e5` becomes a number and loses digits. One in 800 ids has such a form.
  The id gets an apostrophe, which the import removes. An id of the user's own file gets an apostrophe if it has a form that a
  spreadsheet program changes (`00123`, `1e5`, 16 digits).
- A carriage return (`\r`) ends a row unless its cell is quoted. Rows end in `\r\n`, because Python's writer then quotes the cell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from data_contracts.spreadsheet_cells import csv_bytes
from taskdiv_assets.annotating import label_studio
from taskdiv_assets.annotating.layout import Layout, Row

ENDINGS = {"jsonl": "jsonl", "csv": "csv", "label-studio": "json"}  # format → file name's ending
_NUMBER_LIKE = re.compile(r"\d+(e\d+)?", re.ASCII)
_CHANGING_NUMBER = re.compile(r"0\d+|\d{16,}|\d+(\.\d+)?e[+-]?\d+", re.ASCII | re.IGNORECASE)


def check_format(file_format: str) -> None:
    if file_format not in ENDINGS:
        raise ValueError(f"unknown format {file_format!r}; expected one of {', '.join(ENDINGS)}")


def render(rows: Sequence[Row], file_format: str, layout: Layout) -> bytes:
    """Return the bytes of a list in one of the formats. CSV and JSON lines have an empty column `response` to fill in."""
    if file_format == "label-studio":
        return label_studio.tasks(rows, layout)
    values = [layout.values(row) for row in rows]
    if file_format == "jsonl":
        return "".join(json.dumps({**row, "response": ""}, ensure_ascii=False) + "\n" for row in values).encode()
    header = [*values[0], "response"]
    return csv_bytes(header, ([_cell(name, value, layout) for name, value in row.items()] + [""] for row in values))


def id_cell(prompt_id: str) -> str:
    """Return a prompt id, with an apostrophe in front if a spreadsheet program would read the id as a number."""
    return f"'{prompt_id}" if _NUMBER_LIKE.fullmatch(prompt_id) else prompt_id


def own_id_cell(own_id: str) -> str:
    """Return an own id without U+0000, with an apostrophe in front if a spreadsheet program would change the id's digits."""
    shown = own_id.replace("\0", "")
    return f"'{shown}" if _CHANGING_NUMBER.fullmatch(shown) else shown


def _cell(column: str, value: str | int | None, layout: Layout) -> str | int:
    if not isinstance(value, str):
        return "" if value is None else value
    if column == "prompt_id":
        return id_cell(value)
    return own_id_cell(value) if column == layout.own_id else value
