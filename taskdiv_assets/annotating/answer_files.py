"""Reader of files that annotators returned. The result has the answers, and the reason for each row that cannot be read.

The format is JSON lines, a JSON list, CSV (commas, semicolons or tabs), a workbook (XLSX, ODS), or an export of Label Studio
(JSON, JSON-MIN, CSV). The content of the file decides the format, not the name. `judging` checks the answers against the pool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from taskdiv_assets.annotating import label_studio
from taskdiv_assets.annotating.answer_sheets import Inner, Record, csv_records, workbook_records
from taskdiv_assets.annotating.columns import Names, folded_keys
from taskdiv_assets.annotating.encodings import HOW_TO_SAVE, UndecodableError, decode, is_zip
from taskdiv_assets.annotating.problems import Problem
from taskdiv_assets.pools.visible import is_blank

_FORMULA_ERROR = re.compile(r"Err:\d{3}|#(NAME\?|VALUE!|WERT!|REF!|BEZUG!|DIV/0!|NUM!|ZAHL!|NULL!|N/A|NV)")
_MARKUP = re.compile(r"\s*<(\?xml|!doctype|html)\b", re.IGNORECASE)  # such as flat ODS, or Excel's XML and web pages
DIGITS_MAX = 400  # largest length of a whole number in JSON; Python's own limit is 4,300 digits


class Reading(NamedTuple):
    """Settings for reading an answer file. If `encoding` is None, the file is read as UTF-8."""

    names: Names = Names()
    encoding: str | None = None


class Answer(NamedTuple):
    """One readable row of an answer file: its ids and its answer."""

    row: int  # row number in the file; see `problems.Problem`
    prompt_id: str  # empty if the row has only an id of the user's own file
    response: str  # without the carriage return before a line feed
    annotator: str | None
    answered_at: datetime | None  # only exports of Label Studio have this time
    inner_ids: tuple[Inner, ...] = ()  # possible ids on the later lines of a CSV row that spans several lines
    own_ids: tuple[tuple[str, str], ...] = ()  # ids of the user's own file, as pairs of column and id

    @property
    def shown_id(self) -> str:
        return self.prompt_id or (self.own_ids[0][1] if self.own_ids else "")


@dataclass(frozen=True)
class AnswerFile:
    """Content of an answer file."""

    path: Path
    answers: tuple[Answer, ...]
    problems: tuple[Problem, ...]
    skipped_n: int = 0  # annotations that the annotator skipped
    unanswered: tuple[Answer, ...] = ()  # rows with a blank answer, kept for their ids
    unannotated_n: int = 0  # tasks of Label Studio without an annotation
    unread_n: int = 0  # CSV lines that were lost together with a row that cannot be read

    @property
    def unanswered_n(self) -> int:
        return len(self.unanswered) + self.unannotated_n


class _UnusableError(ValueError):
    """Error for a row that cannot be used. The message is the reason."""


def read_bytes(path: Path) -> bytes:
    """Return all bytes of a file or a pipe; raise ValueError if `path` is missing or a folder. A pipe can be read only once."""
    if not path.exists() or path.is_dir():
        formats = ".csv, .xlsx, .ods, .jsonl or an export of Label Studio"
        raise ValueError(f"there is no file {path}; expected annotators' answers as {formats}")
    return path.read_bytes()


def read_answers(path: Path, reading: Reading | None = None, data: bytes | None = None) -> AnswerFile:
    """Return the answers in a file, and a problem for each row that cannot be used, or for a file without answers.

    `data` are the bytes of the file. If `data` is None, the file is read; raise ValueError if `path` is missing or a folder.
    """
    reading = reading or Reading()
    names = reading.names
    records = list(_records(path, read_bytes(path) if data is None else data, reading))
    headers = {name for record in records if not isinstance(record.found, str) for name in record.found}
    if headers and (complaint := names.lacking_complaint(sorted(headers))):
        return AnswerFile(path, (), (Problem(1, "", complaint),))
    read: list[Answer] = []
    problems: list[Problem] = []
    skipped_n = unannotated_n = 0
    for record in records:
        found = record.found
        if isinstance(found, str):
            problems.append(Problem(record.row, "", found))
        elif found.get("was_cancelled") is True:
            skipped_n += 1
        elif label_studio.MARK in found and found[label_studio.MARK] in (None, "") and not found.get(names.response):
            unannotated_n += 1
        else:
            try:
                read.append(_answer(record, found, names))
            except _UnusableError as error:
                ids = (found[name] for name in (names.prompt_id, *names.own_columns(found)) if found.get(name))
                problems.append(Problem(record.row, str(next(ids, "")), str(error)))
    answers = tuple(answer for answer in read if answer.response)
    unanswered = tuple(answer for answer in read if not answer.response)
    if not (answers or problems):
        problems.append(Problem(1, "", "the file holds no answer"))
    unread_n = sum(record.unread_n for record in records)
    return AnswerFile(path, answers, tuple(problems), skipped_n, unanswered, unannotated_n, unread_n)


def _records(path: Path, data: bytes, reading: Reading) -> Iterator[Record]:
    if is_zip(data):
        yield from workbook_records(data, path, reading.names)
        return
    try:
        text = decode(data, reading.encoding)
    except UndecodableError as error:
        yield Record(1, f"the file {error}")
        return
    if _MARKUP.match(text):
        yield Record(1, f"the file is XML or a web page, not a table; {HOW_TO_SAVE}")
        return
    first = text.lstrip()[:1]
    if first == "[":
        yield from _json_list(text, reading.names)
    elif first == "{":
        for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
            if line.strip():
                yield Record(number, _json_object(line))
    else:
        yield from csv_records(text, reading.names)


def _json_list(text: str, names: Names) -> Iterator[Record]:
    try:
        items: Sequence[object] = json.loads(text, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        yield Record(error.lineno, f"the file is not JSON from line {error.lineno} on ({error.msg})")
        return
    except RecursionError:
        yield Record(1, "the file is nested too deep to be a list of answers")
        return
    is_tasks = label_studio.is_tasks(items)
    if is_tasks and not any(isinstance(item, dict) and {"annotations", "completions"} & set(item) for item in items):
        advice = "export the project from Label Studio as JSON"
        yield Record(1, f"the file is the list that was sent out, without answers; {advice}")
        return
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            yield Record(number, f"expected a JSON object, found {_short(item)}")
        elif is_tasks:
            yield from (Record(number, annotation) for annotation in label_studio.flat(item, names))
        else:
            yield Record(number, folded_keys(item))


def _json_object(line: str) -> Mapping[str, Any] | str:
    try:
        found = json.loads(line, parse_int=_whole_number)
    except (json.JSONDecodeError, RecursionError) as error:
        return f"the line is not JSON ({getattr(error, 'msg', 'nested too deep')}); expected one object a line"
    return folded_keys(found) if isinstance(found, dict) else f"expected a JSON object, found {_short(found)}"


def _whole_number(digits: str) -> int | float:
    """Convert the digits of a whole number in JSON. More than DIGITS_MAX digits become infinity, which no column accepts."""
    return int(digits) if len(digits) <= DIGITS_MAX else float(digits)


def _answer(record: Record, found: Mapping[str, Any], names: Names) -> Answer:
    """Return the answer in a row, with an empty response for an empty cell. Raise _UnusableError if the row cannot be used.

    An empty answer in an export of Label Studio cannot be used.
    """
    is_label_studio = label_studio.MARK in found
    response, annotator = found.get(names.response), found.get(names.annotator)
    if is_label_studio:
        try:
            response = label_studio.one_text(response)
        except ValueError as error:
            raise _UnusableError(str(error)) from None
        annotator = str(annotator) if isinstance(annotator, int) else annotator
    own_columns = names.own_columns(found, is_label_studio=is_label_studio)
    own_ids = tuple((name, id_) for name in own_columns if (id_ := _own_id(name, found[name])))
    prompt_id = _prompt_id(found, names, is_needed=not own_ids)
    shown_id = repr(prompt_id or own_ids[0][1])
    if names.response not in found and not is_label_studio:
        expected = "the answer, or an empty cell if it is still missing"
        raise _UnusableError(f"the row of {shown_id} has no {names.response}; expected {expected}")
    is_empty = response is None or (isinstance(response, str) and is_blank(response))
    if is_empty:
        if is_label_studio:
            raise _UnusableError(f"the answer to {shown_id} is empty")
        return Answer(record.row, prompt_id, "", None, None, record.inner_ids, own_ids)
    if not isinstance(response, str):
        raise _UnusableError(f"the answer to {shown_id} is {_short(response)}; expected text")
    if _FORMULA_ERROR.fullmatch(response.strip()):
        raise _UnusableError(
            f"the answer to {shown_id} is {response.strip()!r}: a spreadsheet program read an answer that begins with = as a "
            "formula; type an apostrophe before the ="
        )
    if not isinstance(annotator, str | None):
        raise _UnusableError(f"annotator is {_short(annotator)}; expected a name as text")
    for name, text in ((names.response, response), (names.annotator, annotator or "")):
        _check_text(name, text)
    answered_at = _time(found) if is_label_studio else None
    who, text = (annotator or "").strip() or None, response.replace("\r\n", "\n")
    return Answer(record.row, prompt_id, text, who, answered_at, record.inner_ids, own_ids)


def _prompt_id(found: Mapping[str, Any], names: Names, *, is_needed: bool) -> str:
    """Return a row's prompt_id without the apostrophe of an export; "" for an empty cell.

    Raise _UnusableError if the value is not text, if the cell is empty and `is_needed` is True, or as `_check_text` does.
    """
    value = found.get(names.prompt_id)
    is_empty = value is None or (isinstance(value, str) and not value.strip(" '"))
    if is_empty and not is_needed:
        return ""
    if is_empty or not isinstance(value, str):
        # If the file has no prompt_id, the message names the user's own id column.
        name = names.prompt_id if names.prompt_id in found else next(iter(names.own_columns(found)), names.prompt_id)
        raise _UnusableError(f"{name} is {_short(value)}; expected the id that was sent out, as text")
    _check_text(names.prompt_id, value)
    return value.strip().removeprefix("'")


def _own_id(name: str, value: object) -> str:
    """Return an id of the user's own file as text, without the apostrophe of an export; "" for None or a blank text.

    Raise _UnusableError if the id is neither text nor a whole number, or as `_check_text` does.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _UnusableError(f"{name} is {_short(value)}; expected an id as text or a whole number")
    _check_text(name, str(value))
    return str(value).strip().removeprefix("'")


def _check_text(column: str, text: str) -> None:
    """Raise _UnusableError if a text contains U+0000, half of a surrogate pair, or a byte that is not UTF-8 in the file."""
    if "\0" in text:
        raise _UnusableError(f"{column} holds the character U+0000, which is not text; {HOW_TO_SAVE}")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if not 0xDC80 <= code <= 0xDCFF:
            half = f"half of a surrogate pair (U+{code:04X})"
            raise _UnusableError(f"{column} holds {half}, which is not a character") from None
        byte = bytes([code - 0xDC00])
        meant = byte.decode("cp1252", "ignore")
        hint = f", which is {meant!r} in Windows-1252" if meant else ""
        advice = f"{HOW_TO_SAVE}, or use --encoding {'cp1252' if meant else 'NAME'}"
        raise _UnusableError(f"{column} is not UTF-8 (byte 0x{byte.hex().upper()}{hint}); {advice}") from None


def _time(found: Mapping[str, Any]) -> datetime | None:
    """Return when an annotation was last changed (or else created), in UTC; None if unknown. Raise _UnusableError if invalid."""
    text = found.get("updated_at") or found.get("created_at")
    if not text:
        return None
    try:
        time = datetime.fromisoformat(str(text))
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):  # OverflowError: the time in UTC is before the year 1 or after the year 9999
        raise _UnusableError(f"updated_at is {_short(text)}; expected a time such as 2026-01-31T12:00:00Z") from None


def _short(value: object) -> str:
    text = "empty" if value in (None, "") else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
