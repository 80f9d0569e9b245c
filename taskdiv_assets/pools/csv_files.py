"""Reader of CSV files with any common separator and any line ends.

The separator comes from the settings, from Excel's line `sep=;`, or from the header and the rows below it. In a quoted field, a
quote is doubled or follows a backslash. If it is not clear which of these a file has, the setting `escape` is required.
"""

from __future__ import annotations

import csv
import io
import re
from itertools import islice
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv as pacsv

from taskdiv_assets.pools.values import Choice, Options, Source, chosen_columns, from_arrow
from taskdiv_assets.pools.visible import is_blank

SEPARATORS = (",", ";", "\t", "|")
SEPARATOR_NAMES = {"\t": "tab"}
BACKSLASH, DOUBLED = "\\", '"'
_BLOCK_BYTES_MAX = 2**30  # the block size is a 32-bit number in pyarrow; a quoted text must fit into one block
_HEADER_CHARACTERS_MAX = 2**20
_ROWS_COMPARED_N = 20  # rows compared with the header if several separators are possible
# Optional first line for Excel. The line names the separator and is not a row.
_EXCEL_LINE = re.compile(r'"?sep=([^\r\n])"?(?:\r\n|\r|\n|$)', re.IGNORECASE)


class Dialect(NamedTuple):
    """The separator and the column names of a CSV file."""

    separator: str
    names: list[str]


def read_csv(text: str, path: str, choose: Choice, options: Options) -> Source:
    """Return the columns that `choose` selects, as text. Raise ValueError for an unusable text, such as a truncated one."""
    text, named = without_excel_line(text)
    options = options._replace(separator=options.separator or named)
    dialect = find_dialect(text, path, options.separator)
    if all(is_blank(name) for name in dialect.names):
        found = "is empty" if is_blank(text) else "has no column names in its first line that is not empty"
        raise ValueError(f"{path} {found}; expected a header with the names of the columns, and prompts below it.")
    chosen = chosen_columns(choose, dialect.names, path)
    text = without_backslashes(text, dialect.separator, path, options.escape)
    data = text.encode("utf-8", "surrogatepass")
    block = pacsv.ReadOptions(use_threads=False, block_size=max(2**20, min(len(data), _BLOCK_BYTES_MAX)))
    parse = pacsv.ParseOptions(delimiter=dialect.separator, newlines_in_values=True)
    convert = pacsv.ConvertOptions(
        include_columns=chosen, column_types=dict.fromkeys(chosen, pa.string()), strings_can_be_null=False
    )
    try:
        table = pacsv.read_csv(io.BytesIO(data), read_options=block, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, KeyError) as error:
        raise ValueError(
            f"{path} is not a whole CSV file: {error}; check quotes there, and whether columns are separated by "
            f"{spelled(dialect.separator)} (`separator:` and `escape:` in `pool` set others)."
        ) from error
    return from_arrow(table, path, options)


def without_excel_line(text: str) -> tuple[str, str | None]:
    r"""Return a text without Excel's first line such as `sep=;`, and the separator of that line (None if there is no such line).

    >>> without_excel_line("sep=;\nid;text\n")
    ('id;text\n', ';')
    """
    line = _EXCEL_LINE.match(text)
    return (text, None) if line is None else (text[line.end() :], line[1])


def find_dialect(text: str, path: str, separator: str | None = None) -> Dialect:
    """Return the separator and the column names of a CSV file; `text` may be only the beginning of the file.

    Raise ValueError if several separators are possible, or if `separator` finds one column and another separator finds more.
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
            advice = "set `separator:` in `pool`, or save the file with commas"
            raise ValueError(f"{path}: the header can be separated by {found}; {advice}.")
        possible = fitting
    chosen = possible[0] if possible else ","
    return Dialect(chosen, headers[chosen])


def widest_separator(text: str, path: str) -> str:
    """Return the separator that splits the header into the most columns."""
    return max(SEPARATORS, key=lambda one: len(_records(text, one, 1, path)[0]))


def without_backslashes(text: str, separator: str, path: str, escape: str | None) -> str:
    r"""Return a CSV text in which quotes inside quoted fields are doubled, as in the standard (RFC 4180).

    If `escape` is a backslash, \" becomes a doubled quote, \\ a backslash and \N an empty cell (Spark, MySQL). If `escape` is a
    quote or None, the text is not changed. If it is None, a text that seems to have \" for a quote raises ValueError.
    """
    if escape == DOUBLED:
        return text
    if escape is None:
        if has_escaped_quotes(text, separator):
            raise ValueError(
                f'{path} has quotes after a backslash (\\") inside quotes, as in files of Spark and MySQL; add '
                '`escape: "\\\\"` to `pool` if they are part of a text, or `escape: \'"\'` if backslashes are plain text.'
            )
        return text
    start, end = _at_field_edges(separator)
    pattern = re.compile(rf'{start}(?:"((?:[^"\\]++|\\.|"")*+)"|(\\N){end})', re.DOTALL)
    return pattern.sub(lambda found: "" if found[2] else f'"{_unescaped(found[1])}"', text)


def has_escaped_quotes(text: str, separator: str) -> bool:
    r"""Return True if a quoted field seems to have \" for a quote, where the standard (RFC 4180) has a doubled quote."""
    if '\\"' not in text:
        return False
    start, _ = _at_field_edges(separator)
    pattern = re.compile(rf'{start}"((?:[^"]++|"")*+)("?)([^{re.escape(separator)}\r\n]?)')
    before_end = re.compile(rf'(?<!\\)(?:\\\\)*\\""[{re.escape(separator)}\r\n]')
    ends_in_backslash = False
    for body, closing, after in pattern.findall(text):
        is_odd = (len(body) - len(body.rstrip("\\"))) % 2 == 1
        if not closing or (is_odd and after) or ('\\"' in body and before_end.search(body)):
            return True
        ends_in_backslash |= is_odd
    return ends_in_backslash and '"' in pattern.sub("", text)  # a quote outside quotes: a field may have ended too soon


def spelled(separator: str) -> str:
    return SEPARATOR_NAMES.get(separator, f"'{separator}'")


def _at_field_edges(separator: str) -> tuple[str, str]:
    one = re.escape(separator)
    return rf"(?:\A|(?<=[{one}\r\n]))", rf"(?=[{one}\r\n]|\Z)"


def _unescaped(body: str) -> str:
    plain = re.sub(r'\\(["\\\n])|"(")', lambda found: found[1] or found[2], body)
    return plain.replace('"', '""')


def _records(text: str, separator: str, rows_n: int, path: str) -> list[list[str]]:
    """Return the first `rows_n` rows that are not empty, the header included; [[""]] if there are none.

    Only the first _HEADER_CHARACTERS_MAX characters of `text` are read, so the last row may be cut.
    """
    beginning = io.StringIO(text[:_HEADER_CHARACTERS_MAX], newline="")
    limit = csv.field_size_limit(_HEADER_CHARACTERS_MAX)
    try:
        return list(islice(filter(None, csv.reader(beginning, delimiter=separator)), rows_n)) or [[""]]
    except csv.Error as error:
        raise ValueError(f"{path} has no CSV header in its first line ({error}); expected column names.") from None
    finally:
        csv.field_size_limit(limit)


def _is_even(text: str, separator: str, path: str) -> bool:
    header, *rows = _records(text, separator, _ROWS_COMPARED_N + 2, path)  # one row more, since the last row may be cut
    return all(len(row) == len(header) for row in rows[:_ROWS_COMPARED_N])
