"""The store: all files of one experiment, such as tables and models, on any storage that fsspec supports.

A table is a Parquet file that is written atomically, with a footer (see `data_contracts.footer`) in its metadata. A folder
contains one result with many files, such as a model. The folder's name is the identity of the result. The manifest lists the
files of a folder and is written last. So readers see a complete result or no result.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.footer import FOOTER_KEY, Footer, Rejected
from data_contracts.table_paths import REJECTED, rejected_parts, table_parts
from data_contracts.variant_names import folder_of, graph_name, split_name
from taskdiv_assets.storage import disk_cache as cache
from taskdiv_assets.storage import remote, room, temporary
from taskdiv_assets.storage.files import Files
from taskdiv_assets.storage.machine import machine

TAIL_BYTES = 64 * 1024  # bytes that one request reads from the end of a table; nearly every footer is shorter
ROW_GROUP_N = 65_536  # rows in one row group: the smallest number of rows that a reader can read from a table
MANIFEST = "manifest.json"
# Entries of a variant's own folder. All other files, such as models and scores by identity, answers and locks, are its parent's.
OWN = frozenset({"tables", "budgets", "report", "experiment.yaml"})
MAKE_AGAIN = "remove it, and `taskdiv run EXPERIMENT` makes it again"


@dataclass(frozen=True)
class StoredTable:
    """A table with its footer, as read from the store."""

    table: pa.Table
    footer: Footer


def home() -> str:
    """Return `$TASKDIV_HOME` as an absolute path or an fsspec URL. The default is `.taskdiv` in the current folder."""
    path = machine().home
    return path.rstrip("/") if "://" in path else str(Path(path).expanduser().resolve())


class Store(Files):
    """The files of one experiment, in the folder `<root>/<experiment>`. The default of `root` is `$TASKDIV_HOME`.

    A variant of an experiment (`parent`) has its own tables in `<root>/<parent>/variants/<variant>`. A table that it does not
    have is read from its parent. Whether the parent's table has the identity that the variant needs is decided by `Lineage`.
    """

    def __init__(self, experiment: str, root: str | None = None) -> None:
        self.experiment, self._root = experiment, root or home()
        parent, variant = split_name(experiment)
        self.parent = Store(parent, self._root) if variant else None
        super().__init__(f"{self._root}/{folder_of(experiment)}")

    def of_variant(self, variant: str) -> Store:
        return Store(graph_name(self.experiment, variant), self._root)

    def path(self, *parts: str) -> str:
        if self.parent is None or self._has_own(parts):
            return super().path(*parts)
        return self.parent.path(*parts)

    def locate(self, *parts: str) -> str:
        if self.parent is None or self._has_own(parts):
            return super().locate(*parts)
        return self.parent.locate(*parts)

    def _has_own(self, parts: Sequence[str]) -> bool:
        return not parts or parts[0] in OWN

    # --- tables --------------------------------------------------------------------------------------------------

    def write_table(self, table: pa.Table, footer: Footer) -> str:
        """Store a table with its footer atomically, and return its path.

        The stored note about a rejected table of the same asset and key, if any, is removed.
        """
        buffer = io.BytesIO()
        described = table.replace_schema_metadata({FOOTER_KEY: footer.to_json().encode()})
        pq.write_table(
            described, buffer, compression="zstd", row_group_size=ROW_GROUP_N, write_page_checksum=True
        )  # with checksums, a changed bit on the disk causes an error; without them, it could change a number
        path = self.put(buffer.getvalue(), *table_parts(footer.asset, footer.key))
        self.drop_rejected(footer.asset, footer.key)
        return path

    def owns(self, asset: str, key: str | None = None) -> bool:
        """Return False if a variant has no table of its own, so that the parent's table is read. Otherwise return True."""
        return self.parent is None or bool(self.fs.exists(self.path(*table_parts(asset, key))))

    def adopt(self, asset: str, key: str | None = None) -> None:
        """Copy a table of the parent that a variant uses to the variant's own folder, unless the variant has a table."""
        if self.parent is not None and not self.owns(asset, key):
            parts = table_parts(asset, key)
            self.put(self.read(self.parent.path(*parts)), *parts)

    def read_footer(self, asset: str, key: str | None = None) -> Footer | None:
        """Return a table's footer; None if there is no table. Raise ValueError for a damaged file, or a file of another program.

        Only the end of the file is read. On an object store, this takes one request (two for a footer over `TAIL_BYTES`).
        """
        path = self.path(*table_parts(asset, key))
        try:
            if self.is_local:
                with self.fs.open(path, "rb") as file:
                    metadata = pq.read_metadata(file).metadata
            else:
                metadata = pq.read_metadata(pa.BufferReader(self._tail(path))).metadata
        except FileNotFoundError:
            return None if self.parent is None else self.parent.read_footer(asset, key)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(error, path, self._again) from None
        return footer_of(metadata, path)

    def read_footers(self, tables: Iterable[tuple[str, str | None]]) -> list[Footer | ValueError | None]:
        """Read the footers of tables (asset, key) concurrently. Return None for no table, a ValueError for an unusable file."""

        def read(table: tuple[str, str | None]) -> Footer | ValueError | None:
            try:
                return self.read_footer(*table)
            except ValueError as error:
                return error

        return remote.at_once(read, tables)

    def _tail(self, path: str) -> bytes:
        """Return the end of a Parquet file, at least its whole Parquet footer. The last 8 bytes contain the footer's length."""
        bytes_n = TAIL_BYTES
        while True:
            data: bytes = self.fs.cat_file(path, start=-bytes_n)
            footer_n = struct.unpack("<I", data[-8:-4])[0] + 8 if len(data) >= 8 else 0
            if footer_n <= len(data) or len(data) < bytes_n:  # complete footer, or the file is shorter than the request
                return data
            bytes_n = footer_n

    def read_table(self, asset: str, key: str | None = None, columns: Sequence[str] | None = None) -> StoredTable:
        """Return a stored table with its footer. `columns` are the columns to read, by default all.

        Raises:
            DamagedError: the file is not a complete Parquet file, or its footer is broken.
            ValueError: the file was not written by this project.
            FileNotFoundError: the table does not exist.
        """
        path = self.path(*table_parts(asset, key))
        try:
            # All bytes are read before pyarrow parses them. If pyarrow's threads read a Python file, an ending process may abort.
            table = parquet_table(self.read(path), path, self._again, columns=columns)
        except FileNotFoundError:
            if self.parent is not None:
                return self.parent.read_table(asset, key, columns)
            name = asset if key is None else f"{asset}[{key}]"
            raise FileNotFoundError(
                f"{name} of experiment {self.experiment} is not there yet ({path}); "
                f"run `taskdiv run {self.experiment}` or materialise it first"
            ) from None
        return StoredTable(table, footer_of(table.schema.metadata, path))

    @property
    def _again(self) -> str:
        return f"remove it, and `taskdiv run {split_name(self.experiment)[0]}` makes it again"

    def write_rejected(self, note: Rejected) -> str:
        """Store a note about a new table that violates its contract, and return the note's path. The older table is kept."""
        return self.put(note.to_json().encode(), *rejected_parts(note.asset, note.key))

    def drop_rejected(self, asset: str, key: str | None) -> None:
        self.remove(*rejected_parts(asset, key))

    def rejections(self) -> list[tuple[str, dict[str, Any]]]:
        """Return all notes about rejected tables, each as (path inside the store, note). Raise DamagedError for a broken note.

        One listing finds the notes of all tables. A listing of each folder would need one request per asset and strategy.
        """
        names = [f"tables/{name}" for name in self.names_below("tables") if name.endswith(REJECTED)]
        notes = remote.at_once(self.read, map(self.path, names))
        found = zip(names, notes, strict=True)
        return [(name, _parsed(note, self.path(name), self._again)) for name, note in found]

    # --- folders by identity -------------------------------------------------------------------------------------

    def read_manifest(self, identity: str) -> dict[str, Any] | None:
        """Return a folder's manifest; None if the folder is missing or unfinished. Raise DamagedError for a broken manifest."""
        data = self.get("folders", identity, MANIFEST)
        where = self.locate("folders", identity)
        advice = f"remove {where}, and `taskdiv run {self.experiment}` makes it again"
        return None if data is None else _parsed(data, f"{where}/{MANIFEST}", advice)

    def is_whole(self, identity: str) -> bool:
        """Return True if a folder has a manifest, and each listed file exists with the listed size.

        This takes two requests. For errors, see `read_manifest`.
        """
        manifest = self.read_manifest(identity)
        if manifest is None:
            return False
        folder = self.path("folders", identity)
        found: dict[str, dict[str, Any]] = self.fs.find(folder, detail=True)
        sizes = {path[len(folder) + 1 :]: int(info["size"]) for path, info in found.items()}
        return all(sizes.get(name) == entry["bytes"] for name, entry in manifest["files"].items())

    def write_folder(self, identity: str, local: Path, **content: Any) -> dict[str, Any]:
        """Copy a local folder to the store, first its files and then the manifest. Return the manifest.

        `content` contains further entries of the manifest. Raise NoRoomError if the store's local disk has too little free space.
        """
        files = {path.relative_to(local).as_posix(): path for path in sorted(local.rglob("*")) if path.is_file()}
        entries = {name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for name, path in files.items()}
        missing = {name: path for name, path in files.items() if not self._has(identity, name, entries[name])}
        if self.is_local:
            needed_n = sum(path.stat().st_size for path in missing.values())
            room.require(Path(self.path("folders")), needed_n, f"storing {len(missing)} files of a model")
        for name, path in missing.items():
            self.put_file(path, "folders", identity, name)
        return self.finish_folder(identity, entries, **content)

    def _has(self, identity: str, name: str, entry: Mapping[str, Any]) -> bool:
        """Return True if the store is local and has the complete file already. A killed writer may have stored it."""
        path = Path(self.path("folders", identity, name))
        has_size = self.is_local and path.is_file() and path.stat().st_size == entry["bytes"]
        return has_size and sha256_file(path) == entry["sha256"]

    def finish_folder(self, identity: str, files: Mapping[str, Mapping[str, Any]], **content: Any) -> dict[str, Any]:
        """Store and return the manifest of a folder whose files are stored. `content` has further entries of the manifest."""
        manifest = {**content, "identity": identity, "files": {**files}}
        self.put(json.dumps(manifest, sort_keys=True, indent=1).encode(), "folders", identity, MANIFEST)
        return manifest

    def fetch_folder(self, identity: str) -> Path:
        """Return a local path of a finished folder. A remote folder is copied to the disk cache, and stays there.

        Raises:
            FileNotFoundError: the folder does not exist or is unfinished.
            ValueError: the manifest is damaged, or names a file that cannot be in the folder.
            ConnectionError: the received bytes differ from the manifest.
            NoRoomError: the disk of the cache has too little free space.
        """
        manifest = self._finished(identity)
        if self.is_local:
            return Path(self.path("folders", identity))
        return cache.pinned(*self._entry(identity, manifest))

    @contextmanager
    def fetched(self, identity: str) -> Iterator[Path]:
        """Yield the same path as `fetch_folder`, with the same errors. A cached copy may be removed after the block ends."""
        manifest = self._finished(identity)
        if self.is_local:
            yield Path(self.path("folders", identity))
            return
        with cache.held(*self._entry(identity, manifest)) as folder:
            yield folder

    def read_file(self, identity: str, name: str) -> bytes:
        """Return one file of a folder without a download of the others.

        Raise FileNotFoundError if the folder or the file is missing, ValueError if the manifest is damaged.
        """
        self._finished(identity)
        return self.read(self.path("folders", identity, name))

    def _finished(self, identity: str) -> dict[str, Any]:
        manifest = self.read_manifest(identity)
        where = self.locate("folders", identity)
        if manifest is None:
            raise FileNotFoundError(f"folder {where} is missing or unfinished; run `taskdiv run {self.experiment}`")
        for name in manifest["files"]:
            path = PurePosixPath(name)
            if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or name == MANIFEST:
                raise ValueError(f"the manifest of {where} names the file {name!r}, which is no file of that folder")
        return manifest

    def _entry(self, identity: str, manifest: Mapping[str, Any]) -> tuple[str, int, cache.Download]:
        """Return the arguments of `cache.pinned` for a folder. The key is made of the identity and a hash of URL and files."""
        files: Mapping[str, Mapping[str, Any]] = manifest["files"]
        url = (self.parent or self).url
        content = json.dumps([url, {name: entry["sha256"] for name, entry in files.items()}], sort_keys=True)
        key = f"{identity}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

        def fetch(folder: Path, name: str) -> None:
            local = folder / name
            local.parent.mkdir(parents=True, exist_ok=True)
            self.fs.get_file(self.path("folders", identity, name), str(local))
            if local.stat().st_size != files[name]["bytes"] or sha256_file(local) != files[name]["sha256"]:
                raise ConnectionError(
                    f"{self.locate('folders', identity, name)}: {local.stat().st_size:,} bytes came that are not the "
                    f"{files[name]['bytes']:,} of the manifest; try again, or remove the folder and run again if it stays so"
                )

        def download(folder: Path) -> None:
            remote.at_once(lambda name: fetch(folder, name), files)
            (folder / MANIFEST).write_text(json.dumps(manifest))

        return key, sum(int(entry["bytes"]) for entry in files.values()), download

    def scratch(self) -> AbstractContextManager[Path]:
        """Return a context with an empty local folder, which is removed when the context ends."""
        return temporary.folder("work-")


class DamagedError(ValueError):
    """Error for a stored file that cannot be read. The message gives the path, the reason, and how to repair it."""

    def __init__(self, path: str, why: str, advice: str) -> None:
        super().__init__(f"{path} is damaged ({why}); {advice}")


def footer_of(metadata: Mapping[bytes, bytes] | None, path: str) -> Footer:
    """Return the footer in a Parquet file's metadata. Raise DamagedError for a broken footer, ValueError for a missing one."""
    try:
        footer = Footer.from_metadata(metadata)
    except ValueError as error:
        raise DamagedError(path, f"its `taskdiv` footer cannot be read: {error!r:.200}", MAKE_AGAIN) from None
    if footer is None:
        raise ValueError(f"{path} has no `taskdiv` footer; expected a table written by this project. Move it away.")
    return footer


def parquet_table(
    data: bytes, path: str, advice: str, schema: pa.Schema | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return the table in `data`, the content of a Parquet file. Raise DamagedError if the content cannot be read.

    The error message contains `path`, and ends with `advice`. By default, the schema is read from the file, and all columns are
    returned.
    """
    try:
        buffer = pa.BufferReader(data)
        names = None if columns is None else list(columns)
        return pq.read_table(buffer, columns=names, schema=schema, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(error, path, advice) from None


def _damaged(error: Exception, path: str, advice: str) -> Exception:
    """Return a DamagedError for an error of the Parquet library. Return an error with an errno (disk, network) unchanged."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return DamagedError(path, f"not a whole Parquet file: {' '.join(str(error).split())[:200]}", advice)


def _parsed(data: bytes, path: str, advice: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedError(path, f"not JSON: {error}", advice) from None
    if not isinstance(found, dict):
        raise DamagedError(path, f"a JSON {type(found).__name__}, expected an object", advice)
    return found


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_entry(data: bytes) -> dict[str, Any]:
    """Return the entry in a manifest for a file with the content `data`: the size in bytes and the SHA-256.

    >>> file_entry(b"abc")["bytes"]
    3
    """
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
