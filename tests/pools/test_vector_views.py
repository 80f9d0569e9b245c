"""Views by vectors: reduction and mix, the user's own file, and found tasks in any order of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from taskdiv_assets.experiment.pool_settings import TaskLabels
from taskdiv_assets.pools import labels
from taskdiv_assets.pools.discovery import growth, partial
from taskdiv_assets.pools.discovery.found_tasks import discover
from taskdiv_assets.pools.discovery.frozen_tasks import Fixed
from taskdiv_assets.pools.discovery.labelling import by_texts
from taskdiv_assets.pools.discovery.vector_views import mixed, reduced
from taskdiv_assets.pools.vector_files import read_vectors
from tests.pools.test_discovery import IDS, KINDS, PROMPTS, TEMPLATES, tasks_by_id

DRAW = np.random.default_rng(7)
NAMES = list(TEMPLATES)
# Vectors around one point for each kind, which all share a large component, as those of a language model do.
VECTORS = (
    20
    + 3 * DRAW.normal(size=(len(NAMES), 96))[[NAMES.index(kind) for kind in KINDS]]
    + DRAW.normal(size=(len(KINDS), 96))
).astype(np.float16)
POOL = pa.table({"prompt_id": IDS, "source_id": [f"ticket {i}" for i in range(len(IDS))], "prompt": PROMPTS})


def kinds_found(with_words: bool, vectors: list[np.ndarray]) -> int:
    found = discover(PROMPTS, IDS, len(TEMPLATES), with_words=with_words, vectors=vectors)
    return len(set(zip(KINDS, found.codes.tolist(), strict=True)))


def test_tasks_are_found_by_vectors_and_by_a_mix() -> None:
    noise = DRAW.normal(size=VECTORS.shape)
    assert kinds_found(False, [VECTORS]) == kinds_found(True, [VECTORS]) == len(TEMPLATES) < kinds_found(False, [noise])


@settings(max_examples=3, deadline=None)
@given(order=st.permutations(range(120)), threads_n=st.sampled_from([1, 2]))
def test_any_order_of_rows_and_any_number_of_threads_give_the_same_tasks(order: list[int], threads_n: int) -> None:
    first = discover(PROMPTS[:120], IDS[:120], 9, vectors=[VECTORS[:120]])
    ids = [IDS[i] for i in order]
    with threadpool_limits(threads_n):
        second = discover([PROMPTS[i] for i in order], ids, 9, vectors=[VECTORS[order]])
    assert tasks_by_id(first, IDS[:120]) == tasks_by_id(second, ids)
    assert first.agreement == second.agreement


def test_rows_are_principal_components_on_a_grid() -> None:
    """A second definition: the full SVD of centred unit rows. Distances between rows do not depend on signs of components."""
    order = DRAW.permutation(len(VECTORS))
    rows = reduced(VECTORS, order, 200)
    unit = VECTORS[order].astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    centred = unit - unit[:200].mean(axis=0)
    axes = np.linalg.svd(centred[:200], full_matrices=False)[2][:5]
    few = rows[:, :5] / np.linalg.norm(
        rows[:, :5], axis=1, keepdims=True
    )  # the first components stand out from the noise
    exact = centred @ axes.T
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    assert np.abs(few @ few.T - exact @ exact.T).max() < 0.001
    assert rows.shape == (len(VECTORS), 64)
    assert np.array_equal(np.rint(rows * 2**16), rows * 2**16)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)


def test_the_length_of_a_vector_and_a_rounding_error_do_not_matter() -> None:
    order = np.arange(len(VECTORS))
    lengths = 2.0 ** DRAW.integers(-3, 4, size=(len(VECTORS), 1))
    assert np.array_equal(reduced(VECTORS * lengths, order, 300), reduced(VECTORS.astype(np.float64), order, 300))


def test_few_vectors_are_not_reduced_and_zeros_stay_zeros() -> None:
    few = np.array([[1, 0, 0], [0, 2, 0], [0, 0, 0], [0, 0, 5]], np.float32)
    rows = reduced(few, np.array([3, 2, 1, 0]), 4)
    assert rows.shape == (4, 3) and np.isfinite(rows).all()
    assert not reduced(np.zeros((3, 2)), np.arange(3), 3).any()


def test_a_mix_has_equal_weights_and_leaves_out_what_a_view_does_not_know() -> None:
    one, other = np.array([[1, 0], [1, 0]], np.float32), np.array([[0, 1, 0], [0, 0, 0]], np.float32)
    rows = mixed([one, other])
    assert np.allclose(rows[0], [0.5**0.5, 0, 0, 0.5**0.5, 0], atol=1e-4)
    assert rows[1].tolist() == [1, 0, 0, 0, 0]
    assert mixed([one]) is one


def test_rules_leave_only_their_rest_to_the_vectors() -> None:
    ruled = TaskLabels.model_validate(
        {
            "from": "rules",
            "rules": [{"task": "poems", "keywords": ["poem"]}],
            "tasks": 5,
            "view": {"mix": ["words", {"file": "vectors.parquet"}]},
        }
    )
    made = by_texts(POOL, ruled, 100, str, vectors=[VECTORS])
    tasks = dict(zip(*(made.table[name].to_pylist() for name in ("prompt_id", "task")), strict=True))
    pairs = {(kind, tasks[one]) for kind, one in zip(KINDS, IDS, strict=True)}
    assert len(pairs) == len(TEMPLATES) and ("poem", "poems") in pairs
    assert made.notes["found_tasks"]["view"] == "file + words"


def test_found_tasks_of_a_partly_labelled_pool_are_found_by_the_view() -> None:
    """Eight prompts have one of four labels. The words of the others say nothing, so the votes on them are divided."""
    settings = TaskLabels.model_validate(
        {"missing": "discovered", "tasks": len(TEMPLATES), "view": {"file": "vectors.parquet"}}
    )
    pool = POOL.set_column(2, "prompt", pa.array([f"text{i} of{i}" for i in range(len(IDS))]))
    tasks, how = [f"label {i % 4}" for i in range(8)], ["column"] * 8
    given = labels.labelled(pool, [*tasks, *[""] * 292], [*how, *["none"] * 292])
    made = partial.completed(pool, given, settings, 100, str, [VECTORS])
    found = dict(zip(*(made.table[name].to_pylist() for name in ("prompt_id", "task")), strict=True))
    pairs = {(kind, found[one]) for kind, one in zip(KINDS[8:], IDS[8:], strict=True)}
    assert len(pairs) == len(TEMPLATES) and made.notes["found_tasks"]["view"] == "file"


def test_new_prompts_join_the_task_of_near_vectors_in_any_order_of_rows() -> None:
    """Old tasks are fixed; the words of new prompts say nothing, and their vectors are those of a kind."""
    settings = TaskLabels.model_validate({"from": "discovered", "tasks": 6, "view": {"file": "vectors.parquet"}})
    old = POOL.slice(0, 240)
    found = by_texts(old, settings, 100, str, vectors=[VECTORS[:240]])
    prompts = [*PROMPTS[:240], *(f"text {i}" for i in range(60))]
    tasks = {}
    for order in (np.arange(300), DRAW.permutation(300)):
        pool = POOL.set_column(2, "prompt", pa.array(prompts)).take(pa.array(order))
        grown = growth.grown(pool, Fixed(found.table, found.notes), settings, 100, str, [VECTORS[order]])
        tasks[len(tasks)] = dict(zip(*(grown.table[name].to_pylist() for name in ("prompt_id", "task")), strict=True))
    assert tasks[0] == tasks[1] and len(tasks[0]) == 300
    assert len({(kind, tasks[0][one]) for kind, one in zip(KINDS, IDS, strict=True)}) == len(TEMPLATES)


# --- the user's file ---------------------------------------------------------------------------------------------


def written(tmp_path: Path, ids: list[object], vectors: object, column: str = "prompt_id") -> str:
    path = tmp_path / "vectors.parquet"
    pq.write_table(pa.table({column: ids, "embedding": vectors}), path)
    return str(path)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("prompt_id", pa.list_(pa.float32())),
        ("ticket", pa.list_(pa.float64(), 96)),
        ("id", pa.large_list(pa.float16())),
    ],
)
def test_rows_of_a_file_find_their_prompts_by_id(tmp_path: Path, column: str, kind: pa.DataType) -> None:
    ids = IDS if column == "prompt_id" else POOL["source_id"].to_pylist()
    order = DRAW.permutation(len(ids)).tolist()
    lists = [(VECTORS[i].astype(np.float64) * 3).tolist() for i in order]
    path = written(tmp_path, ["of another pool", *(ids[i] for i in order)], pa.array([lists[0], *lists], kind), column)
    unit = VECTORS.astype(np.float64) / np.linalg.norm(VECTORS.astype(np.float64), axis=1, keepdims=True)
    assert np.abs(read_vectors(path, POOL, "ticket") - unit).max() < 1e-3


LISTS = [[1.0, 2.0]] * len(IDS)


@pytest.mark.parametrize(
    ("ids", "vectors", "column", "sentence"),
    [
        (IDS[1:], LISTS[1:], "prompt_id", f"has no vector of 1 of 300 prompts, the first is {IDS[0]}; add their rows"),
        (["a", "b"], LISTS[:2], "prompt_id", "no id in column 'prompt_id' is in the pool, the first is 'a'"),
        ([IDS[0], IDS[0]], LISTS[:2], "prompt_id", f"'{IDS[0]}' occurs twice in column 'prompt_id'"),
        ([None, *IDS[1:]], LISTS, "prompt_id", "1 of 300 rows have no prompt_id"),
        (IDS, LISTS, "name", "has the columns 'name', 'embedding'; expected 'embedding' and one of 'prompt_id'"),
        (IDS, ["text"] * 300, "prompt_id", "column 'embedding' is string; expected lists of floating-point numbers"),
        (IDS, [[1, 2]] * 300, "prompt_id", "column 'embedding' is list<element: int64>; expected lists of"),
        (
            IDS,
            [[1.0], *LISTS[1:]],
            "prompt_id",
            "has 300 vectors with 599 numbers in all; expected vectors of one length",
        ),
        (IDS, [[1.0], [1.0, 2.0, 3.0], *LISTS[2:]], "prompt_id", "row 1: expected a list of 2 numbers"),
        (IDS, [*LISTS[1:], [1.0, None]], "prompt_id", "row 300: expected a list of 2 numbers"),
        (IDS, [*LISTS[1:], [1.0, float("inf")]], "prompt_id", "row 300: a number is not finite"),
        (IDS, pa.array([[]] * 300, pa.list_(pa.float32())), "prompt_id", "row 1: expected a list of 1 numbers"),
        ([], pa.array([], pa.list_(pa.float32())), "prompt_id", "has 0 vectors with 0 numbers"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(
    tmp_path: Path, ids: list[object], vectors: object, column: str, sentence: str
) -> None:
    path = written(tmp_path, ids, vectors, column)
    with pytest.raises(ValueError) as caught:
        read_vectors(path, POOL)
    assert str(caught.value).startswith(path) and sentence in str(caught.value) and "\n" not in str(caught.value)


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", VECTORS)
    with pytest.raises(ValueError, match=r"vectors.npy is not a Parquet file by its name; expected .parquet"):
        read_vectors(str(tmp_path / "vectors.npy"), POOL)
    (tmp_path / "vectors.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        read_vectors(str(tmp_path / "vectors.parquet"), POOL)
    with pytest.raises(ValueError, match="there is no file .*missing.parquet"):
        read_vectors(str(tmp_path / "missing.parquet"), POOL)
