"""Small real models that the tests of the language model share."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskdiv_assets.experiment import LabModel
from taskdiv_assets.language_model.loading import LanguageModel, load

MINIATURE_TASKS = ["copy", "first", "last", "max", "upper", "compare"]
MINIATURE = LabModel(seed=3, steps=120, hidden_size=32, layers=2)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Use one thread, for which bit-identity is promised."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def miniature_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the base model of a lab with six tasks halfway, and return its folder."""
    from taskdiv_assets.language_model.lab_model import train

    folder = tmp_path_factory.mktemp("miniature")
    train(MINIATURE, MINIATURE_TASKS, folder)
    return folder


@pytest.fixture(scope="session")
def miniature(miniature_folder: Path) -> LanguageModel:
    """Return the half-trained lab model, loaded."""
    return load(miniature_folder, dtype="float32", attention="sdpa")


@pytest.fixture(scope="session")
def stories(shared_data: Path) -> LanguageModel:
    """Return a real pretrained model with a real tokenizer: 260,032 parameters, a BOS, a context of 512 tokens."""
    return load(shared_data / "models" / "stories260K", dtype="float32", attention="sdpa")


@pytest.fixture(scope="session")
def dolly_prompts(shared_data: Path) -> list[str]:
    """Return the first 60 prompts of Dolly. Some are longer than the context of `stories`."""
    import gzip
    import json

    with gzip.open(shared_data / "dolly" / "databricks-dolly-15k.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(60), strict=False)]
    return ["\n\n".join(filter(None, (row["instruction"], row["context"]))) for row in rows]
