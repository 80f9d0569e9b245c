"""The views of docs/DISCOVERY.md: by words, by a base model, by a sentence embedder, and a mix.

Vectors are computed with the product's own functions, and stored in $TASKDIV_HOME/evidence for each model and pool.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.assets.template_embeddings import TEMPLATE
from taskdiv_assets.experiment.view_settings import EmbedderSource
from taskdiv_assets.language_model import sentence_embedder
from taskdiv_assets.language_model.control import around
from taskdiv_assets.language_model.embeddings import Pooling, embed
from taskdiv_assets.language_model.loading import load
from taskdiv_assets.language_model.model_folder import model_fingerprint
from taskdiv_assets.pools.discovery.found_tasks import FITTED_MAX
from taskdiv_assets.pools.discovery.vector_views import Vectors, mixed, reduced
from taskdiv_assets.pools.discovery.word_views import Rows, words
from taskdiv_assets.storage.identity import digest
from taskdiv_assets.storage.store import home

WORDS = "words"


class VectorView(NamedTuple):
    """A view by vectors: its name in the tables, an identity of its vectors, and the function that computes them."""

    name: str
    identity: str
    compute: Callable[[Sequence[str]], Vectors]


def of_base(folder: Path, name: str) -> list[VectorView]:
    """Return the views `embeddings` and `template` of a base model."""
    lm = load(folder, dtype="float32", attention="sdpa")

    def reader(template: str, pooling: Pooling) -> Callable[[Sequence[str]], Vectors]:
        before, _, after = template.partition("{prompt}")
        return lambda prompts: embed(lm, [around(before, prompt, after) for prompt in prompts], pooling=pooling)

    made_by = digest(model_fingerprint(folder))
    return [
        VectorView(f"embeddings, {name}", f"{made_by}-mean", reader("{prompt}", "mean")),
        VectorView(f"template, {name}", f"{made_by}-{digest(TEMPLATE)[:8]}", reader(TEMPLATE, "last_layers")),
    ]


def of_embedder(folder: Path, name: str) -> VectorView:
    """Return the view `sentence_embedder` of a local model."""
    encoder = sentence_embedder.load_encoder(EmbedderSource(path=str(folder)))
    return VectorView(name, digest(sentence_embedder.fingerprint(folder)), encoder.vectors_of)


def rows_of(
    name: str,  # of the view; names of a mix are joined by " + "
    prompts: Sequence[str],
    ids: NDArray[np.uint64],
    views: Sequence[VectorView],
) -> Rows:
    """Return the rows of a view. Prompts are in the order that `discover` uses."""
    by_name = {view.name: view for view in views}
    order = np.arange(len(prompts))
    found = [
        words(prompts, FITTED_MAX)
        if one == WORDS
        else reduced(stored_vectors(by_name[one], prompts, ids), order, FITTED_MAX)
        for one in name.split(" + ")
    ]
    return mixed(found)


def stored_vectors(view: VectorView, prompts: Sequence[str], ids: NDArray[np.uint64]) -> Vectors:
    """Return the vectors of prompts. Vectors that are not stored are computed and stored, those of each prompt once."""
    path = Path(home()) / "evidence" / f"vectors-{hashlib.sha256(view.identity.encode()).hexdigest()[:16]}.npz"
    known: dict[int, NDArray[np.float16]] = {}
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            known = dict(zip(file["ids"].tolist(), file["vectors"], strict=True))
    open_rows = [i for i, one in enumerate(ids.tolist()) if one not in known]
    if open_rows:
        known |= zip(ids[open_rows].tolist(), view.compute([prompts[i] for i in open_rows]), strict=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, ids=np.array([*known], np.uint64), vectors=np.stack([*known.values()]))
    return np.stack([known[one] for one in ids.tolist()])
