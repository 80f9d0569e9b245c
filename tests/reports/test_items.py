"""All paired items inside the page: complete, bounded, the same every time, harmless, and absent where no answers are stored."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

import reports
from data_contracts import stored
from reports import results
from reports.items import item_payload
from reports.items.answer_texts import JUDGED_TARGET, NONE_WRITTEN, QUESTION_N, read_texts
from reports.items.item_parts import items_part
from reports.items.item_payload import payload, shown
from reports.items.paired_items import FIRST_N, PairedBenchmark, PairedItem, PairedItems
from reports.reader import Reader
from tests.reports.make_items import add_items, text
from tests.reports.make_results import Recipe, make_results
from tests.reports.test_hostile import HOSTILE, parsed

RECIPE = Recipe(
    tasks=("copy", "flip"), items_per_task=12, budgets=(32, 64), seeds=(0, 1), benchmarks=("lab", "mmlu"), missing=frozenset({("min_margin", 64)})
)  # fmt: skip
COMPARED = ("random", "weighted_task_diversity")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_items(make_results(tmp_path_factory.mktemp("items"), RECIPE), RECIPE, choices=("mmlu",))


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return reports.render(str(folder)).html


def data_of(html: str) -> dict[str, Any]:
    """Return the items of a page as its script reads them."""
    root = parsed(html)
    template = root.find(".//template[@id='items-data']")
    assert template is not None and template.text
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(template.text, validate=True)))
    return found


class TestComplete:
    def test_every_item_is_inside_with_the_scores_that_the_tables_hold(self, folder: Path, html: str) -> None:
        data = data_of(html)
        assert data["models"] == ["base", "random", "facility_location", "task_diversity", "weighted_task_diversity"]
        assert [data["models"][place] for place in data["compared"]] == [*COMPARED]
        expected: dict[tuple[str, str, str], list[list[float]]] = {}
        for name in data["models"]:
            path = "base_scores" if name == "base" else f"benchmark_scores/{name}/64"
            for row in sorted(
                pq.read_table(folder / f"tables/{path}.parquet").to_pylist(), key=lambda row: str(row["training_seed"])
            ):
                of_item = expected.setdefault((row["benchmark"], row["task"], row["item_id"]), [])
                of_item += [[]] * (len(of_item) < data["models"].index(name) + 1)
                of_item[-1] = [*of_item[-1], row["score"]]
        found = {}
        for task, item_id, _, _, _, _, _, scores, means in data["items"]:
            benchmark, name = data["tasks"][task]
            found[data["benchmarks"][benchmark][0], name, item_id] = (scores, means or scores)
        assert found.keys() == expected.keys() and len(found) == 48
        for key, seeds in expected.items():
            assert found[key] == ([own[0] for own in seeds], [np.mean(own) for own in seeds])

    def test_every_text_is_inside(self, folder: Path, html: str) -> None:
        data, seen = data_of(html), 0
        for benchmark in (0, 1):
            asked = pq.read_table(folder / f"folders/q{benchmark}/questions.parquet").to_pylist()
            for model, name in enumerate(data["models"]):
                said = pq.read_table(folder / f"folders/{name}{benchmark}/outputs.parquet").to_pylist()
                for task, item_id, _, prompt_hash, question, target, texts, *_ in data["items"]:
                    if data["tasks"][task][0] == benchmark:
                        own = [row for row in asked if row["item_id"] == item_id]
                        answers = [row for row in said if row["item_id"] == item_id]
                        best = own[max(range(len(answers)), key=lambda n: answers[n]["nats"] or 0.0)]["answer"]
                        assert texts[model] == (answers[0]["text"] or str(best).strip())
                        assert (question, prompt_hash) == (own[0]["prompt"], own[0]["prompt_hash"][:16])
                        assert target == (own[0]["target"] if len(own) == 1 else "ABCD"[int(own[0]["target"])])
                        seen += 1
        assert seen == 48 * 5

    def test_the_page_says_how_many_and_how_they_are_cut(self, html: str) -> None:
        said = " ".join("".join(parsed(html).find(".//section[@id='examples']").itertext()).split())
        assert "random and weighted_task_diversity both answered 48 items at 64 labels." in said
        assert "All of them are inside this page." in said and f"its last {QUESTION_N} characters" in said

    def test_only_pages_with_items_have_their_script(self, html: str, tmp_path: Path) -> None:
        own = (Path(reports.__file__).parent / "templates" / "items.js").read_text().strip()
        assert own in html and not set("&<") & set(own)
        without = reports.render(str(make_results(tmp_path, RECIPE))).html  # an old store: no outputs
        assert own not in without and "items-data" not in without and ".items-form" not in without
        assert "No outputs of two strategies at a common budget and seed are stored." in without

    def test_the_same_tables_give_the_same_text(self, folder: Path, html: str) -> None:
        part = items_part(results.load(str(folder)).paired)
        assert part is not None and f">{part.data}<" in html


class TestBound:
    def test_it_holds_and_every_pattern_keeps_the_same_share(self) -> None:
        paired = made_up(tasks_n=20, items_n=100, words_n=60)
        found = payload(paired, 100_000)
        assert 90_000 < len(found.data) <= 100_000 and found.items_n < len(paired.items)
        kept = {row[2] for row in json.loads(gzip.decompress(base64.b64decode(found.data)))["items"]}
        assert len(kept) == found.items_n
        by_pattern: dict[tuple[bool, ...], list[PairedItem]] = {}
        for item in sorted(paired.items, key=lambda one: one.digest):
            by_pattern.setdefault(tuple(map(item.is_right, (0, *paired.compared))), []).append(item)
        assert len(by_pattern) == 8
        shares = []
        for items in by_pattern.values():
            is_kept = [item.digest[:12] in kept for item in items]
            assert is_kept == sorted(is_kept, reverse=True) and all(is_kept[:FIRST_N])  # the smallest hashes
            shares.append((sum(is_kept) - FIRST_N) / len(items))
            assert shares[-1] == pytest.approx(shares[0], abs=2 / len(items) + 2 / len(next(iter(by_pattern.values()))))

    def test_what_is_left_out_is_said(self) -> None:
        paired = made_up(tasks_n=5, items_n=100, words_n=60)
        part = items_part(paired, 30_000)
        assert part is not None
        kept_n = len(json.loads(gzip.decompress(base64.b64decode(part.data)))["items"])
        assert f"{kept_n:,} of them are inside this page, and {500 - kept_n:,} are left out" in part.sentences[1]
        assert part.summary == f"Browse {kept_n:,} items"

    def test_thirteen_strategies_on_300_tasks_stay_below_two_megabytes(self) -> None:
        paired = made_up(tasks_n=300, items_n=13, words_n=150)
        found = payload(paired, item_payload.BYTES_MAX)
        assert len(found.data) <= item_payload.BYTES_MAX and found.items_n > 1000

    def test_long_texts_are_cut_and_blank_lines_kept_once(self) -> None:
        assert shown("a" * 300 + "b" * 1000 + "c" * 400) == "a" * 300 + " … " + "c" * 400
        assert shown("one\n\n\n\n  two\t three ") == "one\n\n  two three"

    @pytest.mark.full
    def test_the_page_of_thirteen_strategies_on_300_tasks_stays_below_three_megabytes(self, tmp_path: Path) -> None:
        from tests.reports.test_limits import LARGE

        recipe = Recipe(tasks=tuple(f"task_{n}" for n in range(300)), items_per_task=10, strategies=LARGE.strategies, budgets=(500,), seeds=(0,))  # fmt: skip
        made = add_items(make_results(tmp_path, recipe), recipe, question_n=100)
        html = reports.render(str(made)).html
        assert 1_000_000 < len(html.encode()) < 3_000_000
        assert len(data_of(html)["items"]) == 3000 or "are left out" in html


def made_up(tasks_n: int, items_n: int, words_n: int) -> PairedItems:
    """Return items of 13 strategies and the base, with random texts and patterns, in the order of hash within patterns."""
    generator, models = np.random.default_rng(3), ("base", *(f"s{n}" for n in range(13)))
    items = []
    for place in range(tasks_n * items_n):
        task, item_id = f"task{place % tasks_n}", f"item{place}"
        scores = tuple(float(one) for one in generator.random(14) < 0.3 + 0.4 * generator.random())
        question, *texts = (text(f"{place} {number}", words_n) for number in range(4))
        said = (*texts, *[None] * 11)
        digest = hashlib.sha256(f"{task}\0{item_id}".encode()).hexdigest()
        items.append(PairedItem(0, task, item_id, digest, scores, scores, question, "yes", digest[:16], said))
    benchmark = PairedBenchmark("lab", "exact_match", 0, (1,) * 14)
    return PairedItems(64, models, (1, 2), (benchmark,), in_order(items), len(items), False)


def in_order(items: list[PairedItem]) -> tuple[PairedItem, ...]:
    """Return the items in the order of `paired_items`, from a definition by repeated sorting."""
    ranked: list[tuple[float, int, str, PairedItem]] = []
    patterns = {tuple(map(item.is_right, (0, 1, 2))) for item in items}
    for pattern in patterns:
        own = sorted(
            (one for one in items if tuple(map(one.is_right, (0, 1, 2))) == pattern), key=lambda one: one.digest
        )
        ranked += [(max(0, n + 1 - FIRST_N) / len(own), n, one.digest, one) for n, one in enumerate(own)]
    return tuple(one for *_, one in sorted(ranked, key=lambda row: row[:3]))


def test_the_order_is_the_one_that_is_described(folder: Path) -> None:
    paired = results.load(str(folder)).paired
    assert paired is not None and paired.compared == (1, 4)
    for benchmark in (0, 1):
        own = [one for one in paired.items if one.benchmark == benchmark]
        swapped = [one._replace(scores=(one.scores[0], one.scores[1], one.scores[4])) for one in own]
        assert [one.digest for one in in_order(swapped)] == [one.digest for one in own]


class TestTexts:
    """Answers by columns against a literal definition, item by item."""

    @settings(max_examples=30, deadline=None)
    @given(st.data())
    def test_answers_equal_those_found_row_by_row(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        root = tmp_path_factory.mktemp("texts")
        rows = []
        for item in range(data.draw(st.integers(1, 5))):
            is_written = data.draw(st.booleans())
            for question in range(data.draw(st.integers(1, 4))):
                nats = data.draw(st.sampled_from([-0.5, -1.0, -2.0, -3.5]))
                answer = data.draw(st.sampled_from([" A", "no ", "  a longer answer", "ä", "1"]))
                said = data.draw(st.sampled_from([None, "", "said so"])) if is_written else None
                rows.append(("t", f"i{item}", question, f"p{item}", answer, data.draw(st.sampled_from(["0", "1", "x", "9"])) if question == 0 else "",
                             said, nats, data.draw(st.booleans()), data.draw(st.sampled_from(["", "read"]))))  # fmt: skip
        names = ("task", "item_id", "question", "prompt", "answer", "target", "text", "nats", "is_greedy", "extracted")
        shuffled = data.draw(st.permutations(rows))
        table = pa.table({name: [row[place] for row in shuffled] for place, name in enumerate(names)}, schema=pa.schema(
            [(name, {"question": pa.int32(), "nats": pa.float64(), "is_greedy": pa.bool_()}.get(name, pa.string())) for name in names]))  # fmt: skip
        (root / "folders" / "q").mkdir(parents=True)
        pq.write_table(table.select(names[:6]), root / "folders/q/questions.parquet")
        pq.write_table(table.select((*names[:3], *names[6:])), root / "folders/q/outputs.parquet")
        items = list(dict.fromkeys((row[0], row[1]) for row in rows))
        metric = data.draw(st.sampled_from(["acc", "acc_norm", "acc_bytes"]))
        wanted = [*items[1:], ("t", "missing"), items[0]]
        found = read_texts(reader(root), {"m": "q"}, "q", wanted, metric)
        for place, item in enumerate(wanted):
            own = sorted((row for row in rows if (row[0], row[1]) == item), key=lambda row: row[2])
            expected = literal(own, metric) if own else (None, None, None)
            assert (found.question[place], found.target[place], found.said["m"][place]) == expected

    def test_a_held_out_item_shows_how_likely_its_answer_was(self, tmp_path: Path) -> None:
        """One choice, not the model's own, and what the benchmark wrote about it; then a second question with generated text."""
        folder = tmp_path / "folders" / "h"
        folder.mkdir(parents=True)
        common = {"task": ["t", "u", "u"], "item_id": ["a", "b", "b"], "question": pa.array([0, 0, 1], pa.int32())}
        asked = {
            **common,
            "prompt": ["p", "r", "r"],
            "answer": ["known", "long", None],
            "target": ["known", "long", "long"],
        }
        said = {**common, "text": [None, None, "written"], "nats": [-4.0, -5.0, None], "is_greedy": [False, False, None],
                "extracted": ["(mean probability 0.64)", "(0.2)", ""]}  # fmt: skip
        pq.write_table(pa.table(asked), folder / "questions.parquet")
        pq.write_table(pa.table(said), folder / "outputs.parquet")
        found = read_texts(reader(tmp_path), {"m": "h"}, "h", [("t", "a"), ("u", "b")], "mean_probability")
        assert found.said["m"] == ["(mean probability 0.64)", "written"] and found.target == ["known", "long"]
        assert found.prompt_hash == [None, None]  # not stored by the first versions

    def test_a_judged_item_has_the_instruction_and_both_outputs(self, tmp_path: Path) -> None:
        for model in ("a", "b"):
            (tmp_path / "folders" / model).mkdir(parents=True)
            (tmp_path / "folders" / f"out-{model}").mkdir()
            (tmp_path / "folders" / model / "manifest.json").write_text(
                json.dumps({"notes": {"outputs": f"out-{model}"}})
            )
            rows = [{"instruction": "Say it.", "output": f"{model} says it", "generator": "g", "dataset": "d"}]
            (tmp_path / "folders" / f"out-{model}" / "model_outputs.json").write_text(json.dumps(rows))
        whole = hashlib.sha256(b"Say it.").hexdigest()
        items = [("alpaca_eval", whole[:16]), ("alpaca_eval", "0" * 16)]
        found = read_texts(reader(tmp_path), {"a": "a", "b": "b"}, "", items, "win_rate")
        assert found.said == {"a": ["a says it", None], "b": ["b says it", None]}
        assert found.question == ["Say it.", None] and found.prompt_hash == [whole, None]
        assert found.target == [JUDGED_TARGET, None]

    def test_an_answer_to_no_stored_question_is_an_error(self, folder: Path, tmp_path: Path) -> None:
        asked = pq.read_table(folder / "folders/q0/questions.parquet").slice(1)
        for name in ("q", "m"):
            (tmp_path / "folders" / name).mkdir(parents=True)
        pq.write_table(asked, tmp_path / "folders/q/questions.parquet")
        outputs = pq.read_table(folder / "folders/random0/outputs.parquet")
        pq.write_table(outputs, tmp_path / "folders/m/outputs.parquet")
        items = list(zip(outputs["task"].to_pylist(), outputs["item_id"].to_pylist(), strict=True))
        with pytest.raises(KeyError, match="a question that is not stored"):
            read_texts(reader(tmp_path), {"m": "m"}, "q", items, "acc")


def reader(root: Path) -> Reader:
    return Reader(stored.open_folder(str(root)), stored.Listing({}, (), ()), [])


def literal(rows: list[tuple[Any, ...]], metric: str) -> tuple[str, str, str]:
    """Return question, right answer and model's answer of one item, from its rows in the order of questions."""
    choices = [row[4].strip() for row in rows]
    target = rows[0][5]
    if len(rows) > 1 and target not in choices and target.isdecimal() and int(target) < len(choices):
        target = choices[int(target)]
    written = [row for row in rows if row[6] is not None]
    if written:
        text, read = written[0][6], written[0][9]
        return rows[0][3], target, f"{text} (read as: {read})" if read and read != text else text
    if len(rows) == 1:
        return rows[0][3], target, rows[0][4] if rows[0][8] else rows[0][9] or NONE_WRITTEN
    length = {"acc": lambda one: 1, "acc_norm": len, "acc_bytes": lambda one: len(one.encode())}[metric]
    scores = [row[7] / max(1, length(row[4].strip())) for row in rows]
    return rows[0][3], target, choices[scores.index(max(scores))]


def test_a_judged_benchmark_has_preferences_between_0_and_1(tmp_path: Path) -> None:
    recipe = Recipe(tasks=("alpaca_eval",), items_per_task=4, budgets=(8, 16), seeds=(0,), strategies=COMPARED, benchmarks=("alpaca_eval",),
                    metric="win_rate", has_primary=False)  # fmt: skip
    made = make_results(tmp_path, recipe)
    texts = {f"alpaca_eval-{place}": f"Write {place}." for place in range(4)}
    for name in ("base", *COMPARED):
        path = made / "tables" / ("base_scores.parquet" if name == "base" else f"benchmark_scores/{name}/16.parquet")
        table = pq.read_table(path)
        footer = json.loads(table.schema.metadata[b"taskdiv"])
        footer["notes"]["asked"] = {"alpaca_eval": {"scores": {"base" if name == "base" else "0": name}}}
        ids = [hashlib.sha256(texts[one].encode()).hexdigest()[:16] for one in table["item_id"].to_pylist()]
        changed = table.set_column(table.column_names.index("item_id"), "item_id", [ids])
        changed = changed.set_column(table.column_names.index("score"), "score", [[0.25, 0.5, 0.75, 1.0]])
        pq.write_table(changed.replace_schema_metadata({"taskdiv": json.dumps(footer)}), path)
        for folder, file, content in (
            (name, "manifest.json", {"notes": {"outputs": f"{name}-out"}}),
            (
                f"{name}-out",
                "model_outputs.json",
                [{"instruction": one, "output": f"{name}: {one}"} for one in texts.values()],
            ),
        ):
            (made / "folders" / folder).mkdir(parents=True, exist_ok=True)
            (made / "folders" / folder / file).write_text(json.dumps(content))
    for path in made.glob("tables/benchmark_scores/*/8.parquet"):  # scores on other items
        path.unlink()
    data = data_of(reports.render(str(made)).html)
    found = {row[4]: (row[5], row[6], row[7]) for row in data["items"]}
    assert len(found) == 4 and sorted(scores[1] for _, _, scores in found.values()) == [0.25, 0.5, 0.75, 1]
    assert found["Write 2."][:2] == (JUDGED_TARGET, [f"{name}: Write 2." for name in ("base", *COMPARED)])


@pytest.mark.parametrize(
    "kind",
    [
        "script",
        "direction",
        *(pytest.param(kind, marks=pytest.mark.full) for kind in ("control", "beyond", "long", "template")),
    ],
)
def test_foreign_text_stays_text(kind: str, tmp_path: Path) -> None:
    hostile = HOSTILE[kind].replace("\ud800", "")
    recipe = Recipe(tasks=("copy",), items_per_task=4, budgets=(8, 16), seeds=(0,), strategies=COMPARED)
    made = add_items(
        make_results(tmp_path, recipe), recipe, say=lambda model, place, _: f"{model} {place} {hostile}\n{hostile}"
    )
    html = reports.render(str(made)).html
    root = parsed(html)
    assert len(html.encode()) < 1_000_000 and len(list(root.iter("script"))) == 1
    said = [one for row in data_of(html)["items"] for one in row[6]]
    assert len(said) == 12 and all(0 < len(one) <= 720 for one in said)
    forbidden = {
        *map(chr, range(0x20)),
        *map(chr, range(0x7F, 0xA0)),
        *"\u202a\u202e\u2066\u2069\u200f\u061c\ufffe\U0010ffff\ue000",
    }
    assert not forbidden - {"\n"} & set("".join(said))
    etree.tostring(root)


def test_one_strategy_is_compared_with_the_base(tmp_path: Path) -> None:
    recipe = Recipe(
        tasks=("copy",), items_per_task=4, budgets=(8, 16), seeds=(0,), strategies=("random",), has_primary=False
    )
    data = data_of(reports.render(str(add_items(make_results(tmp_path, recipe), recipe))).html)
    assert [data["models"][place] for place in data["compared"]] == ["base", "random"] and len(data["items"]) == 4
