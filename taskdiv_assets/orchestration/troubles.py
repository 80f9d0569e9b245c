"""Error messages for problems of the machine, such as a full disk, missing rights, too many open files or damaged databases.

Libraries wrap errors of the operating system in other exceptions, and some keep only the message. So an exception and all its
causes are checked, by error number and by message.
"""

import errno
import os
import re
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from taskdiv_assets.orchestration.instance import home_folder
from taskdiv_assets.storage.room import NoRoomError, existing, spelled
from taskdiv_assets.storage.store import home
from taskdiv_assets.storage.transient import chain

KEPT = "finished results are kept, and the same command continues from there"
# Error numbers, and the texts of libraries that do not keep the number (torch, safetensors, SQLite).
WORDS = (
    (errno.ENOSPC, re.compile(r"No space left on device|database or disk is full|os error 28\b|file write failed")),
    (errno.EDQUOT, re.compile(r"Disk quota exceeded|os error 122\b")),
    (errno.EROFS, re.compile(r"Read-only file system|os error 30\b|attempt to write a readonly database")),
    (errno.EMFILE, re.compile(r"Too many open files|os error 24\b")),
    (errno.EIO, re.compile(r"Input/output error|os error 5\b|disk I/O error")),
)
DAMAGED = re.compile(r"malformed|not a database")
OTHER_VERSION = re.compile(r"no such (table|column)|has no column named")
NOT_OPENED = re.compile(r"unable to open database file")


def sentence(error: BaseException) -> str | None:
    """Return the message for an exception that a problem of the machine caused; None for any other exception."""
    for cause in chain(error):
        if isinstance(cause, NoRoomError):
            return f"{cause}; free some space there, or {_elsewhere(cause.folder)}; {KEPT}"
        if isinstance(cause, sqlite3.Error):
            return _of_database(cause)
        if isinstance(cause, ValueError):  # its text may quote anything, so it must not be searched for `WORDS`
            return None
        if (number := _number(cause)) is not None:
            return _of_disk(number, _place(cause))
        if isinstance(cause, OSError):  # another kind of error; its own message is clear
            return None
    return None


def _number(error: BaseException) -> int | None:
    """Return the system's error number of an exception, from `errno` or the text; None unless `_of_disk` has a message for it."""
    known = {*(number for number, _ in WORDS), errno.EACCES, errno.EPERM, errno.ENFILE}
    if isinstance(error, OSError) and error.errno in known:
        return error.errno
    return next((number for number, words in WORDS if words.search(str(error))), None)


def _place(error: BaseException) -> Path | None:
    given = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return Path(os.fsdecode(given)) if isinstance(given, str | bytes | os.PathLike) else None


def _of_disk(number: int, place: Path | None) -> str:
    if number in (errno.EMFILE, errno.ENFILE):
        whose = "this process" if number == errno.EMFILE else "this machine"
        return f"too many files are open in {whose}; raise the limit (`ulimit -n 4096`) or use fewer --workers; {KEPT}"
    where = "" if place is None else f"{place}: "
    if number in (errno.ENOSPC, errno.EDQUOT):
        folder = _fullest() if place is None else place
        with suppress(OSError):
            there = existing(folder)
            usage = shutil.disk_usage(there)
            free = f"{spelled(usage.free)} of {spelled(usage.total)} are free"
            said = "your quota is used up" if number == errno.EDQUOT else free
            return (
                f"{where}the disk of {there if there.is_dir() else there.parent} is full ({said}); free some space there, or "
                f"{_elsewhere(folder)}; {KEPT}"
            )
        return f"{where}the disk is full; free some space; {KEPT}"
    if number == errno.EROFS:
        what = f"{place} is" if place is not None else f"{home()} or {home_folder()} is"
        return f"{what} on a disk that is mounted read-only; mount it for writing, or {_elsewhere(place)}; {KEPT}"
    if number == errno.EIO:
        return (
            f"{where}the disk gave an input/output error; check it (`dmesg` says more), or {_elsewhere(place)}; {KEPT}"
        )
    what = str(place) if place is not None else f"a file of {home()} or {home_folder()}"
    other = f", or {_elsewhere(place)}" if _variable(place) else ""
    return f"{what} may not be read or written by this user; change its rights{other}"


def _of_database(error: sqlite3.Error) -> str:
    folder = home_folder()
    said = " ".join(str(error).split())
    damaged = _damaged(folder)
    if damaged is None and (number := _number(error)) is not None:
        return _of_disk(number, folder)
    if damaged is None and "locked" in said:
        return f"Dagster's records in {folder} are locked by another process; wait for it or stop it, then try again"
    if damaged is None and NOT_OPENED.search(said):
        return (
            f"Dagster's records in {folder} cannot be opened ({said}): either this user may not write there (change the rights, "
            f"or {_elsewhere(folder)}), or this process has too many files open (`ulimit -n 4096`, or fewer --workers); {KEPT}"
        )
    if damaged is None and OTHER_VERSION.search(said):
        return (
            f"Dagster's records in {folder} are of another version of Dagster ({said}); run "
            f"`DAGSTER_HOME={folder} dagster instance migrate`, then the same command again"
        )
    if damaged is None and not DAMAGED.search(said):
        return f"Dagster's records in {folder} cannot be used ({said}); `taskdiv doctor` checks them"
    return (
        f"Dagster's records are damaged: {damaged or folder} ({said}); move {folder / 'history'} and {folder / 'schedules'} "
        f"away and run the same command, which starts new records; results are in {home()} and are found again"
    )


def _damaged(folder: Path) -> Path | None:
    """Return the first damaged database in Dagster's home; None if no damage is found.

    SQLite's option `immutable` reads a database without a lock and without writing.
    """
    with suppress(OSError):  # the folder cannot be listed, or no file handle is left
        for path in sorted(folder.glob("**/*.db")):
            try:
                with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
                    connection.execute("PRAGMA schema_version").fetchone()
                    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except sqlite3.DatabaseError as error:
                if DAMAGED.search(str(error)):
                    return path
    return None


def _fullest() -> Path:
    places = [Path(tempfile.gettempdir()), home_folder(), *([] if "://" in home() else [Path(home())])]
    return min(map(existing, places), key=lambda path: shutil.disk_usage(path).free)


def _elsewhere(place: Path | None) -> str:
    variable = _variable(place)
    return f"set {variable} to a folder on another disk" if variable else "use a folder on another disk"


def _variable(place: Path | None) -> str | None:
    variables = [("$TMPDIR", tempfile.gettempdir()), ("$DAGSTER_HOME", str(home_folder()))]
    variables += [] if "://" in home() else [("$TASKDIV_HOME", home())]
    found = [(name, path) for name, path in variables if place and place.absolute().is_relative_to(path)]
    return max(found, key=lambda one: len(one[1]))[0] if found else None
