"""Write docs/example again: the demo's report, its numbers, and a picture of its top.

Run: make example     (first runs the missing steps of the demo; needs Chromium for the picture)
     python -m tests.evidence.example dolly_trial docs/example-real     (another experiment, in another folder)
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from taskdiv_assets.storage.store import home
from tests.browser import chromium, tab

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "example"
WIDTH, HEIGHT = 1280, 1000


def main(experiment: str = "demo", out: str = str(EXAMPLE)) -> None:
    """Run an experiment, write its report with the present code to the folder `out`, and take its picture."""
    folder = Path(out).resolve()
    for arguments in (("run", experiment), ("report", experiment, "--output", str(folder))):
        subprocess.run([sys.executable, "-m", "taskdiv_assets.cli", *arguments], check=True)
    check_is_shareable((folder / "index.html").read_text(encoding="utf-8"))
    shutil.rmtree(folder / "figures", ignore_errors=True)  # megabytes that the repository does not need
    with chromium() as browser, tab(browser, width=WIDTH, height=HEIGHT) as opened:
        opened.page.goto((folder / "index.html").as_uri())
        opened.page.screenshot(path=folder / "report.png")
    print(f"made: {folder}")


def check_is_shareable(page: str) -> None:
    """Check that the page of the example contains no path of this machine.

    Raises:
        ValueError: the page contains such a path.
    """
    found = re.search(rf"{re.escape(str(Path.home()))}|{re.escape(str(ROOT))}|{re.escape(home())}", page)
    if found:
        raise ValueError(f"the page names {found[0]!r}, a place on this machine; it is not fit to be shown")


if __name__ == "__main__":
    main(*sys.argv[1:])
