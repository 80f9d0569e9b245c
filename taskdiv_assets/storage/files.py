"""Files under one address, local or any fsspec URL: each is put whole, so readers see the old content, the new, or none.

In: bytes and local files. Out: the same. Locally a file gets its name once it is written; an object store makes an object
visible once all of it has come. What the files are is `store`'s matter.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from fsspec.implementations.local import LocalFileSystem

from taskdiv_assets.storage import remote, room, temporary
from taskdiv_assets.storage.transient import answered

COPIED_BYTES = 2**20  # at a time
EXISTS, CONFLICT = 412, 409  # what an object store answers to a conditional request
CONFLICTS_N, CONFLICT_S = 10, 0.2


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
        """Path of a file in this folder, for `self.fs`."""
        return "/".join((self._base, *parts))

    def locate(self, *parts: str) -> str:
        """The same as people write it: an absolute path, or a URL."""
        return "/".join((self.url, *parts))

    def put(self, data: bytes, *parts: str) -> str:
        """Write a file whole: readers see the old content or the new, never a part of it."""
        path = self.path(*parts)
        if self.is_local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with temporary.beside(path) as (name, file):
                _write(file, data)
                name.replace(path)
            _sync(Path(path).parent)
        else:
            self._send(lambda: self.fs.pipe_file(path, data))
        return path

    def put_file(self, local: Path, *parts: str) -> None:
        """Put a local file whole; unlike `put`, it is not read into memory.

        Raises:
            NoRoomError: the local disk has no room for it.
        """
        target = self.path(*parts)
        if self.is_local:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            room.require(Path(target).parent, local.stat().st_size, f"storing {Path(target).name}")
            with temporary.beside(target) as (name, file), local.open("rb") as source:
                shutil.copyfileobj(source, file, COPIED_BYTES)
                _write(file, b"")
                name.replace(target)
            _sync(Path(target).parent)
        else:
            self._send(lambda: self.fs.put_file(str(local), target))

    def _send(self, send: Callable[[], object]) -> None:
        """Put an object, once more from its beginning where its upload is gone.

        Objects of 100 MB and more go up in parts. Where the answer to the request that joins them is lost, and it is sent again,
        there is no such upload any more.
        """
        try:
            send()
        except FileNotFoundError:
            send()
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
        conditional put. Where the answer matters, `data` has to be the writer's own: an answer that got lost on its way is
        asked for again, and then what is there is our own.
        """
        path = self.path(*parts)
        if not self.is_local:
            return self._put_if_none(path, data) or self.get(*parts) == data
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with temporary.beside(path) as (name, file):
            _write(file, data)
            try:
                os.link(name, path)
            except FileExistsError:  # on NFS a request that is sent again meets its own link
                return name.stat().st_nlink == 2
        return True

    def _put_if_none(self, path: str, data: bytes) -> bool:
        for _ in range(CONFLICTS_N):
            try:
                self.fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:  # some stores do not say which condition failed, so s3fs does not know
                if answered(error) == EXISTS:
                    return False
                if answered(error) != CONFLICT:
                    raise
                time.sleep(CONFLICT_S)  # another put or removal is under way there
            else:
                self.fs.invalidate_cache()
                return True
        return False

    def is_file(self, *parts: str) -> bool:
        """False for what is not a file: on a local disk a folder, a pipe or a link to nothing. An object store has files only."""
        return not self.is_local or Path(self.path(*parts)).is_file()

    def get(self, *parts: str) -> bytes | None:
        """Content of a file, None if there is none."""
        try:
            return self.read(self.path(*parts))
        except FileNotFoundError:
            return None

    def read(self, path: str) -> bytes:
        """A whole file by its path for `self.fs`, by one request where the library allows.

        s3fs would ask for the size first, and read large objects in parts, which may be of two versions.
        """
        options = {"max_concurrency": 1} if _is_s3(self.fs) else {}
        data: bytes = self.fs.cat_file(path, **options)
        return data

    def remove(self, *parts: str) -> None:
        """Remove a file if it is there."""
        try:
            self.fs.rm_file(self.path(*parts))
        except FileNotFoundError:
            return
        if not self.is_local:
            self.fs.invalidate_cache()

    def remove_own(self, data: bytes, *parts: str) -> None:
        """Remove a file if it holds `data`.

        On S3 by a conditional request: one whose answer got lost is sent again, and would remove what another has put in the
        meantime. Elsewhere we look first.
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
        """Names of the finished files of a folder, sorted; none if there is no such folder."""
        if not self.is_local:
            self.fs.invalidate_cache()
        try:
            found = self.fs.ls(self.path(*parts), detail=False)
        except FileNotFoundError:
            return []
        names = (str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)
        return sorted(name for name in names if not name.endswith(temporary.UNFINISHED))

    def names_below(self, *parts: str) -> list[str]:
        """As `names`, with the files of the folders below it: paths inside the folder, by one listing of it."""
        folder = self.path(*parts)
        try:
            found = self.fs.find(folder)
        except FileNotFoundError:
            return []
        return sorted(str(path)[len(folder) + 1 :] for path in found if not str(path).endswith(temporary.UNFINISHED))


def _is_s3(fs: Any) -> bool:
    return "s3" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def _write(file: IO[bytes], data: bytes) -> None:
    """Write the rest of a file and wait until all of it is on the disk."""
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """A file's content, or a folder's new names, are on the disk: after a power cut they are there."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
