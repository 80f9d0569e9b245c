"""A model that scores in place of the base: its files that affect reading are part of identities before any scoring."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest

from data_contracts.footer import Footer
from data_contracts.table_paths import table_parts
from taskdiv_assets.assets import REGISTRY, base_model
from taskdiv_assets.assets.confidence_table import LEAST
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.experiment.declaration import Alternative
from taskdiv_assets.graph.asset import Asset
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.models import BATCHING, READING
from taskdiv_assets.graph.units import StaleInputError, Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.language_model.control_marks import SETTING, names_in_files
from taskdiv_assets.orchestration.produce import prepared
from taskdiv_assets.storage.store import Store
from tests.home import Home

POOL = [REGISTRY[name] for name in ("raw_pool", "task_labels", "base_model")]


class Bench:
    """One experiment whose stages are made without Dagster."""

    def __init__(self, home: Home, shared_data: Path, prompts: list[str]) -> None:
        stories = shared_data / "models" / "stories260K"
        self.proxy = home.folder / "proxy"
        shutil.copytree(stories, self.proxy)
        rows = "".join(f'"{prompt}",a\n' for prompt in prompts)
        (home.folder / "p.csv").write_text(f"question,topic\n{rows}")
        path = home.write_experiment(
            "proxied",
            ("pool: {reader: lab, seed: 1, tasks: [copy, reverse, upper, first, max, flip], largest_n: 40, smallest_n: 12}",
             "pool: {reader: table, path: p.csv, columns: {prompt: question, task: topic}}"),
            ("base_model: {lab: {seed: 1, steps: 40, batch_size: 32, hidden_size: 32, layers: 2}}",
             f'base_model: {{path: {stories}}}\nprompt_template: "{{prompt}}"'),
            ("confidence: {column: mean_probability, max_new_tokens: 6}",
             f"confidence: {{of: prompt, model: {{path: {self.proxy}}}}}"),
            ("benchmarks: [{name: lab}]", "benchmarks: [{name: bbh, limit: 1}]"),
            ("benchmark: lab", "benchmark: bbh"),
            ("budgets: [12, 24]", "budgets: [2]"),
        )  # fmt: skip
        self.experiment = experiment_file.parse(*experiment_file.read_text(str(path)))
        self.store = Store(self.experiment.name)

    def lineage(self) -> Lineage:
        return REGISTRY.look(self.experiment, self.store)

    def make(self, *assets: Asset) -> None:
        """Make and store tables as `produce` does, without rules."""
        for asset in assets:
            lineage, unit = self.lineage(), Unit(asset.name)
            work = prepared(Work(self.experiment, self.store, lineage, unit, lineage.expect(unit), print), asset)
            product, made_of = asset.make(work), work.expected
            version = asset.code_version
            notes: Any = product.notes
            footer = Footer(
                *unit, made_of.identity, made_of.inputs, version, None, "", "", 0.0, (), product.parts, {}, notes
            )
            self.store.write_table(product.table, footer)


@pytest.fixture
def bench(request: Any, empty_home: Home, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(base_model, "try_out", lambda base, tuning: "not in this test")
    for name, value in empty_home.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(empty_home.folder)
    return Bench(empty_home, shared_data, request.param)


HELD = pytest.mark.parametrize("bench", [["Tell me </s> a story.", "Who is Lily?"]], indirect=True)
TABLE = Unit("confidence_table")
SEQUENCE = "sequence_probability"


@HELD
def test_a_table_scored_by_a_proxy_is_fresh_once_it_is_stored(bench: Bench) -> None:
    bench.make(*POOL)
    assert not bench.lineage().held.mark(bench.experiment.confidence.model), "its files are not there yet"
    bench.make(REGISTRY["confidence_table"])
    lineage = bench.lineage()
    assert lineage.state(TABLE).status == "fresh"
    assert lineage.held.mark(bench.experiment.confidence.model) == SETTING
    assert bench.store.read_footer("base_model").notes["not_tried"] == "not in this test"


@HELD
def test_a_proxy_has_the_marks_of_batching_that_a_base_has(bench: Bench) -> None:
    bench.make(*POOL)
    source = bench.experiment.confidence
    config = json.loads((bench.proxy / "config.json").read_text())
    rope: dict[str, Any] = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    rope |= {"rope_theta": 10_000.0, "original_max_position_embeddings": 128}
    config |= {"rope_parameters": rope, "original_max_position_embeddings": 128}
    (bench.proxy / "config.json").write_text(json.dumps(config))
    before = bench.lineage().models.scorer(source).identity
    bench.make(REGISTRY["confidence_table"])
    models = bench.lineage().models
    assert models.batching("right", source=source.model) == {BATCHING: [128]}
    assert models.scorer(source).identity != before and bench.lineage().is_fresh(TABLE)


@HELD
def test_a_proxy_of_an_earlier_version_is_read_from_its_files(bench: Bench) -> None:
    bench.make(*POOL, REGISTRY["confidence_table"])
    source = bench.experiment.confidence.model
    assert source is not None
    folder = bench.lineage().models.proxy(source).identity
    manifest = bench.store.read_manifest(folder)
    assert manifest is not None
    noted = manifest["notes"].pop(READING)
    bench.store.finish_folder(folder, manifest["files"], notes=manifest["notes"])
    assert set(bench.lineage().models.control(source)) == set(noted["control"])
    assert bench.lineage().is_fresh(TABLE)
    bench.store.put(b"{", "folders", folder, "tokenizer.json")
    with pytest.raises(StaleInputError, match=r"tokenizer.json cannot be read .*; remove this folder"):
        bench.lineage().models.control(source)
    assert bench.lineage().state(TABLE).status == "blocked"


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"added_tokens": 3}', b"\xff"])
def test_a_damaged_file_of_a_tokenizer_is_named(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"its tokenizer\.json cannot be read"):
        names_in_files(lambda name: content if name == "tokenizer.json" else None)


def test_control_tokens_that_only_the_tokenizer_names_are_found() -> None:
    added = [{"content": "<|end|>", "special": True}, {"content": "word", "special": False}]
    assert names_in_files({"tokenizer.json": json.dumps({"added_tokens": added}).encode()}.get) == ("<|end|>",)


@HELD
def test_a_damaged_table_that_a_look_reads_blocks_what_depends_on_it(bench: Bench) -> None:
    bench.make(*POOL, REGISTRY["confidence_table"])
    unit, footer = Unit("confidence_comparison"), bench.lineage().fresh(TABLE)
    table = bench.store.read_table("confidence_table").table
    assert footer.notes[LEAST] == min(table["sequence_log_probability"].to_pylist()) < log(1e-6)
    before = bench.lineage().expect(unit)
    bench.store.write_table(table, replace(footer, notes={}))
    assert bench.lineage().expect(unit) == before, "of an earlier version: without the note"
    path = Path(bench.store.path(*table_parts("confidence_table")))
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(len(whole) // 4) + whole[4 + len(whole) // 4 :])
    state = bench.lineage().state(unit)
    assert state.status == "blocked" and "confidence_table.parquet is damaged" in state.reason
    bench.store.write_table(table.slice(0, 0), replace(footer, notes={LEAST: -3.0}))
    assert bench.lineage().expect(unit) != before, "the note alone says that no mean is small"


@HELD
def test_an_alternative_by_the_probability_of_sequences_has_the_finer_scale(bench: Bench) -> None:
    bench.make(*POOL, REGISTRY["confidence_table"])
    table = bench.store.read_table("confidence_table").table
    bench.store.write_table(table, replace(bench.lineage().fresh(TABLE), notes={LEAST: -3.0}))
    own = bench.experiment.confidence
    other = Alternative(name="other", of="continuation")
    found = []
    for column, alternatives in (("mean_probability", (other,)), (SEQUENCE, ()), (SEQUENCE, (other,))):
        settings = own.model_copy(update={"column": column, "alternatives": alternatives})
        lineage = REGISTRY.look(bench.experiment.model_copy(update={"confidence": settings}), bench.store)
        lineage._expected[TABLE] = bench.lineage().expect(TABLE)
        inputs = Inputs(lineage, Unit("confidence_comparison"), REGISTRY.reads("confidence_comparison"))
        found.append("costs" in REGISTRY["confidence_comparison"].recipe(inputs))
    assert found == [False, False, True]
