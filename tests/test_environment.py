"""A footer's record of the machine and of the code that made a table."""

import subprocess
from pathlib import Path

from taskdiv_assets.graph import environment

ROOT = Path(__file__).resolve().parents[1]


def test_a_checkout_names_its_commit() -> None:
    found = environment.describe()
    if not (ROOT / ".git").exists():
        assert (found["commit"], found["dirty"]) == (None, None)
        return
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert found["commit"] == head.stdout.strip() and found["dirty"] in (True, False)
