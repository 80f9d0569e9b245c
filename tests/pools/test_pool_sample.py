"""A sample of a pool: chosen by hash, of the stated size, and independent of the order of rows."""

from pathlib import Path

import datasets

from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.pools.sources import from_dataset


def test_a_sample_is_the_same_rows_in_any_order_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    lines = [f"prompt {i},task {i % 3}" for i in range(200)]
    for name, rows in (("a", lines), ("b", lines[::-1])):
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,kind", *rows]) + "\n")

    def read(name: str, sample: int | None) -> list[str]:
        columns = {"prompt": "text", "task": "kind"}
        pool = read_pool(Pool(reader="table", path=str(tmp_path / f"{name}.csv"), columns=columns, sample=sample))
        assert pool.rows_read_n == 200 == pool.table.num_rows + pool.dropped_n
        assert pool.drops.get("not_in_sample", 0) == 200 - pool.table.num_rows
        return pool.table["prompt"].to_pylist()

    assert read("a", 50) == read("b", 50)
    assert len(read("a", 50)) == 50
    assert set(read("a", 20)) < set(read("a", 50))  # a larger sample keeps the smaller
    assert len(read("a", 1000)) == len(read("a", None)) == 200


def test_a_hub_data_set_is_sampled_before_it_is_read() -> None:
    dataset = datasets.Dataset.from_dict({"source": [str(i) for i in range(500)], "other": list(range(500))})
    source = from_dataset(dataset, "x", lambda names, place: ["source"], 40)
    assert source.rows_n == 40 == len(set(source.columns["source"]))
    assert source == from_dataset(dataset, "x", lambda names, place: ["source"], 40)
