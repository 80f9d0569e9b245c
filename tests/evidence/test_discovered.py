"""The measures of docs/DISCOVERY.md, compared with a second implementation; and the rule, compared with the page's results."""

import collections
import hashlib
from pathlib import Path

import numpy as np
import pytest

from taskdiv_assets.pools.discovery import found_tasks
from taskdiv_assets.pools.discovery.evenness import even_spread, purity, random_distance
from taskdiv_assets.pools.discovery.word_views import words
from taskdiv_assets.selection import SelectionPool, parse_prompt_ids, rank
from taskdiv_assets.selection.streams import keyed_hash
from tests.evidence import discovered, discovered_scores
from tests.evidence.discovered_measures import asked_by_rule, distances, groupings, tasks_asked
from tests.evidence.discovered_scores import Cell
from tests.evidence.marked import marked

DRAW = np.random.default_rng(3)
TRUE = DRAW.choice(5, 400, p=[0.5, 0.25, 0.15, 0.07, 0.03])
FOUND = np.where(DRAW.random(400) < 0.7, TRUE, DRAW.choice(5, 400))
IDS = np.arange(400, dtype=np.uint64)


def test_purity_is_a_vote_in_every_found_task() -> None:
    pairs = [*zip(FOUND.tolist(), TRUE.tolist(), strict=True)]
    tasks = {found: collections.Counter(true for other, true in pairs if other == found) for found, _ in pairs}
    assert purity(TRUE, FOUND) == sum(max(counts.values()) for counts in tasks.values()) / 400


def test_an_even_spread_is_a_round_robin() -> None:
    left, picks = collections.Counter(TRUE.tolist()), collections.Counter()
    while sum(picks.values()) < 150:
        for task in range(5):
            if picks[task] < left[task] and sum(picks.values()) < 150:
                picks[task] += 1
    assert even_spread(TRUE, 150).tolist() == [picks[task] for task in range(5)]


def test_distances_are_the_picks_that_would_have_to_move() -> None:
    names = tuple(f"task {task}" for task in range(5))
    moves = []
    for seed in range(4):
        order = rank("task_diversity", SelectionPool(IDS, FOUND.astype(np.int32), names), seed=seed)[:60]
        goal = collections.Counter({task: int(n) for task, n in enumerate(even_spread(TRUE, 60))})
        moves.append((goal - collections.Counter(TRUE[order].tolist())).total() / 60)
    assert distances(TRUE, FOUND, IDS, [20, 60], draws_n=4)[1] == pytest.approx(np.mean(moves))


def test_true_tasks_have_no_distance_and_one_task_that_of_random_choice() -> None:
    assert distances(TRUE, TRUE, IDS, [10, 20], draws_n=3) == [0, 0]
    single = distances(TRUE, np.zeros_like(TRUE), IDS, [40], draws_n=400)[0]
    assert single == pytest.approx(random_distance(TRUE, 40), abs=0.01)  # standard error of the mean of draws: 0.003


def test_the_distance_of_random_choice_is_that_of_its_draws() -> None:
    goal, draws = even_spread(TRUE, 40), np.random.default_rng(4)
    picked = draws.multivariate_hypergeometric(np.bincount(TRUE), 40, size=20_000)
    assert random_distance(TRUE, 40) == pytest.approx(np.abs(picked - goal).sum(axis=1).mean() / 80, abs=0.002)


def test_the_first_grouping_is_the_one_that_users_get() -> None:
    texts = [f"{('reset my', 'refund the', 'a poem on')[i % 3]} w{i % 7} item w{i % 5}" for i in range(90)]
    ids = [hashlib.sha256(f"{i}".encode()).hexdigest()[:16] for i in range(90)]
    order = np.argsort(keyed_hash(0, found_tasks.STREAM, parse_prompt_ids(ids)), kind="stable")
    first = groupings(words([texts[i] for i in order], 90), 5)[0]
    users = found_tasks.discover(texts, ids, 5).codes[order]
    pairs = set(zip(first.tolist(), users.tolist(), strict=True))
    assert len(pairs) == len(set(first.tolist())) == len(set(users.tolist()))


@pytest.mark.parametrize(("prompts_n", "budget_n"), [(5000, 16), (5000, 4000), (300, 299), (40, 2), (10**6, 10**5)])
def test_the_rule_of_the_page_is_the_product_s(prompts_n: int, budget_n: int) -> None:
    ours = asked_by_rule(prompts_n, budget_n, found_tasks.PICKS_A_TASK)
    assert ours == found_tasks.tasks_by_rule(prompts_n, budget_n)


def test_the_numbers_of_tasks_include_the_true_one_and_the_largest_of_the_rule() -> None:
    for true_n, prompts_n in ((8, 5000), (279, 6000), (16, 1000)):
        asked = tasks_asked(true_n, prompts_n)
        assert {true_n, prompts_n // found_tasks.PROMPTS_A_TASK} <= {*asked} and asked == sorted(asked)


def test_skewed_sizes_fall_from_the_largest_to_a_25th() -> None:
    true = np.repeat(np.arange(16), 250)
    np.random.default_rng(5).shuffle(true)
    sizes = np.bincount(true[discovered.skewed(true)])
    assert (sizes[0], sizes[-1]) == (200, 8) and (np.diff(sizes) < 0).all()


def test_random_labels_keep_the_sizes_of_found_tasks() -> None:
    by_source = discovered_scores.labels_of([f"t{task}" for task in TRUE], FOUND, 0)
    assert np.bincount(by_source["random"]).tolist() == np.bincount(FOUND).tolist()
    assert (by_source["random"] != FOUND).any() and by_source["true"].tolist() == TRUE.tolist()


def test_finished_cells_are_read_again_without_a_torn_line_and_other_settings(tmp_path: Path) -> None:
    path, scores = tmp_path / "new" / "scores.jsonl", np.array([1.0, 0.0, 1.0])
    discovered_scores.append(path, "a", Cell("true", 128, 0), scores)
    discovered_scores.append(path, "b", Cell("found", 128, 0), scores)
    with path.open("a") as file:
        file.write('{"identity": "a", "cell": ["found", 12')
    (cell, kept), *others = discovered_scores.read(path, "a").items()
    assert cell == Cell("true", 128, 0) and kept.tolist() == [1, 0, 1] and not others


def test_the_table_of_scores_uses_the_seeds_that_all_sources_have() -> None:
    draw = np.random.default_rng(6)
    scores = {cell: (draw.random(40) < 0.5).astype(float) for cell in discovered_scores.cells(3)}
    del scores[Cell("found", 128, 2)]
    assert discovered_scores.arms(scores, 128)["true"].seeds == (0, 1)
    text = discovered_scores.section(scores, dict.fromkeys(discovered_scores.SOURCES, 4), np.repeat(np.arange(4), 10))
    line = next(row for row in text.splitlines() if row.startswith("| 256 | found"))
    gaps = [scores[Cell("found", 256, seed)].mean() - scores[Cell("true", 256, seed)].mean() for seed in range(3)]
    assert f"{np.mean(gaps):+.3f} [" in line


def test_stored_results_are_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{('reset my', 'refund the', 'a poem on')[i % 3]} w{i % 7} item w{i % 5}" for i in range(90)]
    pools = [discovered.Labelled(texts, np.arange(90, dtype=np.uint64), np.arange(90) % 3)]
    monkeypatch.setenv("TASKDIV_HOME", str(tmp_path))
    monkeypatch.setattr(discovered, "read", lambda name, settings: pools.pop())
    first, again = (discovered.stored("lab", discovered.sources()["lab"], "words") for _ in range(2))
    assert (
        first == again and first.budgets == [6, 12, 24, 48] and [one.asked_n for one in first.measured] == [2, 3, 4, 6]
    )
    (three,) = (one for one in first.measured if one.asked_n == 3)
    assert three.rand == three.purity == 1 and three.distances == first.true
    assert discovered.ratio(first, 0, 2) == 0 and "| words | 3 | 1.00 |" in discovered.section({"words": first})


def test_views_that_are_not_measured_keep_their_lines() -> None:
    before = "| view | tasks |\n| --- | --- |\n| words | 1 |\n| MiniLM | 1 |\n| words + MiniLM | 1 |"
    now = "| view | tasks |\n| --- | --- |\n| words | 2 |"
    assert discovered.with_kept_lines(now, before) == f"{now}\n| MiniLM | 1 |\n| words + MiniLM | 1 |"


def rows_of(name: str) -> list[list[str]]:
    """Return the cells of a table of the committed page, without its head."""
    lines = [line for line in marked(discovered.PAGE.read_text(), name).splitlines() if line.startswith("|")]
    return [line.strip("| ").split(" | ") for line in lines[2:]]


@pytest.mark.parametrize("name", ["Dolly", "T0", "FLAN", "FLAN skewed", "lab"])
def test_a_star_on_the_page_marks_what_is_less_even_than_random(name: str) -> None:
    first, _, *found = [row[7:] for row in rows_of(name)]
    for row in found:
        for cell, random in zip(row, first, strict=True):
            assert cell.endswith("*") or float(cell) <= float(random)
            assert not cell.endswith("*") or float(cell[:-1]) >= float(random)


def test_the_rule_follows_from_the_page() -> None:
    """The default is the best, or worse than it by at most 0.02, which the page calls equal."""
    means = {int(row[0]): float(row[-1]) for row in rows_of("rule") if row[1] == "mean"}
    assert means[found_tasks.PICKS_A_TASK] <= min(means.values()) + 0.02


@pytest.mark.parametrize("name", ["Dolly", "T0", "FLAN", "FLAN skewed", "lab"])
def test_half_as_many_tasks_are_less_even_than_random(name: str) -> None:
    true_n = int(rows_of(name)[1][1])
    (row,) = (row for row in rows_of(name) if row[:2] == ["words", str(true_n // 2)])
    assert all(cell.endswith("*") for cell in row[7:])
