"""Foreign text on the page: hostile names of pools, tasks, models, strategies and broken files change only the shown text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from lxml import etree

import reports
from tests.browser import chromium, tab
from tests.reports.make_results import Recipe, make_results

SCRIPT = "</script><script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>"
HOSTILE = {
    "script": SCRIPT,
    "style": '</style><style>*{display:none}</style>" style="display:none" onclick=\'alert(4)\'',
    "template": "{{7*7}}{% for x in range(9) %}{# #}${7*7}<%= 7*7 %> $x_1^2$ \\frac{1}{2}",
    "entity": '&lt;&#60;&bogus;<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]>&y;]]><![CDATA[ --> <!--',
    "direction": "\u202egnp.exe\u2066\u2069\u200f\u061c abc \u05d0\u05d1 \ufeff\u2028\u2029",
    "control": "\x00\x01\x07\x08\x0b\x0c\x1b[31mred\x1b[0m\x1b]8;;https://example.invalid\x07\x7f\x85\x9b",
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea e\u0301 " + "z\u0335\u0321\u0334" * 40,
    "beyond": "\ufffe\uffff\U0010ffff\ue000\U000e0041",
    "long": "y" * 20_000,
    "spaces": " \t\n\r\n  " * 50 + "end",
    "ids": 'id="answer" #1b1f24 url(#x) font: 10px x; href="#y" 1.23456789',
}
RECIPE: dict[str, Any] = {
    "tasks": ("copy", "omen"), "items_per_task": 5, "budgets": (16, 32), "seeds": (0, 1), "reader": "table",
    "rejected": (("allocation", "16|random"),), "missing": frozenset({("min_margin", 16)}),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> etree._Element:
    return parsed(reports.render(str(hostile_results(tmp_path_factory.mktemp("plain"), " plain"))).html)


def parsed(html: str) -> etree._Element:
    return etree.fromstring(
        html.removeprefix("<!DOCTYPE html>").encode(), etree.XMLParser(resolve_entities=False, huge_tree=True)
    )


def hostile_results(root: Path, text: str) -> Path:
    """Return results in which every name, note and error contains the text."""
    name = text.replace("\x00", "\ufffd")
    recipe = Recipe(**RECIPE, hostile=text, benchmarks=("lab", f"b{name[:2000]}"), metric=f"m{name[:2000]}")
    folder = make_results(root, recipe)
    for path in [*folder.glob("tables/adapter/**/*.parquet"), *folder.glob("tables/raw_pool.parquet")]:
        change_footer(path, text)
    (folder / "tables" / "adapter" / f"{name.replace('/', '_')[:40]}.parquet").write_bytes(b"not parquet")
    (folder / "budgets" / f"x{name.replace('/', '_')[:40]}").write_text("")
    return folder


def change_footer(path: Path, text: str) -> None:
    table = pq.read_table(path)
    footer = json.loads(table.schema.metadata[b"taskdiv"])
    footer |= {"run_id": f"run{text}", "identity": f"id{text}"}
    footer["environment"] |= {"gpu": f"gpu{text}", "processor": text, "versions": {f"torch{text}": text}}
    footer["notes"] |= {"tuning": {f"rank{text}": text}, "note": text, text: 1}
    pq.write_table(table.replace_schema_metadata({"taskdiv": json.dumps(footer)}), path)


def shape(root: etree._Element) -> list[tuple[str, tuple[str, ...]]]:
    """Return each element with its attributes' names, except in pictures and elements that depend on names."""
    kept = (
        one for one in root.iter(etree.Element) if not any(up.tag.endswith("svg") for up in (one, *one.iterancestors()))
    )
    return [(str(one.tag), tuple(one.attrib)) for one in kept if one.tag not in ("wbr", "li", "bdi")]


USUAL = ("script", "direction", "beyond")  # each of another kind; the rest belong to the slow tests


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in USUAL else [pytest.mark.full]) for kind in HOSTILE]
)
def test_only_what_is_shown_changes(tmp_path: Path, kind: str, plain: etree._Element) -> None:
    html = reports.render(str(hostile_results(tmp_path, HOSTILE[kind]))).html
    assert len(html.encode("utf-8")) < 1_000_000  # cut, and no lone surrogate
    root = parsed(html)
    assert shape(root) == shape(plain)
    assert not {"alert", "onerror", "onload"} & {name for one in root.iter(etree.Element) for name in one.attrib}
    for drawing in root.iter("{http://www.w3.org/2000/svg}svg"):
        etree.fromstring(etree.tostring(drawing))
    shown = "".join(root.itertext())
    forbidden = [
        *map(chr, range(0x20)),
        *map(chr, range(0x7F, 0xA0)),
        *"\u202a\u202b\u202c\u202d\u202e\u2066\u2069\u200f\ufffe",
    ]
    assert not (set(forbidden) - {"\n"}) & set(shown)
    if kind == "template":
        assert "{{7*7}}" in shown and "49" not in {word.strip("{}") for word in shown.split()}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("z" * 10_000_000, id="10MB", marks=pytest.mark.full),
        pytest.param("\ud800" * 1000, id="surrogates"),
        pytest.param("\ud83d", id="half", marks=pytest.mark.full),
        pytest.param("<" * 100_000, id="open", marks=pytest.mark.full),
    ],
)
def test_what_only_a_footer_or_a_broken_file_can_hold(tmp_path: Path, value: str) -> None:
    """JSON may name lone surrogates; a run may note anything of any length."""
    folder = make_results(tmp_path, Recipe(**RECIPE))
    change_footer(folder / "tables" / "raw_pool.parquet", value)
    broken = next(folder.glob("tables/**/*.rejected.json"))
    rejected: dict[str, Any] = json.loads(broken.read_text())
    rejected["rules"][0] |= {
        "rule": value,
        "observed": value,
        "examples": [value, {value: value}],
        "description": value,
    }
    broken.write_text(json.dumps(rejected | {"run_id": value, "rejected_at": value}))
    settings = yaml.safe_load((folder / "experiment.yaml").read_text())
    settings["annotation"]["instructions"] = settings["base_model"]["hub"] = value
    if value.isascii() and len(value) <= 1_000_000:  # PyYAML takes ten seconds for ten megabytes
        (folder / "experiment.yaml").write_text(yaml.safe_dump(settings))
    html = reports.render(str(folder)).html
    assert len(html.encode("utf-8")) < 400_000
    parsed(html)


@pytest.mark.parametrize("length_n", [2_000_000])
def test_a_task_of_many_letters(tmp_path: Path, length_n: int) -> None:
    recipe = Recipe(**{**RECIPE, "tasks": ("t",), "items_per_task": 1, "budgets": (2,), "seeds": (0,), "strategies": ("random", "min_margin"),
                       "missing": frozenset(), "has_primary": False}, has_effects=False)  # fmt: skip
    folder = make_results(tmp_path, recipe)
    for path in folder.glob("tables/**/*.parquet"):
        table = pq.read_table(path)
        if "task" in table.column_names and table.num_rows:
            place = table.column_names.index("task")
            table = table.slice(0, 2)
            pq.write_table(table.set_column(place, "task", [["t" * length_n] * table.num_rows]), path)
    html = reports.render(str(folder)).html
    parsed(html)
    assert len(html.encode()) < 400_000


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.xdist_group("report_in_browser")
def test_nothing_runs_and_nothing_complains_in_a_browser(tmp_path: Path) -> None:
    with chromium() as browser, tab(browser, width=390) as opened:
        for kind, text in HOSTILE.items():
            (tmp_path / kind).mkdir()
            page = Path(reports.build(str(hostile_results(tmp_path / kind, text))))
            opened.forget()
            opened.page.goto(page.as_uri())
            opened.unfold()
            for button in opened.page.locator("thead button").all()[:3]:
                button.dispatch_event("click")
            assert opened.messages == [], kind
            assert opened.requests == [page.as_uri()], kind
            assert opened.overflow() <= 0, kind
            assert opened.page.evaluate("document.characterSet") == "UTF-8"
            assert opened.page.locator("#answer-title").is_visible(), kind
