"""What a reader takes away: the numbers inside the page, a line to cite, and the figures as files."""

from __future__ import annotations

import base64
import csv
import io
import re
import struct
import zipfile
from pathlib import Path

import fsspec
import pytest
import yaml
from lxml import etree

import reports
from reports import envelope, results, take_away, writing
from reports.tables import Table
from tests.reports.make_results import Recipe, make_results

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPE = Recipe(tasks=("copy", "flip", "round"), items_per_task=8, budgets=(16, 32), sample_n=20)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("take"), RECIPE)


@pytest.fixture(scope="module")
def rendered(folder: Path) -> reports.Rendered:
    return reports.render(str(folder))


def parsed(html: str) -> etree._Element:
    return etree.fromstring(html.removeprefix("<!DOCTYPE html>").encode(), etree.XMLParser(resolve_entities=False))


def inside(html: str) -> dict[str, bytes]:
    """Return the files of the zip file that a page contains, by name."""
    [link] = [one for one in parsed(html).iter("a") if one.get("download")]
    kind, _, data = link.get("href").partition(";base64,")
    assert kind == "data:application/zip" and link.get("download") == link.text
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(data, validate=True))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rows_of(raw: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))


def test_the_page_contains_its_numbers(rendered: reports.Rendered) -> None:
    files = inside(rendered.html)
    assert files["results.csv"] == writing.as_csv(rendered.table)
    shown = [one for one in parsed(rendered.html).iter("table") if one.find("caption").get("id") != "paper-caption"]
    listed = rows_of(files["tables.csv"])[1:]
    assert sorted(name for name, _ in listed) == sorted(
        f"tables/{one.find('caption').get('id')[:-8]}.csv" for one in shown
    )
    for table in shown:
        made = rows_of(files[f"tables/{table.find('caption').get('id')[:-8]}.csv"])
        cells = [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
        assert [len(row) for row in made] == [len(row) for row in cells]
        assert [row[0].lstrip("'").replace(",", "") for row in made[1:]] == [
            row[0].replace(",", "") for row in cells[1:]
        ]


def test_a_large_results_table_leaves_single_tasks_out_and_then_names_the_file(
    folder: Path, rendered: reports.Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = results.load(str(folder))
    monkeypatch.setattr(take_away, "RESULT_ROWS_MAX_N", 50)
    made = take_away.part(found, rendered.table, {})
    kept = rows_of(inside(f'<p><a download="{made.file}" href="{made.link}">{made.file}</a></p>')["results.csv"])
    place = kept[0].index("task")
    assert len(kept) - 1 == sum(task == "" for task in rendered.table["task"].to_pylist()) and len(kept) > 50
    assert {row[place] for row in kept[1:]} == {""}
    assert f"that are not about a single task (of {rendered.table.num_rows:,})" in made.said
    monkeypatch.setattr(take_away, "ZIP_MAX_N", 1000)
    made = take_away.part(found, rendered.table, {})
    assert made.link == "" and "too large to be inside this page" in made.said
    template = envelope.environment().get_template("take_away.html.j2")
    shown = template.render(take=made, is_scored=True, experiment=found.experiment)
    assert "download=" not in shown and "<code>results.csv</code> beside it" in shown


def test_cells_are_numbers_or_texts_that_no_spreadsheet_runs() -> None:
    shown = ("−0.031", "+1,200", "007", "=1+1", "@a", "-x", "+1 to +2", 'a "b", c', "1,20")
    head, row = rows_of(take_away.as_csv(Table("t", "c", shown, (shown,))))
    assert row == ["-0.031", "1200", "007", "'=1+1", "'@a", "'-x", "'+1 to +2", 'a "b", c', "1,20"]
    assert head[3:5] == ["'=1+1", "'@a"]


def test_the_citation_has_the_facts_of_the_citation_file(folder: Path, rendered: reports.Rendered) -> None:
    known = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    paper = known["references"][0]
    names = ", ".join(author["family-names"] for author in paper["authors"])
    assert f"{names} ({paper['year']}): {paper['title']}. {paper['identifiers'][0]['value']}" == take_away.PAPER
    assert known["title"] == take_away.SOFTWARE
    [line] = [one for one in parsed(rendered.html).iter("p") if one.get("class") == "cite"]
    text = "".join(line.itertext())
    assert re.fullmatch(
        rf"demo: a report of {known['title']}.*, identity [0-9a-f]{{12}}\. Method: .*2507\.21482\.", text
    )


def test_figures_are_written_before_the_page_and_old_ones_are_removed(
    rendered: reports.Rendered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    put = writing.put
    monkeypatch.setattr(writing, "put", lambda fs, path, raw: (order.append(Path(path).name), put(fs, path, raw)))
    (tmp_path / "figures").mkdir()
    for name in ("old.svg", "old.png", "mine.txt", "mine.png"):
        (tmp_path / "figures" / name).write_text("")
    (tmp_path / "figures" / "captions.txt").write_text("old\nTitle. Caption.\n\n../../old\nTitle. Caption.\n")
    few = rendered._replace(pictures=rendered.pictures[-1:])
    writing.write(few, str(tmp_path))
    names = {f"{one.name}.{kind}" for one in few.pictures for kind in ("svg", "png")}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names | {"captions.txt", "mine.txt", "mine.png"}
    assert order[-1] == "index.html" and set(order[:-1]) == names | {"captions.txt", "results.csv", "results.parquet"}
    before = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    writing.write(few, str(tmp_path))
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == before
    for one in few.pictures:
        assert_stands_alone(before[f"{one.name}.svg"], one.caption)
        width, dots = png_sizes(before[f"{one.name}.png"])
        assert width > 2000 and dots == pytest.approx(300, abs=0.1)
    memory = fsspec.filesystem("memory")
    writing.write(few, "memory://paper")
    assert {Path(path).name for path in memory.ls("/paper/figures", detail=False)} == names | {"captions.txt"}
    writing.write(few._replace(pictures=()), "memory://paper")  # these figures would be those of an earlier report
    assert not memory.isdir("/paper/figures") or not memory.ls("/paper/figures")
    memory.rm("/paper", recursive=True)


def assert_stands_alone(raw: bytes, caption: str) -> None:
    """Check that an SVG has its letters as outlines, plain colours, a white ground, a description, and refers to nothing else."""
    root = etree.fromstring(raw, etree.XMLParser(resolve_entities=False, load_dtd=False))
    assert not list(root.iter(f"{SVG}text")) and b"var(" not in raw and b"#ffffff" in raw
    assert root.find(f"{SVG}desc").text[:40] == caption[:40]
    links = [value for one in root.iter() for name, value in one.attrib.items() if name.endswith("href")]
    assert links and all(link.startswith("#") for link in links)


def png_sizes(raw: bytes) -> tuple[int, float]:
    """Return the width in pixels and the resolution in dots per inch."""
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    place = raw.index(b"pHYs") + 4
    return struct.unpack(">I", raw[16:20])[0], struct.unpack(">I", raw[place : place + 4])[0] * 0.0254
