"""What is stored: files, their footers, and columns of tables, on any fsspec storage.

Only reads. Nothing here knows what a result means; a file that cannot be read becomes a sentence, not an exception, so
that one broken file does not hide the others.
"""

import json
import posixpath
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ConfigDict, Field, ValidationError

FOOTER_KEY = b"taskdiv"
REQUESTS_AT_ONCE = 32


class View(BaseModel):
    """A frozen view of something that others wrote: what is not needed is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Rule(View):
    """The last result of one contract rule."""

    rule: str
    severity: str = "error"
    passed: bool = True
    unexpected_n: int = 0
    examples: tuple[Any, ...] = ()
    description: str = ""
    observed: str = ""


class Environment(View):
    """What a result was made with."""

    python: str | None = None
    platform: str | None = None
    processor: str | None = None
    gpu: str | None = None
    cores_n: int | None = None
    commit: str | None = None
    dirty: bool | None = None
    versions: Mapping[str, str] = Field(default_factory=dict)


class Footer(View):
    """Identity, inputs, verdict and circumstances of a stored table."""

    asset: str
    key: str | None = None
    identity: str = ""
    inputs: Mapping[str, str] = Field(default_factory=dict)
    code_version: int | None = None
    run_id: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    wall_s: float | None = None
    rules: tuple[Rule, ...] = ()
    parts: Mapping[str, str] = Field(default_factory=dict)
    environment: Environment = Environment()
    notes: Mapping[str, Any] = Field(default_factory=dict)


class Rejected(View):
    """A table that broke its contract and was not published."""

    asset: str
    key: str | None = None
    identity: str = ""
    run_id: str | None = None
    rejected_at: str | None = None
    rules: tuple[Rule, ...] = ()


class StoredTable(NamedTuple):
    """One Parquet file and its footer."""

    asset: str
    key: str | None  # "random", "512|random", or None where the asset is not partitioned
    path: str
    rows_n: int
    footer: Footer

    @property
    def name(self) -> str:
        """Asset and key, as shown to people."""
        return f"{self.asset} / {self.key}" if self.key else self.asset


class Listing(NamedTuple):
    """Everything under `tables/`, and what could not be read."""

    tables: dict[tuple[str, str | None], StoredTable]
    rejected: tuple[Rejected, ...]
    problems: tuple[str, ...]


class Store(NamedTuple):
    """An experiment's folder on some file system."""

    fs: Any  # fsspec.AbstractFileSystem; the package has no types
    root: str

    def join(self, *parts: str) -> str:
        """A path under the folder."""
        return posixpath.join(self.root, *parts)

    def text(self, *parts: str) -> str | None:
        """A text file, or None where there is none."""
        try:
            raw: bytes = self.fs.cat_file(self.join(*parts))
        except FileNotFoundError:
            return None
        return raw.decode("utf-8", errors="replace")

    def files(self, *parts: str) -> list[str]:
        """Every file below a folder, sorted; none where there is no folder."""
        try:
            return sorted(str(path) for path in self.fs.find(self.join(*parts)))
        except FileNotFoundError:
            return []

    def children(self, *parts: str) -> dict[str, bool]:
        """Names directly in a folder, sorted, and whether each is a file (no folder, and no pipe); none without a folder."""
        try:
            found = self.fs.ls(self.join(*parts), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return dict(sorted((str(one["name"]).rstrip("/").rsplit("/", 1)[-1], one["type"] == "file") for one in found))

    def columns(self, table: StoredTable, names: Sequence[str]) -> pa.Table:
        """Some columns of a stored table."""
        with self.fs.open(table.path, "rb") as handle:
            return pq.read_table(handle, columns=list(names), partitioning=None, read_dictionary=list(names))


def open_store(results_dir: str) -> Store:
    """The folder of one experiment, local or any URL that fsspec knows."""
    fs, root = fsspec.core.url_to_fs(results_dir)
    fs.invalidate_cache()  # object stores keep listings; the report wants what is there now
    return Store(fs, str(root).rstrip("/"))


def list_tables(store: Store) -> Listing:
    """Footers of all stored tables and all rejected ones."""
    tables: dict[tuple[str, str | None], StoredTable] = {}
    rejected: list[Rejected] = []
    problems: list[str] = []
    paths = store.files("tables")
    # An object store takes tens of milliseconds for each; a local disk is not faster for being asked by many.
    with ThreadPoolExecutor(1 if isinstance(store.fs, LocalFileSystem) else REQUESTS_AT_ONCE) as pool:
        for found in pool.map(lambda path: _read(store, path), paths):
            if isinstance(found, Rejected):
                rejected.append(found)
            elif isinstance(found, StoredTable):
                tables[found.asset, found.key] = found
            elif found is not None:
                problems.append(found)
    rejected.sort(key=lambda entry: (entry.asset, entry.key or ""))
    return Listing(tables, tuple(rejected), tuple(problems))


def asset_and_key(relative: str) -> tuple[str, str | None]:
    """What a path under tables/ (without its ending) says.

    >>> asset_and_key("allocation/random/512")
    ('allocation', '512|random')
    """
    parts = relative.split("/")
    if len(parts) == 1:
        return parts[0], None
    if len(parts) == 2:
        return parts[0], parts[1]
    return parts[0], f"{parts[-1]}|{'/'.join(parts[1:-1])}"


def _read(store: Store, path: str) -> StoredTable | Rejected | str | None:
    """A table's footer, a rejected table's note, a sentence where neither can be read, or None for another file."""
    relative = path[len(store.join("tables")) + 1 :]
    try:
        if path.endswith(".rejected.json"):
            return _read_rejected(store, path, relative.removesuffix(".rejected.json"))
        return _read_footer(store, path, relative.removesuffix(".parquet")) if path.endswith(".parquet") else None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:  # ValidationError is a ValueError
        return f"tables/{relative} cannot be read ({type(error).__name__}: {_short(error)}); it is left out"


def _read_footer(store: Store, path: str, relative: str) -> StoredTable:
    asset, key = asset_and_key(relative)
    with store.fs.open(path, "rb") as handle:
        parquet = pq.read_metadata(handle)
    raw = (parquet.metadata or {}).get(FOOTER_KEY)
    footer = Footer(asset=asset, key=key) if raw is None else Footer.model_validate(json.loads(raw))
    return StoredTable(asset, key, path, int(parquet.num_rows), footer)


def _read_rejected(store: Store, path: str, relative: str) -> Rejected:
    asset, key = asset_and_key(relative)
    raw = json.loads(store.fs.cat_file(path))
    if not isinstance(raw, dict):
        raise ValueError(f"expected an object, found {type(raw).__name__}")
    return Rejected.model_validate({"asset": asset, "key": key, **raw})


def _short(error: Exception) -> str:
    text = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
    return text.splitlines()[0][:120] if text else "no message"
