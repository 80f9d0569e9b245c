"""The vectors of the views by which tasks are found (`view` of the section `task_labels`), and what they add to an identity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.view_settings import VECTOR_ASSETS, WORDS
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools.discovery.vector_views import Vectors
from taskdiv_assets.pools.vector_files import read_vectors
from taskdiv_assets.services.embedding_shards import read_embeddings


def read_by_labels(experiment: Experiment, _: str = "") -> Sequence[str]:
    """Return the names of the assets that `task_labels` reads: the pool, and those with the vectors of the views."""
    views = experiment.task_labels.views
    return ["raw_pool", *(asset for view, asset in VECTOR_ASSETS.items() if view in views)]


def add_views(inputs: Inputs) -> None:
    """Add the vectors of the views to an identity. A file of the user counts with its content and with the user's ids."""
    for view in inputs.experiment.task_labels.views:
        if view in VECTOR_ASSETS:
            inputs.of(VECTOR_ASSETS[view])
    if hashes := inputs.lineage.sources.view_file():
        pool = inputs.lineage.fresh(Unit("raw_pool"))
        inputs.add({**hashes, "raw_pool.ids": pool.parts.get("ids", pool.identity)})


def vectors_of(lineage: Lineage, pool: pa.Table) -> list[Vectors]:
    """Return the vectors of all views except `words`, (n, d) each. Row i belongs to row i of `pool`, the stored pool.

    Raises:
        ValueError: the user's file cannot be used (see `vector_files.read_vectors`).
    """
    return list(_vectors(lineage, pool))


def _vectors(lineage: Lineage, pool: pa.Table) -> Iterator[Vectors]:
    columns, labels = lineage.experiment.pool.columns, lineage.experiment.task_labels
    for name in labels.views:
        if name in VECTOR_ASSETS:
            yield read_embeddings(lineage.store, lineage.fresh(Unit(VECTOR_ASSETS[name])).identity)
        elif labels.view_file is not None and name != WORDS:
            yield read_vectors(labels.view_file, pool, columns.id if columns else None)
