"""From an experiment's `pool` section to a RawPool: which reader, which files, and what identifies them."""

from collections.abc import Callable
from functools import partial

import pyarrow as pa

from taskdiv_assets import remote
from taskdiv_assets.pool_settings import Pool
from taskdiv_assets.pools import dolly, flan, frame, t0, table
from taskdiv_assets.pools.frame import Part, RawPool
from taskdiv_assets.pools.lab import pool_table
from taskdiv_assets.pools.sources import Choice, Source, expand, read_file, read_hub


def read_pool(settings: Pool) -> RawPool:
    """The pool that an experiment names; ValueError says what is wrong, where, and what to do."""
    if settings.reader == "lab":
        return frame.raw_pool([lab_part(settings)], settings.duplicates)
    choose, to_part = _reader(settings)
    if settings.hub is not None:
        sources = [read_hub(settings.hub, settings.revision, settings.split, choose, settings.sample)]
    else:
        sources = [read_file(path, choose) for path in source_files(settings)]
    pool = frame.raw_pool([to_part(source) for source in sources], settings.duplicates)
    return pool if settings.sample is None else frame.sampled(pool, settings.sample)


def source_files(settings: Pool) -> list[str]:
    """The files that the pool is read from, in reading order; none for the lab and for the hub."""
    if settings.reader == "lab" or settings.hub is not None:
        return []
    if settings.path is None:
        raise ValueError(f"pool reader {settings.reader!r} has neither `path` nor `hub`; name one of them.")
    return expand(settings.path)


def fingerprint(settings: Pool, marks: dict[str, str] | None = None) -> dict[str, str]:
    """What identifies the pool's sources: {file: sha256 of its bytes}, or {data set: name@revision}; {} for the lab.

    A path is no part of an identity: hash the values, in order. `marks` are those of files at URLs (`remote.known_or`).
    """
    if settings.hub is not None:
        return {settings.hub: f"{settings.hub}@{settings.revision}"}
    known = {} if marks is None else marks
    files = source_files(settings)
    return dict(zip(files, remote.at_once(lambda path: remote.sha256_of(path, known), files), strict=True))


def lab_part(settings: Pool) -> Part:
    """The lab's own pool, made by a procedure."""
    return part_of_table(pool_table(settings), "the lab")


def part_of_table(rows: pa.Table, name: str) -> Part:
    """Rows of an Arrow table with the columns prompt, response and source_task."""
    prompts, responses, tasks = (rows.column(c).to_pylist() for c in ("prompt", "response", "source_task"))
    return Part(name, prompts, responses, tasks, None, range(1, rows.num_rows + 1), rows.num_rows, {})


def _reader(settings: Pool) -> tuple[Choice, Callable[[Source], Part]]:
    """How a reader chooses columns, and how it turns them into rows of the pool."""
    columns = settings.columns
    if settings.reader == "dolly":
        return dolly.choose, dolly.to_part
    if settings.reader == "table":
        if columns is None:
            raise ValueError("pool reader 'table' has no `columns`; expected at least `columns: {prompt: …}`.")
        return partial(table.choose, columns=columns), partial(table.to_part, columns=columns)
    module = t0 if settings.reader == "t0" else flan
    split = None if settings.hub is not None else settings.split  # a hub data set is cut to its split when loaded
    return partial(module.choose, columns=columns), partial(module.to_part, split=split, columns=columns)
