"""Rows that repeat a prompt: dropped in campaigns, kept in studies. Their ids and answers are never lost."""

import io
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import data_contracts
from data_contracts.footer import Footer
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.assets.raw_pool import make_raw_pool
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.known_answers import known_answers, newest_annotations
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.pools import copies
from taskdiv_assets.pools.frame import Part, content_hashes, raw_pool, sampled
from taskdiv_assets.storage.store import Store

CSV = "ticket,question,answer\n1,Why?,\n2,How?,so\n3,Why?,\n4,Why?,because\n5,Why? ,\n"


def part(prompts, responses=None, ids=None):
    n = len(prompts)
    return Part("pool.csv", prompts, responses or [None] * n, [None] * n, ids, range(1, n + 1), n, {})


def experiment(tmp_path, **changes):
    (tmp_path / "pool.csv").write_text(CSV)
    pool = {
        "reader": "table",
        "path": str(tmp_path / "pool.csv"),
        "columns": {"prompt": "question", "response": "answer", "id": "ticket"},
    }
    raw = {"name": "tickets", "pool": pool, "strategies": ["random"], "budgets": [1], **changes}
    raw["pool"] = {**pool, **changes.get("pool", {})}
    return Experiment.model_validate(raw)


def made(wanted, store):
    """Store a raw_pool as `produce` does, and return its product."""
    lineage = REGISTRY.look(wanted, store)
    unit = Unit("raw_pool")
    product = make_raw_pool(Work(wanted, store, lineage, unit, lineage.expect(unit), lambda line: None))
    for path, content in product.files.items():
        store.put(content, *path.split("/"))
    footer = Footer(
        "raw_pool", None, lineage.expect(unit).identity, {}, 1, None, "", "", 0.0, (), product.parts, {}, product.notes
    )
    store.write_table(product.table, footer)
    return product


def annotate(store, prompt_id, response, day=1):
    row = {
        "prompt_id": [prompt_id],
        "response": [response],
        "annotator": ["Ada"],
        "imported_at": [datetime(2026, 11, day, tzinfo=UTC)],
        "batch": [f"b{day}"],
        "row": [0],
    }
    buffer = io.BytesIO()
    schema = data_contracts.load("annotations").arrow_schema
    pq.write_table(pa.table(row, schema=pa.schema([field for field in schema if field.name in row])), buffer)
    store.put(buffer.getvalue(), "annotations", f"b{day}.parquet")


def test_a_campaign_drops_and_a_study_keeps_unless_the_file_says(tmp_path):
    assert experiment(tmp_path).pool.duplicates == "drop"
    assert experiment(tmp_path, purpose="study").pool.duplicates == "keep"
    for purpose, duplicates in (("campaign", "keep"), ("study", "drop")):
        assert experiment(tmp_path, purpose=purpose, pool={"duplicates": duplicates}).pool.duplicates == duplicates
    lab = {"name": "x", "pool": {"reader": "lab"}, "strategies": ["random"], "budgets": [1]}
    assert Experiment.model_validate(lab).pool.duplicates == "keep"  # it makes its own prompts


def test_the_kept_row_has_the_first_answer_of_any_copy_and_every_copy_is_known_by_both_ids():
    pool = raw_pool([part(["a", "b", "a", "a"], [None, "2", None, "4"], ["q1", "q2", "q3", "q4"])], "drop")
    kept = {row["prompt"]: row for row in pool.table.to_pylist()}
    assert (kept["a"]["response"], kept["a"]["source_id"]) == ("4", "q1")
    assert pool.repairs == {"response_of_a_copy": 1}
    found = copies.kept_by_id(pool.copies)
    assert {own: found[own] for own in ("q3", "q4")} == dict.fromkeys(("q3", "q4"), kept["a"]["prompt_id"])
    everything = raw_pool([part(["a", "b", "a", "a"], ids=["q1", "q2", "q3", "q4"])])
    assert set(found) - {"q3", "q4"} == set(everything.table["prompt_id"].to_pylist()) - {
        row["prompt_id"] for row in kept.values()
    }
    assert everything.copies.num_rows == 0


def test_white_space_around_a_prompt_makes_another_prompt():
    pool = raw_pool([part(["a", "a ", "a"])], "drop")
    assert sorted(pool.table["prompt"].to_pylist()) == ["a", "a "]
    assert pool.duplicates_n == 1


def test_copies_of_prompts_outside_a_sample_are_left_out():
    pool = raw_pool([part([*"abcdefgh", *"abcdefgh"])], "drop")
    some = sampled(pool, 3)
    assert sorted(some.copies["kept_id"].to_pylist()) == some.table["prompt_id"].to_pylist()


def test_the_pools_footer_names_the_file_of_copies(tmp_path):
    store = Store("tickets", str(tmp_path / "home"))
    assert copies.kept_of(store) == {}  # before there is a pool
    product = made(experiment(tmp_path), store)
    kept = {row["prompt"]: row["prompt_id"] for row in product.table.to_pylist()}
    assert {own: copies.kept_of(store)[own] for own in ("3", "4")} == {"3": kept["Why?"], "4": kept["Why?"]}
    assert len(product.parameters["dropped_copies"]) == 2
    made(experiment(tmp_path, pool={"duplicates": "keep"}), store)
    assert copies.kept_of(store) == {}


def test_a_file_of_copies_that_is_gone_is_a_sentence(tmp_path):
    store = Store("tickets", str(tmp_path / "home"))
    product = made(experiment(tmp_path), store)
    store.remove(*next(iter(product.files)).split("/"))
    with pytest.raises(FileNotFoundError, match="lists prompts dropped as copies; .*run `taskdiv run tickets`"):
        copies.kept_of(store)


def test_an_answer_under_a_copys_id_counts_for_the_prompt_that_is_kept(tmp_path):
    store = Store("tickets", str(tmp_path / "home"))
    pool = made(experiment(tmp_path), store)
    (kept,) = [row["prompt_id"] for row in pool.table.to_pylist() if row["prompt"] == "Why?"]
    first, second = pool.parameters["dropped_copies"]
    annotate(store, first, "from a copy", day=1)
    annotate(store, kept, "later", day=2)
    assert known_answers(store)[kept] == "later"
    annotate(store, second, "the newest", day=3)
    newest = newest_annotations(store)
    assert (newest["prompt_id"].to_pylist(), newest["response"].to_pylist()) == ([kept], ["the newest"])
    parameters = {
        "pool_prompt_ids": pool.table["prompt_id"],
        "held_out_ids": [],
        "sources": ["human"],
        "low_agreement": [],
    }
    assert data_contracts.validate(data_contracts.load("annotations"), newest, parameters).failed == ()


def test_both_contracts_say_how_many_repeats_there_are(tmp_path):
    contract = data_contracts.load("raw_pool")
    for duplicates, rule, observed in (
        ("drop", "no_copies_dropped", "observed 2"),
        ("keep", "prompt_unique", "3 of 5 rows fail"),
    ):
        store = Store(f"tickets_{duplicates}", str(tmp_path / "home"))
        product = made(experiment(tmp_path, pool={"duplicates": duplicates}), store)
        failed = {
            found.rule: found for found in data_contracts.validate(contract, product.table, product.parameters).failed
        }
        assert set(failed) == {rule, "prompts_differ_visibly"}
        assert (failed[rule].severity, failed[rule].observed) == ("warning", observed)


def test_new_ids_of_the_source_change_their_own_hash_alone():
    one, other = (content_hashes(raw_pool([part(["a"], ids=[own])]).table) for own in ("1", "2"))
    assert (one["prompts"], one["answers"]) == (other["prompts"], other["answers"])
    assert one["ids"] != other["ids"]


def test_more_copies_change_the_identity_of_annotations(tmp_path):
    store = Store("tickets", str(tmp_path / "home"))
    wanted = experiment(tmp_path)
    made(wanted, store)
    before = REGISTRY.look(wanted, store).expect(Unit("annotations"))
    assert "raw_pool.copies" in before.inputs
    made(experiment(tmp_path, pool={"duplicates": "keep"}), store)
    assert (
        "raw_pool.copies"
        not in REGISTRY.look(experiment(tmp_path, pool={"duplicates": "keep"}), store)
        .expect(Unit("annotations"))
        .inputs
    )
