"""The page docs/ALLOCATIONS.md: its arithmetic, its program on small pools, and the committed page."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evidence import allocations
from tests.evidence.quota import deviation, exact_quota, nearest_whole

DOLLY = {  # as data/README.md and the data set's card state them
    "open_qa": 3742,
    "general_qa": 2191,
    "classification": 2136,
    "closed_qa": 1773,
    "brainstorming": 1766,
    "information_extraction": 1506,
    "summarization": 1188,
    "creative_writing": 709,
}
TASKS = st.lists(st.tuples(st.integers(1, 1_000_000), st.integers(1, 300)), min_size=1, max_size=12)


def quota_by_bisection(costs, sizes, budget):
    """Compute the quota by its definition: raise the water level until the sum is the budget."""
    low, high = 0.0, float((costs * sizes).max())
    for _ in range(200):
        middle = (low + high) / 2
        if np.minimum(sizes, middle / costs).sum() < budget:
            low = middle
        else:
            high = middle
    return np.minimum(sizes, high / costs)


@settings(max_examples=300, deadline=None)
@given(TASKS, st.integers(1, 4000))
def test_the_quota_is_where_the_water_stands(tasks, budget):
    costs, sizes = np.array(tasks).T
    quota = exact_quota(costs, sizes, budget)
    wanted = min(budget, sizes.sum())
    np.testing.assert_allclose(quota, quota_by_bisection(costs, sizes, wanted), rtol=1e-9, atol=1e-9)
    whole = nearest_whole(quota)
    assert whole.sum() == wanted and (np.abs(whole - quota) < 1 + 1e-6).all() and (whole <= sizes).all()


def test_deviation_by_hand():
    """Weights 3 to 1 and four picks: the quota is 3 and 1; keys 0, 0, 1, 2 | 3, 3 give three and one, too. At two picks 1 and 1."""
    costs, sizes = np.array([1, 3]), np.array([100, 100])
    assert deviation(costs, sizes, 4)[1:4] == (0, 0, 0)
    assert deviation(costs, sizes, 2)[1:4] == (0.5, 0.5, 0.25)


@pytest.mark.parametrize("step", [1, 10, 100])
def test_the_difference_stays_of_the_order_of_one_pick_a_task(step):
    """Bound for a task of r times the average share while none is used up: |1 - r| / 2, and half a pick of rounding."""
    costs = np.random.default_rng(0).integers(300_000, 900_000, 300)
    shares = len(costs) / costs / (1 / costs).sum()
    at = deviation(costs, np.full(300, 10**6), 300 * step)
    assert at.largest_n <= np.abs(1 - shares).max() / 2 + 1
    assert at.distance <= 0.5 / step


@pytest.fixture
def pools():
    draw = np.random.default_rng(1)
    small = allocations.tasks_of("Dolly", list(DOLLY), list(DOLLY.values()), draw.uniform(0.3, 0.5, 8))
    sizes = [8, *draw.integers(20, 400, 40).tolist()]
    names = [f"task_{t:02d}" for t in range(41)]
    return small, allocations.tasks_of("FLAN pool", names, sizes, draw.uniform(0.2, 0.9, 41))


def test_the_page_is_made_from_small_pools(pools):
    text = allocations.page(*pools, (16, 4))
    assert all(f"`{name}`" in text for name in DOLLY)
    assert "say nothing about\na real base model" in text
    assert "python -m tests.evidence.allocations" in text
    assert not re.search(r"/(tmp|home|work|root|usr)\b", text) and str(Path.home()) not in text
    assert not re.search(r"\b(nan|inf)\b", text)


def test_the_picture_is_one_small_file_for_light_and_dark(pools):
    text = allocations.picture(pools)
    assert text == allocations.picture(pools)
    assert len(text) < 60_000
    assert "prefers-color-scheme:dark" in text
    assert ElementTree.fromstring(text).tag.endswith("svg")


def rows_of(text):
    """Return the cells of the Dolly table, by task."""
    section = text.split("## Dolly: prompts from each task")[1].split("## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return lines[0], {cells[0].strip("`"): cells[1:] for cells in lines[2:]}


def test_the_committed_page_has_dollys_sizes_and_every_budget_whole():
    path = allocations.ROOT / "docs" / "ALLOCATIONS.md"
    assert (path.parent / allocations.PICTURE).exists()
    head, rows = rows_of(path.read_text(encoding="utf-8"))
    assert {task: int(cells[0].replace(",", "")) for task, cells in rows.items()} == DOLLY
    for place, budget in enumerate(head[3:], start=2):
        pairs = [[int(n.replace(",", "").strip("*")) for n in cells[place].split(" / ")] for cells in rows.values()]
        assert np.sum(pairs, axis=0).tolist() == [int(budget.replace(",", ""))] * 2
