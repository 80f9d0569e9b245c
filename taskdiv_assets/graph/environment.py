"""The environment in which a result was made: machine, versions, commit. Footers contain it, but identities do not."""

import functools
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "taskdiv-assets", "dagster", "torch", "transformers", "tokenizers", "peft", "trl", "accelerate", "datasets",
    "lm-eval", "great-expectations", "pandas", "numpy", "scipy", "pyarrow", "pydantic",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Return facts such as versions, platform, processor and GPU; also the commit if the code is in a git checkout."""
    return {**_unchanging(), "gpu": _gpu()}


@functools.cache
def _unchanging() -> dict[str, Any]:
    commit, is_dirty = _commit()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores_n": os.cpu_count(),
        "commit": commit,
        "dirty": is_dirty,
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpu() -> str | None:
    """Return the name of the first GPU; None if there is none, or if this process has not imported torch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))


def _commit() -> tuple[str | None, bool | None]:
    folder = Path(__file__).resolve().parents[2]  # the repository, if this is a checkout
    if not (folder / ".git").exists():
        return None, None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit, bool(_git(folder, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
