"""Compute the embeddings of a pool shard by shard, and read them as one array. A shard is a file of consecutive rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from taskdiv_assets.graph.needs import scorers_n
from taskdiv_assets.graph.work import Work
from taskdiv_assets.language_model.embeddings import SHARD_ROWS_N, Shard, dimensions, embed, is_npy, plan_shards, to_npy
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.services import shards
from taskdiv_assets.services.scoring import load_base
from taskdiv_assets.storage.store import MANIFEST, Store, file_entry

Vectors = np.ndarray[Any, np.dtype[np.float16]]


def write_embeddings(
    work: Work, lm: LanguageModel, prompts: pa.ChunkedArray, *, shard_rows_n: int = SHARD_ROWS_N
) -> None:
    """Embed the pool shard by shard and store the shards in one folder. Shards of a killed run are used again.

    Raises:
        ValueError: a prompt cannot be embedded. The message names the prompt's row in the pool, unless memory ran out.
    """
    identity = work.expected.identity
    planned = plan_shards(len(prompts), shard_rows_n)
    files = _find_shards(work, planned, dimensions(lm))
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
        files[shard.name] = _put_shard(work, lm, shard, texts, tell)
        done_n += shard.rows_n
    work.store.finish_folder(identity, files, rows_n=len(prompts), dimensions_n=dimensions(lm))


def share_out_embeddings(work: Work, prompts_n: int, *, shard_rows_n: int = SHARD_ROWS_N) -> None:
    """Write the same folder as `write_embeddings`, with up to `$TASKDIV_SCORERS` workers that compute the shards."""
    planned = {shard.name: shard for shard in plan_shards(prompts_n, shard_rows_n)}
    wanted = [shards.Shard(name, np.arange(start, start + rows_n)) for name, start, rows_n in planned.values()]
    files, done_n, width = {}, 0, 0
    with work.progress("embedding prompts", "prompts") as progress:
        progress(0, prompts_n)
        for result in shards.share_out(work, shard_embedder, wanted, scorers_n()):
            files[result["shard"]], width = result["entry"], result["dimensions_n"]
            done_n += planned[result["shard"]].rows_n
            if result["was_there"]:
                progress.before_n += planned[result["shard"]].rows_n
            progress(done_n, prompts_n, f"{result['shard']} by process {result['worker']}")
    work.store.finish_folder(work.expected.identity, files, rows_n=prompts_n, dimensions_n=width)


def shard_embedder(work: Work) -> shards.Task:
    """Load the base model, and return a worker's task. The task embeds and stores a shard if it is not stored yet."""
    lm = load_base(work)

    def embed_one(shard: shards.Shard) -> Mapping[str, Any]:
        rows = Shard(shard.name, int(shard.rows[0]), len(shard.rows))
        there = _find_shards(work, [rows], dimensions(lm))
        entry = there.get(rows.name)
        if entry is None:
            _, prompts = shards.pool_rows(work, shard.rows)
            entry = _put_shard(work, lm, rows, prompts)
        return {"entry": entry, "dimensions_n": dimensions(lm), "was_there": rows.name in there}

    return embed_one


def _put_shard(
    work: Work,
    lm: LanguageModel,
    shard: Shard,
    prompts: list[str],
    tell: Callable[[int, int, float], None] | None = None,
) -> dict[str, Any]:
    """Embed the prompts of a shard and store the embeddings. Return the shard's entry in the manifest."""
    pooling = work.experiment.embeddings.pooling
    data = to_npy(embed(lm, work.render(prompts), pooling=pooling, first_row=shard.start, progress=tell))
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


def read_embeddings(work: Work, identity: str) -> Vectors:
    """Return embeddings as an array (n, d) of float16. A single shard is memory-mapped; several are copied into one array."""
    paths = shard_paths(work.store, identity)
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
