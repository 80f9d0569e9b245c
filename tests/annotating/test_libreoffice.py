"""A list goes through LibreOffice itself: opened as CSV, saved in each format that it offers, and imported."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import pytest

from taskdiv_assets.graph.known_answers import known_answers
from tests.annotating.conftest import opened
from tests.annotating.test_lists import refused, said
from tests.home import Home

pytestmark = [
    pytest.mark.full,
    pytest.mark.xdist_group("annotating"),
    pytest.mark.skipif(shutil.which("soffice") is None, reason="needs LibreOffice Calc"),
]
SOFFICE_S = 120
TEXTS = ["Café – “ça va”; 1,5 €", 'Two lines,\nwith a "quote"', "'=1+1", "Ja.", "-2 degrees", "@home"]
# Field separator, text delimiter, encoding and first row of LibreOffice's CSV filter; 76 is UTF-8, 1 Windows-1252.
FORMATS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "utf-8": ("csv:Text - txt - csv (StarCalc):44,34,76,1", "csv", ()),
    "utf-8 with each text in quotes": ("csv:Text - txt - csv (StarCalc):59,34,76,1,,0,true", "csv", ()),
    "cp1252": ("csv:Text - txt - csv (StarCalc):59,34,1,1", "csv", ("--encoding", "cp1252")),
    "utf-16": ("csv:Text - txt - csv (StarCalc):9,34,65535,1", "csv", ("--encoding", "utf-16")),
    "ods": ("ods", "ods", ()),
    "fods": ("fods", "fods", ()),
    "xlsx": ("xlsx:Calc MS Excel 2007 XML", "xlsx", ()),
    "xlsm": ("xlsm:Calc MS Excel 2007 VBA XML", "xlsm", ()),
    "html": ("html", "html", ()),
    "xls": ("xls:MS Excel 97", "xls", ()),
}
REFUSED = {"fods", "html", "xls"}


def filled(path: Path) -> dict[str, str]:
    """Fill in the column `response` of a list, and return the answers as they are to be stored, by prompt_id."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    answers = [TEXTS[place % len(TEXTS)] for place in range(len(rows))]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "response": text} for row, text in zip(rows, answers, strict=True))
    return {row["prompt_id"].removeprefix("'"): text for row, text in zip(rows, answers, strict=True)}


def save(path: Path, kind: str, ending: str) -> Path:
    """Open a CSV file in LibreOffice, as a user who accepts all suggestions, and save it in another format."""
    profile = f"-env:UserInstallation=file://{path.parent / 'profile'}"
    options = ["--headless", "--norestore", "--infilter=CSV:44,34,76,1,,0,false,true", "--convert-to", kind]
    out = path.parent / "saved"
    subprocess.run(
        ["soffice", profile, *options, "--outdir", str(out), str(path)],
        check=True, capture_output=True, timeout=SOFFICE_S,
    )  # fmt: skip
    return out / f"{path.stem}.{ending}"


@pytest.mark.parametrize("name", FORMATS)
def test_what_libreoffice_saves_is_imported_as_it_was_typed(own: Home, name: str) -> None:
    kind, ending, options = FORMATS[name]
    said("export", "own", "--budget", "12", "--strategy", "task_diversity", "-o", "list.csv")
    answers = filled(own.folder / "list.csv")
    assert len(answers) == 12
    saved = save(own.folder / "list.csv", kind, ending)
    if name in REFUSED:
        assert "save it as “CSV UTF-8” and import again" in refused("import", "own", str(saved))
        return
    said("import", "own", str(saved), *options)
    _, store = opened(own, "own")
    assert {prompt_id: known_answers(store)[prompt_id] for prompt_id in answers} == answers
