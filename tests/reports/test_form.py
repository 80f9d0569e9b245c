"""The page's form: escaped, loading nothing from elsewhere, readable in light and dark, each picture with text and numbers."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lxml import etree
from matplotlib.figure import Figure

import reports
from reports import envelope, looks, svg
from taskdiv_assets.selection import STRATEGIES
from tests.reports.make_results import Recipe, make_results

SVG = "{http://www.w3.org/2000/svg}"
TEMPLATES = Path(reports.__file__).parent / "templates"
RECIPE = Recipe(
    tasks=("copy", "flip", "omen", "round"), items_per_task=12, budgets=(32, 64), benchmarks=("lab", "bbh"), sample_n=30
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("form"), RECIPE)


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return reports.render(str(folder)).html


def parsed(html: str) -> etree._Element:
    return etree.fromstring(html.removeprefix("<!DOCTYPE html>").encode(), etree.XMLParser(resolve_entities=False))


def hash_of(text: str | None) -> str:
    assert text
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


class TestClosed:
    def test_templates_escape_by_themselves(self) -> None:
        environment = envelope.environment()
        shown = environment.from_string("{{ x }}").render(x="<b>&\x00\ud800\n\"'")
        assert environment.autoescape is True and shown == "&lt;b&gt;&amp;\ufffd\ufffd\n&#34;&#39;"

    def test_the_policy_allows_the_pages_own_style_and_script_by_hash_and_nothing_else(self, html: str) -> None:
        root = parsed(html)
        policy = root.find(".//meta[@http-equiv='Content-Security-Policy']").get("content")
        rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
        [style], [script] = root.iter("style"), root.iter("script")
        assert rules == {
            "default-src": "'none'",
            "script-src": hash_of(script.text),
            "style-src": hash_of(style.text),
            "base-uri": "'none'",
            "form-action": "'none'",
        }
        elements = list(root.iter(etree.Element))
        of_policy = next(
            place for place, one in enumerate(elements) if one.get("http-equiv") == "Content-Security-Policy"
        )
        assert of_policy < min(elements.index(style), elements.index(script))  # a policy counts from where it stands

    def test_no_style_stands_at_an_element(self, html: str) -> None:
        assert [one.tag for one in parsed(html).iter(etree.Element) if one.get("style")] == []

    @pytest.mark.parametrize("name", ["style.css", *envelope.SCRIPTS])
    def test_style_and_script_need_no_escaping(self, name: str) -> None:
        text = (TEMPLATES / name).read_text()
        assert not set("&<\r") & set(text)

    def test_the_script_is_short(self) -> None:
        lines = [line.strip() for line in (TEMPLATES / "report.js").read_text().splitlines()]
        assert sum(bool(line) and not line.startswith(("//", "/**")) and line != "}" for line in lines) <= 70


class TestPictures:
    def test_every_figure_has_a_caption_a_description_and_its_numbers_as_a_table(self, html: str) -> None:
        figures = list(parsed(html).iter("figure"))
        assert len(figures) >= 10
        for figure in figures:
            [drawing] = figure.iter(f"{SVG}svg")
            caption = "".join(figure.find("figcaption").itertext()).strip()
            assert len(caption) > 40 and caption.endswith(".")
            assert drawing.get("role") == "img" and drawing.find(f"{SVG}title").text
            assert " ".join(drawing.find(f"{SVG}desc").text.split())[:60] == caption[:60]
            labels = drawing.get("aria-labelledby").split()
            assert [drawing.find(f"{SVG}{name}").get("id") for name in ("title", "desc")] == labels
            assert has_table(figure), caption

    def test_looks_change_colour_marker_and_dash_together(self) -> None:
        names = [f"s{place}" for place in range(len(STRATEGIES))]
        found = looks.looks(names, "s0")
        assert len({(one.colour, one.dash) for one in found.values()}) == len(
            STRATEGIES
        )  # a line is told from any other
        assert len({one.marker for one in found.values()}) == len(STRATEGIES)

    def test_text_in_a_picture_is_left_alone(self) -> None:
        foreign = 'id="a" style="fill: red" url(#b) href="#c" #1b1f24 1.23456 <g> font: 10px x; </style><!--'
        figure = Figure(figsize=(2, 1))
        with svg.style():
            figure.text(0.5, 0.5, foreign)
        root = etree.fromstring(svg.to_svg(figure, "x", "t", "d"))
        assert [one.text for one in root.iter(f"{SVG}text")] == [foreign]

    def test_a_picture_keeps_its_shapes(self) -> None:
        """What is written shorter says the same: lengths of paths, places of marks and letters within a tenth of a pixel."""
        figure = Figure(figsize=(3, 2))
        with svg.style():
            axes = figure.add_subplot()
            axes.plot([0, 1, 1, 2.5], [0, 0, 1, 0.3], marker="o", clip_on=True)
        root = etree.fromstring(svg.to_svg(figure, "x", "t", "d"))
        marks = [(float(use.get("x")), float(use.get("y"))) for use in root.iter(f"{SVG}use")][-4:]
        expected = [
            (x, 2 * 72 - y) for x, y in axes.transData.transform([(0, 0), (1, 0), (1, 1), (2.5, 0.3)]) * 72 / figure.dpi
        ]
        assert [value for mark in marks for value in mark] == pytest.approx(np.ravel(expected), abs=0.11)
        [line] = [
            one.get("d") for one in root.iter(f"{SVG}path") if one.get("clip-path") and "stroke" in str(one.attrib)
        ]
        points = [list(map(float, part.split())) for part in re.findall(r"[MLHV]([^MLHV]*)", line)]
        assert [len(point) for point in points] == [2, 1, 1, 2]  # along an axis: one number


def inherited(element: etree._Element, attribute: str) -> str | None:
    """Return an attribute of the element or of its nearest ancestor that has it."""
    found = (one.get(attribute) for one in (element, *element.iterancestors()))
    return next((value for value in found if value), None)


def has_table(figure: etree._Element) -> bool:
    """Return whether a table follows before the next figure, in the same section."""
    for sibling in figure.itersiblings():
        if sibling.tag == "figure":
            return False
        if sibling.tag == "table" or sibling.find(".//table") is not None:
            return True
    return False


def grounds() -> list[dict[str, str]]:
    """Return the colours by name in light, dark and print."""
    css = (TEMPLATES / "style.css").read_text()
    return [
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]{3,6})", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)
    ]


def channels(colour: str) -> tuple[float, ...]:
    digits = colour.strip("#")
    digits = "".join(2 * one for one in digits) if len(digits) == 3 else digits
    return tuple(int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))


def mixed(top: str, ground: str, share: float) -> tuple[float, ...]:
    pairs = zip(channels(top), channels(ground), strict=True)
    return tuple(share * over + (1 - share) * under for over, under in pairs)


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Return the contrast ratio of WCAG 2.2."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("place", range(3), ids=["light", "dark", "print"])
class TestContrast:
    def test_text_reaches_4_5_on_every_ground_it_stands_on(self, place: int) -> None:
        colours = grounds()[place]
        for name in ("ink", "muted", "blue", "vermillion", "green", "purple", "accent"):
            for ground in ("surface", "raised"):
                assert contrast(channels(colours[name]), channels(colours[ground])) >= 4.5, (name, ground)

    def test_numbers_are_readable_on_the_darkest_tile(self, place: int) -> None:
        colours = grounds()[place]
        for tile in ("blue", "vermillion"):
            darkest = mixed(colours[tile], colours["surface"], 0.44)  # tiles.tile's largest
            assert contrast(channels(colours["ink"]), darkest) >= 4.5, tile

    def test_lines_and_marks_reach_3_as_they_are_drawn(self, place: int, html: str) -> None:
        """Every stroke, mark and letter of every picture; the grid, areas and tiles are ground, not lines."""
        colours, seen = grounds()[place], set()
        for drawing in parsed(html).iter(f"{SVG}svg"):
            for one in drawing.iter(f"{SVG}use", f"{SVG}text", f"{SVG}path"):
                kind = etree.QName(one).localname
                for attribute in ("stroke",) if kind == "path" else ("stroke", "fill"):
                    colour = inherited(one, attribute)
                    if colour not in (None, "none") and "--line" not in colour and "--surface" not in colour:
                        name = re.sub(r"var\(--(\w+),.*", r"\1", colour)
                        share = float(inherited(one, "opacity") or 1) * float(
                            inherited(one, f"{attribute}-opacity") or 1
                        )
                        if share > 0.1:  # bands behind the lines
                            seen.add((name, share, 4.5 if kind == "text" else 3.0))
        assert len(seen) > 10
        for name, share, least in seen:
            assert contrast(mixed(colours[name], colours["surface"], share), channels(colours["surface"])) >= least, (
                name,
                share,
            )

    def test_every_colour_is_defined(self, place: int) -> None:
        css = (TEMPLATES / "style.css").read_text()
        used = set(re.findall(r"var\(--([a-z]+)\)", css)) - {"sans", "mono", "tone"}
        assert used | {name.strip("-") for name in svg.VARIABLES.values()} <= set(grounds()[place])


def test_no_colour_is_written_beside_the_variables(html: str) -> None:
    css = re.sub(r":root \{.*?\}", "", (TEMPLATES / "style.css").read_text(), flags=re.S)
    assert re.findall(r"#[0-9a-f]{3,6}\b", css) == []
    for drawing in re.findall(r"<svg.*?</svg>", html, re.S):
        plain = re.sub(r"var\(--[a-z]+,#[0-9a-f]{6}\)", "", drawing)
        assert re.findall(r'(?:fill|stroke)="(?!none|")[^"]*"', plain) == []


@pytest.mark.full
def test_two_processes_make_the_same_bytes(folder: Path, html: str) -> None:
    command = "import sys, reports; sys.stdout.buffer.write(reports.render(sys.argv[1]).html.encode())"
    for seed in ("1", "2"):
        made = subprocess.run(
            [sys.executable, "-c", command, str(folder)],
            capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        assert made.stdout.decode() == html
