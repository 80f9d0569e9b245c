"""Rows of MMLU from each kind of local source, and from invalid sources."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taskdiv_assets.benchmarks import mmlu_source
from taskdiv_assets.benchmarks.mmlu_source import SUBJECTS, read_rows
from taskdiv_assets.benchmarks.question_sources import content_sha256

GOOD = ["Which?", "one", "two", "three", "four", "C"]
ALL = list(SUBJECTS)


def as_csv(*rows: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def files_of(dev: bytes = as_csv(GOOD, GOOD), test: bytes = as_csv(GOOD)) -> dict[str, bytes]:
    """Return the two files of one subject."""
    return {"dev/anatomy_dev.csv": dev, "test/anatomy_test.csv": test}


def write_archive(path: Path, files: dict[str, bytes], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="session")
def original_files(shared_data: Path) -> dict[str, bytes]:
    """Return the 114 CSV files, read by tarfile alone."""
    with tarfile.open(shared_data / "mmlu" / "mmlu_csv.tar.gz") as archive:
        members = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        return {name: file.read() for name, file in members.items() if file is not None}


@pytest.mark.full
def test_every_source_gives_the_same_documents(
    shared_data: Path, original_files: dict[str, bytes], tmp_path: Path
) -> None:
    subjects = ALL[::4]
    parquet = read_rows(str(shared_data / "mmlu" / "mmlu.parquet"), subjects, 5)
    original_files = {
        name: data for name, data in original_files.items() if name.split("/")[1].rpartition("_")[0] in subjects
    }
    memory = fsspec.filesystem("memory")
    memory.pipe({f"/mmlu-rows/{name}": data for name, data in original_files.items()})
    for name in ("mmlu.parquet", "mmlu_csv.tar.gz"):
        memory.pipe_file(f"/mmlu-files/{name}", (shared_data / "mmlu" / name).read_bytes())
    below_data = {f"./data/{name}": data for name, data in original_files.items()}
    for source in (
        shared_data / "mmlu" / "mmlu_csv.tar.gz",
        write_folder(tmp_path / "folder", original_files),
        write_archive(tmp_path / "plain.tar", original_files),
        write_archive(tmp_path / "prefixed.txt", below_data, "w:bz2"),  # told by content, not by name
        "memory://mmlu-rows",
        "memory://mmlu-files/mmlu_csv.tar.gz",
    ):
        rows = read_rows(str(source), subjects, 5)
        assert {name: (one.documents, one.dev) for name, one in rows.items()} == {
            name: (one.documents, one.dev) for name, one in parquet.items()
        }
        assert all(one.ids is None for one in rows.values())
    assert read_rows("memory://mmlu-files/mmlu.parquet", subjects, 5) == parquet
    for folder in ("/mmlu-rows", "/mmlu-files"):
        memory.rm(folder, recursive=True)


def test_sizes_are_the_published_ones_and_cells_those_of_the_files(
    shared_data: Path, original_files: dict[str, bytes]
) -> None:
    rows = read_rows(str(shared_data / "mmlu" / "mmlu.parquet"), ALL, 5)
    assert {name: len(one.documents) for name, one in rows.items()} == SUBJECTS
    assert (len(SUBJECTS), sum(SUBJECTS.values())) == (57, 14_042)
    assert sum(len(one.dev) for one in rows.values()) == 285
    for name, data in original_files.items():
        split, file = name.split("/")
        subject = file.removesuffix(f"_{split}.csv")
        cells = list(csv.reader(io.StringIO(data.decode(), newline="")))
        documents = rows[subject].documents if split == "test" else rows[subject].dev
        assert [
            [doc["question"], *doc["choices"], "ABCD"[doc["answer"]]] for doc in documents if doc["subject"] == subject
        ] == cells


def test_a_document_is_the_hub_s(shared_data: Path) -> None:
    rows = read_rows(str(shared_data / "mmlu" / "mmlu.parquet"), ["abstract_algebra", "formal_logic"], 2)
    assert list(rows["abstract_algebra"].dev[0].items()) == [
        ("question", "Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field."),
        ("subject", "abstract_algebra"),
        ("choices", ["0", "1", "2", "3"]),
        ("answer", 1),
    ]
    assert rows["formal_logic"].dev[0]["question"].startswith(" Select")  # text is not changed
    assert [len(one.dev) for one in rows.values()] == [2, 2]
    assert rows["formal_logic"].ids == [f"mmlu-test-formal_logic-{n}" for n in range(126)]


def test_csv_text_is_kept_but_for_its_byte_order_mark(tmp_path: Path) -> None:
    row = [' a "quoted",\r\nquestion\n', "None", "NA", "nan ", "∀x", "D"]
    folder = write_folder(tmp_path, files_of(test=b"\xef\xbb\xbf" + as_csv(row)))
    (document,) = read_rows(str(folder), ["anatomy"], 1)["anatomy"].documents
    assert document == {"question": row[0], "subject": "anatomy", "choices": row[1:5], "answer": 3}


def test_without_worked_examples_the_split_dev_is_not_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"test/anatomy_test.csv": as_csv(GOOD)})
    assert read_rows(str(folder), ["anatomy"], 0)["anatomy"].dev == []


def test_the_content_hash_is_of_what_is_used(tmp_path: Path) -> None:
    def digest(source: Path, few_shot: int = 1) -> str:
        return content_sha256(read_rows(str(source), ["anatomy"], few_shot))

    folder = write_folder(tmp_path / "folder", files_of() | {"test/virology_test.csv": b"not read"})
    assert digest(folder) == digest(write_archive(tmp_path / "a.tgz", files_of(), "w:gz"))
    assert digest(folder) != digest(folder, few_shot=2)
    other = [*GOOD[:5], "D"]
    assert digest(folder) != digest(write_folder(tmp_path / "other", files_of(test=as_csv(other))))
    assert digest(folder) == digest(write_folder(tmp_path / "unused", files_of(dev=as_csv(GOOD, other))))


def test_odd_members_of_an_archive_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in [
            ("dev", tarfile.DIRTYPE),
            ("test/anatomy_test.csv", tarfile.SYMTYPE),
            ("test/anatomy_test.csv", tarfile.LNKTYPE),
            ("dev/anatomy_dev.csv", tarfile.FIFOTYPE),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        for name, data in {"../../escape.csv": b"x", "dev/._anatomy_dev.csv": b"\x00", **files_of()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert len(read_rows(str(path), ["anatomy"], 2)["anatomy"].documents) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["odd.tar"]  # nothing was unpacked


def parquet_of(path: Path, **columns: Sequence[object]) -> Path:
    """Write a Parquet file of one subject, with `columns` in place of valid columns."""
    cells = dict(zip(("question", "A", "B", "C", "D", "answer"), ([cell] * 2 for cell in GOOD), strict=True))
    pq.write_table(pa.table({"subject": ["anatomy"] * 2, "split": ["dev", "test"], **cells, **columns}), path)
    return path


MISTAKES: list[tuple[Callable[[Path], Path], str]] = [
    (lambda folder: folder / "none", "no source at '.*none'; expected `hub`, a Parquet file with the columns subject"),
    (lambda folder: folder, r"has no file dev/anatomy_dev\.csv; name the `tasks` that it holds"),
    (lambda folder: write_archive(folder / "a", {"x": b""}), r"has no file dev/anatomy_dev\.csv; name the `tasks`"),
    (
        lambda folder: write_folder(folder, files_of(test=as_csv(GOOD, GOOD[1:]))),
        r"file test/anatomy_test\.csv, row 1: 5 cells; expected question, A, B, C, D, answer",
    ),
    (
        lambda folder: write_folder(folder, files_of(test=as_csv(["question", "A", "B", "C", "D", "answer"], GOOD))),
        "split test, row 0: the answer is 'answer'; expected one of A, B, C, D .and no line of column names",
    ),
    (lambda folder: write_folder(folder, files_of(test=as_csv([*GOOD[:5], "c"]))), "row 0: the answer is 'c'"),
    (lambda folder: write_folder(folder, files_of(test=as_csv([*GOOD[:5], "AB"]))), "row 0: the answer is 'AB'"),
    (lambda folder: write_folder(folder, files_of(test=as_csv([" ", *GOOD[1:]]))), "row 0: expected text in question"),
    (lambda folder: write_folder(folder, files_of(test=b"")), "has no test rows of subject 'anatomy'"),
    (
        lambda folder: write_folder(folder, files_of(dev=b"")),
        "subject 'anatomy': 0 rows in the split dev, but `few_shot` is 1",
    ),
    (lambda folder: write_folder(folder, files_of(test=b"\xff,1")), "is not CSV in UTF-8"),
    (lambda folder: write_folder(folder, files_of(test=b'"' + b"x" * 200_000)), "is not CSV in UTF-8: field larger"),
    (
        lambda folder: write_folder(folder, {"text": b"neither"}) / "text",
        "is neither a Parquet file nor a whole tar archive",
    ),
    (
        lambda folder: write_folder(folder, {"text": b"PAR1 cut off"}) / "text",
        "is not a Parquet file, nor a folder or tar archive of CSV files",
    ),
    (
        lambda folder: write_archive(folder / "a", files_of() | {"old/test/anatomy_test.csv": b""}),
        r"holds old/test/anatomy_test\.csv beside others; expected each file once",
    ),
    (lambda folder: parquet_of(folder / "a", answer=["C", None]), "split test, row 0: the answer is None"),
    (lambda folder: parquet_of(folder / "a", D=[4, 4]), "split dev, row 0: expected text in question, A, B, C and D"),
    (lambda folder: parquet_of(folder / "a", subject=["anatomy", "x"]), "has no test rows of subject 'anatomy'"),
    (lambda folder: parquet_of(folder / "a", split=["train", "test"]), "0 rows in the split dev"),
    (lambda folder: parquet_of(folder / "a", split=["test"] * 2), "0 rows in the split dev"),
]


@pytest.fixture(autouse=True)
def usual_limit() -> Iterator[None]:
    """Restore Python's limit of CSV fields, which the import of long answers raises for the whole process."""
    limit = csv.field_size_limit(131_072)
    yield
    csv.field_size_limit(limit)


@pytest.mark.parametrize(("make", "message"), MISTAKES)
def test_mistakes_are_told_in_one_sentence(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read_rows(str(make(tmp_path)), ["anatomy"], 1)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_cut_off_a_missing_column_and_an_id_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(source: Path, message: str, few_shot: int = 0) -> None:
        with pytest.raises(ValueError, match=message):
            read_rows(str(source), ["anatomy"], few_shot)

    whole = write_archive(tmp_path / "whole.tgz", files_of(test=as_csv(*[GOOD] * 50)), "w:gz").read_bytes()
    for kept_n in (2, len(whole) // 2, len(whole) - 9):
        (tmp_path / "cut.tgz").write_bytes(whole[:kept_n])
        refuses(tmp_path / "cut.tgz", "nor a whole tar archive", 1)
    flipped = bytearray(write_archive(tmp_path / "b.tgz", files_of(), "w:gz").read_bytes())
    flipped[-6] ^= 1  # of the checksum
    (tmp_path / "b.tgz").write_bytes(flipped)
    refuses(tmp_path / "b.tgz", "nor a whole tar archive", 1)
    bare = pa.table({"subject": ["anatomy"], "question": ["x"]})
    pq.write_table(bare, tmp_path / "bare.parquet")
    refuses(tmp_path / "bare.parquet", "has no column split, A, B, C, D, answer; it has subject, question")
    twice = parquet_of(tmp_path / "twice.parquet", split=["test", "test"], id=["7", "7"])
    refuses(twice, "task 'anatomy': id '7' occurs twice; expected unique ids")
    assert (
        read_rows(str(parquet_of(twice, split=["test", "test"], id=["7", None])), ["anatomy"], 0)["anatomy"].ids is None
    )
    monkeypatch.setattr(mmlu_source, "MEMBER_MAX_BYTES", 20)
    refuses(tmp_path / "whole.tgz", r"test/anatomy_test\.csv has \d+ bytes; is this MMLU\?")
