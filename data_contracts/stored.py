"""Reader of an experiment's folder on any fsspec storage: its files, and its tables with their footers.

For a file that cannot be read, `list_tables` returns a sentence and raises no error, so that the other tables remain available.
"""

import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from data_contracts.footer import Footer, Rejected
from data_contracts.table_paths import REJECTED, asset_and_key

REQUESTS_AT_ONCE = 32  # an object store needs tens of milliseconds for each request


class StoredTable(NamedTuple):
    """One Parquet file and its footer."""

    asset: str
    key: str | None  # "random", "512|random", or None if the asset is not partitioned
    path: str
    rows_n: int
    footer: Footer

    @property
    def name(self) -> str:
        return f"{self.asset} / {self.key}" if self.key else self.asset


class Listing(NamedTuple):
    """The stored tables, the notes about rejected tables, and one sentence for each table or note that cannot be read."""

    tables: dict[tuple[str, str | None], StoredTable]
    rejected: tuple[Rejected, ...]
    problems: tuple[str, ...]


class Folder(NamedTuple):
    """An experiment's folder on some file system."""

    fs: Any  # fsspec.AbstractFileSystem; the package has no types
    root: str

    def join(self, *parts: str) -> str:
        return posixpath.join(self.root, *parts)

    def text(self, *parts: str) -> str | None:
        """Return the content of a text file, with invalid UTF-8 replaced; None if there is no such file."""
        try:
            raw: bytes = self.fs.cat_file(self.join(*parts))
        except FileNotFoundError:
            return None
        return raw.decode("utf-8", errors="replace")

    def files(self, *parts: str) -> list[str]:
        """Return the sorted paths of all files below a folder; an empty list if there is no such folder."""
        try:
            return sorted(str(path) for path in self.fs.find(self.join(*parts)))
        except FileNotFoundError:
            return []

    def children(self, *parts: str) -> dict[str, bool]:
        """Return for each entry of a folder, sorted by name, whether it is a file; empty if there is no such folder."""
        try:
            found = self.fs.ls(self.join(*parts), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return dict(sorted((str(one["name"]).rstrip("/").rsplit("/", 1)[-1], one["type"] == "file") for one in found))

    def columns(self, path: str, names: Sequence[str] | None = None, *, as_dictionaries: bool = False) -> pa.Table:
        """Read the columns `names` (all if None) of a Parquet file.

        `as_dictionaries` reads the text columns among `names` as dictionary columns. Raise OSError or pa.ArrowException if the
        file cannot be read, is not Parquet, or lacks one of the columns.
        """
        wanted = None if names is None else list(names)
        with self.fs.open(path, "rb") as handle:
            return pq.read_table(
                handle, columns=wanted, partitioning=None, read_dictionary=wanted if as_dictionaries else None
            )


def open_folder(url: str) -> Folder:
    """Return the folder of one experiment at a local path or at any URL that fsspec supports."""
    fs, root = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()  # fsspec caches listings of object stores; readers need the current files
    return Folder(fs, str(root).rstrip("/"))


def list_tables(folder: Folder) -> Listing:
    """Return the stored tables, the notes about rejected tables, and one sentence for each table or note that cannot be read.

    A Parquet file without a footer is a table with an empty footer.
    """
    with ThreadPoolExecutor(1 if isinstance(folder.fs, LocalFileSystem) else REQUESTS_AT_ONCE) as pool:
        found = list(pool.map(partial(_read, folder), folder.files("tables")))
    tables = {(one.asset, one.key): one for one in found if isinstance(one, StoredTable)}
    rejected = sorted((one for one in found if isinstance(one, Rejected)), key=lambda one: (one.asset, one.key or ""))
    return Listing(tables, tuple(rejected), tuple(one for one in found if isinstance(one, str)))


def _read(folder: Folder, path: str) -> StoredTable | Rejected | str | None:
    """Read a table's footer or a note about a rejected table. Return a sentence if that fails, and None for any other file."""
    relative = path[len(folder.join("tables")) + 1 :]
    try:
        if relative.endswith(REJECTED):
            asset, key = asset_and_key(relative.removesuffix(REJECTED).split("/"))
            return Rejected.from_json(folder.fs.cat_file(path), asset, key)
        if not relative.endswith(".parquet"):
            return None
        asset, key = asset_and_key(relative.removesuffix(".parquet").split("/"))
        with folder.fs.open(path, "rb") as handle:
            parquet = pq.read_metadata(handle)
        footer = Footer.from_metadata(parquet.metadata) or Footer(asset, key)
        return StoredTable(asset, key, path, int(parquet.num_rows), footer)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        said = str(error).splitlines()[0][:120] if str(error) else "no message"
        return f"tables/{relative} cannot be read ({type(error).__name__}: {said}); it is left out"
