"""Views of found tasks in the graph: which assets an experiment uses, what makes labels stale, and what is not computed twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.assets.template_embeddings import TEMPLATE
from taskdiv_assets.commands import running
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.experiment.declaration import BaseModelSource, LabModel
from taskdiv_assets.experiment.experiment_file import ExperimentError
from taskdiv_assets.graph.units import StaleInputError, Unit
from taskdiv_assets.language_model.embeddings import LAYERS_N
from taskdiv_assets.language_model.loading import load
from taskdiv_assets.services.embedding_shards import read_embeddings
from taskdiv_assets.storage.store import Store
from tests.graph import make_unit
from tests.home import Home

pytestmark = pytest.mark.xdist_group("view_graph")
VIEWED = """name: viewed
pool: {reader: lab, seed: 1, tasks: [copy, reverse, upper, first, max, flip], largest_n: 40, smallest_n: 12}
base_model: {lab: {seed: 1, steps: 40, batch_size: 32, hidden_size: 32, layers: 2}}
task_labels: {from: discovered, tasks: 6, view: VIEW}
strategies: [task_diversity]
budgets: [12]
"""
MIXED = "{mix: [words, template, {file: vectors.parquet}, embeddings]}"


class Viewed:
    """An experiment whose view can be changed, made without Dagster."""

    def __init__(self, home: Home) -> None:
        self.folder = home.folder
        self.look("template")
        self.make("raw_pool", "base_model")

    def look(self, view: str) -> None:
        path = self.folder / "viewed.yaml"
        path.write_text(VIEWED.replace("VIEW", view))
        self.experiment: Experiment = experiment_file.load(str(path))
        self.store = Store("viewed")

    def make(self, *names: str) -> None:
        for name in names:
            make_unit(self.experiment, self.store, Unit(name))

    def status(self, name: str = "task_labels") -> str:
        return REGISTRY.look(self.experiment, self.store).state(Unit(name)).status

    def ids(self) -> list[str]:
        found: list[str] = self.store.read_table("raw_pool").table["prompt_id"].to_pylist()
        return found

    def write_file(self, seed: int) -> Path:
        draw, ids = np.random.default_rng(seed), self.ids()
        rows = pa.array([draw.normal(size=4).tolist() for _ in ids])
        pq.write_table(pa.table({"prompt_id": ids, "embedding": rows}), self.folder / "vectors.parquet")
        return self.folder / "vectors.parquet"


@pytest.fixture(scope="module")
def viewed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewed]:
    home = Home(tmp_path_factory.mktemp("viewed"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in home.variables().items():
            patch.setenv(name, value)
        yield Viewed(home)


def test_files_and_folders_that_are_missing_are_named(viewed: Viewed) -> None:
    viewed.look("{file: other.parquet}")
    with pytest.raises(ValueError, match=r"there is no file .*other.parquet; check `view: {file: …}`"):
        viewed.status()
    viewed.look("{sentence_embedder: {path: model}}")
    with pytest.raises(ValueError, match="model: there is no such folder"):
        viewed.status("sentence_embeddings")


def test_every_vector_is_computed_once_and_labels_follow_their_view(viewed: Viewed) -> None:
    viewed.look("embeddings")
    viewed.make("prompt_embeddings", "task_labels")
    embedded = viewed.store.read_footer("prompt_embeddings")
    viewed.look(MIXED)
    file = viewed.write_file(1)
    assert (viewed.status("prompt_embeddings"), viewed.status()) == ("fresh", "blocked")  # without template_embeddings
    viewed.make("template_embeddings", "task_labels")
    labels = viewed.store.read_table("task_labels")
    assert viewed.store.read_footer("prompt_embeddings") == embedded
    assert labels.footer.notes["found_tasks"]["view"] == "embeddings + file + template + words"
    assert labels.table["prompt_id"].to_pylist() == viewed.ids() and viewed.status() == "fresh"
    viewed.look("{mix: [{file: vectors.parquet}, embeddings, words, template]}")
    assert viewed.status() == "fresh"
    viewed.write_file(2)
    assert viewed.status() == "stale"
    file.unlink()  # without the file, what was stored of it still counts
    assert viewed.status() == "fresh"


def test_the_template_is_read_at_its_last_token_in_the_last_layers(viewed: Viewed) -> None:
    """A second definition: one prompt at a time, with all hidden states of plain transformers."""
    import torch

    viewed.look("template")
    viewed.make("template_embeddings")
    lineage = REGISTRY.look(viewed.experiment, viewed.store)
    identity = lineage.fresh(Unit("template_embeddings")).identity
    vectors = read_embeddings(viewed.store, identity)
    lm = load(viewed.store.fetch_folder(lineage.fresh(Unit("base_model")).identity), dtype="float32", attention="sdpa")
    prompts = viewed.store.read_table("raw_pool").table["prompt"].to_pylist()[:5]
    for row, prompt in zip(vectors, prompts, strict=False):
        text = TEMPLATE.replace("{prompt}", prompt)
        with torch.inference_mode():
            output = lm.model(**lm.tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        states = torch.stack([state[0, -1].double() for state in output.hidden_states[-LAYERS_N:]])
        mean = (states / states.norm(dim=1, keepdim=True)).mean(0)
        assert np.abs(row - (mean / mean.norm()).numpy()).max() < 2e-3


def test_an_experiment_reads_only_the_vectors_of_its_view(viewed: Viewed) -> None:
    reads = {}
    for view in ("words", "embeddings", "template", "{sentence_embedder: {path: model}}", "{file: vectors.parquet}"):
        viewed.look(view)
        reads[view] = REGISTRY.inputs_in(viewed.experiment, "task_labels")[1:]
        used = REGISTRY.used(viewed.experiment)
        assert [name for name in used if name.endswith("_embeddings")] == [*reads[view]]
        until = REGISTRY.ancestors("task_labels", viewed.experiment, used)
        assert until == {"raw_pool", "task_labels", *reads[view]} | (
            {"base_model"} if view in ("embeddings", "template") else set()
        )
        is_first = running.is_known_first(REGISTRY["task_labels"], viewed.experiment)
        assert is_first == (not reads[view])  # a run with a model comes after the pool is known
    assert [*reads.values()] == [(), ("prompt_embeddings",), ("template_embeddings",), ("sentence_embeddings",), ()]
    viewed.look("words")
    why = REGISTRY.why_unused(viewed.experiment, "template_embeddings")
    assert why == "template_embeddings is the view `template` of found tasks, and viewed does not use this view"


@pytest.mark.parametrize(
    ("view", "sentence"),
    [
        ("letters", "task_labels.view: expected 'words', 'embeddings' or 'template', found 'letters'"),
        ("{mix: [words]}", "task_labels.view.mix: expected at least 2"),
        ("{mix: [words, words]}", "the view 'words' occurs twice; a mix has each kind of view once"),
        ("{sentence_embedder: {hub: owner/name}}", "`hub` needs `revision`: a commit of the model"),
        ("{sentence_embedder: {path: 's3://bucket/model'}}", "expected a local folder, found 's3://bucket/model'"),
        ("{sentence_embedder: {}}", "expected exactly one of `path: folder` or `hub: owner/name`"),
        ("{files: a.parquet}", "task_labels.view.section.files: unknown key; did you mean `file`?"),
        ("{file: a.parquet, mix: [words, template]}", "expected exactly one of `sentence_embedder`, `file` and `mix`"),
        ("{mix: [words, {mix: [words, template]}]}", "a mix has no mix inside"),
    ],
)
def test_a_wrong_view_is_a_mistake_of_the_file(viewed: Viewed, view: str, sentence: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        viewed.look(view)
    assert sentence in str(caught.value), str(caught.value)


def test_a_view_of_the_base_model_needs_one_and_views_need_a_search(viewed: Viewed) -> None:
    without = re.sub("base_model: .*\n", "", VIEWED)
    for view in ("template", "{mix: [words, template]}"):
        with pytest.raises(
            ExperimentError, match=r"task_labels.view: `template` reads the base model; add `base_model:"
        ):
            experiment_file.parse(without.replace("VIEW", view), str(viewed.folder / "viewed.yaml"))
    column = VIEWED.replace("from: discovered, tasks: 6", "from: column").replace("VIEW", "template")
    with pytest.raises(ExperimentError, match="`view` is for the search for tasks"):
        experiment_file.parse(column, str(viewed.folder / "viewed.yaml"))


def test_the_view_words_and_the_default_have_one_identity(viewed: Viewed) -> None:
    def identity() -> str:
        return REGISTRY.look(viewed.experiment, viewed.store).expect(Unit("task_labels")).identity

    viewed.look("words")
    named = identity()
    path = viewed.folder / "viewed.yaml"
    path.write_text(path.read_text().replace(", view: words", ""))
    viewed.experiment = experiment_file.load(str(path))
    assert identity() == named


def test_a_base_that_changed_blocks_the_labels_with_its_reason(viewed: Viewed) -> None:
    viewed.look("embeddings")
    viewed.experiment = viewed.experiment.model_copy(update={"base_model": BaseModelSource(lab=LabModel(seed=2))})
    with pytest.raises(StaleInputError, match="base_model was made from"):
        REGISTRY.look(viewed.experiment, viewed.store).expect(Unit("task_labels"))
