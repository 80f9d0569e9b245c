"""A user's own orders: the entries that `strategies` accepts, and reading their files."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from reports.experiment_view import Experiment as ReportView
from taskdiv_assets.assets import ranking
from taskdiv_assets.commands.opening import check_filters
from taskdiv_assets.experiment import Experiment, experiment_file, plugins
from taskdiv_assets.experiment.experiment_file import ExperimentError
from taskdiv_assets.experiment.own_orders import OwnOrder
from taskdiv_assets.pools.frame import Part, raw_pool
from taskdiv_assets.pools.order_files import read_order
from taskdiv_assets.selection import SelectionPool, parse_prompt_ids, rank
from taskdiv_assets.selection.strategies import OWN_ORDER

FILE = """name: campaign
pool: {reader: table, path: pool.csv, columns: {prompt: prompt, id: ticket}}
strategies:
  - random
  - {name: ours, scores: data/mine.csv, column: score, order: high_first}
  - name: theirs
    order_from: ids.csv
budgets: [10]
"""
OURS = OwnOrder(name="ours", scores="scores.csv", order="high_first")
THEIRS = OwnOrder(name="theirs", order_from="ids.csv")


def pool(n=6, own=True):
    prompts = [f"prompt {i}" for i in range(n)]
    ids = [f"t{i}" for i in range(n)] if own else None
    return raw_pool([Part("p", prompts, [None] * n, [None] * n, ids, range(1, n + 1), n, {})]).table


def by_own_id(table):
    return dict(zip(table["source_id"].to_pylist(), table["prompt_id"].to_pylist(), strict=True))


def read(path: Path, text: str, order: OwnOrder = OURS, table=None, **more):
    path.write_text(text)
    key = "scores" if order.scores else "order_from"
    return read_order(order.model_copy(update={key: str(path)}), pool() if table is None else table, **more)


def chosen(table, order, placed):
    """Return the ids of the source in the strategy's order."""
    scores = SelectionPool(parse_prompt_ids(table["prompt_id"].to_pylist()), scores={OWN_ORDER: placed.values})
    rows = rank(order.strategy, scores, seed=0, depth=placed.ranked_n)
    return [table["source_id"][int(row)].as_py() for row in rows]


def load(tmp_path: Path, text: str) -> Experiment:
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    return experiment_file.load(str(path))


def test_an_entry_with_a_name_is_a_strategy_like_any_other(tmp_path):
    experiment = load(tmp_path, FILE)
    assert experiment.strategies == ["random", "ours", "theirs"]
    assert [order.path for order in experiment.own_orders] == [f"{tmp_path}/data/mine.csv", f"{tmp_path}/ids.csv"]
    assert experiment.strategy("ours").needs == {OWN_ORDER}
    assert check_filters(experiment, None, ["ours"]) == ()
    with pytest.raises(ValueError, match="strategy 'dpp' is not in campaign; it has random, ours, theirs"):
        check_filters(experiment, None, ["dpp"])
    with pytest.raises(ValueError, match="unknown strategy 'our'; expected one of random, "):
        check_filters(experiment, None, ["our"])
    assert Experiment.model_validate(experiment.model_dump(by_alias=True)) == experiment
    assert ReportView.model_validate(yaml.safe_load(FILE)).strategies == ("random", "ours", "theirs")
    assert "own_orders" not in load(tmp_path, FILE.split("  - {")[0] + "budgets: [10]\n").model_dump()


def test_it_can_be_the_primary_comparison(tmp_path):
    more = FILE + "base_model: {path: m}\nbenchmarks: [{name: bbh}]\n"
    primary = "primary: {strategy: ours, reference: theirs, benchmark: bbh, metric: exact_match}\n"
    assert load(tmp_path, more + primary).primary.strategy == "ours"
    with pytest.raises(ExperimentError, match=r"primary.strategy: 'mine' is not among the `strategies`"):
        load(tmp_path, more + primary.replace("ours", "mine"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (", order: high_first", "", "5: strategies.1: `scores` needs `order: high_first` or `order: low_first`"),
        (
            "high_first",
            "highest",
            r"5: strategies.1.order: expected 'high_first' or 'low_first', found 'highest'",
        ),
        ("scores: data/mine.csv, ", "", "5: strategies.1: expected either `scores: FILE` or `order_from: FILE`"),
        (
            "order_from: ids.csv",
            "order_from: ids.csv\n    column: x",
            "6: strategies.2: `order_from` uses the order of the rows",
        ),
        ("name: ours", "name: k_center", "5: strategies.1.name: 'k_center' is the name of a built-in strategy"),
        ("name: ours", "name: adapter", "5: strategies.1.name: 'adapter' is the name of an asset"),
        ("name: ours", "name: Ours!", "5: strategies.1.name: "),
        ("name: ours", "name: theirs", "3: strategies: 'theirs' occurs twice"),
        ("column: score", "colum: score", "5: strategies.1.colum: unknown key; did you mean `column`?"),
        ("budgets:", "own_orders: []\nbudgets:", "own_orders: unknown key; orders of your own are entries"),
        ("- random", "- randm", "3: strategies: unknown strategy randm; expected some of random, "),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path, old, new, said):
    with pytest.raises(ExperimentError) as caught:
        load(tmp_path, FILE.replace(old, new, 1))
    assert said in str(caught.value)


def test_the_schema_of_the_file_has_both_kinds_of_entries():
    schema = Experiment.model_json_schema()
    items = schema["properties"]["strategies"]["items"]["anyOf"]
    assert {"type": "string"} in items and {"$ref": "#/$defs/OwnOrder"} in items
    assert "own_orders" not in schema["properties"]


@pytest.mark.parametrize(("order", "expected"), [("high_first", "t1 t3"), ("low_first", "t2 t0")])
def test_scores_sort_the_pool_and_ties_go_by_prompt_id(tmp_path, order, expected):
    table, ours = pool(), OURS.model_copy(update={"order": order})
    text = "ticket,score\nt0,0.1\nt1,9\nt2,-3e-1\nt3,8.5\nt4,1\nt5,1.0\n"
    placed = read(tmp_path / "s.csv", text, ours, table, own_id="ticket")
    assert (placed.ranked_n, placed.left_out_n) == (6, 0)
    found = chosen(table, ours, placed)
    assert found[:2] == expected.split()
    ids = by_own_id(table)
    ties = [one for one in found if one in ("t4", "t5")]
    assert ties == sorted(ties, key=ids.__getitem__)


def test_prompt_ids_and_own_ids_give_the_same_in_every_kind_of_file(tmp_path):
    table = pool()
    ids, scores = by_own_id(table), {f"t{i}": float(i * 7 % 6) / 3 for i in range(6)}
    expected = chosen(table, OURS, read(tmp_path / "own.csv", _csv("id", scores), table=table))
    assert expected == sorted(scores, key=lambda one: -scores[one])
    by_prompt = {ids[one]: score for one, score in scores.items()}
    (tmp_path / "s.jsonl").write_text(
        "".join(json.dumps({"prompt_id": k, "score": v}) + "\n" for k, v in by_prompt.items())
    )
    columns = {"prompt_id": list(by_prompt), "score": pa.array(by_prompt.values(), pa.float32())}
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    (tmp_path / "s.csv.gz").write_bytes(gzip.compress(_csv("prompt_id", by_prompt).encode()))
    for name in ("s.jsonl", "s.parquet", "s.csv.gz"):
        order = OURS.model_copy(update={"scores": str(tmp_path / name)})
        assert chosen(table, OURS, read_order(order, table)) == expected


def _csv(column: str, scores: dict[str, float]) -> str:
    return f"{column},score\n" + "".join(f"{key},{value!r}\n" for key, value in scores.items())


def test_whole_numbers_are_scores_too(tmp_path):
    pq.write_table(pa.table({"id": [f"t{i}" for i in range(6)], "score": range(6)}), tmp_path / "s.parquet")
    order = OURS.model_copy(update={"scores": str(tmp_path / "s.parquet")})
    assert chosen(pool(), OURS, read_order(order, pool())) == ["t5", "t4", "t3", "t2", "t1", "t0"]


def test_an_order_is_as_deep_as_its_file(tmp_path):
    table = pool()
    placed = read(tmp_path / "ids.csv", "why,id\na,t4\nb,t0\nc,t5\n", THEIRS, table)
    assert placed.ranked_n == 3
    assert chosen(table, THEIRS, placed) == ["t4", "t0", "t5"]


def test_rows_that_the_pool_left_out_are_counted(tmp_path):
    text = "id\nt4\ngone\nt0\n"
    with pytest.raises(ValueError, match="1 of 3 ids in column 'id' are not in the pool, the first is 'gone'"):
        read(tmp_path / "ids.csv", text, THEIRS)
    for left_out_n in (1, None):
        placed = read(tmp_path / "ids.csv", text, THEIRS, left_out_n=left_out_n)
        assert (placed.ranked_n, placed.left_out_n) == (2, 1)
    with pytest.raises(ValueError, match="2 of 2 ids in column 'id' are not in the pool"):
        read(tmp_path / "ids.csv", "id\nx\ny\n", THEIRS, left_out_n=None)


ALL = "".join(f"t{i},{i}\n" for i in range(6))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,score\n" + ALL[:-5], "has no score of 1 of 6 prompts, the first is "),
        ("id,score\n" + ALL.replace("t3,3", "t3,").replace("t5,5", "t5,"), "has no score of 2 of 6 prompts"),
        ("id,score\n" + ALL.replace(",3", ",nan").replace(",5", ",-inf"), "2 of 6 scores are not finite numbers, the first is 'nan'"),
        ("id,score\n" + ALL.replace(",3", ',"0,5"'), "1 of 6 scores are not finite numbers, the first is '0,5'; expected numbers such"),
        # 64 bits make 0 of one and another whole number of the other: two prompts would tie that do not.
        ("id,score\n" + ALL.replace(",3", ",1e-400"), "1 of 6 scores are not finite numbers, the first is '1e-400'"),
        ("id,score\n" + ALL.replace(",3", ",9007199254740993"), "the first is '9007199254740993'"),
        ("id,score\n" + ALL.replace(",3", ",1_000"), "the first is '1_000'"),
        ("id,score\n" + ALL + "t2,2\n", "gives 1 prompts more than one score, the first is 't2'"),
        ("id,score\n" + ALL + "t9,2\n", "1 of 7 ids in column 'id' are not in the pool, the first is 't9'"),
        ("id,score\n" + ALL.replace("t2,", ","), "1 of 6 rows have no id"),
        ("id,scor\n" + ALL, r"has no column 'score'; its columns are 'id', 'scor'. Did you mean 'scor'\?"),
        ("key,score\n" + ALL, "has no column of ids: looked for 'prompt_id', 'id', 'source_id', its columns are 'key', 'score'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_counts(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        read(tmp_path / "s.csv", text)


def test_columns_by_name(tmp_path):
    order = OURS.model_copy(update={"id": "key", "column": "surprise"})
    placed = read(tmp_path / "s.csv", "key,surprise,score\n" + "".join(f"t{i},{i},x\n" for i in range(6)), order)
    assert chosen(pool(), order, placed)[0] == "t5"
    with pytest.raises(ValueError, match="has no column 'keys'"):
        read(tmp_path / "s.csv", "key,surprise\n", order.model_copy(update={"id": "keys"}))


def test_a_json_number_that_is_none_is_refused(tmp_path):
    text = "".join(json.dumps({"id": f"t{i}", "score": i or float("nan")}) + "\n" for i in range(6))
    with pytest.raises(ValueError, match="1 of 6 scores are not finite numbers, the first is 'NaN'"):
        read(tmp_path / "s.jsonl", text)
    with pytest.raises(ValueError, match="the first is 'true'"):
        read(tmp_path / "s.jsonl", text.replace("NaN", "true"))


def test_the_identity_goes_by_what_is_read_not_by_where_it_lies(tmp_path):
    experiment = load(tmp_path, FILE)
    before = ranking.ranking_settings(experiment, "ours", 6, 6)
    moved = load(tmp_path, FILE.replace("data/mine.csv", "elsewhere.csv"))
    assert ranking.ranking_settings(moved, "ours", 6, 6) == before
    for old, new in (
        ("high_first", "low_first"),
        ("column: score", "column: other"),
        ("order: high", "id: x, order: high"),
    ):
        assert ranking.ranking_settings(load(tmp_path, FILE.replace(old, new)), "ours", 6, 6) != before
    assert not plugins.installed().problems


def test_values_of_prompts_that_no_row_names_come_last(tmp_path):
    placed = read(tmp_path / "ids.csv", "id\nt4\n", THEIRS)
    assert np.sort(placed.values).tolist() == [0, 6, 6, 6, 6, 6]
