"""The store: one experiment's tables, folders, ledger and report on any fsspec storage.

In: Arrow tables with their footer, local folders. Out: the same. A table is serialised first and put whole; a folder is
named by the identity of its content, written once, its manifest last. Readers therefore see all of a result or none of it.
Which results are up to date is not decided here (lineage.py).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

FOOTER_KEY = b"taskdiv"
UNFINISHED = ".tmp"  # ends the name of a file that is being written, or was when its process was killed
MANIFEST = "manifest.json"
REPORT_TABLE = "strategy_report"


@dataclass(frozen=True)
class Footer:
    """What a stored table says of itself; one write with its rows, so that data and verdict cannot part."""

    asset: str
    key: str | None
    identity: str
    inputs: Mapping[str, str]
    code_version: int
    run_id: str | None
    started_at: str
    finished_at: str
    wall_s: float
    rules: tuple[Mapping[str, Any], ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None, path: str) -> Self:
        """Footer of a Parquet file's key-value metadata.

        Raises:
            ValueError: the file was not written by this project.
        """
        text = (metadata or {}).get(FOOTER_KEY)
        if text is None:
            raise ValueError(f"{path} has no `taskdiv` footer; expected a table written by this project. Move it away.")
        raw = json.loads(text)
        return cls(**{**raw, "rules": tuple(raw["rules"])})

    def to_json(self) -> str:
        """The footer as stored."""
        return json.dumps(asdict(self), sort_keys=True, default=str)


@dataclass(frozen=True)
class StoredTable:
    """A table with its footer, as read from the store."""

    table: pa.Table
    footer: Footer


def home() -> str:
    """`$TASKDIV_HOME`: a local folder (made absolute) or an fsspec URL; `.taskdiv` in the current folder unless set."""
    path = os.environ.get("TASKDIV_HOME") or ".taskdiv"
    return path.rstrip("/") if "://" in path else str(Path(path).expanduser().resolve())


class Store:
    """Files of one experiment under `$TASKDIV_HOME/<experiment>`."""

    def __init__(self, experiment: str, root: str | None = None) -> None:
        self.experiment = experiment
        self.url = f"{root or home()}/{experiment}"
        fs, self._base = fsspec.core.url_to_fs(self.url)
        self.fs: Any = fs
        self.is_local = isinstance(fs, LocalFileSystem)

    def path(self, *parts: str) -> str:
        """Path of a file inside this store, for `self.fs`."""
        return "/".join((self._base, *parts))

    def locate(self, *parts: str) -> str:
        """The same as people write it: an absolute path, or a URL."""
        return "/".join((self.url, *parts))

    # --- small files ---------------------------------------------------------------------------------------------

    def put(self, data: bytes, *parts: str) -> str:
        """Write a file whole: readers see the old content or the new, never a part of it."""
        path = self.path(*parts)
        if self.is_local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            temporary = _written(path, data)
            try:
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(Path(path).parent)
        else:
            self.fs.pipe_file(path, data)
            self.fs.invalidate_cache()
        return path

    def put_file(self, local: Path, *parts: str) -> None:
        """Put a local file whole; unlike `put`, it is not read into memory."""
        target = self.path(*parts)
        if self.is_local:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            temporary = f"{target}.{uuid.uuid4().hex}{UNFINISHED}"
            shutil.copyfile(local, temporary)
            Path(temporary).replace(target)
        else:
            self.fs.put_file(str(local), target)
            self.fs.invalidate_cache()

    def fetch_file(self, local: Path, *parts: str) -> Path | None:
        """A stored file as a local one: itself on local storage, else copied to `local`; None if there is none."""
        path = self.path(*parts)
        if self.is_local:
            return Path(path) if Path(path).is_file() else None
        try:
            self.fs.get_file(path, str(local))
        except FileNotFoundError:
            return None
        return local

    def put_new(self, data: bytes, *parts: str) -> bool:
        """Write a file only if there is none; False if another was first.

        Locally a hard link to a file that is written already: of several processes one wins, and nobody ever sees a part of
        it. (fsspec's own `mode="create"` looks first and writes then: two processes both won in most tries.) Elsewhere a
        conditional put.
        """
        path = self.path(*parts)
        if not self.is_local:
            try:
                self.fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            self.fs.invalidate_cache()
            return True
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        temporary = _written(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def get(self, *parts: str) -> bytes | None:
        """Content of a file, None if there is none."""
        try:
            data: bytes = self.fs.cat_file(self.path(*parts))
        except FileNotFoundError:
            return None
        return data

    def remove(self, *parts: str) -> None:
        """Remove a file if it is there."""
        try:
            self.fs.rm_file(self.path(*parts))
        except FileNotFoundError:
            return
        if not self.is_local:
            self.fs.invalidate_cache()

    def names(self, *parts: str) -> list[str]:
        """Names of the finished files of a folder, sorted; none if there is no such folder."""
        if not self.is_local:
            self.fs.invalidate_cache()
        try:
            found = self.fs.ls(self.path(*parts), detail=False)
        except FileNotFoundError:
            return []
        names = (str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)
        return sorted(name for name in names if not name.endswith(UNFINISHED))

    # --- tables --------------------------------------------------------------------------------------------------

    def table_parts(self, asset: str, key: str | None = None) -> tuple[str, ...]:
        """Where a table lies (STORE.md): by strategy, and by budget below it."""
        if asset == REPORT_TABLE:
            return ("report", "results.parquet")
        if key is None:
            return ("tables", f"{asset}.parquet")
        budget, _, strategy = key.rpartition("|")
        return ("tables", asset, *((strategy, f"{budget}.parquet") if budget else (f"{strategy}.parquet",)))

    def write_table(self, table: pa.Table, footer: Footer) -> str:
        """Put a table with its footer whole, and remove the note of an earlier rejection."""
        parts = self.table_parts(footer.asset, footer.key)
        buffer = io.BytesIO()
        pq.write_table(
            table.replace_schema_metadata({FOOTER_KEY: footer.to_json().encode()}), buffer, compression="zstd"
        )
        path = self.put(buffer.getvalue(), *parts)
        self.remove(*_rejected(parts))
        return path

    def read_footer(self, asset: str, key: str | None = None) -> Footer | None:
        """Footer of a stored table, None if it is not there. Reads the file's tail only."""
        path = self.path(*self.table_parts(asset, key))
        try:
            with self.fs.open(path, "rb") as file:
                return Footer.from_metadata(pq.read_metadata(file).metadata, path)
        except FileNotFoundError:
            return None
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is not a whole Parquet file ({error}); remove it and run again") from None

    def read_table(self, asset: str, key: str | None = None) -> StoredTable:
        """A stored table.

        Raises:
            FileNotFoundError: it was not materialised yet.
        """
        path = self.path(*self.table_parts(asset, key))
        try:
            # Read whole first: pyarrow's threads then touch no Python file, which can abort a process that is ending.
            table = pq.read_table(pa.BufferReader(self.fs.cat_file(path)))
        except FileNotFoundError:
            name = asset if key is None else f"{asset}[{key}]"
            raise FileNotFoundError(
                f"{name} of experiment {self.experiment} is not there yet ({path}); "
                f"run `taskdiv run {self.experiment}` or materialise it first"
            ) from None
        return StoredTable(table, Footer.from_metadata(table.schema.metadata, path))

    def write_rejected(self, asset: str, key: str | None, note: Mapping[str, Any]) -> str:
        """Leave word of a table that broke its contract; the stored table stays as it is."""
        text = json.dumps(note, sort_keys=True, indent=1, default=str)
        return self.put(text.encode(), *_rejected(self.table_parts(asset, key)))

    def drop_rejected(self, asset: str, key: str | None) -> None:
        """Remove the note of an earlier rejection: what is stored is what should be."""
        self.remove(*_rejected(self.table_parts(asset, key)))

    def rejections(self) -> list[tuple[str, dict[str, Any]]]:
        """Every note of a table that broke its contract, with its path inside the store."""
        try:
            found = self.fs.find(self.path("tables"))
        except FileNotFoundError:
            return []
        paths = [str(path) for path in found if str(path).endswith(".rejected.json")]
        return [(path[len(self._base) + 1 :], json.loads(self.fs.cat_file(path))) for path in sorted(paths)]

    # --- folders by identity -------------------------------------------------------------------------------------

    def read_manifest(self, identity: str) -> dict[str, Any] | None:
        """Manifest of a finished folder; None if it was never finished."""
        data = self.get("folders", identity, MANIFEST)
        return None if data is None else json.loads(data)

    def is_whole(self, identity: str) -> bool:
        """True if a folder was finished, and every file of it is still there with its size."""
        manifest = self.read_manifest(identity)
        if manifest is None:
            return False
        try:
            sizes = [self.fs.info(self.path("folders", identity, name))["size"] for name in manifest["files"]]
        except FileNotFoundError:
            return False
        return sizes == [entry["bytes"] for entry in manifest["files"].values()]

    def write_folder(self, identity: str, local: Path, **content: Any) -> dict[str, Any]:
        """Store a local folder under its identity: the files first, the manifest (names, bytes, sha256) last."""
        files = sorted(path for path in local.rglob("*") if path.is_file())
        entries = {
            path.relative_to(local).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for path in files
        }
        for path in files:
            self.put_file(path, "folders", identity, path.relative_to(local).as_posix())
        return self.finish_folder(identity, entries, **content)

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
        """A finished folder as a local path: itself on local storage, else a cached copy.

        Raises:
            FileNotFoundError: it is not there, or was never finished.
        """
        manifest = self.read_manifest(identity)
        if manifest is None:
            raise FileNotFoundError(
                f"folder {self.locate('folders', identity)} is missing or unfinished; run `taskdiv run {self.experiment}`"
            )
        if self.is_local:
            return Path(self.path("folders", identity))
        target = _cache_folder() / identity
        if not (target / MANIFEST).is_file():
            target.mkdir(parents=True, exist_ok=True)
            for name in manifest["files"]:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                temporary = target / f"{name}.{uuid.uuid4().hex}{UNFINISHED}"
                self.fs.get_file(self.path("folders", identity, name), str(temporary))
                temporary.replace(target / name)
            (target / MANIFEST).write_text(json.dumps(manifest))
        return target

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A local folder for work in progress, removed afterwards."""
        with tempfile.TemporaryDirectory(prefix="taskdiv-") as folder:
            yield Path(folder)


def _written(path: str, data: bytes) -> Path:
    """A temporary file beside `path` whose content is on the disk; removed again if it could not be written."""
    temporary = Path(f"{path}.{uuid.uuid4().hex}{UNFINISHED}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    """A file's new name is on the disk too: after a power cut it is there."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """sha256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_entry(data: bytes) -> dict[str, Any]:
    """What a manifest says of a file.

    >>> file_entry(b"abc")["bytes"]
    3
    """
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _rejected(parts: tuple[str, ...]) -> tuple[str, ...]:
    return (*parts[:-1], parts[-1].removesuffix(".parquet") + ".rejected.json")


def _cache_folder() -> Path:
    return Path(os.environ.get("TASKDIV_CACHE") or Path(tempfile.gettempdir()) / "taskdiv-cache")
