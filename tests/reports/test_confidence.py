"""The page's statements on confidence, compared with computations from the stored tables."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lxml import etree
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats

import reports
from data_contracts.shared_statistics import rank_correlation
from reports import results, words
from reports.confidence import confidence_figures as figures
from reports.confidence import confidence_numbers as numbers
from reports.confidence import confidence_parts as parts
from reports.confidence import confidence_sentences as sentences
from reports.confidence.point_labels import Label, label_marks
from reports.experiment_view import LAB_TRAPS
from reports.reader import TaskAccuracy, TaskConfidence
from tests.reports.make_results import TASKS, Recipe, make_results

LAB = {"items_per_task": 4, "budgets": (128, 512), "strategies": ("random", "weighted_task_diversity"), "seeds": (0,)}
HOSTILE = "<script>alert(1)</script>\"'&\u202e"
RECIPES = {
    "lab": Recipe(**LAB),
    "sampled": Recipe(**LAB, sample_n=40),
    "two_tasks": Recipe(tasks=("copy", "flip"), items_per_task=4, budgets=(16,)),
    "hostile": Recipe(tasks=("copy", "omen", "flip"), items_per_task=4, budgets=(16,), hostile=HOSTILE, reader="table"),
    "no_answers": Recipe(**LAB, reader="table", validation_items=0),
    "no_effects": Recipe(**LAB, has_effects=False),
    "large_budgets": Recipe(tasks=("copy", "flip"), items_per_task=4, budgets=(100_000,), full_pool_seeds=()),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    folders = {name: make_results(tmp_path_factory.mktemp(name), recipe) for name, recipe in RECIPES.items()}
    return {name: (folder, reports.render(str(folder)).html) for name, folder in folders.items()}


def rows_of(html: str, table: str) -> dict[str, list[str]]:
    """Return the rows of one of the page's tables by their first cells."""
    root = etree.fromstring(html.removeprefix("<!DOCTYPE html>").encode())
    found = root.xpath(f"//table[caption/@id='{table}-caption']/tbody/tr")
    texts = [["".join(cell.itertext()) for cell in row] for row in found]
    return {" ".join(cells[:2]) if table == "effects" else cells[0]: cells for cells in texts}


def text_of(html: str, section: str) -> str:
    root = etree.fromstring(html.removeprefix("<!DOCTYPE html>").encode())
    return " ".join(" ".join(root.xpath(f"//section[@id='{section}']")[0].itertext()).split())


def stored(folder: Path, asset: str) -> pd.DataFrame:
    return pq.read_table(folder / "tables" / f"{asset}.parquet").to_pandas()


# --- numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_equals_scipys_with_ties(seed: int) -> None:
    first, second = np.random.default_rng(seed).integers(0, 6, size=(2, 12)).astype(float)
    assert rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


@pytest.mark.parametrize(
    ("first", "second"), [([], []), ([1, 2], [1, 2]), ([3, 3, 3], [1, 2, 3]), ([1, 2, 3], [0, 0, 0])]
)
def test_a_correlation_that_cannot_be_estimated_is_not_0(first: list[float], second: list[float]) -> None:
    assert rank_correlation(first, second) is None
    assert words.correlation(None) == "cannot be estimated"


def test_a_task_without_a_mean_is_left_out_of_the_correlation() -> None:
    assert rank_correlation([1, 2, 3, float("nan")], [1, 3, 2, 9]) == pytest.approx(0.5)


def test_the_interval_of_a_sampled_mean_is_students() -> None:
    low, high = stats.t.interval(0.95, df=39 + 4, loc=0.5, scale=0.02)
    reach = numbers.half_width(TaskConfidence("a", 300, 40, 0.5, 0.02))
    assert reach is not None and (0.5 - reach, 0.5 + reach) == pytest.approx((low, high))
    assert numbers.half_width(TaskConfidence("a", 40, 40, 0.5, 0.0)) is None
    assert numbers.half_width(TaskConfidence("a", 300, 1, 0.5, None)) is None


def test_confident_and_wrong_is_more_than_a_quarter_above_the_interval() -> None:
    def task(name: str, confidence: float, high: float) -> TaskAccuracy:
        return TaskAccuracy(name, 20, confidence, high / 2, 0.0, high, 0.1)

    found = numbers.confident_and_wrong([task("a", 0.75, 0.5), task("b", 0.76, 0.5), task("c", 0.9, 0.2)])
    assert [row.task for row in found] == ["c", "b"]


# --- the page ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lab", "sampled"])
def test_the_comparison_says_what_the_stored_allocations_say(pages: dict[str, tuple[Path, str]], name: str) -> None:
    folder, html = pages[name]
    frame, shown = stored(folder, "confidence_comparison"), rows_of(html, "effects")
    own = frame[frame.is_chosen]
    assert next(iter(shown)) == "chosen mean_probability (chosen)" and len(shown) == 7
    for (source, definition), part in frame.groupby(["source", "definition"]):
        if part.is_chosen.all():
            continue
        cells = shown[f"{source} {definition}"]
        both = part.merge(own, on=["budget_n", "task"])
        last = both[both.budget_n == 512]
        rho = stats.spearmanr(last.mean_confidence_x, last.mean_confidence_y).statistic
        assert float(cells[2].replace("−", "-")) == pytest.approx(rho, abs=0.0051)
        for cell, budget in zip(cells[3:5], (128, 512), strict=True):
            at = both[both.budget_n == budget]
            moved = sum(abs(a - b) for a, b in zip(at.allocated_n_x, at.allocated_n_y, strict=True)) / 2 / budget
            assert cell == f"{100 * moved:.1f}%"
    assert (
        shown["prompt mean_probability"][5] == "1.5 s (12%)"
        and "prompt’s tokens" in shown["prompt mean_probability"][6]
    )
    assert "by some/small-model" in shown["small mean_probability"][6]
    assert shown["chosen geometric_mean"][5:] == [
        "the same pass",
        "geometric mean of the chosen tokens’ probabilities: 1 / perplexity",
    ]


def test_the_picture_of_moved_labels_holds_the_differences(pages: dict[str, tuple[Path, str]]) -> None:
    folder, html = pages["lab"]
    frame = stored(folder, "confidence_comparison").query("budget_n == 512")
    own = frame[frame.is_chosen].set_index("task").allocated_n
    small = frame[frame.source == "small"].set_index("task").allocated_n
    found = numbers.comparison(results.load(str(folder)).compared)
    assert found is not None
    assert numbers.moved_labels(found)[-1].tolist() == [small[task] - own[task] for task in found.tasks]
    assert rows_of(html, "moved")["copy"][1] == str(own["copy"]) and rows_of(html, "moved")["copy"][-1] == str(
        small["copy"]
    )


def test_confidence_against_being_right_says_what_the_table_says(pages: dict[str, tuple[Path, str]]) -> None:
    folder, html = pages["lab"]
    frame, text = stored(folder, "confidence_accuracy"), text_of(html, "confidence")
    rho = stats.spearmanr(frame.mean_confidence, frame.accuracy).statistic
    assert (
        f"Over 24 tasks the rank correlation (Spearman) between mean confidence and the share right is {rho:.2f}"
        in text
    )
    assert "The 480 items are the lab’s validation items, never a benchmark’s" in text and "and ends there" in text
    wrong = frame[frame.mean_confidence - frame.accuracy_high > 0.25].task.tolist()
    assert wrong == ["flip"] and "flip (0.93, right 0.00); weighting by confidence gives it few labels" in text
    picture = html[html.index('aria-labelledby="accuracy-figure-title') :]
    picture = picture[: picture.index("</svg>")]
    assert ">flip (trap)<" in picture and ">omen (trap)<" in picture and ">copy<" not in picture
    assert len(re.findall(r"<use[^>]*accuracy-figure", picture)) >= 24
    cells = rows_of(html, "accuracy")["flip"]
    row = frame.set_index("task").loc["flip"]
    assert cells == [
        "flip",
        "20",
        "0.930",
        "0.000",
        f"0.000 to {row.accuracy_high:.3f}",
        f"{row.answer_probability:.3f}",
    ]


def test_outside_the_lab_the_answer_need_not_end(pages: dict[str, tuple[Path, str]]) -> None:
    text = text_of(pages["hostile"][1], "confidence")
    assert "prompts of the pool whose answers are known, never a benchmark’s" in text and "ends there" not in text
    assert "an answer in other words counts as wrong" in text


def test_with_everything_scored_there_is_no_interval(pages: dict[str, tuple[Path, str]]) -> None:
    html = pages["lab"][1]
    assert {cells[5] for cells in rows_of(html, "confidence").values()} == {"all prompts scored"}
    assert "All 4,437 prompts scored" in text_of(html, "confidence")
    assert "Uncertainty from scoring a sample" not in html and not rows_of(html, "sampling")


def test_a_sample_says_how_much_was_scored_and_what_it_leaves_open(pages: dict[str, tuple[Path, str]]) -> None:
    folder, html = pages["sampled"]
    frame = stored(folder, "task_confidence").set_index("task")
    scored_n, pool_n = frame.scored_n.sum(), frame.pool_n.sum()
    assert f"Scored {scored_n:,} of {pool_n:,} prompts, a sample of each task" in text_of(html, "confidence")
    for task, cells in rows_of(html, "confidence").items():
        one = frame.loc[task]
        if one.scored_n == one.pool_n:
            assert cells[4:6] == ["0", "all prompts scored"]
            continue
        low, high = stats.t.interval(0.95, df=one.scored_n + 3, loc=one.mean_confidence, scale=one.standard_error)
        assert cells[5] == f"{max(0, low):.3f} to {min(1, high):.3f}"
    own = stored(folder, "confidence_comparison").query("is_chosen")
    shares = own.groupby("budget_n").distance_by_sampling.first()
    assert (
        f"Scoring {scored_n:,} of {pool_n:,} prompts: {shares[128]:.1%} of 128 labels and {shares[512]:.1%} of 512 labels "
        "are expected to go to other tasks than if all were scored."
    ) in text_of(html, "effects")
    at = own.query("budget_n == 512").set_index("task").loc["copy"]
    shown = rows_of(html, "sampling")["copy"]
    assert shown[1] == f"{frame.scored_n['copy']} of {frame.pool_n['copy']}"
    assert shown[-1] == f"{at.allocated_n} ({at.allocated_low_n:.0f} to {at.allocated_high_n:.0f})"


def test_with_too_few_tasks_nothing_is_estimated(pages: dict[str, tuple[Path, str]]) -> None:
    html = pages["two_tasks"][1]
    assert {cells[2] for cells in rows_of(html, "effects").values()} == {"–", "cannot be estimated"}
    assert "cannot be estimated over 2 tasks: fewer than 3 tasks" in text_of(html, "confidence")


def test_equal_values_are_named_as_the_reason(pages: dict[str, tuple[Path, str]]) -> None:
    found = results.load(str(pages["lab"][0]))
    equal = tuple(row._replace(accuracy=0.5) for row in found.accuracy)
    text = sentences.correlation_with_right(found._replace(accuracy=equal))
    assert "cannot be estimated over 24 tasks: all tasks have the same value" in text


def test_names_of_tasks_are_escaped_and_nothing_else_of_them_is_left(pages: dict[str, tuple[Path, str]]) -> None:
    html = pages["hostile"][1]
    assert html.count("<script") == 1 and "\u202e" not in html
    for table in ("accuracy", "moved", "confidence"):
        assert any(name.startswith("flip<script>alert(1)</script>") for name in rows_of(html, table))


def test_missing_and_empty_tables_are_said(pages: dict[str, tuple[Path, str]]) -> None:
    missing, empty = pages["no_effects"][1], pages["no_answers"][1]
    assert "Not stored: confidence_comparison and confidence_accuracy." in missing
    assert "Confidence against accuracy is not stored yet." in missing and "is stored yet" in text_of(
        missing, "effects"
    )
    assert "asks for no validation_items" in text_of(empty, "confidence")
    for html in (missing, empty):
        assert "accuracy-figure" not in html and not rows_of(html, "accuracy")
    above = parts.effects_section(results.load(str(pages["large_budgets"][0])))
    assert "no budget of the experiment fits into the pool" in above.note and above.comparison is None


def test_without_known_answers_the_reason_is_another(pages: dict[str, tuple[Path, str]]) -> None:
    found = results.load(str(pages["no_answers"][0]))
    settings = {**found.experiment.confidence, "validation_items": 20}
    changed = found._replace(experiment=found.experiment.model_copy(update={"confidence": settings}))
    assert "the answers to validation items are not known" in sentences.no_accuracy(changed)


def test_a_table_of_another_shape_is_named_and_left_out(tmp_path: Path) -> None:
    folder = make_results(tmp_path, RECIPES["two_tasks"])
    pq.write_table(pa.table({"task": ["copy"]}), folder / "tables" / "confidence_accuracy.parquet")
    (folder / "tables" / "confidence_comparison.parquet").write_bytes(b"not parquet")
    html = reports.render(str(folder)).html
    assert (
        "confidence_accuracy cannot be used" in html and "tables/confidence_comparison.parquet cannot be read" in html
    )


def test_a_source_that_the_file_does_not_name_is_said(pages: dict[str, tuple[Path, str]]) -> None:
    found = numbers.comparison(results.load(str(pages["lab"][0])).compared)
    assert found is not None
    assert (
        sentences.meaning(found.effects[-1], {"alternatives": None})
        == "a source that the experiment file does not name"
    )
    assert sentences.meaning(found.effects[0], {"of": "prompt"}) == "mean over the prompt’s tokens of their probability"


def test_another_chosen_source_is_said_beside_being_right(pages: dict[str, tuple[Path, str]]) -> None:
    found = results.load(str(pages["lab"][0]))
    changed = found._replace(experiment=found.experiment.model_copy(update={"confidence": {"of": "prompt"}}))
    assert "not of what the base generates" in sentences.correlation_with_right(changed)
    assert "not of what the base generates" not in sentences.correlation_with_right(found)


def test_tables_stand_in_the_order_that_data_flows(pages: dict[str, tuple[Path, str]]) -> None:
    stages = list(rows_of(pages["lab"][1], "stages"))
    at = stages.index("task_confidence")
    assert stages[at : at + 4] == ["task_confidence", "confidence_comparison", "confidence_accuracy", "base_scores"]


@pytest.mark.full
def test_the_papers_number_of_tasks_stays_below_a_megabyte(tmp_path: Path) -> None:
    tasks = tuple(f"flan_task_number_{i}" for i in range(1691))
    names = ("random", "weighted_task_diversity")
    recipe = Recipe(tasks=tasks, items_per_task=2, budgets=(2000,), seeds=(0,), full_pool_seeds=(), strategies=names)
    html = reports.render(str(make_results(tmp_path, recipe))).html
    assert len(html.encode()) < 1_000_000
    assert "the first and last 100 of 1,691 rows" in html and "… 1,491 more" in rows_of(html, "confidence")


# --- names in a scatter ------------------------------------------------------------------------------------------


def test_names_in_a_scatter_stay_apart_and_inside() -> None:
    figure = Figure(figsize=(8, 4))
    axes = figure.add_axes((0.1, 0.1, 0.85, 0.85))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    places = np.array([[0.9 + 0.01 * i, 0.02] for i in range(8)])
    label_marks(axes, [Label(f"name {i}", x, y, "#000000") for i, (x, y) in enumerate(places)], places, places[:0])
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    frame = axes.get_window_extent()
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 - 2 <= box.y0 and box.y1 <= frame.y1


def test_many_tasks_keep_their_marks_and_lose_only_intervals() -> None:
    rows = [TaskAccuracy(name, 20, 0.5, 0.5, 0.3, 0.7, 0.5) for name in map(str, range(figures.INTERVALS_MAX_N + 1))]
    marks = figures.against_being_right(rows, {}).axes[0].lines
    assert max(len(line.get_xdata()) for line in marks) == len(rows)
    few = figures.against_being_right(rows[:-1], {}).axes[0].lines
    assert max(len(line.get_xdata()) for line in few) == 3 * (len(rows) - 1)
    assert set(TASKS) >= set(LAB_TRAPS)
