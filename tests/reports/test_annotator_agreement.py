"""Agreement against an independent package and against counts by hand, and its part of the page."""

from __future__ import annotations

import datetime
import math
from pathlib import Path

import krippendorff
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reports
from reports import annotator_agreement as agreement
from reports.annotator_agreement import Agreement, Value
from reports.experiment_view import Annotation, Experiment
from reports.lists import agreement_texts
from reports.lists.answered_twice import AnsweredTwice
from tests.reports.make_campaign import Campaign, make_campaign
from tests.reports.test_hostile import HOSTILE
from tests.reports.test_report_page import parsed

UNITS = st.lists(st.lists(st.sampled_from("abcd"), min_size=2, max_size=4), min_size=1, max_size=12)


@given(UNITS)
def test_alpha_equals_the_package_krippendorff(units: list[list[str]]) -> None:
    found = agreement.nominal_alpha(units)
    if len({value for values in units for value in values}) < 2:
        assert math.isnan(found)  # the package raises
        return
    people_n = max(map(len, units))
    data = [["abcd".index(values[k]) if k < len(values) else np.nan for values in units] for k in range(people_n)]
    expected = krippendorff.alpha(reliability_data=data, value_domain=range(4), level_of_measurement="nominal")
    assert found == pytest.approx(expected, abs=1e-12)


def test_short_answers_are_compared_by_equality_and_texts_by_chrf() -> None:
    answers = {f"p{n}": {"a": "Yes", "b": " yes " if n < 9 else "no"} for n in range(12)}
    answers |= {"long": {"a": "word " * 20, "b": "word " * 20}, "alone": {"a": "only one"}}
    found = agreement.agreement(answers.values())
    assert (found.short_n, found.long_n) == (12, 1)
    assert found.equal.estimate == 0.75 and 0.4 < found.equal.low < 0.75 < found.equal.high <= 1
    assert found.alpha.low <= found.alpha.estimate <= found.alpha.high
    assert found.chrf == pytest.approx((1.0, math.nan, math.nan), nan_ok=True)  # one prompt has no interval
    assert agreement.agreement(answers.values()) == found  # the seed is fixed
    assert agreement.by_group(answers, {"p0": "x", "p11": "y"}).keys() == {"x", "y"}
    assert agreement.by_pair({"p": {"a": "1", "b": "1", "c": "2"}})["a", "b"].equal.estimate == 1


def test_a_warning_needs_enough_prompts_with_little_agreement() -> None:
    def made(n: int, alpha: float) -> Agreement:
        return Agreement(n, Value(0.5), Value(alpha), 0, Value(math.nan))

    assert agreement.is_low(made(20, 0.66)) and not agreement.is_low(made(20, 0.67))
    assert not agreement.is_low(made(19, 0.1)) and not agreement.is_low(made(30, math.nan))


def test_the_part_of_the_page_says_which_answer_counts() -> None:
    answers = {f"p{n}": {"ann": "x" if n % 2 else "y", "ben": "z" if n < 20 else "x"} for n in range(30)}
    every = agreement.agreement(answers.values())
    found = AnsweredTwice(
        30, 25, every, agreement.by_group(answers, dict.fromkeys(answers, "t")), agreement.by_pair(answers)
    )
    part = agreement_texts.part(found, Experiment(name="e"))
    assert part is not None and agreement_texts.part(None, Experiment(name="e")) is None
    said = " ".join(part.sentences)
    assert "30 prompts were answered by several people." in said and "too low even for tentative conclusions" in said
    assert "25 prompts with different texts: the newest counts (annotation.when_answers_differ)." in said
    assert part.by_pair.rows[0][:2] == ("ann and ben", "30") and part.by_task.rows[0][0] == "t"
    for rule, words in (({"adjudicator": "ann"}, "the answer of ann counts"), ("both", "models train on all of them")):
        one = agreement_texts.part(found, Experiment(name="e", annotation=Annotation(when_answers_differ=rule)))
        assert one is not None and words in " ".join(one.sentences)


def test_the_page_has_the_section_only_if_something_was_answered_twice(tmp_path: Path, without_pictures: None) -> None:
    tasks = {"billing": 40, "shipping": 20}
    folder = make_campaign(tmp_path, Campaign(tasks=tasks, exports=((20, "random", 12),), answered_n=12))
    assert "Agreement" not in reports.render(str(folder)).html
    (own,) = (folder / "annotations").glob("*.parquet")
    table = pq.read_table(own)
    own.unlink()
    for number, name in enumerate(("Ann", HOSTILE["script"])):
        later = datetime.datetime(2026, 11, 25 + number, tzinfo=datetime.UTC)
        texts = [f"no {place}" if place < 3 * number else "yes" for place in range(table.num_rows)]
        columns = {"prompt_id": table["prompt_id"], "response": texts, "annotator": [name] * table.num_rows}
        columns |= {"imported_at": [later] * table.num_rows, "row": list(range(table.num_rows))}
        pq.write_table(pa.table(columns), folder / "annotations" / f"{number:064x}.parquet")
    html = reports.render(str(folder)).html
    said = " ".join(" ".join(parsed(html).itertext()).split())  # well-formed, whatever the name is
    assert "13 prompts were answered by several people." in said
    assert "two people give the same answer in 0.77 [" in said and "Agreement by pair of annotators" in said
    assert 'href="#agreement"' in html and reports.render(str(folder)).html == html
