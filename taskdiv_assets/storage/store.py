"""The store: one experiment's tables, folders, ledger and report on any fsspec storage.

A table is serialised first and written atomically. A folder is named by the identity of its content and written once, its
manifest last. So readers see all of a result or none of it. `graph.lineage` decides which results are up to date.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.footer import FOOTER_KEY, Footer, Rejected
from data_contracts.table_paths import REJECTED, rejected_parts, table_parts
from taskdiv_assets.settings import machine
from taskdiv_assets.storage import disk_cache as cache
from taskdiv_assets.storage import remote, room, temporary
from taskdiv_assets.storage.files import Files

TAIL_BYTES = 64 * 1024  # read at once from the end of a table on an object store, which holds nearly every footer
ROW_GROUP_N = 65_536  # rows of a table that are read at once by who wants some of them only
MANIFEST = "manifest.json"
MAKE_AGAIN = "remove it, and `taskdiv run EXPERIMENT` makes it again"


@dataclass(frozen=True)
class StoredTable:
    """A table with its footer, as read from the store."""

    table: pa.Table
    footer: Footer


def home() -> str:
    """Return `$TASKDIV_HOME`, by default `.taskdiv` in the current folder: an absolute path, or an fsspec URL."""
    path = machine().home
    return path.rstrip("/") if "://" in path else str(Path(path).expanduser().resolve())


class Store(Files):
    """Files of one experiment under `$TASKDIV_HOME/<experiment>`."""

    def __init__(self, experiment: str, root: str | None = None) -> None:
        self.experiment = experiment
        super().__init__(f"{root or home()}/{experiment}")

    # --- tables --------------------------------------------------------------------------------------------------

    def write_table(self, table: pa.Table, footer: Footer) -> str:
        """Put a table with its footer whole, and remove the note of an earlier rejection."""
        buffer = io.BytesIO()
        described = table.replace_schema_metadata({FOOTER_KEY: footer.to_json().encode()})
        pq.write_table(
            described, buffer, compression="zstd", row_group_size=ROW_GROUP_N, write_page_checksum=True
        )  # a bit that changes on the disk is then an error, and not another number
        path = self.put(buffer.getvalue(), *table_parts(footer.asset, footer.key))
        self.drop_rejected(footer.asset, footer.key)
        return path

    def read_footer(self, asset: str, key: str | None = None) -> Footer | None:
        """Footer of a stored table, None if it is not there. Reads the file's tail only, on an object store by one request."""
        path = self.path(*table_parts(asset, key))
        try:
            if self.is_local:
                with self.fs.open(path, "rb") as file:
                    metadata = pq.read_metadata(file).metadata
            else:
                metadata = pq.read_metadata(pa.BufferReader(self._tail(path))).metadata
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error, path) from None
        return footer_of(metadata, path)

    def read_footers(self, tables: Iterable[tuple[str, str | None]]) -> list[Footer | ValueError | None]:
        """Return the footers of many tables, in their order, read concurrently; for a table that cannot be read, the error."""

        def read(table: tuple[str, str | None]) -> Footer | ValueError | None:
            try:
                return self.read_footer(*table)
            except ValueError as error:
                return error

        return remote.at_once(read, tables)

    def _tail(self, path: str) -> bytes:
        """Return the end of a Parquet file with its whole footer; the footer states its own length."""
        bytes_n = TAIL_BYTES
        while True:
            data: bytes = self.fs.cat_file(path, start=-bytes_n)
            footer_n = struct.unpack("<I", data[-8:-4])[0] + 8 if len(data) >= 8 else 0
            if footer_n <= len(data) or len(data) < bytes_n:  # the second: the file is shorter than what was asked for
                return data
            bytes_n = footer_n

    def read_table(self, asset: str, key: str | None = None, columns: Sequence[str] | None = None) -> StoredTable:
        """Return a stored table, or some of its columns.

        Raises:
            DamagedError: it cannot be read.
            FileNotFoundError: it was not materialised yet.
        """
        path = self.path(*table_parts(asset, key))
        try:
            # Read whole first: pyarrow's threads then touch no Python file, which can abort a process that is ending.
            table = parquet_table(self.read(path), path, self._again, columns=columns)
        except FileNotFoundError:
            name = asset if key is None else f"{asset}[{key}]"
            raise FileNotFoundError(
                f"{name} of experiment {self.experiment} is not there yet ({path}); "
                f"run `taskdiv run {self.experiment}` or materialise it first"
            ) from None
        return StoredTable(table, footer_of(table.schema.metadata, path))

    @property
    def _again(self) -> str:
        return f"remove it, and `taskdiv run {self.experiment}` makes it again"

    def _damaged(self, error: Exception, path: str) -> Exception:
        return _damaged(error, path, self._again)

    def write_rejected(self, note: Rejected) -> str:
        """Store the note about a table that broke its contract; the stored table stays unchanged."""
        return self.put(note.to_json().encode(), *rejected_parts(note.asset, note.key))

    def drop_rejected(self, asset: str, key: str | None) -> None:
        """Remove the note of an earlier rejection."""
        self.remove(*rejected_parts(asset, key))

    def rejections(self) -> list[tuple[str, dict[str, Any]]]:
        """Return every note about a table that broke its contract, with its path inside the store.

        One listing covers all tables, with a thousand names per request; one listing per folder would take a request for each
        asset and strategy.
        """
        try:
            found = self.fs.find(self.path("tables"))
        except FileNotFoundError:
            return []
        paths = sorted(str(path) for path in found if str(path).endswith(REJECTED))
        notes = remote.at_once(self.read, paths)
        return [
            (path[len(self._base) + 1 :], _parsed(note, path, self._again))
            for path, note in zip(paths, notes, strict=True)
        ]

    # --- folders by identity -------------------------------------------------------------------------------------

    def read_manifest(self, identity: str) -> dict[str, Any] | None:
        """Return the manifest of a finished folder; None if the folder was never finished."""
        data = self.get("folders", identity, MANIFEST)
        where = self.locate("folders", identity)
        advice = f"remove {where}, and `taskdiv run {self.experiment}` makes it again"
        return None if data is None else _parsed(data, f"{where}/{MANIFEST}", advice)

    def is_whole(self, identity: str) -> bool:
        """Return True if a folder was finished, and all of its files still exist with their sizes: two requests."""
        manifest = self.read_manifest(identity)
        if manifest is None:
            return False
        sizes = self._sizes(identity)
        return all(sizes.get(name) == entry["bytes"] for name, entry in manifest["files"].items())

    def _sizes(self, identity: str) -> dict[str, int]:
        folder = self.path("folders", identity)
        found: dict[str, dict[str, Any]] = self.fs.find(folder, detail=True)
        return {path[len(folder) + 1 :]: int(info["size"]) for path, info in found.items()}

    def write_folder(self, identity: str, local: Path, **content: Any) -> dict[str, Any]:
        """Store a local folder under its identity: its files first, then the manifest (names, bytes, SHA-256)."""
        files = sorted(path for path in local.rglob("*") if path.is_file())
        entries = {
            path.relative_to(local).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for path in files
        }
        missing = [path for path in files if not self._has(identity, path.relative_to(local).as_posix(), entries)]
        if self.is_local:
            needed_n = sum(path.stat().st_size for path in missing)
            room.require(Path(self.path("folders")), needed_n, f"storing {len(missing)} files of a model")
        for path in missing:
            self.put_file(path, "folders", identity, path.relative_to(local).as_posix())
        return self.finish_folder(identity, entries, **content)

    def _has(self, identity: str, name: str, entries: Mapping[str, Mapping[str, Any]]) -> bool:
        """True if the local disk already has a complete copy of a file, left by a writer that was killed before the last one."""
        path = Path(self.path("folders", identity, name))
        if not self.is_local or not path.is_file() or path.stat().st_size != entries[name]["bytes"]:
            return False
        return sha256_file(path) == str(entries[name]["sha256"])

    def finish_folder(self, identity: str, files: Mapping[str, Mapping[str, Any]], **content: Any) -> dict[str, Any]:
        """Put the manifest of a folder whose files are all there: what is not named in it does not belong to it.

        Args:
            identity: of the folder.
            files: `file_entry` of each file, by its name in the folder; each was written by `put`.
            content: what else the manifest says.
        """
        manifest = {**content, "identity": identity, "files": {**files}}
        self.put(json.dumps(manifest, sort_keys=True, indent=1).encode(), "folders", identity, MANIFEST)
        return manifest

    def fetch_folder(self, identity: str) -> Path:
        """Return a local path of a finished folder: itself on local storage, or a copy that stays until this process ends.

        Raises:
            FileNotFoundError: the folder does not exist, or was never finished.
            ValueError: its manifest names a file outside of the folder.
            ConnectionError: the received bytes differ from the manifest.
        """
        manifest = self._finished(identity)
        if self.is_local:
            return Path(self.path("folders", identity))
        return cache.pinned(*self._entry(identity, manifest))

    @contextmanager
    def fetched(self, identity: str) -> Iterator[Path]:
        """Yield the path of `fetch_folder`, but keep a copy only while the block runs: for folders read one after another."""
        manifest = self._finished(identity)
        if self.is_local:
            yield Path(self.path("folders", identity))
            return
        with cache.held(*self._entry(identity, manifest)) as folder:
            yield folder

    def read_file(self, identity: str, name: str) -> bytes:
        """Return one file of a finished folder, without fetching the others.

        Raises:
            FileNotFoundError: the folder does not exist, or was never finished.
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
        """Return key (by address and content), size in bytes and download function of a folder in the cache."""
        files: Mapping[str, Mapping[str, Any]] = manifest["files"]
        content = json.dumps([self.url, {name: entry["sha256"] for name, entry in files.items()}], sort_keys=True)
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

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a local folder for work in progress; it is removed afterwards."""
        with temporary.folder("work-") as folder:
            yield folder


class DamagedError(ValueError):
    """A stored file cannot be read: its path, the reason, and how to make it again."""

    def __init__(self, path: str, why: str, advice: str) -> None:
        super().__init__(f"{path} is damaged ({why}); {advice}")


def footer_of(metadata: Mapping[bytes, bytes] | None, path: str) -> Footer:
    """Return the footer in the key-value metadata of a Parquet file.

    Raises:
        ValueError: the file was not written by this project, or (DamagedError) its footer cannot be read.
    """
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
    """Read a stored Parquet file.

    Args:
        data: content of the file.
        path: of the file.
        advice: what to do if the file cannot be read.
        schema: of the table; None for the file's own.
        columns: to read; None for all.

    Raises:
        DamagedError: the file cannot be read.
    """
    try:
        buffer = pa.BufferReader(data)
        names = None if columns is None else list(columns)
        return pq.read_table(buffer, columns=names, schema=schema, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(error, path, advice) from None


def _damaged(error: Exception, path: str, advice: str) -> Exception:
    """Return the error for a file that the Parquet library cannot read; an error of a disk or a network is returned unchanged."""
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
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_entry(data: bytes) -> dict[str, Any]:
    """Return a manifest's entry for a file.

    >>> file_entry(b"abc")["bytes"]
    3
    """
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
