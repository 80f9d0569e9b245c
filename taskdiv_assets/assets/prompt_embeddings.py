"""Asset `prompt_embeddings`: the prompts as vectors, for strategies that choose prompts by similarity."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taskdiv_assets.graph.asset import HOLDS_7B, WITHOUT_EMBEDDINGS, Asset, Needs, Settings
from taskdiv_assets.graph.drawings import steps
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.stored_values import pool_ids
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.language_model.batching import FIXED_SHAPES
from taskdiv_assets.services.embedding_shards import Embedder, embedded, of_base, open_shard, shard_paths
from taskdiv_assets.services.scoring import load_base

SAMPLED_N = 1_000  # number of prompts that the picture compares; ids are hashes, so the first rows are a random sample
SIMILARITY_BINS_N = 100  # bins of the similarity, from -1 to 1
NEAR_COPY = 0.99  # smallest similarity of near copies


def make_prompt_embeddings(work: Work) -> Product:
    """Store the embeddings of all prompts (see `embedded`), and compare some of them with each other."""
    product = embedded(work, load_embedder)
    some = open_shard(shard_paths(work.store, work.expected.identity)[0])[:SAMPLED_N].astype(np.float32)
    return Product(product.table, {**product.notes, **similarities(some)})


def load_embedder(work: Work) -> Embedder:
    return of_base(work, load_base(work), work.experiment.embeddings.pooling)


def similarities(vectors: NDArray[np.float32]) -> dict[str, Any]:
    """Return the mean cosine similarity, the share of near copies, and histograms, for vectors (n, d) of length 1; {} if n < 2.

    The histograms count the similarity of each pair of prompts, and of each prompt with the prompt nearest to it.

    >>> found = similarities(np.array([[1, 0], [1, 0], [0, 1]], np.float32))
    >>> found["mean_similarity"], found["near_copies_share"], sum(found["similarities"]["pairs"])
    (0.333, 0.667, 3)
    """
    if len(vectors) < 2:
        return {}
    cosines = np.clip(vectors @ vectors.T, -1, 1)
    pairs = cosines[np.triu_indices(len(cosines), 1)]
    np.fill_diagonal(cosines, -1)
    nearest = cosines.max(axis=1)
    edges, compared = np.linspace(-1, 1, SIMILARITY_BINS_N + 1), {"pairs": pairs, "nearest": nearest}
    return {
        "compared_n": len(vectors),
        "mean_similarity": round(float(pairs.mean()), 3),
        "near_copies_share": round(float((nearest >= NEAR_COPY).mean()), 3),
        "similarities": {name: np.histogram(values, edges)[0].tolist() for name, values in compared.items()},
    }


def picture_embeddings(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    """Draw the histograms of `similarities`. Return b"" if the notes do not contain them."""
    counts = {name: np.array(found) for name, found in notes.get("similarities", {}).items()}
    if not counts:
        return b""
    held = np.flatnonzero(counts["pairs"] + counts["nearest"])
    shown = slice(int(held[0]), int(held[-1]) + 1)
    shares = {name: found[shown] / found.sum() for name, found in counts.items()}
    edges = np.linspace(-1, 1, SIMILARITY_BINS_N + 1)[shown.start : shown.stop + 1]
    mean = round(notes["mean_similarity"], 2) + 0.0  # adding 0.0 turns -0.0 into 0.0
    copies = f"{notes['near_copies_share']:.0%} of {notes['compared_n']:,} prompts have another at {NEAR_COPY} or above"
    title = f"mean similarity {mean:.2f}; {copies}"
    names = {"any two prompts": shares["pairs"], "each and its nearest": shares["nearest"]}
    return steps(edges, names, "cosine similarity", "share", title)


def prompt_embeddings_recipe(inputs: Inputs) -> Settings:
    lineage = inputs.lineage
    inputs.part("raw_pool", "prompts")
    inputs.of("base_model")
    return {
        "pooling": inputs.experiment.embeddings.pooling,
        "template": lineage.models.template,
        "shapes": FIXED_SHAPES,
        **lineage.models.batching("right"),
        **lineage.held.mark(),
    }


ASSET = Asset(
    name="prompt_embeddings",
    make=make_prompt_embeddings,
    reads=("raw_pool", "base_model"),
    recipe=prompt_embeddings_recipe,
    description="Last hidden states of the base model, pooled over the prompt's tokens, L2-normalised, float16. "
    "Coverage strategies and the view `embeddings` of found tasks read them.",
    needs=Needs(4, 24, 1, f"{HOLDS_7B}; a shard of 8,192 rows at d = 4,096 is 64 MiB"),
    is_sharded=True,
    unless=(WITHOUT_EMBEDDINGS,),
    folders="own",
    parameters=pool_ids,
    picture=picture_embeddings,
    kinds=frozenset({"pytorch", "numpy"}),
)
