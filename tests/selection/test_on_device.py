"""Coverage strategies by torch, used if a pool's embeddings are a tensor: the same picks as by numpy."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskdiv_assets.selection import facility_location as module
from taskdiv_assets.selection import on_device, rank
from taskdiv_assets.selection.strategies import STRATEGIES, facility_location
from tests.selection.coverage_cases import LATTICE, clusters, pool_of, unit

torch = pytest.importorskip("torch")
COVERAGE = [STRATEGIES["k_center"], STRATEGIES["dpp"], facility_location(None), facility_location(16)]
IDS = ["k_center", "dpp", "exact", "sparse"]
SMART = STRATEGIES["smart"]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("strategy", COVERAGE, ids=IDS)
def test_a_tensor_gives_the_picks_of_the_array(strategy, device):
    points, ids = clusters(500, 24, copies_n=50), np.random.default_rng(0).permutation(500)
    tensor = torch.from_numpy(points).to(device)
    expected = rank(strategy, pool_of(points, ids), seed=5)
    assert rank(strategy, pool_of(tensor, ids), seed=5).tolist() == expected.tolist()


@pytest.mark.parametrize("strategy", COVERAGE, ids=IDS)
@settings(max_examples=40, deadline=None)
@given(LATTICE, st.randoms(use_true_random=False), st.sampled_from([1, 100]))
def test_a_tensor_gives_the_picks_of_the_array_on_lattices_full_of_ties(strategy, points, random, cells):
    points, ids = unit(points), random.sample(range(1000), len(points))
    expected = rank(strategy, pool_of(points, ids), seed=5).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_device, "CELLS", cells)
        assert rank(strategy, pool_of(torch.from_numpy(points), ids), seed=5).tolist() == expected


@pytest.mark.parametrize("device", DEVICES)
def test_a_tensor_gives_the_order_of_the_array_with_tasks(device):
    points, ids = clusters(300, 24, copies_n=50), np.random.default_rng(0).permutation(300)
    pool = replace(pool_of(points, ids), tasks=np.arange(300) % 7, task_names=tuple("abcdefg"))
    tensor = replace(pool, embeddings=torch.from_numpy(points).to(device))
    assert rank(SMART, tensor, seed=5).tolist() == rank(SMART, pool, seed=5).tolist()


def test_certificates_of_a_tensor_are_those_of_the_array():
    points = clusters(200, 8)
    order = rank("k_center", pool_of(points, range(200)), seed=0)
    expected = module.certificates(pool_of(points, range(200)), order, [20, 50])
    assert module.certificates(pool_of(torch.from_numpy(points), range(200)), order, [20, 50]) == expected


def test_reduced_precision_of_the_caller_is_put_aside_and_put_back():
    points = torch.from_numpy(clusters(40, 8))
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        rank("k_center", pool_of(points, range(40)), seed=0)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("strategy", COVERAGE, ids=IDS)
def test_a_tensor_that_requires_grad_gives_the_picks_of_the_array(strategy):
    points = clusters(80, 8)
    tensor = torch.from_numpy(points).float().requires_grad_()
    order = rank(strategy, pool_of(tensor, range(80)), seed=5)
    assert order.tolist() == rank(strategy, pool_of(points, range(80)), seed=5).tolist()
    assert module.certificates(pool_of(tensor, range(80)), order, [9])


def test_a_complex_or_empty_tensor_is_refused():
    with pytest.raises(ValueError, match="embeddings has dtype torch.complex64; expected real numbers"):
        pool_of(torch.ones((2, 3), dtype=torch.complex64), range(2))
    with pytest.raises(ValueError, match=r"embeddings has shape \(2, 0\)"):
        pool_of(torch.ones((2, 0)), range(2))


def test_nan_in_a_tensor_is_refused_by_name():
    points = torch.from_numpy(clusters(40, 8))
    points[7, 1] = float("nan")
    with pytest.raises(ValueError, match=r"^dpp: embeddings is NaN or infinite for 1 of 40 prompts"):
        rank("dpp", pool_of(points, range(40)), seed=0)
