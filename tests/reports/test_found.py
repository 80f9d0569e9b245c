"""The page's section on found tasks: its numbers against the stored notes, its words, hostile notes, and many tasks."""

from __future__ import annotations

import copy
import json
import statistics
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from lxml import etree

import reports
from reports import envelope, results
from reports.found import found_curve, found_parts, found_sentences
from reports.found.found_numbers import RULES, Note
from reports.results import Results
from tests.reports.make_results import Recipe, make_results
from tests.reports.test_hostile import HOSTILE, parsed, shape

SMALL: dict[str, Any] = {
    "tasks": ("copy", "flip", "omen"),
    "items_per_task": 3,
    "budgets": (16, 32),
    "seeds": (0, 1),
    "full_pool_seeds": (),
    "strategies": ("random", "task_diversity", "weighted_task_diversity"),
    "has_effects": False,
}
DISTANCES = {("task_diversity", 16): 0.21, ("task_diversity", 32): 0.3, ("weighted_task_diversity", 32): 0.25}
RANDOM = {16: 0.4, 32: 0.2}


def note(tasks_n: int = 14, text: str = "") -> dict[str, Any]:
    """Return the notes on found tasks. Names, terms and prompts contain the text."""
    tasks = [
        {
            "task": f"refund {i}{text}",
            "prompts_n": 3 * tasks_n - 2 * i,
            "terms": [f"refund{text}", f"order {i}"],
            "central": [{"prompt_id": "0" * 16, "prompt": f"Please refund {i} {k}{text}"[:160]} for k in range(3)],
            "place": [(i * 7 % tasks_n) / tasks_n, (i * i % tasks_n) / tasks_n],
        }
        for i in range(tasks_n)
    ]
    return {
        "budget_n": 16,
        "tasks_n": tasks_n + 2,
        "view": f"words{text}",
        "agreement": {"between_seeds": 0.62, "between_halves": 0.58, "moved_share": 0.31},
        "tasks": tasks,
        "curve": curve("budget", (4, tasks_n + 2, 32)),
        "moved_labels": [{"budget_n": 16, "share": 0.125}, {"budget_n": 99, "share": 0.5}],
        "with_true": {"tasks_n": 8, "prompts_n": 700, "rand": 0.24, "information": 0.37, "purity": 0.48},
    }


def curve(bound: str, numbers: tuple[int, ...]) -> dict[str, Any]:
    points = [
        {
            "tasks_n": n,
            "found_n": n - 1,
            "between_seeds": 1 / n,
            "between_halves": -0.004,
            "median_n": 90 // n,
            "smallest_n": 5,
        }
        for n in numbers
    ]
    return {"bound": bound, "prompts_n": 700, "measured_n": 600, "points": points}


def noted(folder: Path, found: object, broken: tuple[str, ...] = ()) -> Path:
    """Put notes on found tasks and the results of their rules into a folder of results."""
    rules = [{"rule": rule, "severity": "warning", "passed": rule not in broken} for rule in RULES]
    _change(folder / "tables/task_labels.parquet", {"found_tasks": found}, rules)
    for (strategy, budget_n), own in DISTANCES.items():
        notes = {"distance_to_true_tasks": own, "random_distance_to_true_tasks": RANDOM[budget_n]}
        _change(folder / f"tables/allocation/{strategy}/{budget_n}.parquet", notes)
    return folder


def _change(path: Path, notes: dict[str, Any], rules: list[dict[str, Any]] | None = None) -> None:
    table = pq.read_table(path)
    footer = json.loads(table.schema.metadata[b"taskdiv"])
    footer["notes"] |= notes
    footer["rules"] += rules or []
    pq.write_table(table.replace_schema_metadata({"taskdiv": json.dumps(footer)}), path)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noted(make_results(tmp_path_factory.mktemp("scored"), Recipe(**SMALL)), note())


@pytest.fixture(scope="module")
def page(scored: Path) -> etree._Element:
    return parsed(reports.render(str(scored)).html)


@pytest.fixture(scope="module")
def loaded(scored: Path) -> Results:
    return results.load(str(scored))


def rendered(loaded: Results, found: dict[str, Any], broken: tuple[str, ...] = ()) -> str:
    """Return only the section, for other notes than the stored ones."""
    assert loaded.found is not None
    other = loaded.found._replace(note=Note.model_validate(json.loads(json.dumps(found))), broken=broken)
    template = envelope.environment().get_template("found.html.j2")
    return template.render(found=found_parts.found_section(loaded._replace(found=other))).strip()


def section(root: etree._Element) -> etree._Element:
    (found,) = root.xpath("(//section | /section)[@id='found']")
    return found


def rows(root: etree._Element, name: str) -> list[list[str]]:
    """Return the cells of a table of the section."""
    found = section(root).xpath(f".//table[caption/@id='{name}-caption']/tbody/tr")
    return [["".join(cell.itertext()) for cell in row] for row in found]


def text_of(root: etree._Element) -> str:
    return " ".join("".join(section(root).itertext()).split())


def test_the_section_is_there_only_if_tasks_were_found(tmp_path: Path, page: etree._Element) -> None:
    ids = page.xpath("//main/section/@id")
    assert ids.index("found") + 1 == ids.index("allocation") and page.xpath("//nav//a[@href='#found']")
    lists = noted(make_results(tmp_path, Recipe(**SMALL, name="lists", has_scores=False)), note(), broken=RULES[:2])
    root = parsed(reports.render(str(lists)).html)
    ids = root.xpath("//main/section/@id")
    assert ids.index("found") + 1 == ids.index("allocation")
    assert len(section(root).xpath("./p[@class='note']")) == 2  # the rules that failed are read from the footer
    without = make_results(tmp_path, Recipe(**SMALL, name="without", has_scores=False))
    assert 'id="found"' not in reports.render(str(without)).html


def test_the_numbers_of_the_page_are_the_stored_ones(page: etree._Element) -> None:
    stored, shown = note(), text_of(page)
    sizes = [one["prompts_n"] for one in stored["tasks"]]
    listed = rows(page, "found-first") + rows(page, "found-others")
    assert [(row[0], row[1]) for row in listed] == [(one["task"], str(one["prompts_n"])) for one in stored["tasks"]]
    assert listed[0][2:] == ["refund, order 0", "Please refund 0 0Please refund 0 1Please refund 0 2"]
    assert f"14 tasks were found among {sum(sizes):,} prompts; 16 were looked for." in shown
    half = statistics.median_low(sizes)
    assert sum(size <= half for size in sizes) * 2 >= len(sizes)
    assert (
        f"The largest has {max(sizes)} prompts, the smallest {min(sizes)}. Half of them have at most {half}." in shown
    )
    assert "is 0.62 between the two seeds and 0.58 between the two halves" in shown
    assert rows(page, "found-moved") == [["16", "12.5%"]]  # 99 is no budget of the experiment
    assert "Of 16 labels, 12% would go to other tasks" in shown and "added later are not measured" in shown
    assert "Adjusted Rand index 0.24, normalised mutual information 0.37, purity 0.48" in shown
    assert rows(page, "found-distances") == [["16", "0.400", "0.210", "–"], ["32", "0.200", "0.300", "0.250"]]
    assert "task_diversity over found tasks covers them more evenly than random choice at 1 of 2 budgets" in shown


def test_the_curve_over_the_number_of_tasks_is_folded(page: etree._Element) -> None:
    assert "The rule chose 16 tasks by the smallest budget: 16 labels give each task at least 2." in text_of(page)
    (details,) = section(page).xpath(".//details[.//caption[@id='found-curve-caption']]")
    assert details.get("open") is None and "on 600 of the 700 prompts: sizes" in "".join(details.itertext())
    assert "Stability says little about evenness" in "".join(details.itertext())
    assert rows(page, "found-curve") == [
        ["4", "3", "0.25", "0.00", "22", "5"],
        ["16 (chosen)", "15", "0.06", "0.00", "5", "5"],
        ["32", "31", "0.03", "0.00", "2", "5"],
    ]


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ("given", "The experiment file sets the number of tasks to 16."),
        (
            "prompts",
            "The rule chose 16 tasks by the size of the pool: 700 prompts give each task at least 20 on average.",
        ),
        ("most", "The rule chose 16 tasks, the most that it allows."),
        (
            "fewest",
            "The rule chose 16 tasks, the fewest that it allows: 700 prompts and a budget of 16 labels would give fewer.",
        ),
    ],
)
def test_what_decided_the_number_of_tasks(bound: str, words: str) -> None:
    assert [*found_curve.lines(note() | {"curve": curve(bound, (16,))})] == [f"{words} {found_curve.TOO_FEW}"]
    first, points = found_curve.lines(note() | {"curve": curve(bound, (4, 16))})
    assert first == words and points.endswith(": 4 → 0.25, 0.00, 22; 16 (chosen) → 0.06, 0.00, 5.")
    assert [*found_curve.lines(note() | {"curve": None})] == []


def test_every_task_has_a_circle(page: etree._Element) -> None:
    (drawing,) = section(page).iter("{http://www.w3.org/2000/svg}svg")
    shown = etree.tostring(drawing).decode()
    assert (
        len(drawing.xpath(".//*[local-name()='use' or local-name()='path'][ancestor-or-self::*[@fill-opacity]]")) >= 14
    )
    assert "var(--blue" in shown and "refund 0" in shown and "refund 13" not in shown


@pytest.mark.parametrize(
    ("agreement", "share", "passed", "words"),
    [
        (0.9, 0.03, True, "stable: another seed would move 3% of"),
        (0.9, 0.24, True, "only partly stable: another seed would move 24% of"),
        (0.4, 0.31, False, "not stable: another seed would move 31% of"),
        (0.4, 0.31, None, "not stable: another seed would move 31% of"),  # the footer lacks the rule
        (0.6, 0.001, None, "stable: another seed would move less than 1% of"),
    ],
)
def test_stability_in_words(loaded: Results, agreement: float, share: float, passed: bool | None, words: str) -> None:
    found = loaded.found
    assert found is not None
    measured = found.note.agreement.model_copy(update={"between_halves": agreement, "moved_share": share})
    changed = found._replace(note=found.note.model_copy(update={"agreement": measured}), is_stable=passed)
    halves = ", and another half of the pool gives other tasks" if agreement < 0.5 else ""
    assert found_sentences.stability(changed) == f"Found tasks are {words} the prompts to another task{halves}."


def test_each_broken_rule_is_one_note_with_a_next_step(loaded: Results) -> None:
    assert loaded.found is not None and found_sentences.warnings(loaded, loaded.found) == ()
    shown = section(parsed(rendered(loaded, note(), RULES))).xpath("./p[@class='note']")
    for rule, one in zip(RULES, shown, strict=True):
        (warned,) = found_sentences.warnings(loaded, loaded.found._replace(broken=(rule,)))
        assert warned.text.endswith(":") and "".join(one.itertext()) == f"{warned.text} {warned.remedy}"


@pytest.mark.parametrize(
    "kind", [pytest.param(one, marks=[] if one == "script" else [pytest.mark.full]) for one in HOSTILE]
)
def test_hostile_notes_change_only_what_is_shown(loaded: Results, page: etree._Element, kind: str) -> None:
    html = rendered(loaded, note(text=HOSTILE[kind]))
    root = parsed(html)
    assert shape(section(root)) == shape(section(page))
    assert not {"onerror", "onload", "onclick"} & {name for one in root.iter(etree.Element) for name in one.attrib}
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200f\u0000") & set("".join(root.itertext()))
    assert len(html.encode()) < 60_000


def test_many_tasks_are_folded_and_bounded(loaded: Results) -> None:
    html = rendered(loaded, note(320, '&<"' * 60))
    root = parsed(html)
    assert len(html.encode()) < 800_000
    assert (len(rows(root, "found-first")), len(rows(root, "found-others"))) == (10, 290)
    assert [one.get("open") for one in section(root).xpath(".//details")] == [None, None]
    assert "20 smaller tasks not listed here: taskdiv tasks show demo" in text_of(root)
    assert "The 300 largest of 320 tasks are drawn" in text_of(root)


def test_notes_of_an_earlier_version_are_shown_without_what_they_lack(loaded: Results) -> None:
    older = {name: value for name, value in note(2).items() if name not in ("moved_labels", "with_true", "curve")}
    root = parsed(rendered(loaded, older))
    assert found_sentences.NOT_MEASURED in text_of(root) and found_curve.NOT_MEASURED in text_of(root)
    assert found_sentences.NOT_COMPARED in text_of(root)
    unnamed = parsed(rendered(loaded, note(2) | {"with_true": None, "joined_n": 3}))
    assert "3 prompts came after annotations were bought, and joined the nearest task" in text_of(unnamed)
    assert "the agreement with true tasks is not known" in text_of(unnamed)
    assert rows(root, "found-moved") == [] and not [*section(root).iter("{http://www.w3.org/2000/svg}svg")]


@pytest.mark.parametrize("place", [[], ["agreement"], ["tasks"], ["tasks", 0, "place"], ["agreement", "moved_share"]])
def test_notes_that_cannot_be_used_are_named(tmp_path: Path, place: list[Any]) -> None:
    wrong: Any = copy.deepcopy(note())
    at = wrong
    for step in place[:-1]:
        at = at[step]
    if place:
        at[place[-1]] = float("nan")
    folder = noted(make_results(tmp_path, Recipe(**SMALL, has_scores=False)), wrong if place else ["many"])
    loaded = results.load(str(folder))
    assert loaded.found is None and any("the notes on found tasks in task_labels" in text for text in loaded.problems)
