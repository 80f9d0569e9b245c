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
    """Bit-identity is promised for one thread."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def miniature_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model of a lab of six tasks, half trained."""
    from taskdiv_assets.language_model.lab_model import train

    folder = tmp_path_factory.mktemp("miniature")
    train(MINIATURE, MINIATURE_TASKS, folder)
    return folder


@pytest.fixture(scope="session")
def miniature(miniature_folder: Path) -> LanguageModel:
    """That model, loaded."""
    return load(miniature_folder, dtype="float32", attention="sdpa")


@pytest.fixture(scope="session")
def stories(shared_data: Path) -> LanguageModel:
    """A real pretrained model with a real tokenizer: 260,032 parameters, BOS, a context of 512."""
    return load(shared_data / "models" / "stories260K", dtype="float32", attention="sdpa")


@pytest.fixture(scope="session")
def dolly_prompts(shared_data: Path) -> list[str]:
    """The first 60 prompts of Dolly, some of them longer than the stories' context."""
    import gzip
    import json

    with gzip.open(shared_data / "dolly" / "databricks-dolly-15k.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(60), strict=False)]
    return ["\n\n".join(filter(None, (row["instruction"], row["context"]))) for row in rows]
