"""Files of users: every format is read alike, and a file that is not in its stated format is rejected in one sentence."""

import gzip
import json

import fsspec
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from taskdiv_assets.experiment.pool_settings import Columns, Pool
from taskdiv_assets.pools.read import fingerprint, read_pool, source_files

COLUMNS = Columns(prompt="question", response="answer", task="kind", id="key")
ROWS = [
    {"key": "7", "question": 'Say "hi",\nplease', "answer": "hi", "kind": "chat"},
    {"key": "8", "question": "2 + 2\u2028?", "answer": "4", "kind": "maths"},
    {"key": "9", "question": "naïve 漢字", "answer": None, "kind": "chat"},
]


def write_jsonl(path, rows=ROWS):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_csv(path, rows=ROWS):
    pacsv.write_csv(pa.Table.from_pylist(rows), path)


def write_parquet(path, rows=ROWS):
    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS = {"jsonl": write_jsonl, "csv": write_csv, "parquet": write_parquet}


def settings(path, **changes):
    return Pool(**({"reader": "table", "path": str(path), "columns": COLUMNS} | changes))


@pytest.fixture
def expected(tmp_path):
    write_jsonl(tmp_path / "expected.jsonl")
    return read_pool(settings(tmp_path / "expected.jsonl")).table


@pytest.mark.parametrize("suffix", WRITERS)
class TestEveryKindOfFile:
    def test_it_gives_the_same_pool_plain_gzipped_and_by_url(self, suffix, tmp_path, expected):
        plain = tmp_path / f"pool.{suffix}"
        WRITERS[suffix](plain)
        zipped = tmp_path / f"pool.{suffix}.gz"
        zipped.write_bytes(gzip.compress(plain.read_bytes()))
        url = f"memory://pools/pool.{suffix}"
        fsspec.filesystem("memory").pipe_file(f"/pools/pool.{suffix}", plain.read_bytes())
        for path in (plain, zipped, url):
            assert read_pool(settings(path)).table.equals(expected), path

    def test_a_file_of_another_kind_is_refused(self, suffix, tmp_path):
        path = tmp_path / f"pool.{suffix}"
        for other, content in (
            ("gzip", gzip.compress(b"x", mtime=0)),
            ("Parquet", b"PAR1 and so on"),
            ("page", b"<!DOCTYPE html>\n<p>Not found</p>\n"),
            ("bytes", b"\xff\xfe\x00\x01 no text"),
            ("nothing", b""),
        ):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=path.name) as error:
                read_pool(settings(path))
            assert "\n" not in str(error.value), other

    def test_a_gz_that_is_no_gzip_or_cut_is_refused(self, suffix, tmp_path):
        plain, zipped = tmp_path / f"pool.{suffix}", tmp_path / f"pool.{suffix}.gz"
        WRITERS[suffix](plain)
        zipped.write_bytes(plain.read_bytes())
        with pytest.raises(ValueError, match=r"is not a gzip file, but its name ends in \.gz"):
            read_pool(settings(zipped))
        zipped.write_bytes(gzip.compress(plain.read_bytes())[:-20])
        with pytest.raises(ValueError, match="damaged or cut gzip"):
            read_pool(settings(zipped))

    def test_a_missing_column_is_named_with_those_there_are_and_the_nearest(self, suffix, tmp_path):
        path = tmp_path / f"pool.{suffix}"
        WRITERS[suffix](path)
        with pytest.raises(ValueError, match=r"no column 'qestion'.*'question', 'answer', 'kind'.*mean 'question'\?"):
            read_pool(settings(path, columns=Columns(prompt="qestion")))

    def test_an_empty_prompt_and_a_repeated_id_are_refused_with_their_rows(self, suffix, tmp_path):
        path = tmp_path / f"pool.{suffix}"
        WRITERS[suffix](path, [*ROWS, {**ROWS[0], "key": "10", "question": " "}])
        with pytest.raises(ValueError, match="row 4: the prompt is empty"):
            read_pool(settings(path))
        WRITERS[suffix](path, [*ROWS, ROWS[1]])
        with pytest.raises(ValueError, match=r"id '8' occurs twice: .*row 2 and .*row 4"):
            read_pool(settings(path))


def test_a_cut_parquet_file_is_refused(tmp_path):
    path = tmp_path / "pool.parquet"
    write_parquet(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"pool\.parquet is not a Parquet file"):
        read_pool(settings(path))


def test_a_parquet_file_with_a_damaged_page_is_refused(tmp_path):
    path = tmp_path / "pool.parquet"
    write_parquet(path)
    data = bytearray(path.read_bytes())
    data[4:120] = b"\xff" * 116
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"pool\.parquet is a damaged Parquet file"):
        read_pool(settings(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"question": "a"}\nnot json\n', "pool.jsonl, line 2 is not JSON"),
        (b'{"question": "a"}\n[1, 2]\n', "pool.jsonl, line 2 is a JSON list; expected one JSON object a line"),
        (b'{"question": "a"}\n\n{"question": "\x93"}\n', "pool.jsonl, line 3: byte 0x93 is not UTF-8"),
        (b'{"question": "a"}\n{"question": 1.5}\n', r"row 2: column 'question' holds 1.5 \(float\); expected text"),
        (b'{"question": "a"}\n{"question": ["a"]}\n', r"row 2: column 'question' holds \['a'\] \(list\)"),
        (b'{"question": "\\ud800"}\n', "row 1: column 'question' holds half of a surrogate pair"),
        (b"\n\n", "pool.jsonl holds no rows"),
    ],
)
def test_json_lines_that_are_none_are_refused_by_line(content, said, tmp_path):
    (tmp_path / "pool.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_pool(settings(tmp_path / "pool.jsonl", columns=Columns(prompt="question")))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("question,kind\na,b\nc\n", "pool.csv is not a whole CSV file"),
        ("question,kind\n", "pool.csv holds no rows"),
        ("question,question\na,b\n", "two columns named 'question'"),
    ],
)
def test_csv_that_is_none_is_refused(content, said, tmp_path):
    (tmp_path / "pool.csv").write_text(content)
    with pytest.raises(ValueError, match=said):
        read_pool(settings(tmp_path / "pool.csv", columns=Columns(prompt="question")))


def test_csv_text_is_not_guessed_to_be_numbers_and_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = tmp_path / "pool.csv"
    path.write_text('question,key,unused\n"007",001,1\n1.50,002,oops\nNA,003,\n', encoding="utf-8-sig")
    table = read_pool(settings(path, columns=Columns(prompt="question", id="key"))).table
    rows = table.sort_by("source_id").select(["source_id", "prompt"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [("001", "007"), ("002", "1.50"), ("003", "NA")]


def test_a_csv_text_longer_than_a_reading_block_is_whole(tmp_path):
    path = tmp_path / "pool.csv"
    long = "line\n" * 500_000
    write_csv(path, [{"question": long}, {"question": "short"}])
    assert long in read_pool(settings(path, columns=Columns(prompt="question"))).table["prompt"].to_pylist()


def test_whole_number_ids_are_text(tmp_path):
    write_parquet(tmp_path / "pool.parquet", [{"question": "a", "key": 7}, {"question": "b", "key": 8}])
    table = read_pool(settings(tmp_path / "pool.parquet", columns=Columns(prompt="question", id="key"))).table
    assert sorted(table["source_id"].to_pylist()) == ["7", "8"]


def test_paths_may_be_a_list_a_folder_or_a_pattern(tmp_path):
    write_jsonl(tmp_path / "b.jsonl", ROWS[:1])
    write_csv(tmp_path / "a.csv", ROWS[1:])
    (tmp_path / "notes.txt").write_text("not a pool")
    files = [str(tmp_path / "a.csv"), str(tmp_path / "b.jsonl")]
    assert source_files(settings(tmp_path)) == files
    assert source_files(settings(tmp_path / "*.*l")) == files[1:]
    assert source_files(Pool(reader="table", path=files[::-1], columns=COLUMNS)) == files[::-1]
    whole = read_pool(settings(tmp_path))
    assert whole.table.num_rows == whole.rows_read_n == 3


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("pol.jsonl", r"there is no file .*pol\.jsonl\. Did you mean pool\.jsonl\?"),
        ("*.csv", "no file matches"),
        ("empty", "holds no pool file"),
        ("notes.txt", r"unknown kind of file 'notes\.txt'"),
    ],
)
def test_a_path_that_names_nothing_is_refused(path, said, tmp_path):
    write_jsonl(tmp_path / "pool.jsonl")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=said):
        read_pool(settings(tmp_path / path))


def test_a_fingerprint_is_the_sha256_of_each_file_or_the_revision(tmp_path):
    import hashlib

    path = tmp_path / "pool.jsonl"
    write_jsonl(path)
    assert fingerprint(settings(path)) == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}
    hub = Pool(reader="dolly", hub="databricks/databricks-dolly-15k", revision="abc")
    assert fingerprint(hub) == {"databricks/databricks-dolly-15k": "databricks/databricks-dolly-15k@abc"}
    assert fingerprint(Pool(reader="lab")) == {}
