"""What tests of several parts share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: $TASKDIV_SHARED/data, or shared/data next to the repository."""
    root = Path(os.environ.get("TASKDIV_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"no real data: {root / 'data'} is not there (set TASKDIV_SHARED)")
    return root / "data"
