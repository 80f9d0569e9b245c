"""The built wheel works in an empty folder without the sources. It contains the contracts, templates and experiments."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.home import MINIATURE

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("wheel")]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the content of the wheel, and nothing else of the project."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder / "dist"), str(ROOT)]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(folder / "site")
    assert any(name.endswith("raw_pool.odcs.yaml") for name in names)
    assert any(name.endswith("report.html.j2") for name in names)
    assert any(name.endswith("experiment/builtin/demo.yaml") for name in names)
    assert not [name for name in names if name.startswith("tests/")]
    return folder / "site"


def taskdiv(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command of the wheel. The wheel's folder precedes the installed checkout on the path."""
    variables = {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environment = {k: v for k, v in os.environ.items() if k not in ("TASKDIV_HOME", "DAGSTER_HOME")}
    code = (
        "import sys, taskdiv_assets, reports, data_contracts\n"
        f"assert all(m.__file__.startswith({str(site)!r}) for m in (taskdiv_assets, reports, data_contracts))\n"
        "from taskdiv_assets.cli import main\nsys.argv[0] = 'taskdiv'\nmain()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd, env={**environment, **variables}, capture_output=True, text=True, timeout=420,
    )  # fmt: skip


def test_plan_demo_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    result = taskdiv(installed, tmp_path, "plan", "demo")
    assert result.returncode == 0, result.stderr
    assert "16 missing" in result.stdout  # the pool is made in memory, so its full cell is known


def test_a_cell_of_the_miniature_and_its_report_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "miniature.yaml").write_bytes(MINIATURE.read_bytes())
    result = taskdiv(
        installed, tmp_path, "run", "miniature.yaml", "--budget", "12", "--strategy", "random", "--workers", "1"
    )
    assert result.returncode == 0, result.stderr
    page = Path(result.stdout.strip().splitlines()[-1].removeprefix("report: "))
    assert page.is_relative_to(tmp_path / ".taskdiv") and page.stat().st_size > 50_000
