"""The run at ten million rows, with small sizes in one process; its section, and the committed page."""

import json
from pathlib import Path

import pytest

from tests.evidence import scaling, ten_million, ten_million_parts
from tests.evidence.marked import marked, replace_marked
from tests.evidence.ten_million import Measured, Sizes

SMALL = Sizes(
    prompts_n=3_000, tasks_n=20, width=8, seeds_n=2, budgets=(10, 100), allocated=(10, 500), depths=(20, 40),
    graph_rows=(300, 600), read_rows=(500,),
)  # fmt: skip
PARTS = (
    "pool", "order random", "order weighted_task_diversity", "picks k_center 20 3000", "picks k_center 40 3000",
    "picks facility_location 40 300", "picks facility_location 40 600", "inputs", "tables random", "read 500",
)  # fmt: skip


def test_every_kind_of_part_runs_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in PARTS:
        name, *arguments = part.split()
        values = [int(one) if one.isdigit() else one for one in arguments]
        ten_million_parts.PARTS[name](ten_million_parts.Run(part, tmp_path, SMALL._asdict()), *values)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    found = [Measured(*json.loads(line)) for line in lines]
    assert {one.part for one in found} == set(PARTS)
    text = ten_million.section(SMALL, found, "today")
    assert "| random |" in text and "| weighted_task_diversity |" in text and "ranking: stored" in text
    assert "k_center, 50,000 picks of 3,000 prompts" in text and "facility_location, 3,000 prompts" in text


def test_parts_cover_all_strategies() -> None:
    named = {part.split()[1] for part in Sizes().parts() if part.startswith(("order", "picks"))}
    assert named.isdisjoint(ten_million.ELSEWHERE)
    assert named.union(ten_million.ELSEWHERE) == set(ten_million.STRATEGIES)


def test_only_what_is_marked_is_written_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin: a -->\nold\n<!-- end: a -->\nafter\n", encoding="utf-8")
    replace_marked(page, "a", "new")
    assert page.read_text(encoding="utf-8") == "before\n<!-- begin: a -->\n\nnew\n\n<!-- end: a -->\nafter\n"
    with pytest.raises(ValueError, match="begin: b"):
        replace_marked(page, "b", "new")


@pytest.mark.parametrize("name", scaling.SECTIONS)
def test_the_committed_page_says_what_the_function_computes(name: str) -> None:
    assert marked(scaling.PAGE.read_text(encoding="utf-8"), name) == scaling.SECTIONS[name]().strip()
