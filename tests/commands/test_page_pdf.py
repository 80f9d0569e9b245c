"""`taskdiv report --format pdf`: the page printed by Chromium, and what is said where that is not possible."""

from __future__ import annotations

import re
import sys
import zlib
from pathlib import Path

import pytest

from reports import envelope
from reports.tables import Table
from taskdiv_assets.commands import page_pdf
from tests.browser import absent

HEAD_COLOUR = b"1 0 0 rg"  # red, as the test's page draws the heads of columns
FAKE = """#!{python}
import sys, time
said = [one for one in sys.argv if one.startswith("--print-to-pdf=")]
page = sys.argv[-1].removeprefix("file://")
if {is_slow}:
    time.sleep(60)
if {works}:
    open(said[0].partition("=")[2], "wb").write(b"%PDF-1.4 " + open(page, "rb").read())
print("one line", "the last line", sep="\\n", file=sys.stderr)
"""


def fake(folder: Path, *, works: bool = True, is_slow: bool = False, name: str = "chromium") -> Path:
    """Write a program that takes the place of a browser."""
    path = folder / name
    path.write_text(FAKE.format(python=sys.executable, works=works, is_slow=is_slow))
    path.chmod(0o755)
    return path


@pytest.mark.browser
def test_a_long_table_has_its_heads_on_every_page() -> None:
    try:
        browser = page_pdf.find_browser()
    except ValueError as error:
        absent(str(error))
    rows = tuple((f"row {place}", "x" * 30) for place in range(120))
    form = (
        '{% from "macros.html.j2" import grid %}<!DOCTYPE html><meta charset="utf-8"/><style>{{ envelope.style }}'
        "thead th { color: #ff0000 }</style><nav><ol><li><a href='#a'>a</a></li></ol></nav>"
        "<main><section id='a'>{{ grid(table) }}</section></main><script>{{ envelope.script }}</script>"
    )
    table = Table("t", "A long table", ("HEAD", "other"), rows)
    html = envelope.environment().from_string(form).render(table=table).encode()
    pdf = page_pdf.printed(html, browser)
    pages_n = len(re.findall(rb"/Type\s*/Page\b", pdf))
    streams = [zlib.decompress(raw) for raw in re.findall(rb"stream\r?\n(\x78.*?)\r?\nendstream", pdf, re.S)]
    assert pages_n >= 3 and sum(HEAD_COLOUR in one for one in streams) == pages_n


def test_a_browser_is_found_by_name_or_the_sentence_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"none of chromium, .* is on the PATH; install one .* or open the report in any browser"
    ):
        page_pdf.browser_for("pdf")
    assert page_pdf.browser_for("html") == ""
    with pytest.raises(ValueError, match="unknown format 'docx'; expected one of html, pdf"):
        page_pdf.browser_for("docx")
    path = fake(tmp_path, name="google-chrome")
    assert page_pdf.browser_for("pdf") == str(path)


def test_a_browser_that_fails_or_hangs_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"made no PDF \(the last line\); open the report in any browser"):
        page_pdf.printed(b"<p>a</p>", str(fake(tmp_path, works=False)))
    with pytest.raises(ValueError, match=r"did not finish the PDF within 1 s and was stopped"):
        page_pdf.printed(b"<p>a</p>", str(fake(tmp_path, is_slow=True)), limit_s=1)
    assert page_pdf.printed(b"<p>a</p>", str(fake(tmp_path))) == b"%PDF-1.4 <p>a</p>"
