"""An experiment whose base model was damaged on disk: one bit of its weights has changed, so a contract fails.

The table with the hashes of the weights is missing too, as in a folder that was restored in part. Dagster makes the table again
from the files, and finds other hashes than those noted.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.home import Home


def rotten_experiment(home: Home, name: str) -> None:
    """Run the miniature under another name up to its base model, and damage the weights."""
    made = home.taskdiv("run", str(home.write_experiment(name)), "--until", "base_model", "--workers", "1")
    assert made.returncode == 0, made.stderr
    folder = home.folder / "results" / name
    (weights,) = folder.glob("folders/*/model.safetensors")
    _flip_last_bit(weights)
    (folder / "tables/base_model.parquet").unlink()


def rotten_copy(home: Home, source: str, name: str) -> None:
    """Copy the base model of an experiment that was run, and damage the copy, without training."""
    target = home.folder / "results" / name
    (weights,) = (home.folder / "results" / source).glob("folders/*/model.safetensors")
    copied = target / "folders" / weights.parent.name
    shutil.copytree(weights.parent, copied)
    _flip_last_bit(copied / weights.name)
    home.write_experiment(name).rename(target / "experiment.yaml")


def _flip_last_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
