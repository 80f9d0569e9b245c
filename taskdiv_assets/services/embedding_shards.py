"""Compute the embeddings of a pool shard by shard, and read them as one array. A shard is a file of consecutive rows.

An `Embedder` turns prompts into vectors: the base model, under the experiment's template or another one, or a sentence embedder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from taskdiv_assets.graph.needs import scorers_n
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.language_model.embeddings import (
    SHARD_ROWS_N,
    Pooling,
    Shard,
    dimensions,
    embed,
    is_npy,
    plan_shards,
    to_npy,
)
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.services import shards
from taskdiv_assets.storage.store import MANIFEST, Store, file_entry

Vectors: TypeAlias = np.ndarray[Any, np.dtype[np.float16]]
Tell: TypeAlias = Callable[[int, int, float], None]  # (prompts done, prompts in all, share of the work that is done)


class Embedder(NamedTuple):
    """A function from prompts to vectors of length 1, and the width of the vectors."""

    dimensions_n: int
    vectors_of: Callable[[list[str], int, Tell | None], Vectors]  # (prompts as in the pool, row of the first, progress)


def of_base(work: Work, lm: LanguageModel, pooling: Pooling, template: str | None = None) -> Embedder:
    """Return an embedder by the base model `lm`, under a template with {prompt}; by default, the experiment's own template."""

    def vectors_of(prompts: list[str], first_row: int, tell: Tell | None) -> Vectors:
        texts = work.render(prompts) if template is None else work.render(prompts, template)
        return embed(lm, texts, pooling=pooling, first_row=first_row, progress=tell)

    return Embedder(dimensions(lm), vectors_of)


def embedded(work: Work, load: Callable[[Work], Embedder]) -> Product:
    """Store the embeddings of all prompts, if not stored yet, and return their norms. Both are in the row order of `raw_pool`.

    If the asset is sharded, `$TASKDIV_SCORERS` workers can share the work. `load` is then called in each worker.
    """
    pool = work.read("raw_pool")
    identity = work.expected.identity
    if not work.store.is_whole(identity) and work.asset.is_sharded and scorers_n():
        share_out_embeddings(work, load, pool.num_rows)
    elif not work.store.is_whole(identity):
        write_embeddings(work, load(work), pool["prompt"])
    opened = [open_shard(path) for path in shard_paths(work.store, identity)]
    norms = [np.linalg.norm(vectors.astype(np.float32), axis=1) for vectors in opened]
    table = pa.table({"prompt_id": pool["prompt_id"], "norm": np.concatenate(norms).astype(np.float64)})
    return Product(table, {"dimensions_n": int(opened[0].shape[1])})


def write_embeddings(
    work: Work, embedder: Embedder, prompts: pa.ChunkedArray, *, shard_rows_n: int = SHARD_ROWS_N
) -> None:
    """Embed the pool shard by shard and store the shards in one folder. Shards of a killed run are used again.

    Raises:
        ValueError: a prompt cannot be embedded. The message names the prompt's row in the pool, unless memory ran out.
    """
    identity = work.expected.identity
    planned = plan_shards(len(prompts), shard_rows_n)
    files = _find_shards(work, planned, embedder.dimensions_n)
    progress = work.progress("embedding prompts", "prompts")
    done_n = sum(shard.rows_n for shard in planned if shard.name in files)
    if done_n:
        work.log(f"found {done_n:,} of {len(prompts):,} prompts embedded before")
        progress.before_n = done_n
    if done_n < len(prompts):
        progress(done_n, len(prompts), share=0.0)  # the first batch of a large model takes a minute
    found_n = done_n
    for shard in [shard for shard in planned if shard.name not in files]:

        def tell(now_n: int, all_n: int, share: float, done_n: int = done_n) -> None:
            of_run = (done_n - found_n + share * all_n) / (len(prompts) - found_n)
            progress(done_n + now_n, len(prompts), share=of_run)

        texts = prompts.slice(shard.start, shard.rows_n).to_pylist()
        files[shard.name] = _put_shard(work, embedder, shard, texts, tell)
        done_n += shard.rows_n
    work.store.finish_folder(identity, files, rows_n=len(prompts), dimensions_n=embedder.dimensions_n)


def share_out_embeddings(
    work: Work, load: Callable[[Work], Embedder], prompts_n: int, *, shard_rows_n: int = SHARD_ROWS_N
) -> None:
    """Write the same folder as `write_embeddings`, with up to `$TASKDIV_SCORERS` workers that compute the shards."""
    planned = {shard.name: shard for shard in plan_shards(prompts_n, shard_rows_n)}
    wanted = [shards.Shard(name, np.arange(start, start + rows_n)) for name, start, rows_n in planned.values()]
    files, done_n, width = {}, 0, 0
    with work.progress("embedding prompts", "prompts") as progress:
        progress(0, prompts_n)
        for result in shards.share_out(work, partial(shard_embedder, load=load), wanted, scorers_n()):
            files[result["shard"]], width = result["entry"], result["dimensions_n"]
            done_n += planned[result["shard"]].rows_n
            if result["was_there"]:
                progress.before_n += planned[result["shard"]].rows_n
            progress(done_n, prompts_n, f"{result['shard']} by process {result['worker']}")
    work.store.finish_folder(work.expected.identity, files, rows_n=prompts_n, dimensions_n=width)


def shard_embedder(work: Work, load: Callable[[Work], Embedder]) -> shards.Task:
    """Load the model, and return a worker's task. The task embeds and stores a shard if it is not stored yet."""
    embedder = load(work)

    def embed_one(shard: shards.Shard) -> Mapping[str, Any]:
        rows = Shard(shard.name, int(shard.rows[0]), len(shard.rows))
        there = _find_shards(work, [rows], embedder.dimensions_n)
        entry = there.get(rows.name)
        if entry is None:
            _, prompts = shards.pool_rows(work, shard.rows)
            entry = _put_shard(work, embedder, rows, prompts)
        return {"entry": entry, "dimensions_n": embedder.dimensions_n, "was_there": rows.name in there}

    return embed_one


def _put_shard(
    work: Work, embedder: Embedder, shard: Shard, prompts: list[str], tell: Tell | None = None
) -> dict[str, Any]:
    """Embed the prompts of a shard and store the embeddings. Return the shard's entry in the manifest."""
    data = to_npy(embedder.vectors_of(prompts, shard.start, tell))
    work.store.put(data, "folders", work.expected.identity, shard.name)
    return file_entry(data)


def _find_shards(work: Work, planned: list[Shard], dimensions_n: int) -> dict[str, dict[str, Any]]:
    """Return the manifest entries of the complete shards in the store. A damaged shard is logged and skipped."""
    found = {}
    for shard in planned:
        place = ("folders", work.expected.identity, shard.name)
        data = work.store.get(*place)
        if data is not None and is_npy(data, shard.rows_n, dimensions_n):
            found[shard.name] = file_entry(data)
        elif data is not None:
            work.log(
                f"{work.store.locate(*place)} ({len(data):,} bytes) is not a whole float16 array of "
                f"{shard.rows_n:,} × {dimensions_n:,}; its prompts are embedded again"
            )
    return found


def read_embeddings(store: Store, identity: str) -> Vectors:
    """Return embeddings as an array (n, d) of float16. A single shard is memory-mapped; several are copied into one array."""
    paths = shard_paths(store, identity)
    if len(paths) == 1:
        return open_shard(paths[0])
    shapes = [open_shard(path).shape for path in paths]
    vectors = np.empty((sum(rows_n for rows_n, _ in shapes), shapes[0][1]), np.float16)
    start = 0
    for path, (rows_n, _) in zip(paths, shapes, strict=True):
        vectors[start : start + rows_n] = open_shard(path)  # closed at once, because pages that were read use memory
        start += rows_n
    return vectors


def shard_paths(store: Store, identity: str) -> list[Path]:
    """Return the local files of the shards in the pool's order. Files that are not in the manifest are ignored."""
    folder = store.fetch_folder(identity)
    return [folder / name for name in sorted(json.loads((folder / MANIFEST).read_bytes())["files"])]


def open_shard(path: Path) -> Vectors:
    vectors: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    return vectors
