"""Values that several assets read from stored tables."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taskdiv_assets.graph.work import Work


def pool_ids(work: Work) -> dict[str, Any]:
    return {"pool_prompt_ids": work.read("raw_pool")["prompt_id"]}


def task_sizes(work: Work) -> dict[str, Any]:
    counts = work.read("task_labels")["task"].value_counts().to_pylist()
    return {"pool_task_sizes": {entry["values"]: entry["counts"] for entry in counts}}


def task_codes(labels: pa.Table) -> tuple[NDArray[np.int64], list[str]]:
    """Return the code of each prompt's task, (n,), and the sorted names of the tasks. A code is a position in the names."""
    names = sorted(labels["task"].unique().to_pylist())
    return pc.index_in(labels["task"], pa.array(names, pa.string())).to_numpy().astype(np.int64), names


def values_of(labels: pa.Table, scored: pa.Table, column: str) -> NDArray[np.float64]:
    """Return a column of `scored` in the order of the rows of `labels`, (n,); NaN for prompts that were not scored."""
    places = pc.index_in(labels["prompt_id"], value_set=scored["prompt_id"].combine_chunks())
    values: NDArray[np.float64] = scored[column].combine_chunks().take(places).to_numpy(zero_copy_only=False)
    return values


def of_first_seed(table: pa.Table) -> tuple[int | None, pa.Table]:
    """Return the selection seed of the first row and all rows with this seed; (None, table) for an empty table."""
    if not table.num_rows:
        return None, table
    seed = table["selection_seed"][0]
    return seed.as_py(), table.filter(pc.equal(table["selection_seed"], seed))
