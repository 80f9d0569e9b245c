"""Asset `sentence_embeddings`: the prompts as vectors of a sentence embedder, to find tasks."""

from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.view_settings import EmbedderSource
from taskdiv_assets.graph.asset import Asset, Needs, Settings, unless_viewed
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.stored_values import pool_ids
from taskdiv_assets.graph.units import StaleInputError
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.language_model.sentence_embedder import load_encoder, require_library
from taskdiv_assets.services.embedding_shards import Embedder, embedded


def make_sentence_embeddings(work: Work) -> Product:
    require_library()
    return embedded(work, load_embedder)


def load_embedder(work: Work) -> Embedder:
    encoder = load_encoder(source_of(work.experiment))
    return Embedder(encoder.dimensions_n, lambda prompts, _, tell: encoder.vectors_of(prompts, tell))


def sentence_embeddings_recipe(inputs: Inputs) -> Settings:
    inputs.part("raw_pool", "prompts")
    inputs.add(inputs.lineage.sources.sentence_embedder())
    source = source_of(inputs.experiment)
    return {"hub": source.hub, "revision": source.revision}


def source_of(experiment: Experiment) -> EmbedderSource:
    source = experiment.task_labels.embedder
    if source is None:
        raise StaleInputError(f"{experiment.name} does not use the view `sentence_embedder`")
    return source


ASSET = Asset(
    name="sentence_embeddings",
    make=make_sentence_embeddings,
    reads=("raw_pool",),
    recipe=sentence_embeddings_recipe,
    description="Embeddings of the prompts by a sentence embedder, L2-normalised, float16. The view `sentence_embedder` of found "
    "tasks reads them.",
    needs=Needs(2, 8, 1, "a small model, on a GPU if there is one"),
    unless=(unless_viewed("sentence_embedder"),),
    folders="own",
    parameters=pool_ids,
    kinds=frozenset({"pytorch", "numpy"}),
)
