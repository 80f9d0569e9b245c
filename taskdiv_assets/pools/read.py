"""Reader of the pool that an experiment's `pool` section describes, and the fingerprint of the pool's sources."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.pools import dolly, flan, frame, table
from taskdiv_assets.pools.frame import Part, RawPool
from taskdiv_assets.pools.lab import pool_items
from taskdiv_assets.pools.sources import expand, kind_of, read_file, read_hub
from taskdiv_assets.pools.values import Choice, Options, Source, require
from taskdiv_assets.storage import remote

# Formats of files for which a setting is meant.
_SERVES = {
    "encoding": ("CSV", "JSON", "JSON lines"),
    "separator": ("CSV",),
    "escape": ("CSV",),
    "sheet": ("ODS", "XLSX"),
}


def read_pool(settings: Pool) -> RawPool:
    """Read the pool of an experiment from its source."""
    duplicates = settings.duplicates or "keep"
    if settings.reader == "lab":
        items = pool_items(settings.seed, settings.tasks, settings.largest_n, settings.smallest_n)
        columns = ([one.prompt for one in items], [one.response for one in items], [one.task for one in items])
        return frame.raw_pool([Part.whole("the lab", *columns)], duplicates)
    pool = frame.raw_pool(frame.limited([part for _, part in _read(settings)], settings.limit), duplicates)
    return pool if settings.sample is None else frame.sampled(pool, settings.sample)


def extra_columns(
    settings: Pool, names: Sequence[str], prompt_ids: Collection[str] = ()
) -> Mapping[str, tuple[str | None, ...]]:
    """Read the source again and return its columns `names` for each prompt id, including the ids of copies.

    Raises:
        ValueError: the pool is the lab's, a column is missing, or a prompt in `prompt_ids` is no longer in the source.
    """
    if settings.reader == "lab":
        raise ValueError("the lab makes its own pool and has no further columns; export without `--with`.")
    found = list(_read(settings, names))
    parts = frame.limited([part for _, part in found], settings.limit)
    rows = ((source, row - 1) for (source, _), part in zip(found, parts, strict=True) for row in part.rows)
    values = {
        prompt_id: tuple(source.columns[name][row] for name in names)
        for prompt_id, (source, row) in zip(frame.ids_of(parts), rows, strict=True)
    }
    gone = [prompt_id for prompt_id in prompt_ids if prompt_id not in values]
    if gone:
        raise ValueError(
            f"{settings.hub or settings.path} no longer has {len(gone)} of {len(prompt_ids)} prompts, the first is {gone[0]}; "
            "the source has changed since the pool was read. Run `taskdiv run` again, or restore the source."
        )
    return values


def _read(settings: Pool, more: Sequence[str] = ()) -> Iterator[tuple[Source, Part]]:
    """Yield each source of a pool (a file or a data set) and its rows for the pool. `more` are additional columns to read."""
    choose, to_part = _reader(settings)

    def choose_more(names: tuple[str, ...], place: str) -> Sequence[str]:
        wanted = choose(names, place)
        require(names, more, place)
        return [*wanted, *more]

    messages = settings.columns.messages if settings.columns else None
    nested = frozenset(more if messages is None else [*more, messages])
    options = Options(settings.encoding, settings.separator, settings.escape, settings.sheet, nested)
    if settings.hub is not None:
        hub = read_hub(settings.hub, settings.revision, settings.split, choose_more, settings.sample, options)
        yield hub, to_part(hub)
        return
    files = source_files(settings)
    _check_options(settings, files)
    for path in files:
        source = read_file(path, choose_more, options)
        yield source, to_part(source)


def _check_options(settings: Pool, files: Sequence[str]) -> None:
    """Raise ValueError if a setting in `_SERVES` is given, but no file of the pool has a format that uses it."""
    kinds = {kind_of(path) for path in files}
    for name, serves in _SERVES.items():
        if getattr(settings, name) is not None and not kinds.intersection(serves):
            found = f"`{name}` of the pool is for {' and '.join(serves)} files"
            raise ValueError(f"{found}, and {settings.path} has none; remove it.")


def source_files(settings: Pool) -> list[str]:
    """Return the files of the pool in reading order; an empty list for the lab and for a hub data set."""
    if settings.reader == "lab" or settings.hub is not None:
        return []
    if settings.path is None:
        raise ValueError(f"pool reader {settings.reader!r} has neither `path` nor `hub`; name one of them.")
    return expand(settings.path, settings.split)


def fingerprint(settings: Pool, marks: dict[str, str] | None = None) -> dict[str, str]:
    """Return the fingerprint of a pool's sources: {file: SHA-256 of its bytes}, {data set: name@revision}, or {} for the lab.

    Identities use only the values, so a path does not change an identity. `marks` are the known hashes of remote files
    (`remote.known_or`); new hashes are added to `marks`.
    """
    if settings.hub is not None:
        return {settings.hub: f"{settings.hub}@{settings.revision}"}
    known = {} if marks is None else marks
    files = source_files(settings)
    return dict(zip(files, remote.at_once(lambda path: remote.sha256_of(path, known), files), strict=True))


def _reader(settings: Pool) -> tuple[Choice, Callable[[Source], Part]]:
    columns = settings.columns
    if settings.reader == "dolly":
        return dolly.choose, dolly.to_part
    if settings.reader == "table":
        if columns is None:
            raise ValueError("pool reader 'table' has no `columns`; expected at least `columns: {prompt: …}`.")
        return partial(table.choose, columns=columns), partial(table.to_part, columns=columns, turns=settings.turns)
    split = None if settings.hub is not None else settings.split  # a hub data set is loaded as one split
    return partial(flan.choose, columns=columns), partial(flan.to_part, split=split, columns=columns)
