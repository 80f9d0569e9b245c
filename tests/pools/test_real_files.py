"""Files that LibreOffice and `datasets` wrote (`files/README.md`): each is read and previewed."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.pools import sheets
from taskdiv_assets.pools.look import look
from taskdiv_assets.pools.read import extra_columns, read_pool, source_files

FILES = Path(__file__).parent / "files"
QUESTIONS = {
    "101": "Wie geht’s? Bitte „höflich“; danke – Jürgen",
    "102": 'Say "hi",\nplease',
    "103": "Was kostet 5 € | Porto?",
}
COLUMNS = {"prompt": "question", "id": "ticket", "task": "channel"}
BY_LIBREOFFICE = {
    "sheets.xlsx": {},
    "sheets.ods": {},
    "semicolon.csv": {},
    "tab.csv": {},
    "cp1252.csv": {"encoding": "cp1252"},
    "utf16.csv": {"encoding": "utf-16"},
}


def pool_at(name, columns=COLUMNS, **changes):
    return Pool(reader="table", path=str(FILES / name), columns=columns, **changes)


def rows(pool):
    return sorted(read_pool(pool).table.to_pylist(), key=lambda row: row["position"])


@pytest.mark.parametrize(("name", "options"), BY_LIBREOFFICE.items())
class TestFilesOfLibreOffice:
    def test_it_is_read(self, name, options):
        found = rows(pool_at(name, **options))
        assert {row["source_id"]: row["prompt"] for row in found} == QUESTIONS
        assert [row["source_task"] for row in found] == ["mail", None, None]  # merged cells: the first has the value

    def test_further_columns_come_by_prompt_id(self, name, options):
        pool = pool_at(name, **options)
        ids = {row["source_id"]: row["prompt_id"] for row in rows(pool)}
        found = extra_columns(pool, ["asked", "score"], ids.values())
        assert found[ids["101"]] == ("2026-01-31", "1.5")
        assert found[ids["102"]] == ("2026-02-01", "3")  # a formula: its result
        assert (found[ids["103"]][0] or None, found[ids["103"]][1]) in ((None, "TRUE"), (None, "1"))

    def test_a_look_finds_what_the_settings_have_to_say(self, name, options):
        found = look(str(FILES / name))
        assert found.encoding == options.get("encoding")
        assert [column.name for column in found.columns] == ["ticket", "question", "channel", "asked", "score"]
        question = found.column("question")
        assert (found.rows_n, found.is_whole, question.kind, question.filled_n) == (3, True, "text", 3)
        assert (question.distinct_n, question.repeated_n, len(question.samples)) == (3, 0, 3)
        assert found.column("ticket").kind == "number"


def test_another_sheet_is_read_by_its_name():
    assert [row["prompt"] for row in rows(pool_at("sheets.ods", {"prompt": "question"}, sheet="Other"))] == [
        "from the second sheet"
    ]
    with pytest.raises(ValueError, match=r"sheets\.xlsx has no sheet 'Othr'; its sheets are 'Fragen', 'Other'"):
        read_pool(pool_at("sheets.xlsx", sheet="Othr"))
    assert look(str(FILES / "sheets.ods")).sheets == ("Fragen", "Other")


def test_a_workbook_that_is_none_or_damaged_is_refused(tmp_path):
    (tmp_path / "a.xlsx").write_text("question\na\n")
    with pytest.raises(ValueError, match=r"a\.xlsx is not a workbook, despite its name"):
        read_pool(Pool(reader="table", path=str(tmp_path / "a.xlsx"), columns={"prompt": "question"}))
    with zipfile.ZipFile(tmp_path / "b.ods", "w") as archive:
        archive.writestr("content.xml", "<nonsense")
    with pytest.raises(ValueError, match=r"b\.ods cannot be read as a workbook \(.*save the sheet as “CSV UTF-8”"):
        read_pool(Pool(reader="table", path=str(tmp_path / "b.ods"), columns={"prompt": "question"}))


def with_sheet(path, change):
    with zipfile.ZipFile(FILES / "sheets.xlsx") as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            data = source.read(part)
            target.writestr(part.filename, change(data) if part.filename == "xl/worksheets/sheet1.xml" else data)
    return Pool(reader="table", path=str(path), columns=COLUMNS)


def test_a_workbook_that_would_fill_the_memory_is_a_sentence(tmp_path, monkeypatch):
    """A cell in the last row and column makes the library allocate 17 billion cells, which ends a process."""
    far = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
    pool = with_sheet(tmp_path / "far.xlsx", lambda data: data.replace(b"</sheetData>", far))
    with pytest.raises(ValueError, match="needs too much memory; is there a stray cell far below"):
        read_pool(pool)
    monkeypatch.setattr(sheets, "BYTES_MAX", 2**20)
    bomb = with_sheet(tmp_path / "bomb.xlsx", lambda data: data + b" " * 2**21)
    with pytest.raises(ValueError, match=r"bomb\.xlsx unpacks to .* GB; expected at most 2"):
        read_pool(bomb)


def test_without_the_package_the_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(sheets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'taskdiv-assets\[sheets\]', or save the sheet as"):
        read_pool(pool_at("sheets.xlsx"))


SAVED = {"prompt": "question", "response": "answer", "task": "kind", "id": "key"}


def test_a_folder_of_save_to_disk_is_read_in_the_order_of_its_shards():
    pool = pool_at("saved", SAVED)
    assert [Path(file).name for file in source_files(pool)] == [f"data-0000{i}-of-00002.arrow" for i in (0, 1)]
    assert [(row["source_id"], row["prompt"], row["response"]) for row in rows(pool)] == [
        ("7", 'Say "hi",\nplease', "hi"),
        ("8", "naïve 漢字", None),
        ("9", "2 + 2?", "4"),
    ]
    found = look(str(FILES / "saved"))
    assert (found.format, found.rows_n, found.splits, found.column("kind").distinct_n) == ("data set", 3, (), 2)


def test_of_several_splits_one_is_named():
    assert len(rows(pool_at("saved_splits", SAVED))) == 1  # train
    assert len(rows(pool_at("saved_splits", SAVED, split="test"))) == 2
    with pytest.raises(ValueError, match="has no split 'dev'; its splits are train, test"):
        read_pool(pool_at("saved_splits", SAVED, split="dev"))
    assert look(str(FILES / "saved_splits")).splits == ("train", "test")


def test_a_saved_folder_cannot_lead_elsewhere_and_a_cut_file_is_refused(tmp_path):
    folder = shutil.copytree(FILES / "saved", tmp_path / "saved")
    pool = Pool(reader="table", path=str(folder), columns=SAVED)
    arrow = folder / "data-00001-of-00002.arrow"
    arrow.write_bytes(arrow.read_bytes()[:-200])
    with pytest.raises(ValueError, match="is a damaged or cut Arrow file"):
        read_pool(pool)
    arrow.unlink()
    with pytest.raises((ValueError, OSError), match=r"data-00001-of-00002\.arrow"):
        read_pool(pool)
    state = json.loads((folder / "state.json").read_text())
    for name in ("../../etc/passwd", "/etc/passwd", "", 7):
        (folder / "state.json").write_text(json.dumps({**state, "_data_files": [{"filename": name}]}))
        with pytest.raises(ValueError, match="lists no data files"):
            read_pool(pool)


def test_a_look_is_bounded_and_says_so(tmp_path, monkeypatch):
    from taskdiv_assets.pools import look as module

    monkeypatch.setattr(module, "ROWS_MAX", 10)
    (tmp_path / "a.csv").write_text("q\n" + "x\n" * 11)
    (tmp_path / "a.jsonl").write_text('{"q": "x"}\n' * 11)
    (tmp_path / "a.json").write_text(json.dumps([{"q": "x"}] * 11))
    for name in ("a.csv", "a.jsonl", "a.json"):
        found = look(str(tmp_path / name))
        assert (found.rows_n, found.is_whole, found.column("q").repeated_n) == (10, False, 9), name
    monkeypatch.setattr(module, "BYTES_MAX", 45)
    for name, rows_n in (("a.jsonl", 4), ("a.json", 3)):
        found = look(str(tmp_path / name))
        assert (found.rows_n, found.is_whole) == (rows_n, False), name


def test_a_look_finds_escapes_chats_and_guesses_where_the_reader_asks(tmp_path):
    (tmp_path / "spark.csv").write_text('id,q\n1,"say \\"hi\\", ok"\n')
    found = look(str(tmp_path / "spark.csv"))
    assert (found.escape, found.column("q").samples) == ("\\", ('say "hi", ok',))
    (tmp_path / "two.csv").write_text("a;b, c\n1;2, 3\n")
    assert look(str(tmp_path / "two.csv")).separator in (";", ",")
    (tmp_path / "chat.jsonl").write_text('{"messages": [{"role": "user", "content": "hi"}]}\n')
    assert look(str(tmp_path / "chat.jsonl")).column("messages").kind == "chat"


@pytest.mark.parametrize("name", ["folder", "none.csv", "notes.txt", "empty.csv", "pipe.csv"])
def test_what_is_no_table_is_a_sentence(name, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.csv").write_text("\n")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ValueError, match=name.split(".")[0]) as error:
        look(str(tmp_path / name))
    assert "\n" not in str(error.value)
