"""Read what came back from annotators: rows that hold an answer, and the rows that do not, with the reason.

In: a file as JSON lines, a JSON list, CSV (commas, semicolons or tabs), or an export of Label Studio (JSON, JSON-MIN, CSV);
which of them is told by the content, not by the name. Out: `AnswerFile`. Whether the ids are known, and whether rows agree
with each other, is judged elsewhere (`judging`).
"""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from taskdiv_assets.annotating import label_studio
from taskdiv_assets.annotating.problems import Problem
from taskdiv_assets.annotating.sheets import Record, records

DIGITS_MAX = 400  # of a whole number in JSON; more cannot be meant, and Python refuses 4,300
HOW_TO_SAVE = "save it as “CSV UTF-8” and import again"
_BINARY = {
    b"PK\x03\x04": f"is a workbook or a zip archive, not text; {HOW_TO_SAVE}",
    b"\xd0\xcf\x11\xe0": f"is an old Excel workbook, not text; {HOW_TO_SAVE}",
    codecs.BOM_UTF16_LE: f"is UTF-16, expected UTF-8; {HOW_TO_SAVE}",
    codecs.BOM_UTF16_BE: f"is UTF-16, expected UTF-8; {HOW_TO_SAVE}",
}


class Answer(NamedTuple):
    """One answer as it stands in the file; lines of it end in a line feed, whatever ended them there.

    Attributes:
        row: of the file.
        answered_at: known in exports of Label Studio alone.
        inner_ids: of a sheet's row that goes over several lines; see `sheets.Record`.
    """

    row: int
    prompt_id: str
    response: str
    annotator: str | None
    answered_at: datetime | None
    inner_ids: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class AnswerFile:
    """What one file holds. Skipped annotations and tasks without one are no answers, and no problems either.

    `unread_n` are lines of a sheet that were lost with a row that cannot be read.
    """

    path: Path
    answers: tuple[Answer, ...]
    problems: tuple[Problem, ...]
    skipped_n: int = 0
    unanswered_n: int = 0
    unread_n: int = 0


class _UnusableError(ValueError):
    """Why a row cannot be used."""


def read_answers(path: Path) -> AnswerFile:
    """Read a file of answers.

    Raises:
        ValueError: there is no such file. Everything that is wrong inside comes back as problems.
    """
    if not path.exists() or path.is_dir():  # a pipe will do
        raise ValueError(
            f"there is no file {path}; expected annotators' answers as .csv, .jsonl or an export of Label Studio"
        )
    answers: list[Answer] = []
    problems: list[Problem] = []
    skipped_n = unanswered_n = unread_n = 0
    for record in _rows(path.read_bytes()):
        row, found = record.row, record.found
        unread_n += record.unread_n
        if isinstance(found, str):
            problems.append(Problem(row, "", found))
        elif found.get("was_cancelled") is True:
            skipped_n += 1
        elif label_studio.MARK in found and found[label_studio.MARK] in (None, "") and not found.get("response"):
            unanswered_n += 1
        else:
            try:
                answers.append(_answer(record, found))
            except _UnusableError as error:
                problems.append(Problem(row, str(found.get("prompt_id") or ""), str(error)))
    if not (answers or problems):
        problems.append(Problem(1, "", "the file holds no answer"))
    return AnswerFile(path, tuple(answers), tuple(problems), skipped_n, unanswered_n, unread_n)


def _rows(data: bytes) -> Iterator[Record]:
    """Number and columns of every row, or why it has none."""
    for beginning, reason in _BINARY.items():
        if data.startswith(beginning):
            yield Record(1, f"the file {reason}")
            return
    if 0 in data[:2]:
        yield Record(1, f"the file seems to be UTF-16 (one of its first two bytes is 0), expected UTF-8; {HOW_TO_SAVE}")
        return
    # Bytes that are no UTF-8 become lone surrogates here, which `_check_text` finds again, each in its row.
    text = data.decode("utf-8", "surrogateescape").lstrip("\ufeff")  # some programs put a second mark before the first
    first = text.lstrip()[:1]
    if first == "[":
        yield from _json_list(text)
    elif first == "{":
        for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
            if line.strip():
                yield Record(number, _json_object(line))
    else:
        yield from records(text)


def _json_list(text: str) -> Iterator[Record]:
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
            yield from (Record(number, annotation) for annotation in label_studio.flat(item))
        else:
            yield Record(number, item)


def _json_object(line: str) -> Mapping[str, Any] | str:
    try:
        found = json.loads(line, parse_int=_whole_number)
    except (json.JSONDecodeError, RecursionError) as error:
        return f"the line is not JSON ({getattr(error, 'msg', 'nested too deep')}); expected one object a line"
    return found if isinstance(found, dict) else f"expected a JSON object, found {_short(found)}"


def _whole_number(digits: str) -> int | float:
    """A number of JSON; one of thousands of digits as infinity, which no column takes."""
    return int(digits) if len(digits) <= DIGITS_MAX else float(digits)


def _answer(record: Record, found: Mapping[str, Any]) -> Answer:
    """The answer in one row.

    Raises:
        _UnusableError: there is none that can be used.
    """
    is_label_studio = label_studio.MARK in found
    prompt_id, response, annotator = found.get("prompt_id"), found.get("response"), found.get("annotator")
    if is_label_studio:
        try:
            response = label_studio.one_text(response)
        except ValueError as error:
            raise _UnusableError(str(error)) from None
        annotator = str(annotator) if isinstance(annotator, int) else annotator
    if not isinstance(prompt_id, str) or not prompt_id.strip(" '"):
        raise _UnusableError(f"prompt_id is {_short(prompt_id)}; expected the id that was sent out, as text")
    shown_id = repr(prompt_id.strip().removeprefix("'"))
    if response is None or (isinstance(response, str) and _is_blank(response)):
        raise _UnusableError(f"the answer to {shown_id} is empty")
    if not isinstance(response, str):
        raise _UnusableError(f"the answer to {shown_id} is {_short(response)}; expected text")
    if not isinstance(annotator, str | None):
        raise _UnusableError(f"annotator is {_short(annotator)}; expected a name as text")
    for name, text in (("prompt_id", prompt_id), ("response", response), ("annotator", annotator or "")):
        _check_text(name, text)
    answered_at = _time(found) if is_label_studio else None
    # The export puts an apostrophe before an id that a spreadsheet program would take for a number.
    id_, who = prompt_id.strip().removeprefix("'"), (annotator or "").strip() or None
    return Answer(record.row, id_, response.replace("\r\n", "\n"), who, answered_at, record.inner_ids)


def _is_blank(text: str) -> bool:
    """True for a text that shows nothing: blanks of all kinds, and characters without a width."""
    return all(character.isspace() or unicodedata.category(character) == "Cf" for character in text)


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
        raise _UnusableError(f"{column} is not UTF-8 (byte 0x{byte.hex().upper()}{hint}); {HOW_TO_SAVE}") from None


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
