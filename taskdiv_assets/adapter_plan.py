"""What each adapter of a cell is made of: the chosen prompts with their answers, the settings and the base model.

Pure: an allocation and hashes of answers in, identities out. Training itself is in `language_model.tuning`, the asset in
`assets.adapter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from taskdiv_assets.identity import CODE_VERSIONS, digest, identity


class AdapterPlan(NamedTuple):
    """What one seed's adapter is made of."""

    training_seed: int
    selection_seed: int
    identity: str
    missing_n: int  # chosen prompts whose answer is not known
    prompt_ids: pa.ChunkedArray


def plan_adapters(
    allocation: pa.Table,  # columns selection_seed, prompt_id
    answers: Mapping[str, str | None],  # prompt_id → sha256 of its answer, None where it is not known
    seeds: Mapping[int, int],  # training seed → selection seed
    settings: Mapping[str, object],  # of tuning, and the template
    base_model: str,  # identity
) -> list[AdapterPlan]:
    """One plan a training seed, in the order of `seeds`; equal selections have equal identities."""
    plans = []
    for seed, selection_seed in seeds.items():
        chosen = allocation.filter(np.asarray(allocation["selection_seed"]) == selection_seed)["prompt_id"]
        known = {prompt_id: answers.get(prompt_id) for prompt_id in chosen.to_pylist()}
        pairs = digest(sorted([prompt_id, answer or ""] for prompt_id, answer in known.items()))
        value = identity(
            "adapter",
            CODE_VERSIONS["adapter"],
            {**settings, "training_seed": seed},
            {"base_model": base_model, "pairs": pairs},
        )
        plans.append(AdapterPlan(seed, selection_seed, value, sum(a is None for a in known.values()), chosen))
    return plans
