"""Decoders of text files: gzip and character encodings. The default is UTF-8; the settings name any other encoding.

The decoder does not guess, but its error suggests UTF-16 or Windows-1252 if one of these fits.
"""

from __future__ import annotations

import codecs
import gzip
import zlib

from taskdiv_assets.storage import remote

_HEAD_BYTES_N = 4096  # bytes read to recognise UTF-16 without a byte order mark
_ZEROS_SHARE = 0.4  # share of zeros among every second byte; each Latin letter in UTF-16 has one zero byte


def unpacked(path: str) -> bytes:
    """Return the content of a file, decompressed if its name ends in .gz.

    Raise ValueError if the data are damaged, if the name ends in .gz but the data are not gzip data, or if the reverse is true.
    """
    with remote.fetched(path) as local:
        if local.exists() and not local.is_file():
            raise ValueError(f"{path} is a pipe, a folder or a device; expected a file.")
        data = local.read_bytes()
    is_gzip = data[:2] == b"\x1f\x8b"
    if is_gzip != path.lower().endswith(".gz"):
        found = "a gzip file, but its name lacks" if is_gzip else "not a gzip file, but its name ends in"
        raise ValueError(f"{path} is {found} .gz; rename it.")
    if not is_gzip:
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged or cut gzip file ({error}); fetch it again.") from error


def decoded(data: bytes, path: str, kind: str, encoding: str | None, *, has_settings: bool = True) -> str:
    """Return the text of a file, without a byte order mark. Raise ValueError if `data` is not text in `encoding` (None: UTF-8).

    `kind` is the format that the file's name indicates. A Parquet or zip file also raises ValueError. If `has_settings`, errors
    suggest settings of the experiment's `pool`.
    """
    if data[:4] == b"PAR1":
        raise ValueError(f"{path} is a Parquet file, but its name says {kind}; rename it to end in .parquet.")
    if data[:4] == b"PK\x03\x04":
        raise ValueError(f"{path} is a workbook or a zip archive, but its name says {kind}; rename it.")
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
    """Return the name of the UTF-16 encoding of `data`, found by a byte order mark or by zero bytes; None for other data.

    >>> utf16("id".encode("utf-16-le")), utf16(b"id")
    ('utf-16-le', None)
    """
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    head = data[:_HEAD_BYTES_N]
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        every_second, others = head[offset::2], head[1 - offset :: 2]
        if every_second and every_second.count(0) > _ZEROS_SHARE * len(every_second) and not others.count(0):
            return name
    return None


def _offer(data: bytes, start: int, encoding: str | None, has_settings: bool) -> str:
    meant = data[start : start + 1].decode("cp1252", "ignore")
    if encoding is None and meant and meant.isprintable():
        advice = "add `encoding: cp1252` to `pool`, or " if has_settings else ""
        return f"0x{data[start]:02x} is {meant!r} in Windows-1252: {advice}save the file as UTF-8."
    advice = "set `encoding:` in `pool`, or " if has_settings else ""
    return f"{advice}save the file as UTF-8."
