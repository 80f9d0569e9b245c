"""Bytes of a file as text: gzip, and encodings other than UTF-8, which are named in the settings and never guessed.

Where bytes do not fit, the error names the encoding that would fit, so that it can be written down.
"""

from __future__ import annotations

import codecs
import gzip
import zlib

from taskdiv_assets.storage import remote

_UTF16 = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_HEAD_BYTES_N = 4096  # from which UTF-16 without a byte order mark is recognised
_ZEROS_SHARE = 0.4  # of every second byte; Latin letters in UTF-16 have a zero each


def unpacked(path: str) -> bytes:
    """Return a whole file, gunzipped where its name says so.

    Raises:
        ValueError: content and name differ, or the file is no file.
    """
    with remote.fetched(path) as local:
        if local.exists() and not local.is_file():
            raise ValueError(f"{path} is a pipe, a folder or a device; expected a file.")
        data = local.read_bytes()
    is_gzip, should_be = data[:2] == b"\x1f\x8b", path.lower().endswith(".gz")
    if is_gzip != should_be:
        raise ValueError(
            f"{path} is {'a' if is_gzip else 'no'} gzip file, though its name {'lacks' if is_gzip else 'ends in'} .gz; "
            "rename it to what it is."
        )
    if not should_be:
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged or cut gzip file ({error}); fetch it again.") from error


def decoded(data: bytes, path: str, kind: str, encoding: str | None, *, has_settings: bool = True) -> str:
    """Return the text of a file, without a byte order mark.

    Args:
        data: content of the file.
        path: for error messages.
        kind: of file, as its name says.
        encoding: None for UTF-8.
        has_settings: the file is the pool's, whose encoding can be named; others are UTF-8.

    Raises:
        ValueError: the bytes are of another encoding or another kind of file; names the encoding that fits, if one does.
    """
    if data[:4] == b"PAR1":
        raise ValueError(f"{path} is a Parquet file, though its name says {kind}; rename it to end in .parquet.")
    if data[:4] == b"PK\x03\x04":
        raise ValueError(
            f"{path} is a workbook or a zip archive, though its name says {kind}; rename it to what it is."
        )
    wide = utf16(data) if encoding is None else None
    if wide:
        advice = f"add `encoding: {wide}` to `pool`, or " if has_settings else ""
        raise ValueError(f"{path} is UTF-16 text; {advice}save the file as UTF-8.")
    try:
        return data.decode(encoding or "utf-8-sig").removeprefix("\ufeff")
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        line = data.count(b"\n", 0, start) + 1
        name = "UTF-8" if encoding is None else encoding
        raise ValueError(
            f"{path}, line {line}: byte 0x{data[start]:02x} is not {name} text; {_offer(data, start, encoding, has_settings)}"
        ) from error


def utf16(data: bytes) -> str | None:
    """Return the name of the UTF-16 encoding that bytes are in, by their byte order mark or their zeros; None if in none.

    >>> utf16("id".encode("utf-16-le")), utf16(b"id")
    ('utf-16-le', None)
    """
    if data[:2] in _UTF16:
        return _UTF16[data[:2]]
    head = data[:_HEAD_BYTES_N]
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        every_second, others = head[offset::2], head[1 - offset :: 2]
        if every_second and every_second.count(0) > _ZEROS_SHARE * len(every_second) and not others.count(0):
            return name
    return None


def _offer(data: bytes, start: int, encoding: str | None, has_settings: bool) -> str:
    """What to do about a byte that does not fit."""
    meant = data[start : start + 1].decode("cp1252", "ignore")
    if encoding is None and meant and meant.isprintable():
        advice = "add `encoding: cp1252` to `pool`, or " if has_settings else ""
        return f"0x{data[start]:02x} is {meant!r} in Windows-1252: {advice}save the file as UTF-8."
    advice = "name the file's encoding by `encoding:` in `pool`, or " if has_settings else ""
    return f"{advice}save the file as UTF-8."
