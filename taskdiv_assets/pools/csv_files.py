"""CSV as programs really write it: separators, quotes that are escaped by backslashes, line ends.

The separator is found from the header line, or named. Nothing in the rows is guessed: every cell is text. Where quotes can
be meant in two ways, the file is refused until `escape` says which.
"""

from __future__ import annotations

import csv
import io
import re
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv as pacsv

from taskdiv_assets.pools.values import Choice, Options, Source, from_arrow, require_distinct
from taskdiv_assets.pools.visible import is_blank

SEPARATORS = (",", ";", "\t", "|")
SEPARATOR_NAMES = {"\t": "tab"}
BACKSLASH, DOUBLED = "\\", '"'
_BLOCK_BYTES_MAX = 2**30  # pyarrow counts a block in 32 bits; a quoted text must not pass one block
_HEADER_CHARACTERS_MAX = 2**20
_ROWS_COMPARED_N = 20  # with the header, where more than one separator is possible
# Excel's own first line, which names the separator and is shown as no row.
_EXCEL_LINE = re.compile(r'"?sep=([^\r\n])"?(?:\r\n|\r|\n|$)', re.IGNORECASE)


class Dialect(NamedTuple):
    """How a file separates columns, and its column names."""

    separator: str
    names: list[str]


def read_csv(text: str, path: str, choose: Choice, options: Options) -> Source:
    """Return the chosen columns of a CSV file.

    Raises:
        ValueError: no header, a row with another number of columns, or quotes that can be meant in two ways.
    """
    text, named = without_excel_line(text)
    options = options._replace(separator=options.separator or named)
    dialect = find_dialect(text, path, options.separator)
    if all(is_blank(name) for name in dialect.names):
        found = "is empty" if is_blank(text) else "has no column names in its first line that is not empty"
        raise ValueError(f"{path} {found}; expected a header with the names of the columns, and prompts below it.")
    require_distinct(dialect.names, path)
    text = without_backslashes(text, dialect.separator, path, options.escape)
    chosen = list(dict.fromkeys(choose(tuple(dialect.names), path)))
    data = text.encode("utf-8", "surrogatepass")
    block = pacsv.ReadOptions(use_threads=False, block_size=max(2**20, min(len(data), _BLOCK_BYTES_MAX)))
    parse = pacsv.ParseOptions(delimiter=dialect.separator, newlines_in_values=True)
    convert = pacsv.ConvertOptions(
        include_columns=chosen, column_types=dict.fromkeys(chosen, pa.string()), strings_can_be_null=False
    )
    try:
        table = pacsv.read_csv(io.BytesIO(data), read_options=block, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, KeyError) as error:
        raise ValueError(f"{path} is no whole CSV file: {_advice(error, dialect.separator)}") from error
    return from_arrow(table, path, options)


def without_excel_line(text: str) -> tuple[str, str | None]:
    """Return a text without Excel's line `sep=;`, and the separator that the line names, None without one.

    >>> without_excel_line("sep=;\\nid;text\\n"), without_excel_line("id,text\\n")
    (('id;text\\n', ';'), ('id,text\\n', None))
    """
    line = _EXCEL_LINE.match(text)
    return (text, None) if line is None else (text[line.end() :], line[1])


def find_dialect(text: str, path: str, separator: str | None = None) -> Dialect:
    """Return the separator and the column names of a CSV file.

    Args:
        text: of the file, or its beginning.
        path: for error messages.
        separator: as the settings name it; None to find it from the header.

    Raises:
        ValueError: no header, or a separator that leaves the header in one column although another makes more.
    """
    headers = {one: _records(text, one, 1, path)[0] for one in SEPARATORS}
    if separator is not None:
        header = _records(text, separator, 1, path)[0]
        better = max(SEPARATORS, key=lambda one: len(headers[one]))
        if len(header) == 1 < len(headers[better]):
            raise ValueError(
                f"{path}: {spelled(separator)} leaves one column {header[0]!r:.60}, {spelled(better)} makes "
                f"{len(headers[better])}; change `separator` or remove it."
            )
        return Dialect(separator, header)
    possible = [one for one in SEPARATORS if len(headers[one]) > 1]
    if len(possible) > 1:
        fitting = [one for one in possible if _is_even(text, one, path)]
        if len(fitting) != 1:
            found = " or ".join(f"{spelled(one)} ({len(headers[one])} columns)" for one in possible)
            raise ValueError(
                f"{path}: the header can be separated by {found}; name one by `separator:` in `pool`, or save it with commas."
            )
        possible = fitting
    chosen = possible[0] if possible else ","
    return Dialect(chosen, headers[chosen])


class Guess(NamedTuple):
    """A separator, and whether the file leaves no doubt about it."""

    separator: str
    is_clear: bool


def guess_separator(text: str, path: str) -> Guess:
    """Return the likeliest separator of a CSV file, also where `find_dialect` asks for one."""
    try:
        return Guess(find_dialect(text, path).separator, True)
    except ValueError:
        return Guess(max(SEPARATORS, key=lambda one: len(_records(text, one, 1, path)[0])), False)


def without_backslashes(text: str, separator: str, path: str, escape: str | None) -> str:
    r"""Return a CSV text whose quotes are doubled, as the standard (RFC 4180) has it.

    Args:
        text: of the file.
        separator: of its columns.
        path: for error messages.
        escape: a backslash where the file writes \" inside quotes (Spark, MySQL), \\ for a backslash and \N for nothing;
            a quote where quotes are doubled and backslashes are plain text; None to refuse a file that can be meant in
            both ways.

    Raises:
        ValueError: the file can be meant in both ways.
    """
    if escape == DOUBLED:
        return text
    if escape is None:
        if has_escaped_quotes(text, separator):
            raise ValueError(
                f'{path} has quotes after a backslash (\\") inside quotes, as Spark and MySQL write them; add '
                '`escape: "\\\\"` to `pool` if they are quotes in a text, or `escape: \'"\'` if backslashes are plain text.'
            )
        return text
    start, end = _at_field_edges(separator)
    pattern = re.compile(rf'{start}(?:"((?:[^"\\]++|\\.|"")*+)"|(\\N){end})', re.DOTALL)
    return pattern.sub(lambda found: "" if found[2] else f'"{_unescaped(found[1])}"', text)


def has_escaped_quotes(text: str, separator: str) -> bool:
    r"""Return True if quoted fields hold \" in a place where a doubled quote was expected, or nothing at all."""
    if '\\"' not in text:
        return False
    start, _ = _at_field_edges(separator)
    pattern = re.compile(rf'{start}"((?:[^"]++|"")*+)("?)([^{re.escape(separator)}\r\n]?)')
    before_end = re.compile(rf'(?<!\\)(?:\\\\)*\\""[{re.escape(separator)}\r\n]')
    for body, closing, after in pattern.findall(text):
        backslashes_n = len(body) - len(body.rstrip("\\"))
        if backslashes_n % 2 and (after or not closing):
            return True
        if '\\"' in body and (not closing or before_end.search(body)):
            return True
    return False


def spelled(separator: str) -> str:
    """Name of a separator, for messages."""
    return SEPARATOR_NAMES.get(separator, f"'{separator}'")


def _at_field_edges(separator: str) -> tuple[str, str]:
    """Patterns for a place where a field starts, and for one where it ends."""
    one = re.escape(separator)
    return rf"(?:\A|(?<=[{one}\r\n]))", rf"(?=[{one}\r\n]|\Z)"


def _unescaped(body: str) -> str:
    """Text between quotes with backslashes resolved, its quotes doubled."""
    plain = re.sub(r'\\(["\\\n])|"(")', lambda found: found[1] or found[2], body)
    return plain.replace('"', '""')


def _records(text: str, separator: str, rows_n: int, path: str) -> list[list[str]]:
    """The first records that are not empty."""
    beginning = io.StringIO(text[:_HEADER_CHARACTERS_MAX], newline="")
    found: list[list[str]] = []
    limit = csv.field_size_limit(_HEADER_CHARACTERS_MAX)
    try:
        for record in csv.reader(beginning, delimiter=separator):
            if record:
                found.append(record)
            if len(found) == rows_n:
                break
    except csv.Error as error:
        raise ValueError(
            f"{path} has no CSV header in its first line ({error}); expected column names there."
        ) from None
    finally:
        csv.field_size_limit(limit)
    return found or [[""]]


def _is_even(text: str, separator: str, path: str) -> bool:
    """True if the first rows have as many columns as the header. The last may be cut, where the text is a beginning."""
    header, *rows = _records(text, separator, _ROWS_COMPARED_N + 2, path)
    if len(rows) > _ROWS_COMPARED_N:
        rows = rows[:-1]
    return all(len(row) == len(header) for row in rows)


def _advice(error: Exception, separator: str) -> str:
    return (
        f"{error}; check quotes there, and whether columns are separated by {spelled(separator)} "
        "(`separator:` and `escape:` in `pool` name others)."
    )
