"""AlpacaEval's files of difficulties, in the format of alpaca-eval, and the regression that uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from taskdiv_assets.benchmarks.alpaca import identities
from taskdiv_assets.benchmarks.alpaca.difficulty import STEADY_WEIGHT, read_difficulty
from taskdiv_assets.benchmarks.alpaca.win_rate import RIDGE, Difficulty, length_controlled
from taskdiv_assets.experiment.benchmark_settings import AlpacaEvalBenchmark

PLAIN = ",instruction_difficulty\n0,0.5\n1,-1.25\n2,0.0\n"
GAMED = (
    ",index,preference,std_delta_len,instruction_difficulty,not_gamed_baseline,model\n"
    "0,0,0.75,-2.0,0.5,False,verbose\n1,1,0.25,1.0,-1.25,False,concise\n"
    "2,2,,0.5,0.0,False,concise\n3,0,0.5,0.25,0.5,False,concise\n"
)


def file(folder: Path, text: str) -> str:
    path = folder / "difficulty.csv"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("text", [PLAIN, PLAIN.replace(",instruction", "index,instruction"), GAMED])
def test_both_files_are_read(tmp_path: Path, text: str) -> None:
    found = read_difficulty(file(tmp_path, text))
    assert found.of_instruction.tolist() == [0.5, -1.25, 0.0]
    of = found.of([2, 0], 3)
    assert of.of_item.tolist() == [0.0, 0.5]
    if text == GAMED:  # the file's lengths are the reference's less the model's; a row without verdict is left out
        assert of.steady_y.tolist() == [0.75, 0.25, 0.5] and of.steady_weight == STEADY_WEIGHT == 0.1
        assert of.steady_x == pytest.approx(np.tanh([2.0, -1.0, -0.25]))
        assert of.steady_difficulty.tolist() == [0.5, -1.25, 0.5]
    else:
        assert len(of.steady_y) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "no column instruction_difficulty, but a, b"),
        ("", "no rows"),
        (PLAIN.replace("-1.25", "much"), "line 3: instruction_difficulty is 'much'; expected a number"),
        (PLAIN.replace("-1.25", "nan"), "expected a number"),
        (PLAIN.replace("2,0.0", "5,0.0"), "not 0 to 2"),
        (PLAIN + "0,0.75\n", "two difficulties"),
        (GAMED.replace("0.75", "1.75"), "preferences outside 0..1"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match="instruction_difficulty of benchmark") as error:
        read_difficulty(file(tmp_path, text))
    assert words in str(error.value)


def test_a_file_of_other_instructions_and_one_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of 3 instructions, the benchmark's `source` 805"):
        read_difficulty(file(tmp_path, PLAIN)).of([0], 805)
    with pytest.raises(ValueError, match="cannot be read"):
        read_difficulty(str(tmp_path / "none.csv"))


def sample(n: int) -> tuple[Any, ...]:
    """Simulate a judge that follows the regression with difficulties. Easy instructions have longer outputs."""
    rng = np.random.default_rng(7)
    difficulty = rng.normal(size=n)
    reference = rng.integers(2000, 3000, n)
    model = reference + np.round(300 * difficulty + rng.normal(100, 200, n)).astype(np.int64)
    d = model - reference
    p = expit(-0.5 + 1.2 * np.tanh(d / d.std(ddof=1)) + 1.5 * difficulty)
    return (rng.random(n) < p).astype(np.float64), model, reference, difficulty


def test_known_difficulties_are_used() -> None:
    y, model, reference, difficulty = sample(20_000)
    truth = expit(-0.5 + 1.5 * difficulty).mean()
    found = length_controlled(y, model, reference, Difficulty(difficulty))
    assert abs(found.win_rate - truth) < 3 * found.standard_error < 0.03
    assert abs(length_controlled(y, model, reference).win_rate - truth) > 5 * found.standard_error
    assert found.pseudo_values.mean() == pytest.approx(found.win_rate, abs=1e-9)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_fit_is_the_minimum_of_the_loss_that_is_stated(weight: float) -> None:
    y, model, reference, g = sample(80)
    d = model - reference
    x = np.tanh(d / d.std(ddof=1))
    steady = (np.array([0.9, 0.2]), np.array([0.8, -0.6]), np.array([0.1, -0.4])) if weight else ()

    def loss(beta: Any) -> float:
        p = expit(beta[0] + beta[1] * x + beta[2] * g)
        own = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum() + RIDGE / 2 * (beta[1] ** 2 + beta[2] ** 2)
        if steady:
            q = expit(beta[1] * steady[1] + beta[2] * steady[2])
            own -= weight * (steady[0] * np.log(q) + (1 - steady[0]) * np.log(1 - q)).sum()
        return float(own)

    best = minimize(loss, [0.0, 0.0, 0.0], tol=1e-12).x
    found = length_controlled(y, model, reference, Difficulty(g, *steady, weight) if steady else Difficulty(g))
    assert found.win_rate == pytest.approx(expit(best[0] + best[2] * g).mean(), abs=1e-5)
    assert found.length_coefficient == pytest.approx(best[1], abs=1e-4)
    assert found.pseudo_values.mean() == pytest.approx(found.win_rate, abs=1e-9)


def test_difficulties_of_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one an item"):
        length_controlled(np.array([1.0, 0.0]), np.array([1, 5]), np.array([2, 2]), Difficulty(np.zeros(3)))


def test_the_identity_of_scores_changes_with_the_file_and_only_with_one(tmp_path: Path) -> None:
    without = AlpacaEvalBenchmark(name="alpaca_eval")
    named = AlpacaEvalBenchmark(name="alpaca_eval", instruction_difficulty=file(tmp_path, PLAIN))
    assert "instruction_difficulty" not in without.model_dump()
    assert identities.verdicts(without) == {"judge": ""}
    before = identities.verdicts(named)
    file(tmp_path, GAMED)
    assert before != identities.verdicts(named) != identities.verdicts(without)
