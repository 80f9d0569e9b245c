"""The report's section on who wrote the answers: arms by source with their cost, and drafts that were left as they were."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import reports
from reports import results
from tests.reports.make_campaign import make_campaign
from tests.reports.make_results import footer
from tests.reports.test_lists import TWO, ids_of, text_of

pytestmark = pytest.mark.usefixtures("without_pictures")
PRICES = {"price_per_million_input_tokens": 1000, "price_per_million_output_tokens": 3000}


def with_sources(folder: Path, *, models_n: int, drafts: bool) -> list[str]:
    """Store annotations of four people and a model, and return the ids of the model's prompts."""
    chosen = pq.read_table(folder / "tables/allocation/task_diversity/20.parquet")["prompt_id"].to_pylist()
    by_people, by_model = chosen[:4], chosen[4 : 4 + models_n]
    ids = [*by_people, *by_model]
    columns = {
        "prompt_id": ids,
        "response": ["an answer"] * len(ids),
        "annotator": ["anna", "anna", "bert", "<b>bert</b>", *["m-1"] * models_n],
        "source": ["human"] * 4 + ["model"] * models_n,
        "model": pa.array([None] * 4 + ["m-1"] * models_n, pa.string()),
        "input_tokens": pa.array([None] * 4 + [10] * models_n, pa.int64()),
        "output_tokens": pa.array([None] * 4 + [5] * models_n, pa.int64()),
        "is_draft_kept": pa.array(
            [True, False, True, None] + [None] * models_n if drafts else [None] * len(ids), pa.bool_()
        ),
    }
    whole = footer("annotations", None)
    whole["rules"] = [*whole["rules"], {**whole["rules"][0], "rule": "source_declared"}]
    kinds = {"answered": models_n, "refused": 2, "failed": 1}
    whole["notes"] = {
        "model_replies": {
            "kinds": kinds,
            "replies_n": models_n + 2,
            "models": ["m-1"],
            "input_tokens": 80,
            "output_tokens": 31,
        }
    }
    table = pa.table(columns).replace_schema_metadata({"taskdiv": json.dumps(whole)})
    pq.write_table(table, folder / "tables/annotations.parquet")
    return by_model


def test_each_arm_shows_who_answered_and_what_it_costs(tmp_path: Path) -> None:
    annotation = {"price": 0.35, "currency": "EUR", "annotator": {"model": "m-1", "share": 1, "calls": 9, **PRICES}}
    folder = make_campaign(tmp_path, TWO.__class__(**{**TWO.__dict__, "settings": {"annotation": annotation}}))
    by_model = with_sources(folder, models_n=6, drafts=False)
    found = results.load(str(folder))
    assert found.sources is not None and found.money is not None
    arms = {(arm.strategy, arm.budget_n): arm for arm in found.sources.arms}
    each = Decimal("0.025")  # (10 * 1000 + 5 * 3000) / 1e6
    for (strategy, budget_n), arm in arms.items():
        ids = pq.read_table(folder / f"tables/allocation/{strategy}/{budget_n}.parquet")["prompt_id"].to_pylist()
        model_n = len(set(ids) & set(by_model))
        assert (arm.model_n, arm.model_cost) == (model_n, each * model_n)
        assert found.money.cost(strategy, budget_n) == pytest.approx(0.35 * (budget_n - model_n) + 0.025 * model_n)
    assert arms["task_diversity", 20][2:4] == (4, 6)
    text = text_of(reports.render(str(folder)).html)
    assert "Some answers were written by m-1, not by people." in text
    assert "All replies of the model cost 0.17 EUR, also those that are no answers (2 refused)." in text  # 0.173
    assert "diversity 20 4 6 1.40 0.15 1.55" in text


def test_replies_of_a_model_that_the_file_named_earlier_have_no_price(tmp_path: Path) -> None:
    annotation = {
        "price": 0.35,
        "currency": "EUR",
        "annotator": {"model": "m-2", "share": 1, "calls": 9, "price": 100.0},
    }
    folder = make_campaign(tmp_path, TWO.__class__(**{**TWO.__dict__, "settings": {"annotation": annotation}}))
    with_sources(folder, models_n=6, drafts=False)
    found = results.load(str(folder))
    assert found.sources is not None and found.money is not None
    assert {arm.model_cost for arm in found.sources.arms if arm.model_n} == {None}
    assert found.sources.replies_cost is None
    assert found.money.cost("task_diversity", 20) == pytest.approx(0.35 * 14)


def test_drafts_that_were_kept_are_counted_and_names_are_escaped(tmp_path: Path) -> None:
    folder = make_campaign(tmp_path, TWO)
    with_sources(folder, models_n=0, drafts=True)
    made = reports.render(str(folder))
    assert "sources" in ids_of(made.html)
    text = text_of(made.html)
    assert "2 of 3 answers to prompts that were sent with a draft are the draft as it was." in text
    assert "by a model" not in text and "<b>bert" not in made.html


def test_without_models_and_drafts_there_is_no_section(tmp_path: Path) -> None:
    folder = make_campaign(tmp_path, TWO)
    assert results.load(str(folder)).sources is None  # a table of an earlier version
    with_sources(folder, models_n=0, drafts=False)
    assert results.load(str(folder)).sources is None
    assert "sources" not in ids_of(reports.render(str(folder)).html)
