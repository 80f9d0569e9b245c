"""Writer of the files of a report. On a local disk, each file is written atomically."""

import io
import json
import posixpath
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from data_contracts.footer import FOOTER_KEY
from data_contracts.spreadsheet_cells import text_cell

if TYPE_CHECKING:
    from reports import Rendered
    from reports.svg import Picture

CAPTIONS = "captions.txt"


def write(rendered: "Rendered", out_dir: str, footer: Mapping[str, object] | None = None) -> str:
    """Write the tables, then the figures, then the page, and return the path of the page.

    A `footer` is stored in the Parquet metadata. Figures of an earlier report in the same folder, which its
    `captions.txt` names, are removed. Other files stay.
    """
    table = rendered.table
    if footer is not None:
        table = table.replace_schema_metadata({FOOTER_KEY: json.dumps(footer, sort_keys=True).encode()})
    parquet = io.BytesIO()
    pq.write_table(table, parquet)
    fs, root = fsspec.core.url_to_fs(out_dir)
    fs.makedirs(root, exist_ok=True)
    root = str(root)
    for name, raw in (("results.parquet", parquet.getvalue()), ("results.csv", as_csv(table))):
        put(fs, posixpath.join(root, name), raw)
    _put_figures(fs, posixpath.join(root, "figures"), rendered.pictures)
    put(fs, posixpath.join(root, "index.html"), rendered.html.encode())
    return posixpath.join(out_dir, "index.html")


def _put_figures(fs: Any, folder: str, pictures: "tuple[Picture, ...]") -> None:
    from reports import figure_files

    before, names = _captioned(fs, folder), {CAPTIONS} if pictures else set()
    if pictures:
        fs.makedirs(folder, exist_ok=True)
        put(fs, posixpath.join(folder, CAPTIONS), figure_files.captions(pictures))
    for name, raw in figure_files.files(pictures):
        put(fs, posixpath.join(folder, name), raw)
        names.add(name)
    for name in before - names:
        path = posixpath.join(folder, name)
        if fs.isfile(path):
            fs.rm_file(path)


def _captioned(fs: Any, folder: str) -> set[str]:
    """Return the names of the files that an earlier report wrote into the folder: those of captions.txt, and captions.txt."""
    path = posixpath.join(folder, CAPTIONS)
    if not fs.isfile(path):
        return set()
    blocks = fs.cat_file(path).decode("utf-8", errors="replace").split("\n\n")
    figures = {posixpath.basename(block.partition("\n")[0]) for block in blocks}
    return {CAPTIONS} | {f"{figure}.{kind}" for figure in figures for kind in ("svg", "png")}


def as_csv(table: pa.Table) -> bytes:
    """Convert a table to CSV.

    Floats are rounded to 12 significant digits, so that 60.00000000000001 becomes 60. A text that a spreadsheet program would run
    as a formula gets an apostrophe in front.
    """
    for place, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            values = [None if value is None else float(f"{value:.12g}") for value in table[place].to_pylist()]
            table = table.set_column(place, field, pa.array(values, field.type))
        elif pa.types.is_string(field.type):
            safe = {text: text_cell(text or "") for text in table[place].unique().to_pylist()}
            if any(text != (one or "") for one, text in safe.items()):
                texts = [None if text is None else safe[text] for text in table[place].to_pylist()]
                table = table.set_column(place, field, pa.array(texts, field.type))
    text = io.BytesIO()
    csv.write_csv(table, text)
    return text.getvalue()


def put(fs: Any, path: str, raw: bytes) -> None:
    """Write a file. On a local disk, write a temporary file and rename it, so that readers never see half a file.

    Raise OSError with the file's path: the system names only the temporary file, or no file at all if the disk is full.
    """
    if not isinstance(fs, fsspec.implementations.local.LocalFileSystem):
        fs.pipe_file(path, raw)
        return
    beside = Path(f"{path}.{uuid.uuid4().hex}.part")
    try:
        beside.write_bytes(raw)
        beside.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        beside.unlink(missing_ok=True)
