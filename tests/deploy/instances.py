"""Dagster homes of the tests, made from docs/deploy/dagster.yaml with only the changes that one machine needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "docs/deploy"


def settings() -> dict[str, Any]:
    """Return the content of docs/deploy/dagster.yaml."""
    return dict(yaml.safe_load((DEPLOY / "dagster.yaml").read_text()))


def write_home(folder: Path, kubeconfig: Path, *, keeps_postgres: bool = False) -> Path:
    """Write a `$DAGSTER_HOME` whose launcher uses the API in a kubeconfig file.

    Args:
        folder: folder to create.
        kubeconfig: replaces the service account that a pod has.
        keeps_postgres: if False, the records are in SQLite in the folder.
    """
    content = settings()
    launcher = content["run_launcher"]["config"]
    launcher |= {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig), "dagster_home": str(folder)}
    if not keeps_postgres:
        del content["storage"]
    folder.mkdir(parents=True)
    (folder / "dagster.yaml").write_text(yaml.safe_dump(content))
    return folder
