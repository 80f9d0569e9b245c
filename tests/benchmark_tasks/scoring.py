"""Functions that score a base model, or several adapters of one base model, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from taskdiv_assets.benchmarks import HarnessSettings, Scored, Scorer
from taskdiv_assets.benchmarks.adapters import loaded_adapters
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.language_model.loading import LanguageModel


def score(
    lm: LanguageModel,
    adapters: Mapping[int, Path],
    benchmark: HarnessSettings,
    *,
    pool: Pool,
    template: str = "{prompt}",
) -> dict[int, Scored]:
    """Return the results of several adapters of one base model, which is restored afterwards. For the arguments, see `Scorer`."""
    scorer = Scorer(lm, benchmark, pool=pool, template=template)
    found = {}
    with loaded_adapters(lm, adapters) as activate:
        for seed in adapters:
            activate(seed)
            try:
                found[seed] = scorer.score()
            except ValueError as error:
                raise ValueError(f"training seed {seed}: {error}") from None
    return found


def score_base(lm: LanguageModel, benchmark: HarnessSettings, *, pool: Pool, template: str = "{prompt}") -> Scored:
    return Scorer(lm, benchmark, pool=pool, template=template).score()
