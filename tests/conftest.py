"""Fixtures for tests in several folders, and the order of tests."""

import gc
import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from _pytest.doctest import DoctestModule
from absl import logging as absl_logging
from hypothesis import HealthCheck, settings

from tests.golden import compute, copied, make
from tests.home import Home

# One torch thread a process: tests share few cores, and results are the same bit for bit.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TASKDIV_QUIET", "1")
# absl, which rouge-score imports, closes the stream of its handler when logging is configured again, unless this is the standard
# error at that moment. Within CliRunner it is not, and the stream would be the file in which pytest captures output.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__


# Deadlines of single examples fail on a busy machine and say nothing about the code.
# Each run draws other examples.
settings.register_profile("tests", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# Imports and collected tests stay until the end, so that collections of garbage while they are made find nothing (2.5 of 17 s).
gc.disable()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data: $TASKDIV_SHARED/data, or shared/data next to the repository."""
    root = Path(os.environ.get("TASKDIV_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"no real data: {root / 'data'} is not there (set TASKDIV_SHARED)")
    return root / "data"


# Groups that take longest on two idle cores, in seconds: they begin, so that no process ends up waiting for one of them. Only the
# order matters; `--durations=60` shows when it has changed.
SECONDS = {
    # make test
    "cli": 75, "report_in_browser": 60, "test_report_page": 50, "benchmark_graph": 45, "confidence_graph": 40, "graph": 40,
    "test_limits": 40, "engine": 35, "writing": 20, "questions": 65, "campaign_graph": 15, "held_out_graph": 15, "test_lab": 15,
    # make test-full
    "s3": 380, "ray": 170, "test_architectures": 110, "dagster_ui": 200, "real_data": 190, "kill": 165, "benchmark_kill": 145,
    "tuning_kill": 135, "interrupts": 130, "real_pools": 100, "scoring_kill": 90, "wheel": 60,
}  # fmt: skip
EVIDENCE = ("benchmarks", "evidence")  # folders of programs that measure; their own tests are counted apart


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Look for doctests in no file of the tests, because this imports every program among them."""
    return [one for one in (yield) if not isinstance(one, DoctestModule)]


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests of evidence programs, and keep the tests of a module in one process, so that its fixtures are built once."""
    if item.path.parent.name in EVIDENCE:
        item.add_marker(pytest.mark.evidence)
    if item.get_closest_marker("xdist_group") is None:
        item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest groups.

    pytest 9.2 stores a test's id as an object. xdist 3.8 adds the group to the text of the id, which earlier versions stored.
    The first part of this function puts the group into the object. Without it, every process would build what a group shares.
    """
    for item in items:
        text = getattr(item, "_nodeid", None)
        if text is not None and text != item.nodeid:
            item._id = type(item._id).parse(text)
    items.sort(
        key=lambda item: -max((SECONDS.get(one.args[0], 0) for one in item.iter_markers("xdist_group")), default=0)
    )


def pytest_collection_finish() -> None:
    """Exclude everything that was imported and collected from later collections of garbage (0.5 s each before)."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print at the end how many tests were skipped because Chromium is missing."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "Chromium" in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} browser test(s) were skipped: install Chromium to run them")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of this test run share."""
    folder = tmp_path_factory.getbasetemp()
    return (
        folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder
    )  # xdist's processes have one each, below it


@pytest.fixture(scope="session")
def golden(shared_folder: Path) -> Home:
    """Return the finished miniature in the repository. Tests read or copy it, but must not change it."""
    return make(shared_folder / "golden")


@pytest.fixture(scope="session")
def computed(shared_folder: Path) -> Home:
    """Return one budget of the miniature, computed on this machine by two workers of the real command. Tests must not change it."""
    return compute(shared_folder / "computed")


@pytest.fixture(scope="module")
def miniature(golden: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a copy of the finished miniature, to which the tests of one module may add results."""
    return copied(golden, tmp_path_factory.mktemp("home"))


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Return an empty home, and set the environment of this process to it."""
    home = Home(tmp_path)
    for name, value in home.variables().items():
        monkeypatch.setenv(name, value)
    return home
