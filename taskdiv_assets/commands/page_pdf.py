"""The report as a PDF, printed by a Chromium that is installed here, without a window and without network.

The page's style for print decides what is on paper: all tables but the long folded ones.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import fsspec

from reports import writing

FORMATS = ("html", "pdf")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LIMIT_S = 120.0
FLAGS = (
    "--headless", "--disable-gpu", "--no-first-run", "--disable-extensions", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--no-pdf-header-footer", "--generate-pdf-document-outline",
)  # fmt: skip


def browser_for(file_format: str) -> str:
    """Return the path of the browser that `file_format` needs, empty for html; raise ValueError if there is none."""
    if file_format not in FORMATS:
        raise ValueError(f"unknown format {file_format!r}; expected one of {', '.join(FORMATS)}")
    return find_browser() if file_format == "pdf" else ""


def write(report: str, browser: str, name: str, output: str) -> str:
    """Print the page in the folder `report` to `<name>.pdf` in the folder `output`, and return the path of the PDF.

    Both folders are paths or URLs. If `output` is empty, the PDF is written to the current folder.
    """
    with fsspec.open(f"{report}/index.html") as page:
        html = page.read()
    fs, root = fsspec.core.url_to_fs(output or ".")
    fs.makedirs(root, exist_ok=True)
    is_local = isinstance(fs, fsspec.implementations.local.LocalFileSystem)
    made = printed(html, browser, Path(root) if is_local else None)
    path = f"{output.rstrip('/') or '.'}/{name}.pdf"
    writing.put(fs, f"{root}/{name}.pdf", made)
    return str(Path(path).resolve()) if is_local else path


def find_browser() -> str:
    """Return the path of an installed browser that can print a page; raise ValueError if there is none."""
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    raise ValueError(
        f"no browser can make the PDF: none of {', '.join(BROWSERS)} is on the PATH; install one of them (Debian: "
        "`apt install chromium`), or open the report in any browser and print it to a file"
    )


def printed(html: bytes, browser: str, near: Path | None = None, limit_s: float = LIMIT_S) -> bytes:
    """Return a page as PDF.

    Args:
        html: the page; it must not refer to other files.
        browser: path of the program.
        near: an existing folder in which a temporary folder is made. Some browsers (snap packages) may read only the user's own
            folders. The default is the system's folder for temporary files.
        limit_s: seconds after which the browser is stopped.

    Raises:
        ValueError: the browser failed or took longer than `limit_s`.
    """
    with tempfile.TemporaryDirectory(prefix="taskdiv-pdf-", dir=near, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        page, pdf = folder / "index.html", folder / "page.pdf"
        page.write_bytes(html)
        own = [f"--user-data-dir={folder / 'profile'}", f"--print-to-pdf={pdf}"]
        if os.geteuid() == 0:
            own.append("--no-sandbox")  # Chromium refuses to start as root with its sandbox
        said = _run([browser, *FLAGS, *own, page.as_uri()], limit_s)
        made = pdf.read_bytes() if pdf.is_file() else b""
    if not made.startswith(b"%PDF"):
        raise ValueError(
            f"{browser} made no PDF ({said or 'it said nothing'}); open the report in any browser and print it to a file"
        )
    return made


def _run(command: list[str], limit_s: float) -> str:
    """Run a browser with all its processes, and return the last line of its messages; raise ValueError after `limit_s`."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        _, raw = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"{command[0]} did not finish the PDF within {limit_s:.0f} s and was stopped; open the report in any browser and "
            "print it to a file"
        ) from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # its children, if any is left
        process.wait()
    lines = raw.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else ""
