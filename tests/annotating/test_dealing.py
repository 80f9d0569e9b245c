"""The division of prompts among annotators: its guarantees as properties, names as parts of file names."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskdiv_assets.annotating.dealing import Wanted, check_names, deal, deal_new, drawn_twice

TEAMS = st.lists(st.sampled_from(["a1", "a2", "a3", "a4", "a5"]), unique=True, min_size=1)
POOLS = st.lists(st.sampled_from(["x", "y", "z"]), max_size=40).map(
    lambda tasks: {f"p{n:02}": task for n, task in enumerate(tasks)}
)


@given(POOLS, TEAMS, st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_everybody_gets_every_task_in_proportion_and_nobody_a_prompt_twice(
    tasks: dict[str, str], team: list[str], share: float
) -> None:
    overlap = share if len(team) > 1 else 0.0
    dealt = deal_new(tasks, team, overlap)
    sizes = [len(dealt.shares.get(name, ())) for name in team]
    assert max(sizes) - min(sizes) <= 1 and not dealt.left
    for task in set(tasks.values()):
        of_task = [sum(tasks[i] == task for i in dealt.shares.get(name, ())) for name in team]
        assert max(of_task) - min(of_task) <= 1
    counts = Counter(i for ids in dealt.shares.values() for i in ids)
    assert set(counts) == set(tasks)
    assert (
        sum(n == 2 for n in counts.values()) == int(overlap * len(tasks) + 0.5) and max(counts.values(), default=1) <= 2
    )
    order = list(tasks)
    assert all(list(ids) == sorted(set(ids), key=order.index) for ids in dealt.shares.values())
    assert deal_new(tasks, team[::-1], overlap).shares == dealt.shares  # the order of the names has no effect


@given(POOLS, TEAMS, st.data())
def test_what_somebody_has_had_goes_to_others_or_stays(
    tasks: dict[str, str], team: list[str], data: st.DataObject
) -> None:
    people = st.frozensets(st.sampled_from(team))
    wanted = [Wanted(i, task, data.draw(st.integers(1, 2)), data.draw(people)) for i, task in tasks.items()]
    dealt = deal(wanted, team)
    for one in wanted:
        got = {name for name, ids in dealt.shares.items() if one.prompt_id in ids}
        assert not got & one.seen_by
        assert len(got) == min(one.copies_n, len(set(team) - one.seen_by))
        assert dealt.left.get(one.prompt_id, 0) == one.copies_n - len(got)


def test_the_overlap_is_stable_and_joins_every_pair_of_people() -> None:
    ids = [f"p{n}" for n in range(100)]
    assert drawn_twice(ids, 0.1) < drawn_twice(ids[::-1], 0.2) and len(drawn_twice(ids, 0.1)) == 10
    team = ["a1", "a2", "a3", "a4"]  # neighbours on a ring would leave two groups who never meet
    shares = deal_new(dict.fromkeys(ids, "x"), team, 1.0).shares
    common = [len(set(shares[a]) & set(shares[b])) for a in team for b in team if a < b]
    assert sum(common) == 100 and min(common) >= 15


@pytest.mark.parametrize(
    ("given_names", "said"),
    [
        ("a/b", "'a/b' is not an annotator's name"),
        ("..", "is not an annotator's name"),
        ("a,,b", "'' is not an annotator's name"),
        ("-x", "is not an annotator's name"),
        ("a.", "is not an annotator's name"),
        ("a\0", "is not an annotator's name"),
        ("x" * 61, "is not an annotator's name"),
        ("anna,Anna", "the annotators 'anna' and 'Anna' are one name"),
        ("BEN", "the annotator 'BEN' is called 'Ben' in the ledger"),
    ],
)
def test_a_name_that_is_no_part_of_a_file_name_is_refused(given_names: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_names([given_names], ["Ben"])


def test_names_and_shares_that_are_accepted() -> None:
    assert check_names(["a1, jürgen", "x.y@example.org"], ["a1"]) == ("a1", "jürgen", "x.y@example.org")
    with pytest.raises(ValueError, match="expected at least two names"):
        deal_new({"p": "x"}, ["a1"], 0.1)
    with pytest.raises(ValueError, match="is not a share"):
        deal_new({"p": "x"}, ["a1", "a2"], 1.5)
