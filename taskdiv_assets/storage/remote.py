"""Whatever an experiment names by a URL: its file system, its version, and a local copy in the bounded cache.

In: a path or any fsspec URL (`s3://…`, `gs://…`, `https://…`). Out: a file system set up to try again; a mark that changes
when the object does, read without downloading it; a local file or folder for as long as a block runs. A local path is
itself. Here too is what is told when an address cannot be used. Where results are kept is `store`'s matter.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from taskdiv_assets.storage import disk_cache as cache

THREADS_N = 32  # requests at once; s3fs sends them over one event loop, so a thread only waits
# What an object store fails to answer is asked again: by botocore (after up to 0.5, 1, 2, 4, 8 s), around it by s3fs, and around
# that by Dagster (`transient`). Its own default gives up a read after 15 s, which a busy store exceeds. Listings are
# never kept: others write there too.
S3_OPTIONS: Mapping[str, Any] = {
    "use_listings_cache": False,
    "config_kwargs": {
        "retries": {"mode": "standard", "max_attempts": 6},
        "connect_timeout": 10,
        "read_timeout": 60,
        "max_pool_connections": THREADS_N,
    },
}
PACKAGES = {"s3": "'taskdiv-assets[s3]'", "s3a": "'taskdiv-assets[s3]'", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}
# What file systems call that which changes with the content, the surest first.
MARKS = ("ETag", "etag", "md5Hash", "generation", "checksum", "LastModified", "updated", "mtime", "modified")
CONTENT = "content"  # of a cached file, under its own ending: readers go by it

_Given = TypeVar("_Given")
_Found = TypeVar("_Found")
_hashes: dict[str, str] = {}  # mark → sha256: what this process has hashed already


def is_remote(path: str) -> bool:
    """True for what has to be fetched.

    >>> is_remote("s3://bucket/pool.jsonl"), is_remote("/data/pool.jsonl"), is_remote("file:///data/pool.jsonl")
    (True, False, False)
    """
    return "://" in path and path.partition("://")[0] not in ("file", "local")


def filesystem(url: str) -> tuple[Any, str]:
    """File system of a path or URL, and the path inside it.

    Raises:
        ValueError: an unknown protocol, or one whose package is not installed.
    """
    protocol = url.partition("://")[0]
    options: Mapping[str, Any] = {}
    if is_remote(url) and "::" not in url:
        try:
            fsspec.get_filesystem_class(protocol)
        except ImportError as error:
            package = PACKAGES.get(protocol)
            advice = f"pip install {package}" if package else str(error)
            raise ValueError(f"{url} needs a package that is not installed; {advice}") from None
        except ValueError:
            raise ValueError(
                f"{url}: unknown protocol {protocol!r}; expected a path, or a URL such as s3://…"
            ) from None
        if protocol in ("s3", "s3a"):
            options = {**S3_OPTIONS, **fsspec.config.conf.get(protocol, {})}  # the user's own settings win
    fs, path = fsspec.core.url_to_fs(url, **options)
    return fs, str(path)


def at_once(function: Callable[[_Given], _Found], values: Iterable[_Given]) -> list[_Found]:
    """A function of each value, in their order, with many requests on their way at a time."""
    values = list(values)
    if len(values) < 2:
        return [function(value) for value in values]
    with ThreadPoolExecutor(min(THREADS_N, len(values))) as pool:
        return list(pool.map(function, values))


def joined(base: str, path: str) -> str:
    """A relative path against the URL of a folder, as people mean it.

    >>> joined("s3://bucket/experiments", "../pools/a.jsonl")
    's3://bucket/pools/a.jsonl'

    Raises:
        ValueError: it leads out of the bucket.
    """
    protocol, _, rest = base.partition("://")
    host, _, folder = rest.partition("/")
    found = posixpath.normpath(posixpath.join(folder, path))
    if found == ".." or found.startswith("../"):
        raise ValueError(f"{path!r} leads out of {protocol}://{host}; it is relative to {base}")
    return f"{protocol}://{host}/{found}"


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what file systems say of a missing object, or of missing rights, into one sentence.

    Raises:
        FileNotFoundError: there is nothing.
        PermissionError: no credentials, or they do not suffice.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {url}; check the address") from None
    except PermissionError as error:
        raise PermissionError(f"{url} may not be read with these credentials ({error})") from error
    except Exception as error:
        if type(error).__name__ not in ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"):
            raise
        raise PermissionError(
            f"no credentials for {url}; set them as its own tools expect (S3: $AWS_ACCESS_KEY_ID and "
            "$AWS_SECRET_ACCESS_KEY, a profile, or the machine's role)"
        ) from error


def mark(url: str) -> str | None:
    """A hash that changes when the object does, by one request and without its content; None if nothing tells.

    Raises:
        OSError: as `explained` has it.
    """
    fs, path = filesystem(url)
    with explained(url):
        fs.invalidate_cache()
        return _mark(url, fs.info(path))


def sha256_of(path: str, marks: dict[str, str]) -> str:
    """sha256 of a file's bytes; one at a URL is downloaded only if no look has hashed this version before.

    Args:
        path: or URL.
        marks: known ones, see `known_or`; a new one is added.
    """

    def read() -> str:
        with fetched(path) as local, local.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return known_or(mark(path) if is_remote(path) else None, marks, read)


def known_or(found: str | None, marks: dict[str, str], read: Callable[[], str]) -> str:
    """Hash of what has a mark: as it is known, else as it is read now.

    Args:
        found: the mark, taken before anything is read: what is replaced meanwhile is then read once more. None: read.
        marks: mark → hash, from earlier looks; a new one is added.
        read: makes the hash.
    """
    if found is None:
        return read()
    if found not in marks:
        marks[found] = _hashes.get(found) or read()
        _hashes[found] = marks[found]
    return marks[found]


@contextmanager
def fetched(url: str) -> Iterator[Path]:
    """A file as a local one while the block runs: itself if it is local, else a copy in the cache, by its mark.

    Raises:
        OSError: as `explained` has it.
    """
    if not is_remote(url):
        yield Path(filesystem(url)[1])
        return
    fs, path = filesystem(url)
    with explained(url):
        fs.invalidate_cache()
        info = fs.info(path)
    with _cached([(CONTENT, path, info)], url, fs) as folder:
        yield folder / CONTENT


@contextmanager
def fetched_folder(url: str, wants: Callable[[str], bool]) -> Iterator[Path]:
    """Files of a folder, not of those below it, as a local folder while the block runs; itself if it is local.

    Args:
        url: of the folder.
        wants: by name, which files are fetched.

    Raises:
        OSError: as `explained` has it.
        ValueError: what the block says of the copy, by the name that the user gave.
    """
    if not is_remote(url):
        yield Path(filesystem(url)[1])
        return
    fs, _ = filesystem(url)
    with _cached(_files(url, wants), url, fs) as folder:
        try:
            yield folder
        except ValueError as error:
            raise ValueError(str(error).replace(str(folder), url)) from None


def folder_mark(url: str, wants: Callable[[str], bool]) -> str | None:
    """As `mark`, of the wanted files of a folder together, by one listing."""
    marks = [_mark(name, info) for name, _, info in _files(url, wants)]
    return None if None in marks else _digest(url, *sorted(str(one) for one in marks))


def _files(url: str, wants: Callable[[str], bool]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Name, path and description of each wanted file of a folder."""
    fs, path = filesystem(url)
    with explained(url):
        fs.invalidate_cache()
        entries = [entry for entry in fs.ls(path, detail=True) if entry["type"] == "file"]
    named = [(posixpath.basename(str(entry["name"])), str(entry["name"]), entry) for entry in entries]
    return [entry for entry in named if entry[0] and wants(entry[0])]


@contextmanager
def _cached(files: list[tuple[str, str, Mapping[str, Any]]], url: str, fs: Any) -> Iterator[Path]:
    """Copies of some files in one entry of the cache, named after their marks."""
    marks = [_mark(url, info) for _, _, info in files]
    # Where nothing tells one version from the next, nothing is found again.
    key = _digest(url, *map(str, marks)) if None not in marks else uuid.uuid4().hex

    def download(folder: Path) -> None:
        with explained(url):
            at_once(lambda one: _get(fs, url, one, folder), files)

    with cache.held(f"source-{key}", sum(int(info.get("size") or 0) for _, _, info in files), download) as folder:
        yield folder


def _get(fs: Any, url: str, file: tuple[str, str, Mapping[str, Any]], folder: Path) -> None:
    name, path, info = file
    fs.get_file(path, str(folder / name))
    bytes_n, size = (folder / name).stat().st_size, info.get("size")
    if size is not None and bytes_n != size:
        raise ConnectionError(
            f"{url}: {bytes_n:,} bytes came of the {size:,} of {name}; it was cut, or replaced meanwhile"
        )


def _mark(url: str, info: Mapping[str, Any]) -> str | None:
    name = next((name for name in MARKS if info.get(name)), None)
    return None if name is None else _digest(url, str(info.get("size")), name, str(info[name]))


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
