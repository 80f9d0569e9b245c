"""Exports that Label Studio 1.23.2 made of our list, which was imported and annotated through its API.

`good` has corrected, repeated and skipped annotations. `good-all` also has the tasks without annotations. `problems` has one
annotation without a text and one with two texts.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskdiv_assets.annotating import label_studio
from taskdiv_assets.annotating.answer_files import read_answers
from taskdiv_assets.annotating.importing import import_answers
from taskdiv_assets.annotating.judging import judge
from taskdiv_assets.annotating.layout import Layout
from taskdiv_assets.annotating.problems import write_report
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.known_answers import newest_annotations
from taskdiv_assets.storage.store import Store
from tests.home import Home

pytestmark = pytest.mark.xdist_group("annotating")
MADE = Path(__file__).parent / "fixtures/label_studio_1.23.2"
ENDINGS = ("json", "min.json", "csv")
COUNTING = {
    "Reverse abcd": "dcba",
    "First of abcd": "Corrected last",  # made first, changed last
    "Ünïcode, 日本 🙂?": "Grüße 日本 🙂",
    "=1+1": "=2",
    "Count to 246": "1, 2, …, 246",
    "Count to 2111": "Answered after a skip",
}


@pytest.mark.parametrize("name", ["good", "good-all"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_newest_of_each_tasks_annotations_counts_and_all_are_kept(
    experiment: Experiment, store: Store, own: Home, ending: str, name: str
) -> None:
    path = Path(shutil.copy(MADE / f"{name}.{ending}", own.folder))
    found = read_answers(path)
    result = import_answers(REGISTRY.look(experiment, store), found, None)
    assert (result.answers_n, result.prompts_n) == (8, 6)
    pool = store.read_table("raw_pool").table
    prompts = dict(zip(pool["prompt_id"].to_pylist(), pool["prompt"].to_pylist(), strict=True))
    newest = newest_annotations(store).to_pylist()
    assert {prompts[row["prompt_id"]]: row["response"] for row in newest} == COUNTING
    assert {row["annotator"] for row in newest} == {"1"}
    assert not import_answers(REGISTRY.look(experiment, store), read_answers(path), None).is_new


def test_what_is_no_answer_is_counted(tmp_path: Path) -> None:
    skipped = [read_answers(MADE / f"good.{ending}").skipped_n for ending in ENDINGS]
    assert skipped == [2, 0, 0]  # JSON alone names them
    unanswered = [read_answers(MADE / f"good-all.{ending}").unanswered_n for ending in ENDINGS]
    assert unanswered == [5, 5, 5]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_empty_annotation_and_two_texts_are_refused(ending: str) -> None:
    found = read_answers(MADE / f"problems.{ending}")
    assert len(found.answers) == 8
    reasons = sorted(problem.reason for problem in found.problems)
    assert len(reasons) == 2
    assert reasons[0].startswith("the annotation holds 2 texts; expected one")
    assert reasons[1].endswith("is empty")


ODD = st.sampled_from(
    [None, True, 5, -1, 1e400, "", " ", "x", "\ud800", "\0", "0001-01-01T00:00:00+14:00", [], [[]], {}, ["x"], {"text": 5},
     {"text": ["a", "b"]}, '{"text":["a","b"]}', '{"text":' + "[" * 5000]
)  # fmt: skip


def places(node: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value inside a JSON value."""
    yield path
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(value, (*path, key))


@pytest.mark.parametrize("name", ["good.json", "good-all.json", "problems.json", "good.min.json"])
@given(data=st.data())
def test_whatever_stands_in_an_export_a_row_that_cannot_be_used_is_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    items = json.loads((MADE / name).read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(list(places(items))[1:]))
        node = items
        for key in path:
            node = node[key]
        node[last] = copy.deepcopy(data.draw(ODD))  # the next draw may change what stands inside it
    file = tmp_path_factory.getbasetemp() / "odd.json"
    file.write_text(json.dumps(items))
    found = read_answers(file)
    valid, unusable = judge(found.answers, {answer.prompt_id for answer in found.answers})
    assert all(row >= 1 and reason for row, _, reason in sorted([*found.problems, *unusable]))
    write_report(file, [*found.problems, *unusable])
    assert not [answer for answer in valid if not answer.response.strip()]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"result"', '"result":5,"other"', "is [5]; expected text"),
        ('"updated_at"', '"updated_at":"0001-01-01T00:00:00+14:00","other"', "updated_at is '0001-01-01T00:00:00+14:00'"),
        ('"annotations"', '"annotations":5,"other"', "is [5]; expected text"),
        ('"completed_by"', f'"completed_by":{"9" * 5000},"other"', "annotator is inf; expected a name"),
    ],
)  # fmt: skip
def test_an_export_of_another_shape_is_refused_by_row(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "odd.json"
    text = (MADE / "good.json").read_text()
    at = text.index(old, text.index('"annotations"')) if old != '"annotations"' else text.index(old)
    path.write_text(text[:at] + new + text[at + len(old) :])
    problems = read_answers(path).problems
    assert problems and all(problem.row == 1 and said in problem.reason for problem in problems)


def test_our_list_is_what_label_studio_was_given(own: Home) -> None:
    options = ("--budget", "12", "--strategy", "task_diversity", "--format", "label-studio", "-o", "list.json")
    result = own.say("annotations", "export", "own", *options)
    assert result.returncode == 0, result.stderr
    assert "Label Studio" in result.stdout and "list.config.xml" in result.stdout
    assert json.loads((own.folder / "list.json").read_text()) == json.loads((MADE / "list.json").read_text())
    assert (own.folder / "list.config.xml").read_text() == (MADE / "list.config.xml").read_text()


def test_the_configuration_shows_every_column_it_names_and_asks_for_a_response() -> None:
    view = ElementTree.fromstring(label_studio.config(Layout()))
    (area,) = view.iter("TextArea")
    assert area.get("name") == "response"
    shown = {str(tag.get("value"))[1:] for tag in view if tag is not area}
    assert shown == {"instructions", "task", "prompt"}
    assert shown < set(json.loads((MADE / "list.json").read_text())[0]["data"])


def test_a_text_area_of_another_name_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text((MADE / "good.json").read_text().replace('"from_name":"response"', '"from_name":"answer"'))
    found = read_answers(path)
    assert not found.answers and {problem.reason[-8:] for problem in found.problems} == {"is empty"}
