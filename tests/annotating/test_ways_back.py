"""Returned answers: with prompt ids or own ids, from spreadsheet programs, with other column names and encodings."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from taskdiv_assets.annotating.answer_files import AnswerFile, Reading, read_answers
from taskdiv_assets.annotating.columns import Names
from taskdiv_assets.annotating.encodings import check_encoding
from taskdiv_assets.annotating.exporting import Target, export
from taskdiv_assets.annotating.importing import find_experiment, import_answers, imports, own_id_columns, pool_ids
from taskdiv_assets.annotating.judging import PoolIds, bare, judge, resolve
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.cli import app
from taskdiv_assets.commands.consoles import escaped, visible
from taskdiv_assets.commands.planning import plan
from taskdiv_assets.graph.known_answers import known_answers
from taskdiv_assets.graph.units import Unit
from tests.annotating.conftest import TICKETS, opened
from tests.annotating.test_lists import BOTH, refused, rows_in, said
from tests.graph import make_unit
from tests.home import Home

pytestmark = pytest.mark.xdist_group("annotating")
FILES = Path(__file__).parent / "files"
ANSWERS = {
    "8": 'Bring it to a shop.\nKeep the receipt, please; "mind the glass".',
    "T-2": "Next week.",
    "1e5": "Write a comma: 1,5 €",
    "00123": "Morgen, spätestens übermorgen – versprochen",
}
TICKET = Names(own_ids=("ticket",))


def read(text: str, names: Names = TICKET, encoding: str | None = None) -> AnswerFile:
    Path("answers.csv").write_bytes(text.encode(encoding or "utf-8"))
    return read_answers(Path("answers.csv"), Reading(names, encoding))


def bring(home: Home, text: str, names: Names = TICKET) -> dict[str, str]:
    """Import answers, and return all known answers by ticket."""
    experiment, store = opened(home, "tickets")
    import_answers(REGISTRY.look(experiment, store), read(text, names), None)
    return by_ticket(home)


def by_ticket(home: Home) -> dict[str, str]:
    """Return the known answers by the user's own ids."""
    _, store = opened(home, "tickets")
    own_of = pool_ids(store).own_of
    return {own_of[prompt_id]: answer for prompt_id, answer in known_answers(store).items() if answer is not None}


@pytest.mark.parametrize(
    ("file", "reading"),
    [
        ("answered.csv", Reading(TICKET)),
        ("answered.xlsx", Reading(TICKET)),
        ("answered.ods", Reading(TICKET)),
        ("cp1252.csv", Reading(Names.parse(["response=Antwort"]).of_lists(["ticket"]), "cp1252")),
        ("utf16.csv", Reading(Names.parse(["response=Antwort", "id=ticket"]), "utf-16")),
    ],
)
def test_what_libreoffice_saved_comes_back_whole(own: Home, file: str, reading: Reading) -> None:
    experiment, store = opened(own, "tickets")
    path = Path(shutil.copy(FILES / file, own.folder))
    result = import_answers(REGISTRY.look(experiment, store), read_answers(path, reading), None)
    assert (result.answers_n, result.replaced_n) == (4, 0) and by_ticket(own) == ANSWERS


def test_without_the_option_the_refusal_names_it(own: Home) -> None:
    for file in ("cp1252.csv", "utf16.csv", "answered.csv"):
        shutil.copy(FILES / file, own.folder)
    found = refused("import", "tickets", "cp1252.csv", "--columns", "response=Antwort")
    assert "antwort is not UTF-8 (byte 0x80, which is '€' in Windows-1252); save it as “CSV UTF-8”" in found
    assert "and import again, or use --encoding cp1252" in found
    assert (
        "is UTF-16, expected UTF-8" in (found := refused("import", "tickets", "utf16.csv"))
        and "or use --encoding utf-16" in found
    )
    found = refused("import", "tickets", "cp1252.csv", "--encoding", "cp1252")
    assert "use --columns prompt_id=NAME,response=NAME" in found and "columns prompt_id or ticket and response" in found
    found = refused("import", "tickets", "cp1252.csv", "--encoding", "cp1252", "--columns", "response=Antwrot")
    assert "there is no column 'Antwrot' (--columns response=Antwrot)" in found and "did you mean 'antwort'?" in found
    assert "would be misread as cp1252; leave out --encoding" in refused(
        "import", "tickets", "answered.csv", "--encoding", "cp1252"
    )
    assert not imports(opened(own, "tickets")[1])


@pytest.mark.parametrize("header", ["ticket,response", "TICKET ;Response", "id\tresponse", "source_id,response"])
def test_answers_under_the_users_own_ids(own: Home, header: str) -> None:
    sign = next(sign for sign in ",;\t" if sign in header)
    assert bring(own, f"{header}\n00123{sign}first\n'8{sign}second\n") == {"00123": "first", "8": "second"}


def test_an_answer_under_the_id_of_a_dropped_copy_counts_for_the_prompt_that_is_kept(own: Home) -> None:
    assert bring(own, "ticket,response\nT-7,Tomorrow.\n") == {"T-2": "Tomorrow."}
    experiment, store = opened(own, "tickets")
    with pytest.raises(ValueError, match="has another answer in row 3"):
        import_answers(REGISTRY.look(experiment, store), read("ticket,response\nT-2,a\nT-3,b\n"), None)


def test_two_ids_have_to_agree(own: Home) -> None:
    experiment, store = opened(own, "tickets")
    ids = {own_id: prompt_id for prompt_id, own_id in pool_ids(store).own_of.items()}
    rows = [
        ("8", ids["8"]),
        ("T-3", ids["T-2"]),
        ("00123", ids["T-2"]),
        ("123", ids["00123"]),
        ("T-4", "f" * 16),
        ("", ids["T-4"]),
    ]
    file = read("ticket,prompt_id,response\n" + "".join(f"{own_id},{prompt_id},ok\n" for own_id, prompt_id in rows))
    found, problems = resolve(file.answers, pool_ids(store))
    assert [answer.prompt_id for answer in found] == [ids["8"], ids["T-2"], ids["T-4"]]  # T-3 is a copy of T-2
    assert [problem.row for problem in problems] == [4, 5, 6]
    assert (
        f"ticket '00123' and prompt_id '{ids['T-2']}' disagree: that prompt_id has the ticket 'T-2'"
        in problems[0].reason
    )
    assert (
        "disagree: that prompt_id has the ticket '00123'. Correct one of them, or remove the column"
        in problems[1].reason
    )
    assert "that prompt_id is not in the pool" in problems[2].reason
    with pytest.raises(ValueError, match="3 row"):
        import_answers(REGISTRY.look(experiment, store), file, None)


def test_rows_that_were_removed_after_they_were_sent_are_noted_and_named(own: Home) -> None:
    said("export", "tickets", "--strategy", "random", "--budget", "4", "-o", "list.csv")
    (first, second, *_), answered = (rows := rows_in(Path("list.csv"))), own.folder / "answered.csv"
    tickets, settings = own.folder / "tickets.csv", own.folder / "results/tickets/experiment.yaml"
    gone = {row["ticket"].removeprefix("'") for row in (first, second)}
    gone |= {"T-2", "T-3", "T-7"} if "T-2" in gone else set()  # the copies of one prompt
    with tickets.open("w", newline="", encoding="utf-8") as file:
        kept = [one for one in TICKETS if one[0] not in gone]
        csv.writer(file).writerows([("ticket", "question", "channel", "topic"), *kept])
    settings.write_text(settings.read_text().replace("path: tickets.csv", f"path: {tickets}"))
    experiment, store = opened(own, "tickets")
    assert plan(experiment, store).standing.gone_n == 0  # the stored pool is stale
    make_unit(experiment, store, Unit("raw_pool"))
    assert plan(experiment, store).standing.gone_n == 2
    shown = CliRunner().invoke(app, ["plan", "tickets"])
    assert "note: 2 prompts that were sent out are no longer in the pool: put their rows back to import" in shown.stderr
    for columns, name in (
        (("ticket", "prompt_id"), "prompt_id"),
        (("prompt_id",), "prompt_id"),
        (("ticket",), "ticket"),
    ):
        with answered.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                [(*columns, "response"), *((*(row[one] for one in columns), "ok") for row in rows)]
            )
        found = refused("import", "tickets", answered.name)
        shown_id = first[name].removeprefix("'")
        assert "2 row(s)" in found and f"{name} {shown_id!r}" in found.replace('"', "'").replace("''", "'"), found
        assert "was sent out, but the row of this prompt is no longer in the pool" in found and "disagree" not in found


def test_an_own_id_that_is_unknown_or_of_several_prompts_is_refused() -> None:
    ids = PoolIds.of([("a" * 16, "7"), ("b" * 16, " 7"), ("c" * 16, "8")], {})
    lines = '{"ticket": 7, "response": "x"}\n{"ticket": 8, "response": "x"}\n{"ticket": "9", "response": "x"}\n'
    lines += '{"prompt_id": "8", "response": "x"}\n{"ticket": [8], "response": "x"}\n'
    file = read_answers(Path("lines.jsonl"), Reading(TICKET), lines.encode())
    found, problems = resolve(file.answers, ids)
    assert [answer.prompt_id for answer in found] == ["c" * 16]
    assert [problem.reason.partition(";")[0] for problem in problems] == [
        "ticket '7' is the id of several prompts",
        "ticket '9' is not in the pool of this experiment",
        "prompt_id '8' is one of your own ids",
    ]
    assert [problem.reason for problem in file.problems] == ["ticket is [8]; expected an id as text or a whole number"]


OWN_IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5).filter(bare)


@given(st.dictionaries(OWN_IDS, st.sampled_from("abcd"), max_size=6), OWN_IDS)
def test_resolving_is_looking_an_own_id_up(of: dict[str, str], asked: str) -> None:
    ids = PoolIds.of([(f"{prompt}{place}", own_id) for place, (own_id, prompt) in enumerate(of.items())], {})
    meant = {f"{prompt}{place}" for place, (own_id, prompt) in enumerate(of.items()) if bare(own_id) == bare(asked)}
    answers = read_answers(Path("x"), Reading(TICKET), json.dumps({"ticket": asked, "response": "x"}).encode()).answers
    found, problems = resolve(answers, ids)
    assert [answer.prompt_id for answer in found] == (list(meant) if len(meant) == 1 else [])
    assert bool(problems) == (len(meant) != 1)


def test_a_column_id_of_anothers_is_left_alone() -> None:
    """Many programs number rows in a column `id`; beside a prompt_id it means nothing, in Label Studio's exports never."""
    sheet = read_answers(Path("x"), Reading(), b"id,prompt_id,response\n1,0123456789abcdef,x\n")
    assert not sheet.answers[0].own_ids
    minified = [{"id": 5, "annotation_id": 1, "response": "x", "source_id": "T-1", "prompt_id": "0123456789abcdef"}]
    named = read_answers(Path("x"), Reading(Names(own_ids=("id",))), json.dumps(minified).encode())
    assert named.answers[0].own_ids == (("source_id", "T-1"),)
    task = {"data": {"ticket": "T-1", "prompt": "?"}, "annotations": [{"id": 1, "result": [
        {"from_name": "response", "value": {"text": ["x"]}}]}]}  # fmt: skip
    (answer,) = read_answers(Path("x"), Reading(TICKET), json.dumps([task]).encode()).answers
    assert (answer.prompt_id, answer.own_ids, answer.response) == ("", (("ticket", "T-1"),), "x")


def test_a_stray_quote_is_found_by_own_ids_too_and_numbered_answers_are_not_taken_for_it() -> None:
    ids = PoolIds.of([(f"{n:016x}", str(n)) for n in range(1, 6)], {})
    file = read_answers(Path("x"), Reading(TICKET), b'ticket,response\n1,"lost\n2,ok\n3,good"\n4,fine\n')
    found, ((row, own_id, reason),) = resolve(file.answers, ids)
    assert (row, own_id, len(found)) == (2, "1", 1) and "line 3 of the file, which begins with the id '2'" in reason
    file = read_answers(Path("x"), Reading(TICKET), b'ticket,response\n1,"first\n2,a list"\n2,fine\n')
    assert len(resolve(file.answers, ids)[0]) == 2  # 2 has a row of its own, so it was not swallowed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("reponse=A", "found 'reponse'; did you mean 'response'?"),
        ("Antwort", "expected WHAT=COLUMN, such as response=Antwort"),
        ("response=", "expected WHAT=COLUMN"),
        ("response=A,response=B", "is named twice"),
        ("response=A,annotator=a", "is named twice"),
    ],
)
def test_names_of_columns_that_make_no_sense(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("?", r"\?")):
        Names.parse([text])


def test_a_name_may_hold_a_comma() -> None:
    names = Names.parse(["response=Answer, in short,prompt_id=ID", "annotator=Who"])
    assert (names.response, names.prompt_id, names.annotator) == ("answer, in short", "id", "who")


def test_names_are_looked_for_in_json_too(own: Home) -> None:
    text = '{"ID": "00123", "Antwort": "x", "response": ""}\n'
    assert bring(own, text, Names.parse(["response=Antwort,id=id"])) == {"00123": "x"}
    missing = read(text, Names.parse(["response=Answer,id=id"]))
    assert "there is no column 'Answer'" in missing.problems[0].reason


def test_encodings() -> None:
    assert check_encoding("CP1252") == check_encoding("windows-1252") == "cp1252"
    with pytest.raises(ValueError, match="unknown encoding 'cp1225'; did you mean"):
        check_encoding("cp1225")
    for name in ("base64", "rot13", "unicode_escape", "", "é", "x\0"):
        with pytest.raises(ValueError, match="unknown encoding"):
            check_encoding(name)
    cut = read_answers(Path("x"), Reading(Names(), "cp1252"), b"prompt_id,response\nab,\x81\n")
    assert "is not cp1252: byte 0x81 in line 2" in cut.problems[0].reason
    wide = "prompt_id,response\nab,x\n".encode("utf-16-le")
    assert "--encoding utf-16-le" in read_answers(Path("x"), Reading(Names(), "cp1252"), wide).problems[0].reason
    assert read_answers(Path("x"), Reading(Names(), "utf-16-le"), wide).answers[0].response == "x"


def test_a_workbook_without_the_columns_says_what_it_has(own: Home) -> None:
    path = Path(shutil.copy(FILES / "answered.xlsx", own.folder))
    (problem,) = read_answers(path, Reading(Names.parse(["response=Antwort"]))).problems
    assert "there is no column 'Antwort'" in problem.reason and "'response'" in problem.reason


def test_what_became_an_error_of_a_formula_is_no_answer() -> None:
    sheet = b"prompt_id,response\nab,Err:501\nac,#NAME?\nad,#hashtag!\n"
    found = read_answers(Path("x"), Reading(), sheet)
    assert [problem.row for problem in found.problems] == [2, 3] and len(found.answers) == 1
    assert "type an apostrophe before the =" in found.problems[0].reason


def test_an_import_says_what_it_replaces_and_keeps_it(own: Home) -> None:
    experiment, store = opened(own, "tickets")
    bring(own, "ticket,response\n8,one\nT-2,two\n")
    (first,) = store.names("annotations")
    kept = store.get("annotations", first)
    result = import_answers(
        REGISTRY.look(experiment, store), read("ticket,response\n8,better\nT-2,two\nT-4,new\n"), None
    )
    assert result.replaced_n == 1 and by_ticket(own) == {"8": "better", "T-2": "two", "T-4": "new"}
    assert store.get("annotations", first) == kept
    assert [(one.answers_n, one.replaced_n) for one in imports(store)] == [(2, 1), (3, 0)]
    shown = said("list", "tickets")
    assert "replaced since" in shown and "each import is a file that is never changed" in shown
    assert result.batch[:16] in shown


def test_an_import_by_own_ids_alone_finds_its_experiment(own: Home) -> None:
    experiment, store = opened(own, "tickets")
    export(REGISTRY.look(experiment, store), BOTH, None, Target(own.folder / "list.csv", "csv"))
    assert own_id_columns(store) == own_id_columns(store, experiment) == {"ticket"}
    assert find_experiment(read("ticket,response\n00123,x\n")) == "tickets"
    with pytest.raises(ValueError, match="no experiment sent these prompts"):
        find_experiment(read("ticket,response\nT-9,x\n"))


def test_a_file_of_the_users_own_is_never_overwritten_by_a_report(own: Home) -> None:
    shutil.copy(FILES / "answered.csv", "a.csv")
    mine, ours = Path("a.csv.problems.csv"), Path("a.csv.problems.2.csv")
    mine.write_text("mine")
    Path("a.csv").write_text("ticket,response\nnope,x\n")
    for _ in range(2):  # our own report is written over
        found = refused("import", "tickets", "a.csv")
        assert "report: a.csv.problems.2.csv (a.csv.problems.csv is a file of your own and was kept)" in found
    assert mine.read_text() == "mine" and b"nope" in ours.read_bytes() and len(list(own.folder.glob("a.csv.*"))) == 2
    experiment, store = opened(own, "tickets")
    Path("a.csv").write_text("ticket,response\n8,x\n")
    import_answers(REGISTRY.look(experiment, store), read_answers(Path("a.csv"), Reading(TICKET)), None)
    assert mine.read_text() == "mine" and not ours.exists()


def test_what_comes_from_outside_is_printed_as_it_is_and_obeyed_by_no_terminal(own: Home) -> None:
    name = "odd [red]\x1b[2J.csv"
    Path(name).write_text("ticket,response\n[bold]\x1b]0;x\x07,a\n")
    found = refused("import", "tickets", name)
    assert "\x1b" not in found and "\x07" not in found
    assert r"odd [red]\x1b[2J.csv.problems.csv" in found and "'[bold]" in found
    said("export", "tickets", "-o", "list [bold]\x1b[1m.csv")
    shown = said("list", "tickets")
    assert r"file of export 1: list [bold]\x1b[1m.csv" in shown and "\x1b" not in shown
    assert visible("a\u202eb\udcff\tc\n") == "a\\u202eb\\udcff\tc\n" and visible("a\n\t", is_one_line=True) == "a\\n\\t"
    assert escaped("[red]x") == r"\[red]x"


def test_ids_of_an_earlier_version_are_judged_as_before() -> None:
    answers = read_answers(Path("x"), Reading(), b"prompt_id,response\nab,x\n").answers
    resolved, problems = resolve(answers, PoolIds.of([("cd", None)], {}))
    assert not problems and "is not in the pool" in judge(resolved, {"cd"}).problems[0].reason
