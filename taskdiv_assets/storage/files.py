"""Read and write the files of one folder on a local disk, in an object store, or on other storage that fsspec supports.

On a local disk and in an object store, each write is atomic: readers see the old content or the new content. A local file is
written under a temporary name and then renamed or linked. An object store shows an object only after a complete upload.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_fixed

from taskdiv_assets.storage import remote, room, temporary
from taskdiv_assets.storage.transient import answered

COPIED_BYTES = 2**20  # bytes that one step of a copy reads
EXISTS, CONFLICT = 412, 409  # HTTP statuses of an object store for a conditional request
CONFLICTS_N, CONFLICT_S = 10, 0.2


class Files:
    """The files of one folder. `url` is an absolute path or an fsspec URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        fs, self._base = remote.filesystem(url)
        self.fs: Any = fs
        self.is_local = isinstance(fs, LocalFileSystem)

    def path(self, *parts: str) -> str:
        """Return the path of a file or subfolder of this folder, as the methods of `self.fs` expect it."""
        return "/".join((self._base, *parts))

    def locate(self, *parts: str) -> str:
        """Return the absolute path or the URL of a file or subfolder of this folder, as messages show it."""
        return "/".join((self.url, *parts))

    def put(self, data: bytes, *parts: str) -> str:
        """Write a file atomically, and return its path (`self.path`)."""
        path = self.path(*parts)
        if self.is_local:
            with temporary.replacing(path) as file:
                file.write(data)
        else:
            self._send(lambda: self.fs.pipe_file(path, data))
        return path

    def put_file(self, local: Path, *parts: str) -> None:
        """Write a copy of a local file atomically, in blocks. Raise NoRoomError if a local store has too little free space."""
        target = self.path(*parts)
        if self.is_local:
            room.require(Path(target).parent, local.stat().st_size, f"storing {Path(target).name}")
            with temporary.replacing(target) as file, local.open("rb") as source:
                shutil.copyfileobj(source, file, COPIED_BYTES)
        else:
            self._send(lambda: self.fs.put_file(str(local), target))

    def _send(self, send: Callable[[], object]) -> None:
        """Upload an object by calling `send`. After a FileNotFoundError, upload the object once more from its beginning.

        s3fs uploads objects of 100 MB and more in parts, and joins the parts by a last request. If the answer to this request is
        lost, s3fs repeats the request. The repeated request fails, because the parts are joined already.
        """
        try:
            send()
        except FileNotFoundError:
            send()
        self.fs.invalidate_cache()

    def fetch_file(self, local: Path, *parts: str) -> Path | None:
        """Return a local path of a stored file; None if the file does not exist. A remote file is downloaded to `local`."""
        path = self.path(*parts)
        if self.is_local:
            return Path(path) if Path(path).is_file() else None
        try:
            self.fs.get_file(path, str(local))
        except FileNotFoundError:
            return None
        return local

    def put_new(self, data: bytes, *parts: str) -> bool:
        """Write a file only if it does not exist. Return True if this call wrote the file, otherwise False.

        On a local disk, a hard link to a complete file is created, so only one of several processes succeeds. (fsspec's own
        `mode="create"` checks first and writes later: in most trials, two processes both succeeded.) On other storage, a
        conditional request is sent. If the answer to this request is lost, the repeated request finds the file that the first
        request wrote. This method then compares the content, so `data` must be different for each writer.
        """
        path = self.path(*parts)
        if not self.is_local:
            return self._put_if_none(path, data) or self.get(*parts) == data
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with temporary.beside(path) as (name, file):
            file.write(data)
            temporary.sync(file)
            try:
                os.link(name, path)
            except FileExistsError:  # on NFS, a repeated request can find the link that the first one created
                return name.stat().st_nlink == 2
        return True

    @retry(  # a conflict: another process writes or removes the same object now
        retry=retry_if_exception(lambda error: isinstance(error, OSError) and answered(error) == CONFLICT),
        stop=stop_after_attempt(CONFLICTS_N),
        wait=wait_fixed(CONFLICT_S),
        retry_error_callback=lambda _state: False,
    )
    def _put_if_none(self, path: str, data: bytes) -> bool:
        try:
            self.fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:  # s3fs raises a plain OSError where a store does not name the condition that failed
            if answered(error) != EXISTS:
                raise
            return False
        self.fs.invalidate_cache()
        return True

    def is_file(self, *parts: str) -> bool:
        """Return True for a regular local file. For a path of an object store, always return True, without a request."""
        return not self.is_local or Path(self.path(*parts)).is_file()

    def get(self, *parts: str) -> bytes | None:
        try:
            return self.read(self.path(*parts))
        except FileNotFoundError:
            return None

    def read(self, path: str) -> bytes:
        """Return the content of the file at a path of `self.fs`; raise FileNotFoundError if the file does not exist.

        By default, s3fs reads a large object in parts. If the object is replaced meanwhile, these parts belong to two versions.
        So an object of S3 is read by one request.
        """
        data: bytes = self.fs.cat_file(path, **({"max_concurrency": 1} if _is_s3(self.fs) else {}))
        return data

    def remove(self, *parts: str) -> None:
        """Remove a file if it exists."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(self.path(*parts))
        if not self.is_local:
            self.fs.invalidate_cache()

    def remove_own(self, data: bytes, *parts: str) -> None:
        """Remove a file if its content is `data`. The content is compared before the removal.

        On S3, the request for the removal is also conditional: it removes only the version that was compared. Otherwise, a
        request that is repeated after a lost answer could remove a newer file of another process.
        """
        path = self.path(*parts)
        if not _is_s3(self.fs):
            if self.get(*parts) == data:
                self.remove(*parts)
            return
        try:
            version = self.fs.info(path)["ETag"]
            if self.read(path) == data:
                bucket, key, _ = self.fs.split_path(path)
                self.fs.call_s3("delete_object", Bucket=bucket, Key=key, IfMatch=version)
        except FileNotFoundError:
            pass
        except OSError as error:
            if answered(error) not in (EXISTS, CONFLICT):  # these two mean that another process has replaced the file
                raise

    def names(self, *parts: str) -> list[str]:
        """Return the sorted names in a folder, without unfinished (`.tmp`) files; [] if the folder does not exist."""
        if not self.is_local:
            self.fs.invalidate_cache()
        try:
            found = self.fs.ls(self.path(*parts), detail=False)
        except FileNotFoundError:
            return []
        names = (str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)
        return sorted(name for name in names if not name.endswith(temporary.UNFINISHED))

    def names_below(self, *parts: str) -> list[str]:
        """Return the sorted relative paths of all files below a folder, without unfinished (`.tmp`) files.

        A folder that does not exist gives an empty list.
        """
        folder = self.path(*parts)
        with suppress(FileNotFoundError):
            found = map(str, self.fs.find(folder))
            return sorted(path[len(folder) + 1 :] for path in found if not path.endswith(temporary.UNFINISHED))
        return []


def _is_s3(fs: Any) -> bool:
    return "s3" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
