"""What tests of several parts share."""

import os
from pathlib import Path

import pytest

from tests.golden import compute, copied, make
from tests.home import Home

# One torch thread a process: tests share few cores, and results are the same bit for bit.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TASKDIV_QUIET", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: $TASKDIV_SHARED/data, or shared/data next to the repository."""
    root = Path(os.environ.get("TASKDIV_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"no real data: {root / 'data'} is not there (set TASKDIV_SHARED)")
    return root / "data"


LONGEST_GROUP = "miniature"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of an `xdist_group` together, and begin with the longest group, so that no process ends up waiting for it.

    pytest 9.2 keeps a test's id as an object, and xdist 3.8 writes the group into the text that it was before: without the
    first part, every process would build what a group shares.
    """
    for item in items:
        text = getattr(item, "_nodeid", None)
        if text is not None and text != item.nodeid:
            item._id = type(item._id).parse(text)
    items.sort(key=lambda item: [mark.args for mark in item.iter_markers("xdist_group")] != [(LONGEST_GROUP,)])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The last lines say what was not tested for want of Chromium."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "Chromium" in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} browser test(s) were skipped: install Chromium to run them")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run share."""
    folder = tmp_path_factory.getbasetemp()
    return (
        folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder
    )  # xdist's processes have one each, below it


@pytest.fixture(scope="session")
def golden(shared_folder: Path) -> Home:
    """The finished miniature of the repository: read it, or copy it."""
    return make(shared_folder / "golden")


@pytest.fixture(scope="session")
def computed(shared_folder: Path) -> Home:
    """The miniature, run on this machine by the real command with two workers: read it, or copy it."""
    return compute(shared_folder / "computed")


@pytest.fixture(scope="module")
def miniature(golden: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A finished miniature of a module's own: its tests may add to it."""
    return copied(golden, tmp_path_factory.mktemp("home"))


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with nothing in it, for this process too."""
    home = Home(tmp_path)
    for name, value in home.variables().items():
        monkeypatch.setenv(name, value)
    return home
