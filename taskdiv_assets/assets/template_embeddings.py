"""Asset `template_embeddings`: the states of the base model when it is asked for the task of each prompt, to find tasks.

The idea of a template whose last token summarises a text, without training, is from arXiv:2307.16645 (PromptEOL). We ask for the
task instead of the meaning, and use the mean of the last layers.
"""

from taskdiv_assets.assets.prompt_embeddings import prompt_embeddings_recipe
from taskdiv_assets.graph.asset import HOLDS_7B, Asset, Needs, Settings, unless_viewed
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.stored_values import pool_ids
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.language_model.embeddings import LAYERS_N
from taskdiv_assets.services.embedding_shards import Embedder, embedded, of_base
from taskdiv_assets.services.scoring import load_base

TEMPLATE = "Instruction: {prompt}\n\nThe task of this instruction is:"


def make_template_embeddings(work: Work) -> Product:
    return embedded(work, load_embedder)


def load_embedder(work: Work) -> Embedder:
    return of_base(work, load_base(work), "last_layers", TEMPLATE)


def template_embeddings_recipe(inputs: Inputs) -> Settings:
    settings = prompt_embeddings_recipe(inputs)
    return {
        **settings,
        "pooling": "last_layers",
        "layers": LAYERS_N,
        "template": [TEMPLATE, *inputs.lineage.models.marks],
    }


ASSET = Asset(
    name="template_embeddings",
    make=make_template_embeddings,
    reads=("raw_pool", "base_model"),
    recipe=template_embeddings_recipe,
    description="States of the base model at the last token of a template that asks for the task of each prompt, mean of the "
    "last layers, L2-normalised, float16. The view `template` of found tasks reads them.",
    needs=Needs(4, 24, 1, f"{HOLDS_7B}; a shard of 8,192 rows at d = 4,096 is 64 MiB"),
    is_sharded=True,
    unless=(unless_viewed("template"),),
    folders="own",
    parameters=pool_ids,
    kinds=frozenset({"pytorch", "numpy"}),
)
