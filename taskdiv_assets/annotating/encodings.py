"""Decoder of answer files.

A file is UTF-8 unless the user names another encoding. In UTF-8, invalid bytes become lone surrogates, so that only the rows with
these bytes are rejected. In another encoding, one invalid byte makes the file unusable. The encoding is not guessed, because a
wrong guess would store answers with wrong letters.
"""

from __future__ import annotations

import codecs
import difflib
from encodings.aliases import aliases

from taskdiv_assets.experiment.pool_settings import NO_FILE_ENCODINGS, USUAL_ENCODINGS

HOW_TO_SAVE = "save it as “CSV UTF-8” and import again"
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0"
_ZIP = b"PK\x03\x04"
_MARKS_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class UndecodableError(ValueError):
    """Error for a file that cannot be decoded. The message continues a sentence that starts with "the file"."""


def check_encoding(name: str) -> str:
    """Return the standard name of an encoding; raise ValueError if it is unknown, or cannot be the encoding of a text file."""
    try:
        found = codecs.lookup(name.strip())
        "".encode(found.name)  # refuses codecs from bytes to bytes, such as base64
        if found.name not in NO_FILE_ENCODINGS:
            return found.name
    except (LookupError, ValueError):
        pass
    known = sorted({*USUAL_ENCODINGS, *(alias.replace("_", "-") for alias in aliases)} - NO_FILE_ENCODINGS)
    near = difflib.get_close_matches(name.strip().lower().replace("_", "-"), known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"unknown encoding {name!r}; {hint}Expected a name such as {', '.join(USUAL_ENCODINGS)}")


def is_zip(data: bytes) -> bool:
    """Return True if the content of a file begins like a zip archive. XLSX and ODS files are zip archives."""
    return data.startswith(_ZIP)


def decode(data: bytes, encoding: str | None) -> str:
    """Return the text of a file, without a byte order mark. Raise UndecodableError if the file is not text in the encoding.

    If `encoding` is None, UTF-8 is used. In UTF-8, invalid bytes become lone surrogates.
    """
    if data.startswith(_OLD_WORKBOOK):
        raise UndecodableError(f"is an old Excel workbook, not text; {HOW_TO_SAVE}")
    if encoding is None or encoding in ("utf-8", "utf-8-sig"):
        _refuse_utf_16(data)
        # Some programs write the mark twice.
        return data.decode("utf-8", "surrogateescape").lstrip("\ufeff")
    if not encoding.startswith("utf"):
        _refuse_utf_16(data)
        _refuse_utf_8(data, encoding)
    try:
        return data.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{data[error.start]:02X}" if error.start < len(data) else "its end"
        found = f"{byte} in line {line}"
        raise UndecodableError(f"is not {encoding}: {found}; expected the encoding it was saved in") from None


def _refuse_utf_16(data: bytes) -> None:
    if data.startswith(_MARKS_16):
        raise UndecodableError(f"is UTF-16, expected UTF-8; {HOW_TO_SAVE}, or use --encoding utf-16")
    if 0 in data[:2]:
        advice = f"{HOW_TO_SAVE}, or use --encoding utf-16-{'le' if data[0] else 'be'}"
        raise UndecodableError(f"seems to be UTF-16 (one of its first two bytes is 0), expected UTF-8; {advice}")


def _refuse_utf_8(data: bytes, encoding: str) -> None:
    """Raise UndecodableError if `data` is UTF-8 and not only ASCII, since `encoding` would turn one letter into several."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return
    if not text.isascii():
        raise UndecodableError(f"is UTF-8, and would be misread as {encoding}; leave out --encoding")
