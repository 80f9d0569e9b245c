"""Files at one address, local or any fsspec URL. Each write is atomic: readers see the old content, the new content, or no file.

Locally, a file gets its name once it is written; an object store shows an object once all of it has arrived. `store` decides what
the files are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_fixed

from taskdiv_assets.storage import remote, room, temporary
from taskdiv_assets.storage.transient import answered

COPIED_BYTES = 2**20  # at a time
EXISTS, CONFLICT = 412, 409  # answers of an object store to a conditional request
CONFLICTS_N, CONFLICT_S = 10, 0.2


def _is_conflict(error: BaseException) -> bool:
    return isinstance(error, OSError) and answered(error) == CONFLICT


class Files:
    """Files of one folder.

    Args:
        url: an absolute path, or an fsspec URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        fs, self._base = remote.filesystem(url)
        self.fs: Any = fs
        self.is_local = isinstance(fs, LocalFileSystem)

    def path(self, *parts: str) -> str:
        """Return the path of a file in this folder, for `self.fs`."""
        return "/".join((self._base, *parts))

    def locate(self, *parts: str) -> str:
        """Return the path or URL of a file in this folder, for people."""
        return "/".join((self.url, *parts))

    def put(self, data: bytes, *parts: str) -> str:
        """Write a file atomically."""
        path = self.path(*parts)
        if self.is_local:
            with temporary.replacing(path) as file:
                file.write(data)
        else:
            self._send(lambda: self.fs.pipe_file(path, data))
        return path

    def put_file(self, local: Path, *parts: str) -> None:
        """Write a copy of a local file atomically; unlike `put`, without reading it into memory.

        Raises:
            NoRoomError: the local disk has no space for it.
        """
        target = self.path(*parts)
        if self.is_local:
            room.require(Path(target).parent, local.stat().st_size, f"storing {Path(target).name}")
            with temporary.replacing(target) as file, local.open("rb") as source:
                shutil.copyfileobj(source, file, COPIED_BYTES)
        else:
            self._send(lambda: self.fs.put_file(str(local), target))

    def _send(self, send: Callable[[], object]) -> None:
        """Upload an object, again from its beginning if the upload is gone.

        Objects of 100 MB and more are uploaded in parts. If the answer to the request that joins the parts is lost, and the
        request is sent again, the upload no longer exists.
        """
        try:
            send()
        except FileNotFoundError:
            send()
        self.fs.invalidate_cache()

    def fetch_file(self, local: Path, *parts: str) -> Path | None:
        """Return a local path of a stored file: itself on local storage, or a copy at `local`; None if there is no such file."""
        path = self.path(*parts)
        if self.is_local:
            return Path(path) if Path(path).is_file() else None
        try:
            self.fs.get_file(path, str(local))
        except FileNotFoundError:
            return None
        return local

    def put_new(self, data: bytes, *parts: str) -> bool:
        """Write a file only if it does not exist; return False if another process was first.

        Locally this is a hard link to a complete file: of several processes one wins, and no reader sees an incomplete file.
        (fsspec's own `mode="create"` checks first and writes then: in most trials, two processes both won.) Elsewhere it is a
        conditional request. If the answer to a request is lost, the request is sent again and meets its own file; so `data`
        must be unique to the writer where the result of this method matters.
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
            except FileExistsError:  # on NFS a request that is sent again meets its own link
                return name.stat().st_nlink == 2
        return True

    @retry(
        retry=retry_if_exception(_is_conflict),  # another put or removal is under way there
        stop=stop_after_attempt(CONFLICTS_N),
        wait=wait_fixed(CONFLICT_S),
        retry_error_callback=lambda _state: False,
    )
    def _put_if_none(self, path: str, data: bytes) -> bool:
        try:
            self.fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:  # some stores do not say which condition failed, so s3fs does not know
            if answered(error) != EXISTS:
                raise
            return False
        self.fs.invalidate_cache()
        return True

    def is_file(self, *parts: str) -> bool:
        """Return False for a path that is not a file: a local folder, a pipe or a broken link. An object store has only files."""
        return not self.is_local or Path(self.path(*parts)).is_file()

    def get(self, *parts: str) -> bytes | None:
        """Return the content of a file; None if it does not exist."""
        try:
            return self.read(self.path(*parts))
        except FileNotFoundError:
            return None

    def read(self, path: str) -> bytes:
        """Return a whole file by its path for `self.fs`, with one request if the library allows it.

        s3fs would request the size first, and read large objects in parts, which may belong to two versions.
        """
        options = {"max_concurrency": 1} if _is_s3(self.fs) else {}
        data: bytes = self.fs.cat_file(path, **options)
        return data

    def remove(self, *parts: str) -> None:
        """Remove a file if it exists."""
        try:
            self.fs.rm_file(self.path(*parts))
        except FileNotFoundError:
            return
        if not self.is_local:
            self.fs.invalidate_cache()

    def remove_own(self, data: bytes, *parts: str) -> None:
        """Remove a file if it contains `data`.

        On S3 with a conditional request: a request whose answer was lost is sent again, and would otherwise remove the file
        that another process has written in the meantime. Elsewhere the content is compared first.
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
            return
        except OSError as error:
            if answered(error) not in (EXISTS, CONFLICT):  # it is another's now
                raise

    def names(self, *parts: str) -> list[str]:
        """Return the names of the finished files of a folder, sorted; an empty list if the folder does not exist."""
        if not self.is_local:
            self.fs.invalidate_cache()
        try:
            found = self.fs.ls(self.path(*parts), detail=False)
        except FileNotFoundError:
            return []
        names = (str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)
        return sorted(name for name in names if not name.endswith(temporary.UNFINISHED))

    def names_below(self, *parts: str) -> list[str]:
        """Return the finished files of a folder and its subfolders as paths inside the folder, by one listing."""
        folder = self.path(*parts)
        try:
            found = self.fs.find(folder)
        except FileNotFoundError:
            return []
        return sorted(str(path)[len(folder) + 1 :] for path in found if not str(path).endswith(temporary.UNFINISHED))


def _is_s3(fs: Any) -> bool:
    return "s3" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
