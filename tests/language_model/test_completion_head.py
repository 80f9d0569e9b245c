"""The head of a training on a CPU has the same bits as TRL's, agrees with double precision, and leaves other cases to TRL."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from trl.kernels import ChunkedLogProbFunction
from trl.trainer import utils

from taskdiv_assets.language_model import token_statistics
from taskdiv_assets.language_model.tuning import WEIGHTS, Base, Example, tune
from taskdiv_assets.language_model.tuning import completion_head as module
from taskdiv_assets.language_model.tuning.completion_head import CompletionHead
from taskdiv_assets.language_model.tuning.trl_parts import lean
from taskdiv_assets.pools.lab import pool_items
from taskdiv_assets.tuning_settings import Tuning

TILE = 64
SCALE = -1 / 977  # of a step of 977 completion tokens


def parts(tokens_n: int, vocabulary_n: int, width: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(tokens_n)
    hidden, weight = (torch.randn(n, width, generator=random) for n in (tokens_n, vocabulary_n))
    return hidden, weight, torch.randint(vocabulary_n, (tokens_n,), generator=random)


def passed(head: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, scale: float) -> Any:
    """Return the log-probabilities, and the gradient of `scale` times their sum with respect to `hidden`."""
    states = hidden.clone().requires_grad_()
    found, *rest = head.apply(states, weight, None, targets, 1.0, TILE, None, 1.0, ("log_probs",))
    assert rest == [None] * 4
    (-found.sum() * -scale).backward()
    return found.detach(), states.grad


@pytest.mark.parametrize("vocabulary_n", [5, TILE, 181, 512, 700])
@pytest.mark.parametrize("tokens_n", [1, 15, 33, 64, 79, 80, 131, 200])
def test_the_bits_are_those_of_trl(tokens_n: int, vocabulary_n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 64 * vocabulary_n)  # blocks of 64 tokens
    monkeypatch.setattr(token_statistics, "AT_ONCE", 300)
    head = CompletionHead(None)
    head.gradient = SCALE
    given = parts(tokens_n, vocabulary_n)
    for ours, theirs in zip(passed(head, *given, SCALE), passed(ChunkedLogProbFunction, *given, SCALE), strict=True):
        assert torch.equal(ours, theirs)


def test_against_double_precision_and_with_other_gradients_than_expected() -> None:
    hidden, weight, targets = parts(40, 700)
    states = hidden.double().requires_grad_()
    expected = (states @ weight.double().T).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    factors = torch.linspace(-2, 3, 40)
    (expected * factors).sum().backward()
    own = hidden.clone().requires_grad_()
    found = CompletionHead(None).apply(own, weight, None, targets, 1.0, TILE, None, 1.0, ("log_probs",))[0]
    assert found is not None and own.grad is None
    (found * factors).sum().backward()
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(own.grad.double(), states.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("tokens_n", "ends"), [(1, []), (64, []), (79, []), (80, [64]), (128, [64]), (200, [64, 128])])
def test_no_block_is_so_small_that_another_kernel_multiplies_it(
    tokens_n: int, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 64 * 1000)
    assert module._block_ends(tokens_n, 1000) == ends


@pytest.mark.parametrize(
    "kind", ["bias", "a head that is trained", "16 bits", "temperature", "capped", "scaled", "entropy"]
)
def test_the_rest_is_left_to_trl(kind: str) -> None:
    hidden, weight, targets = parts(20, 100)
    given = [hidden, weight, None, targets, 1.0, TILE, None, 1.0, ("log_probs",)]
    other = {
        "bias": (2, torch.zeros(100)), "a head that is trained": (1, weight.clone().requires_grad_()),
        "16 bits": (0, hidden.bfloat16()), "temperature": (4, 0.7), "capped": (6, 30.0), "scaled": (7, 0.5),
        "entropy": (8, ("log_probs", "entropy")),
    }  # fmt: skip
    place, value = other[kind]
    given[place] = value
    theirs = SimpleNamespace(apply=lambda *found: found)
    assert CompletionHead(theirs).apply(*given) == tuple(given)  # type: ignore[arg-type]


def test_a_training_uses_it_and_writes_the_bytes_that_trl_alone_would(
    miniature_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Example(item.item_id, item.prompt, item.response) for item in pool_items(9, ["copy", "last"], 20, 8)][:16]
    tuning = Tuning(learning_rate=2e-3, epochs=1, rank=4, alpha=8, batch_size=5)
    used: list[float] = []
    apply = CompletionHead.apply

    def ours(self: CompletionHead, *given: Any) -> Any:
        used.append(self.gradient)
        return apply(self, *given)

    def trained(name: str) -> bytes:
        (tmp_path / name).mkdir()
        tune(Base(miniature_folder, "float32", "sdpa"), rows, tuning, seed=0, out=tmp_path / name)
        return (tmp_path / name / WEIGHTS).read_bytes()

    monkeypatch.setattr(CompletionHead, "apply", ours)
    by_ours = trained("ours")
    assert len(set(used)) > 2  # each step has its own divisor
    monkeypatch.setattr(CompletionHead, "apply", lambda self, *given: self.theirs.apply(*given))
    assert trained("theirs") == by_ours


def test_trl_gets_its_function_back() -> None:
    model = torch.nn.Module()
    model.forward = lambda: None
    model.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(), logit_scale=None)
    before = utils._ChunkedLogProbFunction
    with pytest.raises(KeyError), lean(model, []) as head:
        assert utils._ChunkedLogProbFunction is head
        raise KeyError
    assert utils._ChunkedLogProbFunction is before
