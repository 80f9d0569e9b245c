"""Read rows of MMLU from local files: one Parquet file of all subjects, or the original CSV files in a folder or tar archive.

An archive is read in memory and never unpacked. Only regular files whose names are those of requested CSV files are opened.
"""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from taskdiv_assets.benchmarks.question_sources import TaskRows, check_ids, file_bytes, is_folder, parquet_table
from taskdiv_assets.storage import remote

# Published number of test questions of each subject (hendrycks/test), 14,042 in total. The split dev has 5 more for each.
SUBJECTS = {
    "abstract_algebra": 100, "anatomy": 135, "astronomy": 152, "business_ethics": 100, "clinical_knowledge": 265,
    "college_biology": 144, "college_chemistry": 100, "college_computer_science": 100, "college_mathematics": 100,
    "college_medicine": 173, "college_physics": 102, "computer_security": 100, "conceptual_physics": 235,
    "econometrics": 114, "electrical_engineering": 145, "elementary_mathematics": 378, "formal_logic": 126,
    "global_facts": 100, "high_school_biology": 310, "high_school_chemistry": 203,
    "high_school_computer_science": 100, "high_school_european_history": 165, "high_school_geography": 198,
    "high_school_government_and_politics": 193, "high_school_macroeconomics": 390, "high_school_mathematics": 270,
    "high_school_microeconomics": 238, "high_school_physics": 151, "high_school_psychology": 545,
    "high_school_statistics": 216, "high_school_us_history": 204, "high_school_world_history": 237,
    "human_aging": 223, "human_sexuality": 131, "international_law": 121, "jurisprudence": 108,
    "logical_fallacies": 163, "machine_learning": 112, "management": 103, "marketing": 234, "medical_genetics": 100,
    "miscellaneous": 783, "moral_disputes": 346, "moral_scenarios": 895, "nutrition": 306, "philosophy": 311,
    "prehistory": 324, "professional_accounting": 282, "professional_law": 1534, "professional_medicine": 272,
    "professional_psychology": 612, "public_relations": 110, "security_studies": 245, "sociology": 201,
    "us_foreign_policy": 100, "virology": 166, "world_religions": 171,
}  # fmt: skip
LETTERS = "ABCD"
COLUMNS = ("subject", "split", "question", *LETTERS, "answer")
LABEL = "MMLU source"
MEMBER_MAX_BYTES = 32 * 2**20  # of a file in an archive; the largest original (professional_law_test.csv) has 1.9 MB
DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)

Key = tuple[str, str]  # split and subject


class Row(NamedTuple):
    """One unchecked row of a source."""

    cells: Sequence[Any]  # question, A, B, C, D, answer
    item_id: str | None = None


def read_rows(source: str, names: Sequence[str], few_shot: int) -> dict[str, TaskRows]:
    """Read the rows of the named subjects, in the form of the hub's cais/mmlu: {"question", "subject", "choices", "answer"}.

    The source is a Parquet file, or a folder or tar archive with dev/<subject>_dev.csv and test/<subject>_test.csv. The worked
    examples are the first `few_shot` rows of the split dev.

    Raises:
        ValueError: a file, a row or a cell is missing or invalid, or an id occurs twice. The message says which one.
    """
    wanted = [(split, name) for name in names for split in (("dev", "test") if few_shot else ("test",))]
    found = _raw_rows(source, wanted)
    documents = {key: [_document(source, key, n, row) for n, row in enumerate(rows)] for key, rows in found.items()}
    tasks = {}
    for name in names:
        dev = documents.get(("dev", name), [])
        if len(dev) < few_shot:
            raise ValueError(
                f"{LABEL} {source!r}, subject {name!r}: {len(dev)} rows in the split dev, but `few_shot` is {few_shot}"
            )
        if not documents["test", name]:
            raise ValueError(f"{LABEL} {source!r} has no test rows of subject {name!r}; name the `tasks` that it holds")
        ids = [row.item_id for row in found["test", name] if row.item_id is not None]
        tasks[name] = TaskRows(documents["test", name], ids or None, dev[:few_shot])
    check_ids(LABEL, source, tasks)
    return tasks


def _raw_rows(source: str, wanted: Sequence[Key]) -> Mapping[Key, Sequence[Row]]:
    files = "a folder or tar archive of the original CSV files"
    if is_folder("mmlu", source, f"a Parquet file with the columns {', '.join(COLUMNS)}, or {files}"):
        return _from_files(source, wanted, lambda name: file_bytes(f"{source.rstrip('/')}/{name}"))
    with remote.fetched(source) as local, local.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    if is_parquet:
        return _from_parquet(source, wanted)
    members = _archive_members(source, {_file_name(key) for key in wanted})
    return _from_files(source, wanted, members.__getitem__)


def _document(source: str, key: Key, row_n: int, row: Row) -> dict[str, Any]:
    split, subject = key
    question, *choices, answer = row.cells
    place = f"{LABEL} {source!r}, subject {subject!r}, split {split}, row {row_n}"
    if not all(isinstance(text, str) and text.strip() for text in (question, *choices)):
        raise ValueError(f"{place}: expected text in question, A, B, C and D")
    if answer not in tuple(LETTERS):
        raise ValueError(f"{place}: the answer is {answer!r}; expected one of A, B, C, D (and no line of column names)")
    return {"question": question, "subject": subject, "choices": choices, "answer": LETTERS.index(answer)}


def _file_name(key: Key) -> str:
    split, subject = key
    return f"{split}/{subject}_{split}.csv"


def _from_files(source: str, wanted: Sequence[Key], read: Callable[[str], bytes]) -> dict[Key, list[Row]]:
    found = {}
    for key in wanted:
        name = _file_name(key)
        try:
            found[key] = _csv_rows(f"{LABEL} {source!r}, file {name}", read(name))
        except (FileNotFoundError, KeyError):
            raise ValueError(f"{LABEL} {source!r} has no file {name}; name the `tasks` that it holds") from None
    return found


def _csv_rows(place: str, data: bytes) -> list[Row]:
    try:
        # utf-8-sig removes a byte-order mark before the first question.
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{place} is not CSV in UTF-8: {error}") from None
    for row_n, row in enumerate(rows):
        if len(row) != 6:
            raise ValueError(f"{place}, row {row_n}: {len(row)} cells; expected question, A, B, C, D, answer")
    return [Row(row) for row in rows]


def _archive_members(source: str, names: set[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    prefixes: set[str] = set()
    try:
        with remote.fetched(source) as local, tarfile.open(local, mode="r:*") as archive:
            for member in archive:
                name = "/".join(member.name.split("/")[-2:])
                content = archive.extractfile(member) if name in names and member.isreg() else None
                if content is None:
                    continue
                prefixes.add(member.name.removesuffix(name))
                if name in found or len(prefixes) > 1:
                    raise ValueError(f"{LABEL} {source!r} holds {member.name} beside others; expected each file once")
                if member.size > MEMBER_MAX_BYTES:
                    raise ValueError(f"{LABEL} {source!r}: {member.name} has {member.size} bytes; is this MMLU?")
                found[name] = content.read()
            while archive.fileobj is not None and archive.fileobj.read(2**20):
                pass  # read to the end, so that gzip verifies its checksum
    except DAMAGED:
        raise ValueError(
            f"{LABEL} {source!r} is neither a Parquet file nor a whole tar archive, nor a folder"
        ) from None
    return found


def _from_parquet(source: str, wanted: Sequence[Key]) -> dict[Key, list[Row]]:
    table = parquet_table(LABEL, source, COLUMNS, otherwise="a folder or tar archive of CSV files")
    found: dict[Key, list[Row]] = {key: [] for key in wanted}
    for row in table.to_pylist():
        if (key := (row["split"], row["subject"])) in found:
            found[key].append(Row([row[column] for column in COLUMNS[2:]], str(row["id"]) if "id" in row else None))
    return found
