"""Pictures in the metadata of assets: their content, and that every table a contract accepts can be drawn in bounded size."""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

import data_contracts
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.assets.adapter import by_seed
from taskdiv_assets.assets.prompt_embeddings import similarities
from taskdiv_assets.assets.ranking import shares_of_first
from taskdiv_assets.assets.raw_pool import drops_and_repairs
from taskdiv_assets.graph import drawings as pictures

PNG = b"\x89PNG\r\n\x1a\n"
LARGEST_BYTES = 60 * 1024  # of one picture: it stands in an event of every materialisation
HOSTILE = (
    "$x^2$", r"\$\frac{", "a$b", "_hidden", "<b>bold</b>", "\u202eשלום עולם", "مرحبا", "😀🚀", "nul\0tab\tline\nend",
    "x" * 200, "任务" * 100, "100%{}|`~", "", " ", "\ufeff", "'; DROP TABLE",
)  # fmt: skip
DRAWN = {one.name: one for one in REGISTRY if one.picture is not None and one.name != "strategy_report"}


class Drawn:
    """The figures drawn so far, in order."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []

    def draw(self, name: str, table: pa.Table, notes: Mapping[str, Any]) -> Figure:
        """Draw one asset's picture, and return its figure. A warning of matplotlib is an error."""
        picture = DRAWN[name].picture
        assert picture is not None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            png = picture(table, notes)
        assert png.startswith(PNG) and len(png) <= LARGEST_BYTES, f"{len(png):,} bytes"
        return self.figures[-1]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    found, real = Drawn(), pictures._png

    def kept(figure: Figure) -> bytes:
        found.figures.append(figure)
        return real(figure)

    monkeypatch.setattr(pictures, "_png", kept)
    return found


def texts(figure: Figure) -> list[str]:
    """Return the names and numbers in a figure."""
    axes = figure.axes[0]
    legend = axes.get_legend()
    parts = [*axes.texts, *(legend.get_texts() if legend else ())]
    return [text.get_text() for text in parts if text.get_text()]


def names(figure: Figure) -> list[str]:
    """Return the texts left of bars, from the top."""
    return [text.get_text() for text in figure.axes[0].texts if text.get_ha() == "right"]


def title(figure: Figure) -> str:
    return figure.get_suptitle()


def bar_lengths(figure: Figure) -> list[float]:
    return [bar.get_width() for bar in figure.axes[0].patches]


def table_of(name: str, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Return a table in a contract's schema. Columns that a picture does not read get a constant of their type."""
    schema, n = data_contracts.load(name).arrow_schema, len(next(iter(columns.values())))
    filler = {pa.string(): "x", pa.int64(): 1, pa.int32(): 1, pa.float64(): 0.5, pa.bool_(): False}
    return pa.table(
        {field.name: pa.array(columns.get(field.name, [filler.get(field.type)] * n), field.type) for field in schema},
        schema=pa.schema([pa.field(field.name, field.type) for field in schema]),
    )


def selection(name: str, tasks: Sequence[str], seeds_n: int = 2) -> pa.Table:
    """Return a selection of these tasks in this order, the same for each seed."""
    n = len(tasks)
    columns = {
        "selection_seed": [seed for seed in range(seeds_n) for _ in range(n)],
        "rank": [*range(n)] * seeds_n,
        "task": [*tasks] * seeds_n,
    }
    return table_of(name, columns)


def comparison(tasks: Sequence[str], values: Sequence[float], sampled: float = 0.0) -> pa.Table:
    """Return three definitions. The second is the experiment's own and has `values`; the others have them reversed."""
    rows = []
    for place, definition in enumerate(("first_probability", "mean_probability", "min_probability")):
        for budget_n in (10, 20):
            for i, task in enumerate(tasks):
                value = values[i] if place == 1 else values[len(values) - 1 - i]
                rows.append(
                    (
                        definition,
                        budget_n,
                        task,
                        place == 1,
                        value,
                        i % 3 if place == 1 else (len(tasks) - 1 - i) % 3,
                        sampled,
                    )
                )
    names = ("definition", "budget_n", "task", "is_chosen", "mean_confidence", "allocated_n", "distance_by_sampling")
    return table_of("confidence_comparison", dict(zip(names, zip(*rows, strict=True), strict=True)))


Case = tuple[str, pa.Table, Mapping[str, Any]]


def cases(tasks: Sequence[str], values: Sequence[float]) -> Iterator[Case]:
    """Yield the table of every asset with a picture over these tasks."""
    n = len(tasks)
    cut = np.arange(n) % 3 == 0
    yield "raw_pool", table_of("raw_pool", {"prompt": [*tasks], "response": [None if c else "r" for c in cut]}), {}
    yield "task_labels", table_of("task_labels", {"task": [*tasks], "how": ["column"] * n}), {}
    yield "held_out_items", table_of("held_out_items", {"task": [*tasks]}), {}
    yield "confidence_table", table_of("confidence_table", {"confidence": values, "truncated": cut.tolist()}), {}
    means = {"task": [*tasks], "mean_confidence": values, "standard_error": [None if c else 0.1 for c in cut]}
    yield "task_confidence", table_of("task_confidence", means), {}
    yield "round_confidence", table_of("round_confidence", means), {}
    accuracy = {"task": [*tasks], "mean_confidence": values, "accuracy": values}
    yield "confidence_accuracy", table_of("confidence_accuracy", accuracy), {}
    yield "confidence_comparison", comparison(tasks, values), {}
    vectors = np.random.default_rng(0).normal(size=(max(n, 2), 8))
    notes = similarities((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    yield "prompt_embeddings", table_of("prompt_embeddings", {"norm": [1.0] * n}), notes
    for name in ("ranking", "allocation", "annotation_batch"):
        yield name, selection(name, [task for task in tasks for _ in range(2)]), {}
    day = datetime(2025, 7, 1, tzinfo=UTC)
    imports = {
        "annotator": [None if c else task for c, task in zip(cut, tasks, strict=True)],
        "batch": [f"{i % 100:064x}" for i in range(n)],
        "imported_at": [day + timedelta(hours=i % 100) for i in range(n)],
    }
    yield "annotations", table_of("annotations", imports), {}
    scored = {"benchmark": ["lab"] * n, "task": [*tasks], "score": values}
    yield "base_scores", table_of("base_scores", scored), {}
    yield "benchmark_scores", table_of("benchmark_scores", scored), {}
    yield "adapter", table_of("adapter", {"training_seed": [*range(n)]}), {"losses": {"0": [*values], "1": [0.5]}}
    yield "base_model", table_of("base_model", {"file": [*tasks]}), {"losses": [*values]}
    tried = {"learning_rate": [10.0 ** -(i % 4) for i in range(n)], "validation_loss": values}
    yield "tuning_choice", table_of("tuning_choice", tried), {}


MANY = [f"task_{i:04}" for i in range(2_000)]
KINDS: dict[str, tuple[Sequence[str], Sequence[float]]] = {
    "one row": (["only"], [0.0]),
    "hostile names": (HOSTILE, np.linspace(0.01, 1, len(HOSTILE)).tolist()),
    "2,000 tasks": (MANY, np.geomspace(1e-300, 1, len(MANY)).tolist()),
    "missing numbers": (["a", "b", "c", "d"], [0.5, float("nan"), 0.5, float("nan")]),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.full) if kind == "2,000 tasks" else kind for kind in KINDS]
)
def test_no_table_stops_or_swamps_a_picture(kind: str, drawn: Drawn) -> None:
    tasks, values = KINDS[kind]
    seen = set()
    for name, table, notes in cases(tasks, values):
        if DRAWN[name].picture in seen:
            continue
        figure = drawn.draw(name, table, notes)
        seen.add(DRAWN[name].picture)
        assert len(texts(figure)) <= 2 * pictures.SHOWN_N + 12, name
        assert all(len(text) <= pictures.NAME_N + 1 and text.isprintable() for text in texts(figure)), name
        assert all(len(line) <= 100 for line in title(figure).splitlines()), name
    assert seen == {one.picture for one in DRAWN.values()}


def test_an_axis_without_one_number_is_no_error(drawn: Drawn) -> None:
    nothing = [float("nan")] * 3
    for name, table, notes in cases(["a", "b", "c"], nothing):
        if name in (
            "confidence_table",
            "task_confidence",
            "round_confidence",
            "confidence_accuracy",
            "confidence_comparison",
            "base_scores",
        ):
            limits = [axes.get_xlim() + axes.get_ylim() for axes in drawn.draw(name, table, notes).axes]
            assert limits and all(math.isfinite(limit) for four in limits for limit in four), name


@pytest.mark.parametrize("name", DRAWN)
def test_an_empty_table_has_a_picture_without_marks_or_none(name: str) -> None:
    notes = {"losses": {} if name == "adapter" else []}
    picture = DRAWN[name].picture
    assert picture is not None
    empty = data_contracts.load(name).arrow_schema.empty_table()
    assert picture(empty, notes)[:8] in (b"", PNG)


def test_names_are_drawn_as_they_are_and_cut(drawn: Drawn) -> None:
    figure = drawn.draw("allocation", selection("allocation", HOSTILE), {})
    shown = names(figure)
    assert {"$x^2$", r"\$\frac{", "a$b", " _hidden", "<b>bold</b>", "(blank)"} <= set(shown)
    assert (
        "x" * (pictures.NAME_N - 1) + "…" in shown and "nul\ufffdtab line end" in shown and "\ufffdשלום עולם" in shown
    )


@pytest.mark.parametrize("name", ["task_labels", "allocation", "annotation_batch"])
def test_of_many_tasks_the_largest_are_shown_and_the_others_counted(name: str, drawn: Drawn) -> None:
    tasks = [task for i, task in enumerate(MANY) for _ in range(1 + (i == 1_999))]
    table = (
        table_of(name, {"task": tasks, "how": ["column"] * 2_001}) if name == "task_labels" else selection(name, tasks)
    )
    figure = drawn.draw(name, table, {})
    shown = names(figure)
    assert len(shown) == pictures.SHOWN_N and shown[0] == "task_1999"
    assert f"\nfirst {pictures.SHOWN_N} of 2,000: 1,940 more" in title(figure)


def test_an_outlier_squashes_no_other_task(drawn: Drawn) -> None:
    tasks = ["huge"] * 3_000 + [task for i in range(10) for task in [f"small {i}"] * (1 + i)]
    figure = drawn.draw("allocation", selection("allocation", tasks), {})
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and "logarithmic" in title(figure)
    marks = axes.lines[0].get_xdata()
    assert sorted(marks) == [*range(1, 11), 3_000]
    left, right = axes.transData.inverted().transform(axes.transAxes.transform([[0, 0], [1, 0]]))[:, 0]
    places = (np.log(sorted(marks)) - np.log(left)) / (np.log(right) - np.log(left))
    assert places[0] > 0.05 and places[9] - places[0] > 0.2 and places[-1] < 0.95
    even = drawn.draw("allocation", selection("allocation", ["a"] * 3 + ["b"] * 2), {})
    assert even.axes[0].get_xscale() == "linear" and bar_lengths(even) == [3, 2]


def test_the_pool_s_lengths_and_answers(drawn: Drawn) -> None:
    prompts, answers = ["ab", "é" * 5, "abc", "abc"], ["x", None, "", "y"]
    figure = drawn.draw("raw_pool", table_of("raw_pool", {"prompt": prompts, "response": answers}), {})
    assert title(figure) == "4 prompts, 75% with an answer; median 3 characters, longest 5"
    heights = {(round(bar.get_x() + 0.5), bar.get_height()) for bar in figure.axes[0].patches if bar.get_height()}
    assert heights == {(2, 1), (3, 2), (5, 1)}
    assert texts(figure)[-2:] == ["without", "with an answer"]
    assert "characters" in figure.axes[0].get_xlabel()


def test_every_scored_prompt_is_in_a_bar_and_cut_ones_are_told_apart(drawn: Drawn) -> None:
    values = [*np.linspace(0.01, 1.0, 90), *[0.5] * 10]
    table = table_of("confidence_table", {"confidence": values, "truncated": [False] * 90 + [True] * 10})
    figure = drawn.draw("confidence_table", table, {})
    colours = Counter()
    for bar in figure.axes[0].patches:
        colours[bar.get_facecolor()] += round(bar.get_height())
    assert sorted(colours.values()) == [10, 90] and figure.axes[0].get_xlim() == (0, 1)
    assert title(figure).startswith("100 prompts scored, 10% cut at the limit of tokens; median confidence 0.5")


def test_moved_labels_and_ranks_of_the_other_definitions(drawn: Drawn) -> None:
    """The first variant turns the tasks round, so ranks are opposite; of three labels, counts 0 1 2 0 become 0 2 1 0."""
    table = comparison(["a", "b", "c", "d"], [0.1, 0.2, 0.3, 0.4], sampled=0.05)
    figure = drawn.draw("confidence_comparison", table, {})
    shown = names(figure)
    assert shown == ["ρ -1.00: first_probability", "ρ -1.00: min_probability"]
    assert bar_lengths(figure) == pytest.approx([1 / 3] * 2)
    assert "20 labels" in title(figure) and "mean_probability" in title(figure)
    assert "by scoring a sample alone" in texts(figure) and figure.axes[0].lines[-1].get_xdata()[0] == 0.05


def test_shares_of_the_first_k_are_those_of_a_count() -> None:
    random = np.random.default_rng(1)
    tasks = [f"t{i}" for i in np.minimum(random.geometric(0.2, 5_000), 30)]
    ks, names, shares = shares_of_first(pa.chunked_array([tasks[:700], tasks[700:]]), 5)
    assert ks[0] == 10 and ks[-1] == 5_000 and len(names) == 5
    for k, column in zip(ks.tolist(), shares.T, strict=True):
        counts = Counter(tasks[:k])
        assert column[:-1] == pytest.approx([counts[name] / k for name in names])
    assert shares.sum(axis=0) == pytest.approx(1) and (shares > -1e-12).all()


def test_an_order_s_picture_names_what_comes_first_too(drawn: Drawn) -> None:
    tasks = ["rare"] * 200 + [f"common {i % 20}" for i in range(9_800)]
    figure = drawn.draw("ranking", selection("ranking", tasks), {})
    assert "rare" in texts(figure) and "14 other tasks" in texts(figure)
    assert figure.axes[0].get_xlabel().startswith("k, the budget") and "9,800" not in title(figure)


def test_imports_come_newest_first_with_who_answered(drawn: Drawn) -> None:
    day = datetime(2025, 7, 1, 8, tzinfo=UTC)
    columns = {
        "batch": ["aaaaaaaaaa"] * 3 + ["bbbbbbbbbb"],
        "annotator": ["ann", "ann", None, "bob"],
        "imported_at": [day] * 3 + [day + timedelta(days=1)],
    }
    figure = drawn.draw("annotations", table_of("annotations", columns), {})
    shown = names(figure)
    assert shown == ["2025-07-02 08:00 bbbbbbbb", "2025-07-01 08:00 aaaaaaaa"]
    assert sum(bar_lengths(figure)) == 4 and {"ann", "bob", "no name given"} <= set(texts(figure))


def test_similarities_of_copies_and_opposites() -> None:
    found = similarities(np.array([[1, 0], [1, 0], [-1, 0], [0, 1]], np.float32))
    assert found["compared_n"] == 4 and found["near_copies_share"] == 0.5
    assert found["mean_similarity"] == pytest.approx((1 - 1 - 1 + 0 + 0 + 0) / 6, abs=1e-3)
    assert sum(found["similarities"]["pairs"]) == 6 and sum(found["similarities"]["nearest"]) == 4
    assert similarities(np.ones((1, 3), np.float32)) == {}


def test_embeddings_that_were_made_before_have_no_picture() -> None:
    stage = DRAWN["prompt_embeddings"]
    assert stage.picture is not None
    assert stage.picture(table_of("prompt_embeddings", {"norm": [1.0]}), {"dimensions_n": 3}) == b""


def test_drops_are_told_with_reasons_and_nothing_of_them_is_markup() -> None:
    notes = {"rows_read_n": 10, "drops": {"duplicate_prompt": 3, "<b>|x": 1}, "repairs": {"blank_response": 1_200}}
    said = drops_and_repairs(notes)
    assert len(said.splitlines()) == 5 and "<b>" not in said and "1,200" in said
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in said.splitlines())
    assert "10 rows" in drops_and_repairs({"rows_read_n": 10, "drops": {}, "repairs": {}})


def test_seeds_of_a_cell_with_cut_examples_and_other_versions() -> None:
    notes = {
        "losses": {"0": [2.0, 0.25], "1": []},
        "cut_examples_n": {"0": 3, "1": 0},
        "other_versions": {"1": "torch 1.0"},
    }
    lines = by_seed(notes).splitlines()
    assert lines[2] == "| 0 | 0.250 | 3 |  |" and lines[3] == "| 1 |  | 0 | torch 1.0 |"
