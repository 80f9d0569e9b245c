"""Read what came back from annotators: rows that hold an answer, and the rows that do not, with the reason.

In: a file as JSON lines, a JSON list, CSV (commas, semicolons or tabs), a workbook (XLSX, ODS), or an export of Label Studio
(JSON, JSON-MIN, CSV); which of them is told by the content, not by the name. Out: `AnswerFile`. What the user's own ids mean is
decided in `resolving`; whether the ids are known, and whether rows agree with each other, in `judging`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from taskdiv_assets.annotating import label_studio, workbooks
from taskdiv_assets.annotating.answer_sheets import Inner, Record, records
from taskdiv_assets.annotating.columns import Names, folded_keys
from taskdiv_assets.annotating.encodings import HOW_TO_SAVE, UndecodableError, decode, is_zip
from taskdiv_assets.annotating.problems import Problem
from taskdiv_assets.pools.visible import is_blank

_FORMULA_ERROR = re.compile(r"Err:\d{3}|#(NAME\?|VALUE!|WERT!|REF!|BEZUG!|DIV/0!|NUM!|ZAHL!|NULL!|N/A|NV)")
DIGITS_MAX = 400  # of a whole number in JSON; more cannot be meant, and Python refuses 4,300


class Reading(NamedTuple):
    """How a file is read: which columns hold what, and its encoding where it is not UTF-8."""

    names: Names = Names()
    encoding: str | None = None


class Answer(NamedTuple):
    """One answer as it stands in the file; lines of it end in a line feed, whatever ended them there.

    Attributes:
        row: of the file.
        prompt_id: empty where the row has an own id alone.
        answered_at: known in exports of Label Studio alone.
        inner_ids: of a sheet's row that goes over several lines; see `sheets.Inner`.
        own_ids: name of a column, and the user's own id in it.
    """

    row: int
    prompt_id: str
    response: str
    annotator: str | None
    answered_at: datetime | None
    inner_ids: tuple[Inner, ...] = ()
    own_ids: tuple[tuple[str, str], ...] = ()

    @property
    def shown_id(self) -> str:
        """The id as it stands in the file."""
        return self.prompt_id or (self.own_ids[0][1] if self.own_ids else "")


@dataclass(frozen=True)
class AnswerFile:
    """What one file holds. Skipped annotations, and rows whose answer is still blank, are no answers, and no problems either.

    Attributes:
        path: of the file.
        answers: of the rows that can be read.
        problems: of the others.
        skipped_n: annotations that were skipped.
        unanswered: rows whose answer is still blank, for their ids.
        unannotated_n: tasks of Label Studio that nobody annotated yet.
        unread_n: lines of a sheet that were lost with a row that cannot be read.
    """

    path: Path
    answers: tuple[Answer, ...]
    problems: tuple[Problem, ...]
    skipped_n: int = 0
    unanswered: tuple[Answer, ...] = ()
    unannotated_n: int = 0
    unread_n: int = 0

    @property
    def unanswered_n(self) -> int:
        """Prompts whose answer is still to come."""
        return len(self.unanswered) + self.unannotated_n


class _UnusableError(ValueError):
    """Why a row cannot be used."""


def read_bytes(path: Path) -> bytes:
    """Read a file whole; a pipe can be read once.

    Raises:
        ValueError: there is no such file.
    """
    if not path.exists() or path.is_dir():  # a pipe will do
        raise ValueError(
            f"there is no file {path}; expected annotators' answers as .csv, .xlsx, .ods, .jsonl or an export of Label "
            "Studio"
        )
    return path.read_bytes()


def read_answers(path: Path, reading: Reading | None = None, data: bytes | None = None) -> AnswerFile:
    """Read a file of answers.

    Args:
        path: of the file.
        reading: which columns and which encoding; None for the usual.
        data: what it holds, if it was read already.

    Raises:
        ValueError: there is no such file. Everything that is wrong inside comes back as problems.
    """
    reading = reading or Reading()
    names = reading.names
    found_rows = list(_rows(path, read_bytes(path) if data is None else data, reading))
    headers = {name for record in found_rows if not isinstance(record.found, str) for name in record.found}
    lacking = names.lacking(headers) if headers else []
    if lacking:
        return AnswerFile(path, (), (Problem(1, "", names.lacking_complaint(lacking[0], sorted(headers))),))
    read: list[Answer] = []
    problems: list[Problem] = []
    skipped_n = unannotated_n = unread_n = 0
    for record in found_rows:
        row, found = record.row, record.found
        unread_n += record.unread_n
        if isinstance(found, str):
            problems.append(Problem(row, "", found))
        elif found.get("was_cancelled") is True:
            skipped_n += 1
        elif label_studio.MARK in found and found[label_studio.MARK] in (None, "") and not found.get(names.response):
            unannotated_n += 1
        else:
            try:
                read.append(_answer(record, found, names))
            except _UnusableError as error:
                problems.append(Problem(row, _shown_id(found, names), str(error)))
    answers = tuple(answer for answer in read if answer.response)
    unanswered = tuple(answer for answer in read if not answer.response)  # of a list that is not finished
    if not (answers or problems):
        problems.append(Problem(1, "", "the file holds no answer"))
    return AnswerFile(path, answers, tuple(problems), skipped_n, unanswered, unannotated_n, unread_n)


def _rows(path: Path, data: bytes, reading: Reading) -> Iterator[Record]:
    """Number and columns of every row, or why it has none."""
    if is_zip(data):
        yield from workbooks.records(data, path, reading.names)
        return
    try:
        text = decode(data, reading.encoding)
    except UndecodableError as error:
        yield Record(1, f"the file {error}")
        return
    first = text.lstrip()[:1]
    if first == "[":
        yield from _json_list(text, reading.names)
    elif first == "{":
        for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
            if line.strip():
                yield Record(number, _json_object(line))
    else:
        yield from records(text, reading.names)


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
        said = "the file is the list that went out, not what came back; export the project in Label Studio, as JSON"
        yield Record(1, said)
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
    """A number of JSON; one of thousands of digits as infinity, which no column takes."""
    return int(digits) if len(digits) <= DIGITS_MAX else float(digits)


def _answer(record: Record, found: Mapping[str, Any], names: Names) -> Answer:
    """Return the answer in one row; an empty one if the row has the column and nothing in it yet.

    Raises:
        _UnusableError: there is none that can be used.
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
        raise _UnusableError(
            f"the row of {shown_id} has no {names.response}; expected the answer, or an empty one where it is still to come"
        )
    is_empty = response is None or (isinstance(response, str) and is_blank(response))
    if is_empty and is_label_studio:
        raise _UnusableError(f"the answer to {shown_id} is empty")
    if is_empty:
        return Answer(record.row, prompt_id, "", None, None, record.inner_ids, own_ids)
    if not isinstance(response, str):
        raise _UnusableError(f"the answer to {shown_id} is {_short(response)}; expected text")
    if _FORMULA_ERROR.fullmatch(response.strip()):
        raise _UnusableError(
            f"the answer to {shown_id} is {response.strip()!r}, what a spreadsheet program makes of an answer that begins with = "
            "and is no formula; type an apostrophe before the ="
        )
    if not isinstance(annotator, str | None):
        raise _UnusableError(f"annotator is {_short(annotator)}; expected a name as text")
    for name, text in ((names.response, response), (names.annotator, annotator or "")):
        _check_text(name, text)
    answered_at = _time(found) if is_label_studio else None
    who = (annotator or "").strip() or None
    text = response.replace("\r\n", "\n")
    return Answer(record.row, prompt_id, text, who, answered_at, record.inner_ids, own_ids)


def _prompt_id(found: Mapping[str, Any], names: Names, *, is_needed: bool) -> str:
    """Return the prompt_id of a row; empty if it has none and needs none.

    The export puts an apostrophe before an id that a spreadsheet program would take for a number: it is taken off.

    Raises:
        _UnusableError: it is no text, or empty where it is the only id.
    """
    value = found.get(names.prompt_id)
    is_empty = value is None or (isinstance(value, str) and not value.strip(" '"))
    if is_empty and not is_needed:
        return ""
    if is_empty or not isinstance(value, str):
        # The column that the user knows the prompts by, where the file has it.
        name = names.prompt_id if names.prompt_id in found else next(iter(names.own_columns(found)), names.prompt_id)
        raise _UnusableError(f"{name} is {_short(value)}; expected the id that was sent out, as text")
    _check_text(names.prompt_id, value)
    return value.strip().removeprefix("'")


def _own_id(name: str, value: object) -> str:
    """Return an own id; a whole number is taken too, since many ids are one.

    Raises:
        _UnusableError: it is neither.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _UnusableError(f"{name} is {_short(value)}; expected an id as text or a whole number")
    _check_text(name, str(value))
    return str(value).strip().removeprefix("'")


def _shown_id(found: Mapping[str, Any], names: Names) -> str:
    """The id of a row that cannot be used, as far as it has one."""
    return str(next((found[name] for name in (names.prompt_id, *names.own_columns(found)) if found.get(name)), ""))


def _check_text(column: str, text: str) -> None:
    """Refuse what was no UTF-8 in the file, half characters that no file can hold, and U+0000, which many cannot."""
    if "\0" in text:
        raise _UnusableError(f"{column} holds the character U+0000, which is no text; {HOW_TO_SAVE}")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if not 0xDC80 <= code <= 0xDCFF:
            raise _UnusableError(
                f"{column} holds half of a surrogate pair (U+{code:04X}), which is no character"
            ) from None
        byte = bytes([code - 0xDC00])
        meant = byte.decode("cp1252", "ignore")
        hint = f", which is {meant!r} in Windows-1252" if meant else ""
        offer = "--encoding cp1252" if meant else "--encoding NAME"
        raise _UnusableError(
            f"{column} is not UTF-8 (byte 0x{byte.hex().upper()}{hint}); {HOW_TO_SAVE}, or say {offer}"
        ) from None


def _time(found: Mapping[str, Any]) -> datetime | None:
    """When an annotation was last changed, in UTC; None if the export does not say."""
    text = found.get("updated_at") or found.get("created_at")
    if not text:
        return None
    try:
        time = datetime.fromisoformat(str(text))
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):  # overflow: an hour before the year 1
        raise _UnusableError(f"updated_at is {_short(text)}; expected a time such as 2026-01-31T12:00:00Z") from None


def _short(value: object) -> str:
    """A value as it stands, cut where it gets long."""
    text = "empty" if value in (None, "") else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
