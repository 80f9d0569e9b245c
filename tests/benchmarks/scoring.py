"""Confidence of the lab's prompts against `generate` with logits."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.benchmarks import page
from tests.benchmarks.scale import Scale
from tests.benchmarks.timing import paired

TITLE = "Scoring"


def part(scale: Scale) -> page.Part:
    """Prompts sorted by length on both sides."""
    import torch

    from taskdiv_assets.experiment import LabModel
    from taskdiv_assets.language_model.confidence import score
    from taskdiv_assets.language_model.lab_model import train
    from taskdiv_assets.language_model.loading import load
    from taskdiv_assets.pools.lab import pool_items

    torch.set_num_threads(1)
    prompts = sorted((item.prompt for item in pool_items(1, None, 120, 24)), key=len)
    with tempfile.TemporaryDirectory() as folder:
        train(LabModel(steps=60), None, Path(folder))
        lm = load(Path(folder), dtype="float32", attention="sdpa")
        lm.tokenizer.padding_side = "left"

        def generate() -> None:
            for start in range(0, len(prompts), 128):
                batch = lm.tokenizer(prompts[start : start + 128], return_tensors="pt", padding=True)
                batch.pop("token_type_ids", None)
                out = lm.model.generate(
                    **batch, max_new_tokens=10, do_sample=False, output_logits=True, return_dict_in_generate=True
                )
                torch.stack(out.logits).softmax(-1).max(-1)

        ours, other = paired(lambda: score(lm, prompts, max_new_tokens=10), generate, 3)
    what = f"score {len(prompts):,} prompts, 10 new tokens, batch-independent"
    about = f"torch {torch.__version__}, one thread, the lab's model:\n\n"
    return page.Part(
        TITLE, about + page.comparison([page.Line(what, ours), page.Line("`generate` with logits", other)])
    )
