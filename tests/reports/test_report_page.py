"""The page over simulated results: complete, with missing parts, and with hostile text."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from lxml import etree

import data_contracts
import reports
from reports import analysis, looks, numbers, page, results, svg, words
from tests.reports.make_results import GAINS, Recipe, make_results

SMALL = {"tasks": ("copy", "flip", "omen", "round"), "items_per_task": 12, "budgets": (32, 64)}
ORDER = [
    "answer",
    "since",
    "savings",
    "curves",
    "cost",
    "differences",
    "robustness",
    "tasks",
    "allocation",
    "confidence",
    "overlap",
    "examples",
    "contracts",
    "provenance",
    "reproduce",
    "methods",
    "effects",
]
FIRST_FORM = [  # before any strategy is scored: only what there is
    "answer",
    "status",
    "since",
    "allocation",
    "confidence",
    "overlap",
    "examples",
    "contracts",
    "provenance",
    "reproduce",
    "methods",
    "effects",
]
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}\"'&\u202e\x00\U0001f600 $x_1$ " + "y" * 3000
VARIANTS = {
    "whole": Recipe(**SMALL),
    "one_seed": Recipe(**SMALL, seeds=(0,), full_pool_seeds=()),
    "two_seeds": Recipe(**SMALL, seeds=(3, 5)),
    "missing_cells": Recipe(**SMALL, missing=frozenset({("random", 64), ("task_diversity", 32)}), stale=True),
    "rejected": Recipe(
        **SMALL,
        missing=frozenset({("random", 64)}),
        rejected=(("adapter", "64|random"), ("ranking", "min_margin")),
    ),
    "no_scores": Recipe(**SMALL, has_scores=False),
    "only_base": Recipe(**SMALL, missing=frozenset((s, b) for s in GAINS for b in (32, 64)), full_pool_seeds=()),
    "no_base": Recipe(**SMALL, has_base=False),
    "no_allocations": Recipe(**SMALL, has_allocations=False),
    "one_strategy": Recipe(**SMALL, strategies=("min_margin",)),
    "one_item": Recipe(tasks=("copy",), items_per_task=1, budgets=(8, 16), has_primary=False),
    "sampled": Recipe(**SMALL, sample_n=30),
    "one_scored": Recipe(**SMALL, sample_n=1),
    "no_answers": Recipe(**SMALL, reader="table", validation_items=0),
    "no_effects": Recipe(**SMALL, has_effects=False),
    "two_benchmarks": Recipe(**SMALL, benchmarks=("lab", "bbh")),
    "hostile": Recipe(
        tasks=("copy", "omen"),
        items_per_task=5,
        budgets=(16,),
        hostile=HOSTILE,
        reader="table",
        rejected=(("allocation", "16|random"),),
    ),
}

# Of these, tests/reports/test_limits.py makes smaller pages in the fast tests, or another test needs what differs.
SELDOM = {"two_seeds", "no_base", "no_allocations", "one_strategy", "sampled", "one_scored", "no_answers", "no_effects"}


def parsed(html: str) -> etree._Element:
    """Parse the page strictly as XML: a stray `<` or an unclosed element fails here."""
    assert html.startswith("<!DOCTYPE html>")
    return etree.fromstring(
        html.removeprefix("<!DOCTYPE html>").encode(), etree.XMLParser(recover=False, resolve_entities=False)
    )


class Pages(dict[str, tuple[Path, str]]):
    """The folder and the page of each variant. A page is made when it is first needed."""

    def __init__(self, new_folder: Callable[[str], Path]) -> None:
        super().__init__()
        self.new_folder = new_folder

    def __missing__(self, name: str) -> tuple[Path, str]:
        folder = make_results(self.new_folder(name), VARIANTS[name])
        self[name] = folder, Path(reports.build(str(folder))).read_text(encoding="utf-8")
        return self[name]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    return Pages(tmp_path_factory.mktemp)


def is_own_file(element: Any) -> bool:
    """Whether this is a link to a file inside the page, which the browser saves and does not open."""
    return element.get("download") is not None and element.get("href", "").startswith("data:")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] if name in SELDOM else []) for name in VARIANTS]
)
class TestEveryPage:
    def test_sections_come_in_order_each_with_a_heading(self, pages: dict[str, tuple[Path, str]], name: str) -> None:
        root = parsed(pages[name][1])
        expected = FIRST_FORM if name in ("no_scores", "only_base") else ORDER
        assert [section.get("id") for section in root.iter("section")] == expected
        for section in root.iter("section"):
            assert section.find("h2").get("id") == section.get("aria-labelledby")

    def test_nothing_is_fetched_and_nothing_runs(self, pages: dict[str, tuple[Path, str]], name: str) -> None:
        root = parsed(pages[name][1])
        assert not list(root.iter("link", "img", "iframe", "object")) and len(list(root.iter("script"))) == 1
        for element in root.iter(etree.Element):
            for attribute, value in element.attrib.items():
                plain = etree.QName(attribute).localname
                assert plain not in ("src", "srcset", "action") and not plain.startswith("on")
                assert plain != "href" or value.startswith("#") or is_own_file(element)
        assert "@import" not in pages[name][1] and not re.search(r"url\((?!#)", pages[name][1])

    def test_ids_are_unique_and_references_lead_somewhere(self, pages: dict[str, tuple[Path, str]], name: str) -> None:
        root = parsed(pages[name][1])
        ids = [element.get("id") for element in root.iter(etree.Element) if element.get("id")]
        assert len(ids) == len(set(ids))
        named = {
            part for element in root.iter(etree.Element) for part in (element.get("aria-labelledby") or "").split()
        }
        linked = {
            value[1:]
            for element in root.iter(etree.Element)
            for key, value in element.attrib.items()
            if key.endswith("href") and not is_own_file(element)
        }
        drawn = set(re.findall(r"url\(#([^)]+)\)", pages[name][1]))
        assert named | linked | drawn <= set(ids)

    def test_it_is_small_and_every_table_has_a_caption_and_every_picture_a_description(
        self, pages: dict[str, tuple[Path, str]], name: str
    ) -> None:
        assert len(pages[name][1].encode()) <= 1_000_000
        root = parsed(pages[name][1])
        assert all("".join(table.find("caption").itertext()).strip() for table in root.iter("table"))
        pictures = list(root.iter("{http://www.w3.org/2000/svg}svg"))
        for picture in pictures:
            assert picture.get("role") == "img" and [etree.QName(child).localname for child in picture[:2]] == [
                "title",
                "desc",
            ]

    def test_no_sentence_claims_more_than_it_may(self, pages: dict[str, tuple[Path, str]], name: str) -> None:
        text = " ".join(parsed(pages[name][1]).itertext())
        assert "significant" not in text and "nan" not in re.findall(r"[a-z]+", text) and "None" not in text


@pytest.mark.parametrize("name", ["whole", "missing_cells", "hostile"])
def test_the_same_results_give_the_same_bytes(pages: dict[str, tuple[Path, str]], name: str) -> None:
    assert reports.render(str(pages[name][0])).html == pages[name][1]


def test_hostile_text_is_shown_escaped_and_cut(pages: dict[str, tuple[Path, str]]) -> None:
    html = pages["hostile"][1]
    assert "&lt;script&gt;" in html and "<img" not in html and "onerror=alert(2)>" not in html
    assert "{{7*7}}" in html or "{{7" in html  # shown, not computed
    assert "\x00" not in html and "\u202e" not in html and "y" * 500 not in html


def test_the_answer_says_what_the_statistics_say(pages: dict[str, tuple[Path, str]]) -> None:
    folder, html = pages["whole"]
    section = analysis.sections(results.load(str(folder)))[0]
    assert section.primary is not None
    gap = section.primary.difference
    first = parsed(html).find(".//li[h3]")
    text = " ".join(first.itertext())
    assert f"{abs(gap.estimate):.3f} {'above' if gap.estimate >= 0 else 'below'} random" in text
    assert words.interval(gap) in text and "3 seeds, 48 items of 4 tasks" in text
    assert first.findtext("span") == gap.verdict
    for name, one in section.savings.items():
        rows = parsed(html).find(".//section[@id='savings']").iter("tr")
        row = next(row for row in rows if "".join(row[0].itertext()) == name)
        assert words.labels_needed(one) in " ".join(row.itertext()) and words.savings_set(one) in " ".join(
            row.itertext()
        )


def test_the_primary_stands_alone_and_the_others_are_corrected_together(
    pages: dict[str, tuple[Path, str]],
) -> None:
    section = analysis.sections(results.load(str(pages["whole"][0])))[0]
    pairs = [(one.strategy, one.reference) for one in section.areas]
    assert (
        ("weighted_task_diversity", "random") not in pairs
        and ("weighted_task_diversity", "task_diversity") in pairs
        and len(pairs) == 4
    )
    raw = np.array([one.difference.p_value for one in section.areas])
    assert all(one.p_adjusted is not None and one.p_adjusted >= p for one, p in zip(section.areas, raw, strict=True))
    cautious = np.array([one.difference.p_value_cautious for one in section.areas])
    assert (cautious >= raw).all()
    assert min(one.p_adjusted or 0 for one in section.areas) == pytest.approx(min(1.0, cautious.min() * 4))


def test_one_seed_gets_no_verdict(pages: dict[str, tuple[Path, str]]) -> None:
    html = pages["one_seed"][1]
    claims = [claim.findtext("span") for claim in parsed(html).iter("li") if claim.find("h3") is not None]
    assert (
        not {"better", "worse"} & set(claims)
        and "1 seed only" in html
        and "the experiment names no full_pool_seeds" in html
    )


def test_the_page_says_what_is_missing_and_how_to_make_it(pages: dict[str, tuple[Path, str]]) -> None:
    assert "taskdiv run demo --budget 64 --strategy random" in pages["missing_cells"][1]
    assert "task_confidence was made from an older confidence_table" in pages["missing_cells"][1]
    assert "No benchmark scores are stored" in pages["no_scores"][1] and "base_scores" in pages["no_scores"][1]
    rejected = pages["rejected"][1]
    assert rejected.index("sums_to_budget") < rejected.index("Every rule and its last result")
    assert "adapter broke sums_to_budget" in rejected and "2 rejected tables" in rejected


def test_badges_name_the_designed_setting_only_for_the_lab(pages: dict[str, tuple[Path, str]]) -> None:
    assert "designed setting" in pages["whole"][1] and "designed setting" not in pages["hostile"][1]


def test_every_number_of_the_page_is_in_the_table_with_its_interval(pages: dict[str, tuple[Path, str]]) -> None:
    folder, page = pages["whole"]
    table = pq.read_table(folder / "report" / "results.parquet")
    assert table.schema.remove_metadata().equals(numbers.SCHEMA)
    rows = table.to_pylist()
    assert rows == sorted(
        rows,
        key=lambda row: (
            *(row[name] for name in ("quantity", "benchmark", "metric", "strategy", "reference", "budget_n")),
            -1 if row["training_seed"] is None else row["training_seed"],
            row["task"],
        ),
    )
    stored = pq.read_table(folder / "tables" / "benchmark_scores" / "random" / "32.parquet").to_pylist()
    own = [row["score"] for row in stored if row["training_seed"] == 1]
    place = ("score", "random", 32, 1, "")
    names = ("quantity", "strategy", "budget_n", "training_seed", "task")
    macro = next(row for row in rows if tuple(row[name] for name in names) == place)
    assert macro["estimate"] == pytest.approx(np.mean(own)) and macro["items_n"] == 48  # equal tasks: plain mean
    assert len((folder / "report" / "results.csv").read_text().splitlines()) == len(rows) + 1
    found = analysis.sections(results.load(str(folder)))
    for section in found:
        where = (section.scores.benchmark, section.scores.metric)
        own_rows = [row for row in rows if (row["benchmark"], row["metric"]) == where]
        by_kind = {
            kind: [row for row in own_rows if row["quantity"] == kind]
            for kind in ("mean", "difference", "area", "pair")
        }
        assert len(by_kind["mean"]) == sum(map(len, section.curves.values())) + 2  # base and full pool
        assert len(by_kind["difference"]) == len(section.by_budget) + len(section.against_full_pool)
        assert len(by_kind["pair"]) == sum(len(leader.pairs) for leader in section.leaders.values())
        assert len(by_kind["area"]) == len(section.areas) + (section.primary is not None)
        for one in section.by_budget:
            (row,) = [
                row
                for row in by_kind["difference"]
                if (row["strategy"], row["reference"], row["budget_n"]) == (one.strategy, one.reference, one.budgets[0])
            ]
            assert (row["estimate"], row["low"], row["high"]) == one.difference[:3]
            assert (row["p_adjusted"], row["verdict"]) == (one.p_adjusted, one.verdict)
            assert words.signed(row["estimate"]) in page
        labels = {
            row["strategy"]: row
            for row in own_rows
            if (row["quantity"], row["reference"]) == ("labels_to_match", "random")
        }
        assert {name: row["estimate"] for name, row in labels.items()} == {
            name: one.labels_n for name, one in section.savings.items()
        }
    assert data_contracts.validate(data_contracts.load("strategy_report"), table.replace_schema_metadata(None)).is_valid


def test_a_footer_travels_in_the_table_and_nothing_is_left_beside(
    pages: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    reports.build(str(pages["whole"][0]), str(tmp_path / "out"), footer={"identity": "0" * 32})
    assert (
        pq.read_schema(tmp_path / "out" / "results.parquet").metadata[b"taskdiv"]
        == b'{"identity": "00000000000000000000000000000000"}'
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "index.html",
        "results.csv",
        "results.parquet",
    ]


def test_it_reads_and_writes_other_file_systems(pages: dict[str, tuple[Path, str]]) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(pages["whole"][0]), "/somewhere/demo", recursive=True)
    assert reports.build("memory://somewhere/demo") == "memory://somewhere/demo/report/index.html"
    assert memory.cat_file("/somewhere/demo/report/index.html").decode() == pages["whole"][1]
    memory.rm("/somewhere", recursive=True)


def test_a_folder_without_an_experiment_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no experiment\.yaml"):
        reports.build(str(tmp_path))
    (tmp_path / "experiment.yaml").write_text("budgets: many")
    with pytest.raises(ValueError, match="not an experiment file"):
        reports.build(str(tmp_path))
    assert not (tmp_path / "report").exists()


def test_broken_files_are_left_out_and_named(tmp_path: Path) -> None:
    folder = make_results(tmp_path, VARIANTS["whole"])
    (folder / "tables" / "benchmark_scores" / "random" / "32.parquet").write_bytes(b"not parquet")
    (folder / "tables" / "adapter" / "random" / "32.rejected.json").write_text("{")
    (folder / "budgets" / "060").write_text("")
    found = results.load(str(folder))
    assert len(found.problems) == 3 and found.budgets == (32, 64)
    cell = next(cell for cell in found.cells if (cell.strategy, cell.budget_n) == ("random", 32))
    assert (cell.status, cell.reason) == ("missing", "no benchmark_scores is stored")
    assert "budgets/060 was not written by" in page.render(found, analysis.sections(found)).html


def test_the_full_pool_is_an_expected_cell_of_random_alone(pages: dict[str, tuple[Path, str]]) -> None:
    found = results.load(str(pages["whole"][0]))
    full = [cell for cell in found.cells if cell.is_full_pool]
    assert [(cell.strategy, cell.budget_n, cell.expected_seeds, cell.status) for cell in full] == [
        ("random", found.pool_n, (0,), "done")
    ]
    assert len(found.cells) == 5 * 2 + 1 and found.full_pool == full[0]


def test_a_missing_seed_makes_a_cell_partial(tmp_path: Path) -> None:
    folder = make_results(tmp_path, VARIANTS["whole"])
    path = folder / "tables" / "benchmark_scores" / "min_margin" / "64.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(np.array(table["training_seed"]) != 2), path)
    cell = next(
        cell for cell in results.load(str(folder)).cells if (cell.strategy, cell.budget_n) == ("min_margin", 64)
    )
    assert (cell.status, cell.reason, cell.scored_seeds) == ("partial", "seeds without scores: 2", (0, 1))
    assert parsed(reports.render(str(folder)).html) is not None


def test_items_that_some_arm_lacks_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = make_results(tmp_path, VARIANTS["whole"])
    path = folder / "tables" / "benchmark_scores" / "min_margin" / "64.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(np.array(table["item_id"]) != "copy-3"), path)
    one = results.load(str(folder)).score_sets[0]
    assert one.items_left_out_n == 1 and len(one.task_of_item) == 47
    assert "1 item left out" in reports.render(str(folder)).html


def test_an_arm_that_is_said_to_be_left_out_is_in_no_comparison(tmp_path: Path) -> None:
    """Even if it has all items that the other arms share."""
    folder = make_results(tmp_path, VARIANTS["whole"])
    item_ids: list[str] = []
    for strategy, kept in (
        ("random", slice(0, 30)),
        ("min_margin", slice(20, None)),
        ("task_diversity", slice(20, 30)),
    ):
        path = folder / "tables" / "benchmark_scores" / strategy / "64.parquet"
        table = pq.read_table(path)
        item_ids = item_ids or sorted(set(table["item_id"].to_pylist()))
        pq.write_table(table.filter(pc.is_in(table["item_id"], pa.array(item_ids[kept]))), path)
    one = results.load(str(folder)).score_sets[0]
    assert len(one.task_of_item) == 10 and any("task_diversity at 64 labels is left out" in note for note in one.notes)
    assert ("random", 64) in one.arms and ("task_diversity", 64) not in one.arms


def test_labels_are_moved_apart_and_keep_their_order() -> None:
    placed = looks.spread([0.5, 0.51, 0.52, 0.1], 0.05)
    assert placed[3] == 0.1 and np.diff(placed[:3]) == pytest.approx([0.05, 0.05])
    dense = np.random.default_rng(0).uniform(size=13)
    moved = np.array(looks.spread(list(dense), 0.07))
    assert (np.diff(moved[np.argsort(dense)]) >= 0.07 - 1e-9).all()


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_text_colours_reach_contrast_on_their_own_ground() -> None:
    css = (Path(reports.__file__).parent / "templates" / "style.css").read_text()
    grounds = [
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.S)[:2]
    ]
    for colours in grounds:
        for name in ("ink", "muted", "blue", "vermillion", "green", "purple", "accent"):
            light, dark = sorted((luminance(colours[name]), luminance(colours["surface"])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, name  # WCAG AA for text
    assert set(svg.VARIABLES) <= set(grounds[0].values())  # pictures start from the light values
