"""Read files that an experiment names by path or URL (`s3://…`, `https://…`), and recognise whether they have changed.

A mark is a hash of an object's metadata, such as its ETag, so no download is needed to compute it. If the object changes, so does
the mark. A remote file is copied to the disk cache. The copy stays there at least until the `with` block of `fetched` ends. A
local path is used directly.
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

THREADS_N = 32  # number of concurrent requests; s3fs sends all of them from one event loop, so the threads only wait
# botocore retries a failed request (after up to 0.5, 1, 2, 4, 8 s). If that fails, s3fs retries, and after s3fs Dagster
# (`transient`). s3fs's default read timeout is 15 s, and a busy store needs longer. Listings are not cached, because other
# processes write files too.
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
# Names of metadata that change when the content changes, in different file systems; the most reliable name first.
MARKS = ("ETag", "etag", "md5Hash", "generation", "checksum", "LastModified", "updated", "mtime", "modified")
CONTENT = "content"  # name of the file in a cache entry of one file

_Given = TypeVar("_Given")
_Found = TypeVar("_Found")
_hashes: dict[str, str] = {}  # mark → SHA-256 that this process has computed


def is_remote(path: str) -> bool:
    """Return True for the URL of a file that is not on a local disk.

    >>> is_remote("s3://bucket/pool.jsonl"), is_remote("/data/pool.jsonl"), is_remote("file:///data/pool.jsonl")
    (True, False, False)
    """
    return "://" in path and path.partition("://")[0] not in ("file", "local")


def filesystem(url: str) -> tuple[Any, str]:
    """Return a URL's fsspec file system and the path in it. Raise ValueError for an unknown protocol or a missing package."""
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
            expected = "a path, or a URL such as s3://…"
            raise ValueError(f"{url}: unknown protocol {protocol!r}; expected {expected}") from None
        if protocol in ("s3", "s3a"):
            options = {**S3_OPTIONS, **fsspec.config.conf.get(protocol, {})}  # settings of the user have priority
    fs, path = fsspec.core.url_to_fs(url, **options)
    return fs, str(path)


def at_once(function: Callable[[_Given], _Found], values: Iterable[_Given]) -> list[_Found]:
    """Call a function for each value in up to `THREADS_N` threads. Return the results in the order of the values."""
    values = list(values)
    if len(values) < 2:
        return [function(value) for value in values]
    with ThreadPoolExecutor(min(THREADS_N, len(values))) as pool:
        return list(pool.map(function, values))


def joined(base: str, path: str) -> str:
    """Return the URL of `path`, which is relative to the folder URL `base`; raise ValueError if `path` leads out of the bucket.

    >>> joined("s3://bucket/experiments", "../pools/a.jsonl")
    's3://bucket/pools/a.jsonl'
    """
    protocol, _, rest = base.partition("://")
    host, _, folder = rest.partition("/")
    found = posixpath.normpath(posixpath.join(folder, path))
    if found == ".." or found.startswith("../"):
        raise ValueError(f"{path!r} leads out of {protocol}://{host}; it is relative to {base}")
    return f"{protocol}://{host}/{found}"


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Replace a library's error by FileNotFoundError (missing object) or PermissionError (missing rights or credentials).

    Other errors are raised unchanged.
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
    """Return the mark of an object without a download; None if its metadata do not identify a version.

    Raises:
        FileNotFoundError: there is no such object.
        PermissionError: the object may not be read, or credentials are missing.
        ValueError: the protocol is unknown, or its package is not installed.
    """
    fs, path = filesystem(url)
    with explained(url):
        fs.invalidate_cache()
        return _mark(url, fs.info(path))


def sha256_of(path: str, marks: dict[str, str]) -> str:
    """Return the SHA-256 of a file. `marks` (mark → hash) contains known hashes of remote files; see `known_or`.

    Local files, and remote files without a mark, are read in each call.
    """

    def read() -> str:
        with fetched(path) as local, local.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return known_or(mark(path) if is_remote(path) else None, marks, read)


def known_or(found: str | None, marks: dict[str, str], read: Callable[[], str]) -> str:
    """Return the hash of an object's content: from `marks`, from an earlier call in this process, or from `read`.

    `found` is the object's mark. The hash is added to `marks` under this mark. If `found` is None, `read` computes the hash in
    each call. Determine the mark before this call. If the object is then replaced, its next mark is different, so the next call
    reads the new object.
    """
    if found is None:
        return read()
    if found not in marks:
        marks[found] = _hashes.get(found) or read()
        _hashes[found] = marks[found]
    return marks[found]


@contextmanager
def fetched(url: str) -> Iterator[Path]:
    """Yield a local path of a file. A remote file is copied to the cache if it is not there (for errors, see `explained`)."""
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
    """Yield a local path of a folder while the block runs (for errors of a remote folder, see `explained`).

    A local folder is used directly. From a remote folder, the files whose names `wants` accepts are copied to the cache, without
    subfolders. If the block raises a ValueError, its message gets the URL in place of the path of the cached copy.
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
    """Return one mark for the files of a folder whose names `wants` accepts; None if a file has no mark."""
    marks = [_mark(name, info) for name, _, info in _files(url, wants)]
    return None if None in marks else _digest(url, *sorted(str(one) for one in marks))


def _files(url: str, wants: Callable[[str], bool]) -> list[tuple[str, str, Mapping[str, Any]]]:
    fs, path = filesystem(url)
    with explained(url):
        fs.invalidate_cache()
        entries = [entry for entry in fs.ls(path, detail=True) if entry["type"] == "file"]
    named = [(posixpath.basename(str(entry["name"])), str(entry["name"]), entry) for entry in entries]
    return [entry for entry in named if entry[0] and wants(entry[0])]


@contextmanager
def _cached(files: list[tuple[str, str, Mapping[str, Any]]], url: str, fs: Any) -> Iterator[Path]:
    """Yield a cache folder with copies of some files. The cache key is a hash of the marks, or random if a file has no mark."""
    marks = [_mark(url, info) for _, _, info in files]
    # Without marks, two versions of a file cannot be distinguished. A random key then prevents that an old entry is used.
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
        came = f"{bytes_n:,} bytes came of the {size:,} of {name}"
        raise ConnectionError(f"{url}: {came}; it was truncated, or replaced meanwhile")


def _mark(url: str, info: Mapping[str, Any]) -> str | None:
    name = next((name for name in MARKS if info.get(name)), None)
    return None if name is None else _digest(url, str(info.get("size")), name, str(info[name]))


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
