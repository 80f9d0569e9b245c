"""Small real models and adapters for the tests of benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from taskdiv_assets.experiment import LabModel
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.language_model.loading import LanguageModel, load

TASKS = ["first", "last", "max", "upper"]  # learnt in 120 steps, but for `last`


@pytest.fixture(scope="session")
def pool() -> Pool:
    return Pool(reader="lab", tasks=TASKS, largest_n=40, smallest_n=10)


@pytest.fixture(scope="session")
def lab_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a lab's base model, which is right on some items and wrong on others."""
    from taskdiv_assets.language_model.lab_model import train

    folder = tmp_path_factory.mktemp("lab_model")
    train(LabModel(steps=120, hidden_size=48, layers=2), TASKS, folder)
    return folder


@pytest.fixture
def load_lab(lab_folder: Path) -> Callable[[], LanguageModel]:
    """Return a function that loads the lab's base model from its files."""
    return lambda: load(lab_folder, dtype="float32", attention="sdpa")


@pytest.fixture(scope="session")
def make_adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, int], Path]:
    """Return a function that writes a LoRA adapter of a base model. Its random weights are large enough to change answers."""

    def make(base: Path, seed: int) -> Path:
        import torch
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(seed)
        config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(load(base, dtype="float32", attention="sdpa").model, config)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        folder = tmp_path_factory.mktemp(f"adapter{seed}")
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def lab_adapters(lab_folder: Path, make_adapter: Callable[[Path, int], Path]) -> dict[int, Path]:
    """Return two adapters of the lab's base model, by training seed."""
    return {seed: make_adapter(lab_folder, seed) for seed in (3, 7)}
