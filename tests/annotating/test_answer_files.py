"""Answer files as spreadsheet programs and people save them."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskdiv_assets.annotating.answer_files import AnswerFile, read_answers
from taskdiv_assets.annotating.judging import judge
from taskdiv_assets.annotating.problems import report_path
from taskdiv_assets.pools.visible import is_blank

ID, OTHER = "964c6a1d8c779540", "f2b44bd564c2d95c"
# What shows nothing, such as U+200B alone, is no answer.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(
    lambda text: not is_blank(text)
)


def read(folder: Path, data: bytes | str, name: str = "answers.csv") -> AnswerFile:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_answers(path)


def only_problem(found: AnswerFile) -> tuple[int, str, str]:
    assert not found.answers
    (problem,) = found.problems
    return problem


@given(st.lists(TEXTS, min_size=1), st.sampled_from(",;\t"), st.sampled_from(["", "\ufeff"]), st.booleans())
def test_any_answer_survives_csv(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], delimiter: str, mark: str, is_quoting_all: bool
) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL if is_quoting_all else csv.QUOTE_MINIMAL)
    writer.writerow(["response", "notes", "prompt_id"])
    writer.writerows([text, "", f"{number:016x}"] for number, text in enumerate(texts))
    found = read(tmp_path_factory.getbasetemp(), mark + buffer.getvalue())
    assert not found.problems
    assert [answer.response for answer in found.answers] == [text.replace("\r\n", "\n") for text in texts]


@given(st.lists(TEXTS, min_size=1), st.booleans())
def test_any_answer_survives_json_lines(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], is_ascii: bool
) -> None:
    lines = [
        json.dumps({"prompt_id": f"{number:016x}", "response": text}, ensure_ascii=is_ascii)
        for number, text in enumerate(texts)
    ]
    found = read(tmp_path_factory.getbasetemp(), "\r\n".join(lines))
    assert not found.problems
    assert [answer.response for answer in found.answers] == [text.replace("\r\n", "\n") for text in texts]


def test_a_sheet_as_a_european_excel_saves_it(tmp_path: Path) -> None:
    sheet = (
        "\ufeffrank;Response ;annotator;PROMPT_ID;my notes\r\n"
        f'0;"Two lines;\nand ""quotes""";anna;{ID};ok\r\n'
        ";;;;\r\n"
        f"1;=2+3;;'{OTHER};\r\n"
        ";;;;\r\n;;;;\r\n"
    )
    found = read(tmp_path, sheet)
    assert not found.problems
    assert [answer[:4] for answer in found.answers] == [
        (2, ID, 'Two lines;\nand "quotes"', "anna"),
        (4, OTHER, "=2+3", None),  # as the annotator typed it; the apostrophe of the id was the export's
    ]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_line_ending(tmp_path: Path, ending: str) -> None:
    found = read(tmp_path, ending.join(["prompt_id\tresponse", f"{ID}\tone", f"{OTHER}\ttwo", ""]), "answers.tsv")
    assert [answer.response for answer in found.answers] == ["one", "two"] and not found.problems


REFUSED_FILES = {
    "an Excel workbook": (b"PK\x03\x04rest", "is not a workbook"),
    "an old Excel workbook": (b"\xd0\xcf\x11\xe0rest", "old Excel workbook"),
    "UTF-16": (
        f"prompt_id,response\r\n{ID},x\r\n".encode("utf-16"),
        "is UTF-16, expected UTF-8; save it as “CSV UTF-8”",
    ),
    "UTF-16 without a mark": (f"prompt_id,response\r\n{ID},x\r\n".encode("utf-16-le"), "seems to be UTF-16"),
    "a flat ODS": (
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<office:document>',
        "is XML or a web page, not a table; save it as",
    ),
    "a web page": (b"<!DOCTYPE html>\n<html>", "is XML or a web page"),
    "nothing": (b"", "expected a header with the columns prompt_id and response"),
    "a header alone": (b"prompt_id,response\r\n,,\r\n", "holds no answer"),
    "no such column": (b"prompt_id,answer\r\nx,y\r\n", "the first row is 'prompt_id,answer'; expected a header"),
    "a column twice": (b"prompt_id,response,response\r\nx,y,z\r\n", "'response' is in the header twice"),
    "half a list": (b'[{"prompt_id": "x",\n', "not JSON from line 2 on"),
    "a deep list": (b"[" * 100_000, "nested too deep"),
    "our own list": (b'[{"data": {"prompt_id": "x"}}]', "is the list that was sent out, without answers"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED_FILES.values(), ids=REFUSED_FILES)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason in only_problem(read(tmp_path, data))[2]


REFUSED_ROWS = {
    "no id": (b",an answer", "prompt_id is empty"),
    "cp1252": (f"{ID},café".encode("cp1252"), "response is not UTF-8 (byte 0xE9, which is 'é' in Windows-1252)"),
    "an id that is no text": (b"\xff,an answer", "prompt_id is not UTF-8 (byte 0xFF"),
    "a quote too few": (f'{ID},"never closed\r\n{OTHER},swallowed'.encode(), "unexpected end of data"),
    "a character that is none": (f"{ID},a\0b".encode(), "response holds the character U+0000"),
    "an inner quote": (f'{ID},"so "called" answers"'.encode(), "is a quote missing"),
    "a comma without quotes": (
        f"{ID},yes, I do".encode(),
        "has 3 cells, the header 2; put a cell that holds a comma in double quotes",
    ),
}


@pytest.mark.parametrize("line", [f"{ID}, ", f"{ID},", f"{ID},\u00a0\u200b", f'{ID},"\n"'])
def test_a_row_without_an_answer_is_not_answered_yet(tmp_path: Path, line: str) -> None:
    found = read(tmp_path, f"prompt_id,response\r\n{OTHER},an answer\r\n{line}\r\n".encode())
    assert [answer.row for answer in found.answers] == [2]
    assert found.unanswered_n == 1 and not found.problems


@pytest.mark.parametrize(
    "line", [f'{{"prompt_id": "{ID}", "response": null}}', f'{{"prompt_id": "{ID}", "response": " "}}']
)
def test_a_line_of_json_without_an_answer_is_not_answered_yet(tmp_path: Path, line: str) -> None:
    found = read(tmp_path, f'{{"prompt_id": "{OTHER}", "response": "x"}}\n{line}\n')
    assert len(found.answers) == 1 and found.unanswered_n == 1 and not found.problems


@pytest.mark.parametrize(
    "data",
    [
        f'{{"prompt_id": "{OTHER}", "response": "x"}}\n{{"prompt_id": "{ID}"}}\n',
        f'[{{"prompt_id": "{OTHER}", "response": "x"}}, {{"prompt_id": "{ID}", "Response2": "lost"}}]',
    ],
)
def test_a_row_that_lacks_the_answers_column_is_a_problem(tmp_path: Path, data: str) -> None:
    """Its answer may have been lost on the way."""
    found = read(tmp_path, data)
    assert len(found.answers) == 1 and not found.unanswered_n
    assert [problem.prompt_id for problem in found.problems] == [ID] and "has no response" in found.problems[0].reason


def test_a_row_that_ends_before_the_answer_is_not_answered_yet(tmp_path: Path) -> None:
    """Excel writes such rows where the cells at their end are empty."""
    found = read(tmp_path, f"prompt_id,task,response\r\n{OTHER},a,an answer\r\n{ID},b\r\n".encode())
    assert len(found.answers) == 1 and found.unanswered_n == 1 and not found.problems


def test_a_file_without_any_answer_is_a_problem(tmp_path: Path) -> None:
    assert "the file holds no answer" in only_problem(read(tmp_path, f"prompt_id,response\n{ID},\n".encode()))[2]


@pytest.mark.parametrize(("line", "reason"), REFUSED_ROWS.values(), ids=REFUSED_ROWS)
def test_a_row_that_cannot_be_used_has_its_number_and_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    head = f'prompt_id,response\r\n{OTHER},"two\nlines"\r\n'.encode()
    found = read(tmp_path, head + line + b"\r\n")
    assert [answer.row for answer in found.answers] == [2]
    assert [problem.row for problem in found.problems] == [3]  # as a spreadsheet counts, not as an editor does
    assert reason in found.problems[0].reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "the line is not JSON"),
        ("[1]", "expected a JSON object"),
        (f'{{"prompt_id": "{ID}", "response": 42}}', "is 42; expected text"),
        ('{"prompt_id": 1234567890123456, "response": "x"}', "prompt_id is 1234567890123456; expected the id"),
        (f'{{"prompt_id": "{ID}", "response": "x", "annotator": ["a"]}}', "annotator is ['a']"),
        (f'{{"prompt_id": "{ID}", "response": {"9" * 5000}}}', "is inf; expected text"),
        (f'{{"prompt_id": {"9" * 5000}, "response": "x"}}', "prompt_id is inf; expected the id"),
        (f'{{"prompt_id": "{ID}", "response": "\\ud83d"}}', "half of a surrogate pair (U+D83D)"),
    ],
)
def test_a_line_of_json_that_cannot_be_used(tmp_path: Path, line: str, reason: str) -> None:
    found = read(tmp_path, f'{{"prompt_id": "{OTHER}", "response": "x"}}\n\n{line}\n')
    assert len(found.answers) == 1
    assert [problem.row for problem in found.problems] == [3]
    assert reason in found.problems[0].reason


STRAY = 'prompt_id,response\r\n{0},"lost\r\n{1},ok\r\n{2},good"\r\n{3},fine\r\n'
FOUR = [f"{number:016x}" for number in range(1, 5)]


# Columns moved, and a first line that spreadsheet programs do not show.
MOVED = 'sep=,\nresponse,prompt_id\n"lost,{0}\nok,{1}\n",{2}\nfine,{3}\n'


@pytest.mark.parametrize("text", [STRAY, STRAY.replace(",", ";"), MOVED], ids=["comma", "semicolon", "moved"])
def test_a_stray_quote_that_makes_one_row_of_several_is_found(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text.format(*FOUR))
    assert not found.problems
    valid, ((row, _, reason),) = judge(found.answers, set(FOUR))
    assert (row, [answer.prompt_id for answer in valid]) == (2, FOUR[3:])
    line = 4 if text.startswith("sep") else 3
    assert f"continues to line {line} of the file, which has the prompt_id {FOUR[1]} of another row" in reason


def test_ids_that_are_none_of_the_pool_may_stand_in_an_answer(tmp_path: Path) -> None:
    found = read(tmp_path, STRAY.format(*FOUR))
    valid, problems = judge(found.answers, {FOUR[0], FOUR[3]})
    assert [answer.response for answer in valid] == [f"lost\n{FOUR[1]},ok\n{FOUR[2]},good", "fine"] and not problems


def test_lines_that_are_lost_with_a_row_are_counted(tmp_path: Path) -> None:
    found = read(tmp_path, STRAY.replace("good", '"good"').format(*FOUR))
    assert [(answer.row, answer.prompt_id) for answer in found.answers] == [(5, FOUR[3])]
    ((row, _, reason),) = found.problems
    assert row == 2 and reason.endswith("; the 2 line(s) below it were not read either") and found.unread_n == 2
    found = read(tmp_path, STRAY.replace('good"', "good").format(*FOUR))
    assert found.unread_n == 3 and not found.answers
    wide = read(tmp_path, STRAY.replace('good"', 'good",more').format(*FOUR))
    assert "has 3 cells" in wide.problems[0].reason and wide.problems[0].reason.endswith(
        "continues to line 4 of the file"
    )


def test_what_programs_put_around_a_file_is_taken_off(tmp_path: Path) -> None:
    marks = b"\xef\xbb\xbf" * 2
    found = read(tmp_path, marks + f'sep=;\r\nprompt_id;response\r\n{ID};"one\r\ntwo"\r\n'.encode())
    assert [answer[:3] for answer in found.answers] == [(2, ID, "one\ntwo")] and not found.problems
    found = read(tmp_path, f"sep=|\nprompt_id|response\n{ID}|one, two; three\n")
    assert found.answers[0].response == "one, two; three"
    lines = "\r".join(json.dumps({"prompt_id": prompt_id, "response": "x"}) for prompt_id in (ID, OTHER))
    assert [answer.row for answer in read(tmp_path, marks + lines.encode()).answers] == [1, 2]


def test_a_pipe_is_read_as_a_file_is(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(f"prompt_id,response\n{ID},x\n",))
    writer.start()
    assert read_answers(path).answers[0].prompt_id == ID
    writer.join()
    assert report_path(Path("/dev/stdin")) == Path("stdin.problems.csv")
    with pytest.raises(ValueError, match="there is no file"):
        read_answers(tmp_path)


def test_no_such_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file .*nowhere.csv; expected"):
        read_answers(tmp_path / "nowhere.csv")
