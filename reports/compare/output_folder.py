"""Check of the folder for a comparison: files that no earlier comparison wrote are never replaced."""

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

MARK = b'<meta name="generator" content="taskdiv compare"/>'  # in the head of the page (compare.html.j2)
_HEAD_BYTES_N = 2_000  # the mark is within these first bytes of the page
_FIGURES = ("captions.txt", "forest.svg", "forest.png", "heat.svg", "heat.png")


def check(out_dir: str, inputs: Sequence[Path]) -> None:
    """Raise ValueError if a file in the folder `out_dir` would be replaced that is an input, or that no comparison wrote.

    The page is known by its mark, and the tables by their columns. Figures belong to the files beside them.
    """
    fs, root = fsspec.core.url_to_fs(out_dir)
    if fs.isfile(root):
        raise ValueError(f"{out_dir} is a file; expected a folder for the page and its tables")
    if isinstance(fs, fsspec.implementations.local.LocalFileSystem):
        _check_inputs(Path(root), inputs)
    is_page = _is_page(fs, posixpath.join(root, "index.html"))
    ours = {"index.html": is_page, "results.csv": _is_csv(fs, root), "results.parquet": _is_parquet(fs, root)}
    ours |= dict.fromkeys((f"figures/{name}" for name in _FIGURES), any(ours.values()))
    for name, is_ours in ours.items():
        if not is_ours and fs.exists(posixpath.join(root, name)):
            raise ValueError(
                f"{posixpath.join(out_dir, name)} was not written by an earlier comparison and would be replaced; "
                "choose another folder with --out, or move the file"
            )


def _check_inputs(root: Path, inputs: Sequence[Path]) -> None:
    for name in ("index.html", "results.csv", "results.parquet", *(f"figures/{name}" for name in _FIGURES)):
        path = root / name
        if path.exists() and any(own.exists() and own.samefile(path) for own in inputs):
            raise ValueError(f"{path} is read and would be replaced; choose another folder with --out")


def _is_page(fs: Any, path: str) -> bool:
    return bool(fs.isfile(path)) and MARK in fs.cat_file(path, 0, _HEAD_BYTES_N)


def _is_csv(fs: Any, root: str) -> bool:
    path = posixpath.join(root, "results.csv")
    return bool(fs.isfile(path)) and fs.cat_file(path, 0, _HEAD_BYTES_N).splitlines()[:1] == [_header()]


def _is_parquet(fs: Any, root: str) -> bool:
    path = posixpath.join(root, "results.parquet")
    if not fs.isfile(path):
        return False
    try:
        with fs.open(path, "rb") as handle:
            return list(pq.read_schema(handle).names) == _columns()
    except pa.ArrowException:
        return False


def _header() -> bytes:
    return ",".join(f'"{name}"' for name in _columns()).encode()


def _columns() -> list[str]:
    from reports import numbers
    from reports.compare.compare_numbers import renamed

    return list(renamed(numbers.as_table([])).column_names)
