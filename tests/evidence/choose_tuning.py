"""Choose the demo's learning rate and epochs on the lab's validation items, and check whether the committed choice is right.

Run: python -m tests.evidence.choose_tuning     (about 6 CPU minutes; `make evidence` calls it)

All other settings are those of demo.yaml. Each setting is judged by random and task_diversity together at all budgets of the
demo, so that no strategy chooses settings in its favour. The base model and the pool (seed 1001) are not used in any report.
Validation items judge, so test items choose nothing. The committed choice is right unless the best setting is better by more
than twice the standard error of their paired difference over items.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from taskdiv_assets.experiment import LabModel
from taskdiv_assets.experiment import experiment_file as experiments
from taskdiv_assets.experiment.benchmark_settings import LabBenchmark
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.language_model.tuning import Example
from taskdiv_assets.tuning_settings import Tuning

LEARNING_RATES = (5e-4, 1e-3, 2e-3)
EPOCHS = (4, 8)
STRATEGIES = ("random", "task_diversity")
UNREPORTED_SEED = 1001
STANDARD_ERRORS = 2.0

FloatArray = npt.NDArray[np.float64]
Setting = tuple[float, int]  # learning rate, epochs


class Judged(NamedTuple):
    """The exact match of one setting on every validation item: (strategies, budgets, training seeds, items)."""

    setting: Setting
    scores: FloatArray


class Verdict(NamedTuple):
    """The best setting compared with the committed one: difference of macro exact match, and its standard error over items."""

    best: Setting
    committed: Setting
    difference: float
    standard_error: float

    @property
    def holds(self) -> bool:
        """Whether the best setting is not better than the committed one beyond noise."""
        return self.difference <= STANDARD_ERRORS * self.standard_error


def choose_tuning(
    base_folder: Path,
    pool: Pool,
    tuning: Tuning,
    budgets: Sequence[int],
    training_seeds: Sequence[int],
    progress: Callable[[int, int], None],
) -> list[Judged]:
    """Train and judge every setting of the grid.

    Args:
        base_folder: folder of the base model.
        pool: the lab's pool; examples come from it, and its validation items judge.
        tuning: the settings that are not in the grid.
        budgets: labels to train on.
        training_seeds: each seed redraws selection, initialisation and data order.
        progress: callback that receives the numbers of finished adapters and of all adapters.
    """
    from taskdiv_assets.language_model.loading import load
    from taskdiv_assets.language_model.tuning import Base, tune
    from tests.benchmark_tasks.scoring import score

    lm = load(base_folder, dtype="float32", attention="sdpa")
    choose = _chooser(pool)
    judged, done_n = [], 0
    total_n = len(LEARNING_RATES) * len(EPOCHS) * len(STRATEGIES) * len(budgets) * len(training_seeds)
    for rate, epochs in itertools.product(LEARNING_RATES, EPOCHS):
        settings = tuning.model_copy(update={"learning_rate": rate, "epochs": epochs})
        cells = []
        for strategy, budget, seed in itertools.product(STRATEGIES, budgets, training_seeds):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder)
                examples = choose(strategy, seed, budget)
                tune(Base(base_folder, "float32", "sdpa"), examples, settings, seed=seed, out=out)
                table = score(lm, {seed: out}, LabBenchmark(name="lab", split="validation"), pool=pool)[seed].table
            cells.append(table["score"].to_numpy())
            done_n += 1
            progress(done_n, total_n)
        shape = (len(STRATEGIES), len(budgets), len(training_seeds), -1)
        judged.append(Judged((rate, epochs), np.array(cells).reshape(shape)))
    return judged


def _chooser(settings: Pool) -> Callable[[str, int, int], list[Example]]:
    """Return a function of (strategy, seed, budget) that returns the examples of a cell."""
    from taskdiv_assets.pools.labels import from_column
    from taskdiv_assets.pools.read import read_pool
    from taskdiv_assets.selection import SelectionPool, parse_prompt_ids, rank

    table = read_pool(settings).table.sort_by("prompt_id")
    names, codes = np.unique(from_column(table).sort_by("prompt_id")["task"].to_pylist(), return_inverse=True)
    columns = [table[name].to_pylist() for name in ("prompt_id", "prompt", "response")]
    examples = [Example(*row) for row in zip(*columns, strict=True)]
    pool = SelectionPool(parse_prompt_ids(columns[0]), codes.astype(np.int32), tuple(str(name) for name in names))
    return lambda strategy, seed, budget: [examples[row] for row in rank(strategy, pool, seed=seed)[:budget]]


def compare(judged: Sequence[Judged], committed: Setting) -> Verdict:
    """Compare the committed setting with the best setting.

    All tasks have the same number of items, so the mean over items is the macro mean. Items are paired between settings.
    """
    by_setting = {one.setting: one.scores.mean(axis=(0, 1, 2)) for one in judged}  # (items,)
    best = max(by_setting, key=lambda setting: float(by_setting[setting].mean()))
    if committed not in by_setting:
        raise ValueError(
            f"the committed setting {committed} is not in the grid {sorted(by_setting)}; add it to the grid"
        )
    difference = by_setting[best] - by_setting[committed]
    return Verdict(best, committed, float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(difference.size)))


def print_table(judged: Sequence[Judged], budgets: Sequence[int]) -> None:
    """Print the macro exact match of each setting, by strategy and budget."""
    cells = [f"{strategy}@{budget}" for strategy in STRATEGIES for budget in budgets]
    width = max(map(len, cells)) + 2
    print("rate     epochs  " + "".join(f"{cell:>{width}}" for cell in [*cells, "mean"]))
    for one in judged:
        means = [*one.scores.mean(axis=(2, 3)).ravel(), one.scores.mean()]
        print(f"{one.setting[0]:<9g}{one.setting[1]:<8d}" + "".join(f"{mean:>{width}.3f}" for mean in means))


def main() -> int:
    """Print the table and the verdict. Return 1 if the committed choice is no longer right."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.evidence.choose_tuning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--experiment", default="demo", help="whose committed choice is judged (default: demo)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="training seeds (default: 0 1)")
    parser.add_argument("--base", type=Path, help="a folder with the base of seed 1001, if it was trained before")
    arguments = parser.parse_args()
    experiment = experiments.load(arguments.experiment)
    pool = Pool(reader="lab", seed=UNREPORTED_SEED)
    with tempfile.TemporaryDirectory() as scratch:
        base = arguments.base or _train_base(Path(scratch))
        judged = choose_tuning(base, pool, experiment.tuning, experiment.budgets, arguments.seeds, _tell)
    print_table(judged, experiment.budgets)
    verdict = compare(judged, (experiment.tuning.rate, experiment.tuning.epochs))
    print(
        f"best {verdict.best}, committed {verdict.committed}: behind by {verdict.difference:.4f} "
        f"± {verdict.standard_error:.4f} (standard error over items): "
        + ("it holds" if verdict.holds else "IT NO LONGER HOLDS")
    )
    return 0 if verdict.holds else 1


def _train_base(folder: Path) -> Path:
    from taskdiv_assets.language_model.lab_model import train

    print(f"training the lab's base of seed {UNREPORTED_SEED} …", file=sys.stderr)
    train(LabModel(seed=UNREPORTED_SEED), None, folder)
    return folder


def _tell(done: int, total: int) -> None:
    print(f"\r{done} of {total} adapters", end="" if done < total else "\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
