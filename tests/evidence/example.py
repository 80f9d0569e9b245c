"""Write docs/example again: the demo's report, its numbers, and a picture of its top.

Run: make example     (first runs the missing steps of the demo; needs Chromium for the picture)
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from taskdiv_assets.storage.store import home
from tests.browser import chromium, tab

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "example"
WIDTH, HEIGHT = 1280, 1000


def main() -> None:
    """Run the demo, write its report with the present code, and take its picture."""
    for arguments in (("run", "demo"), ("report", "demo", "--output", str(EXAMPLE))):
        subprocess.run([sys.executable, "-m", "taskdiv_assets.cli", *arguments], check=True)
    check_is_shareable((EXAMPLE / "index.html").read_text(encoding="utf-8"))
    with chromium() as browser, tab(browser, width=WIDTH, height=HEIGHT) as opened:
        opened.page.goto((EXAMPLE / "index.html").as_uri())
        opened.page.screenshot(path=EXAMPLE / "report.png")
    print(f"made: {EXAMPLE}")


def check_is_shareable(page: str) -> None:
    """Check that the page of the example contains no path of this machine.

    Raises:
        ValueError: the page contains such a path.
    """
    found = re.search(rf"{re.escape(str(Path.home()))}|{re.escape(str(ROOT))}|{re.escape(home())}", page)
    if found:
        raise ValueError(f"the page names {found[0]!r}, a place on this machine; it is not fit to be shown")


if __name__ == "__main__":
    main()
