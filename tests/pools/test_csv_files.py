"""CSV files as programs write them: separators, encodings, quotes escaped by backslashes, line ends."""

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskdiv_assets.experiment.pool_settings import Columns, Pool
from taskdiv_assets.pools.csv_files import find_dialect, has_escaped_quotes, read_csv, without_backslashes
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.pools.text_files import decoded
from taskdiv_assets.pools.values import Options

NAMES = ("id", "question")
EXAMPLE = [{"id": "1", "question": 'He said "hi", ok'}, {"id": "2", "question": 'ends with "'}]


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return str(path)


def read(path, columns=None, **changes):
    pool = read_pool(Pool(reader="table", path=path, columns=columns or {"prompt": "question"}, **changes))
    return [row["prompt"] for row in sorted(pool.table.to_pylist(), key=lambda row: row["position"])]


def all_columns(names, place):
    return names


ENCODINGS = {"utf-8": None, "utf-8-sig": None, "cp1252": "cp1252", "utf-16": "utf-16", "utf-16-le": "utf-16-le"}
LETTERS = "aZ0 äß€\",;|\t\\'\n’="


@given(
    rows=st.lists(st.lists(st.text(LETTERS, max_size=12), min_size=2, max_size=2), min_size=1, max_size=8),
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(list(ENCODINGS)),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    is_named=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_a_csv_of_any_separator_and_encoding_reads_back_equal(rows, separator, encoding, line_end, quoting, is_named):
    """Written by Python's own `csv`, which doubles quotes."""
    rows = [[key or "x", text] for key, text in rows]  # a row without any text is a blank line
    written = io.StringIO()
    if line_end == "\r":
        quoting = csv.QUOTE_ALL  # otherwise `csv` leaves a line feed in a cell without quotes
    writer = csv.writer(written, delimiter=separator, lineterminator=line_end, quoting=quoting)
    writer.writerows([NAMES, *rows])
    text = decoded(written.getvalue().encode(encoding), "pool.csv", "CSV", ENCODINGS[encoding])
    options = Options(separator=separator if is_named else None, escape='"')
    found = read_csv(text, "pool.csv", all_columns, options)
    assert [list(row) for row in zip(*found.columns.values(), strict=True)] == rows


@example(rows=['"\n\t'], separator="\t")
@example(rows=['"\n\t0', '"\n\t0'], separator="\t")
@given(
    rows=st.lists(st.text(LETTERS, max_size=12), min_size=1, max_size=8),
    separator=st.sampled_from(",;\t|"),
)
@settings(max_examples=100, deadline=None)
def test_backslash_escapes_read_back_equal_and_are_never_mangled_without_the_option(rows, separator):
    """As Spark writes: every field in quotes, a backslash before quotes and backslashes. Without `escape` the file is either
    refused, or every text comes back as the other reading has it too."""
    fields = ['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in rows]
    text = f"id{separator}question\n" + "".join(f"{i}{separator}{field}\n" for i, field in enumerate(fields))
    found = read_csv(text, "pool.csv", all_columns, Options(separator=separator, escape="\\"))
    assert found.columns["question"] == rows
    if any('"' in row for row in rows):
        with pytest.raises(ValueError):
            read_csv(text, "pool.csv", all_columns, Options(separator=separator))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found_from_the_header(separator, tmp_path):
    path = write(tmp_path / "pool.csv", f"ticket{separator}question\n1{separator}a\n2{separator}b\n")
    assert read(path) == ["a", "b"]


def test_a_separator_may_be_named_by_a_character_or_a_word(tmp_path):
    path = write(tmp_path / "pool.csv", "ticket;question, if any\n1;a, b\n")
    with pytest.raises(
        ValueError, match=r"separated by ',' \(2 columns\) or ';' \(2 columns\); set `separator:` in `pool`"
    ):
        read(path, {"prompt": "ticket"})
    for name in (";", "semicolon"):
        assert read(path, {"prompt": "question, if any"}, separator=name) == ["a, b"]
    for wrong in ("ab", '"', "x", "\n"):
        with pytest.raises(ValueError, match="expected one character such as ;"):
            Pool(reader="table", path="x.csv", columns=Columns(prompt="a"), separator=wrong)


def test_a_wrong_separator_is_found_out_by_the_header(tmp_path):
    path = write(tmp_path / "pool.csv", "ticket;question\n1;a\n")
    with pytest.raises(ValueError, match=r"',' leaves one column 'ticket;question', ';' makes 2; change `separator`"):
        read(path, separator=",")


def test_rows_decide_where_the_header_holds_two_separators():
    assert find_dialect("a;b, c\n1;2\n3;4\n", "pool.csv").names == ["a", "b, c"]


def test_a_single_column_needs_no_separator(tmp_path):
    assert read(write(tmp_path / "pool.csv", "question\nwhat\nwhy\n")) == ["what", "why"]


def test_carriage_returns_alone_newlines_in_the_header_and_excels_own_line_are_read(tmp_path):
    assert read(write(tmp_path / "a.csv", 'id,question\r1,a\r2,"b\rc"\r')) == ["a", "b\rc"]
    assert read(write(tmp_path / "b.csv", 'id,"ques\ntion"\n1,a\n'), {"prompt": "ques\ntion"}) == ["a"]
    assert read(write(tmp_path / "c.csv", "sep=;\r\nid;question\r\n1;a, b\r\n")) == ["a, b"]


def test_columns_without_a_name_do_no_harm(tmp_path):
    assert read(write(tmp_path / "pool.csv", ",question,,\n0,a,,\n1,b,,\n")) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        ("question\nWie geht es? Jürgen ä\n", "cp1252", r"line 2: byte 0xfc is not UTF-8 text; 0xfc is 'ü' in Windows-1252: add `encoding: cp1252`"),
        ("question\na\n", "utf-16", "is UTF-16 text; add `encoding: utf-16`"),
        ("question\na\n", "utf-16-be", "is UTF-16 text; add `encoding: utf-16-be`"),
    ],
)  # fmt: skip
def test_another_encoding_is_named_by_the_error_and_read_by_the_option(text, encoding, said, tmp_path):
    path = write(tmp_path / "pool.csv", text, encoding)
    with pytest.raises(ValueError, match=said):
        read(path)
    assert read(path, encoding=encoding) == [text.split("\n")[1]]


def test_bytes_that_do_not_fit_the_named_encoding_are_refused(tmp_path):
    path = tmp_path / "pool.csv"
    path.write_bytes(b"question\na\x81\n")
    with pytest.raises(ValueError, match=r"byte 0x81 is not UTF-8 text; set `encoding:` in `pool`"):
        read(str(path))
    with pytest.raises(ValueError, match="line 2: byte 0x81 is not cp1252 text"):
        read(str(path), encoding="cp1252")


@pytest.mark.parametrize("name", ["klingon", "idna", "rot13", "base64", "unicode_escape", ""])
def test_an_encoding_that_is_none_is_refused_by_the_settings(name):
    with pytest.raises(ValueError, match="there is no encoding .* expected a name such as utf-8, cp1252"):
        Pool(reader="table", path="x.csv", columns=Columns(prompt="a"), encoding=name)


def spark_csv():
    return 'id,question,tag\n1,"He said \\"hi\\", ok",a\n2,"ends with \\"",b\n3,"C:\\\\new",\\N\n'


def test_quotes_after_backslashes_are_refused_or_read_by_option(tmp_path):
    path = write(tmp_path / "pool.csv", spark_csv())
    with pytest.raises(
        ValueError, match=r'quotes after a backslash .* as in files of Spark and MySQL; add `escape: "\\\\"`'
    ):
        read(path)
    assert read(path, escape="\\") == ['He said "hi", ok', 'ends with "', "C:\\new"]


@pytest.mark.parametrize(
    "text",
    [
        'a,b\n"C:\\dir\\",x\n',  # a path that ends in a backslash
        'a,b\n"{""k"": ""C:\\x""}",x\n',  # JSON in a cell
        'a,b\n"say \\""hi\\""",x\n',  # backslashes before doubled quotes
        'a,b\n{\\"k\\": 1},x\n',  # not in quotes at all
    ],
)
def test_backslashes_that_are_plain_text_are_left_alone(text):
    assert not has_escaped_quotes(text, ",")
    assert without_backslashes(text, ",", "pool.csv", None) == text


@pytest.mark.parametrize(
    "text",
    ['a\n"x \\"y\\" z"\n', 'a,b\n"x \\"",y\n"z",w\n', 'a\n"x \\"y', 'a,b\n"x\\\\\\"y",z\n'],
)
def test_backslashes_before_quotes_are_noticed(text):
    assert has_escaped_quotes(text, ",")


def test_an_option_that_no_file_reads_is_refused(tmp_path):
    path = write(tmp_path / "pool.jsonl", '{"question": "a"}\n')
    for option in ({"separator": ";"}, {"escape": "\\"}, {"sheet": "a"}):
        with pytest.raises(ValueError, match=f"`{next(iter(option))}` of the pool is for .* files, and .* has none"):
            read(path, **option)
