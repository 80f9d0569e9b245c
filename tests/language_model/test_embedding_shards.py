"""Stored embeddings: no result depends on their shards, and after a kill no shard is computed twice."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment import experiment_file as experiments
from taskdiv_assets.experiment.declaration import Embeddings
from taskdiv_assets.experiment.experiment_file import ExperimentError
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.units import Expectation, Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.language_model.batching import FIXED_SHAPES
from taskdiv_assets.language_model.embeddings import embed, is_npy, plan_shards, to_npy
from taskdiv_assets.language_model.loading import LanguageModel, load
from taskdiv_assets.services.embedding_shards import of_base, read_embeddings, write_embeddings
from taskdiv_assets.storage.identity import identity
from taskdiv_assets.storage.store import Store
from tests.home import MINIATURE

IDENTITY = "e" * 32
PROMPTS = [f"{'copy reverse last '[: 4 + i]} {'abcdefghij'[: 1 + i % 10]}" for i in range(14)]  # 14 lengths
SHARD_ROWS_N = 3
SHARDS = [shard.name for shard in plan_shards(len(PROMPTS), SHARD_ROWS_N)]


@dataclass(frozen=True)
class CountingWork(Work):
    """Work that records the prompts it renders. These are the prompts that are embedded."""

    rendered: list[str] = field(default_factory=list)
    wait_s: float = 0.0

    def render(self, prompts: list[str]) -> list[str]:
        time.sleep(self.wait_s)  # so that a kill comes between two shards, not after the last
        self.rendered.extend(prompts)
        return prompts


def make_experiment(pooling: str = "mean") -> Experiment:
    """Return the miniature experiment with `pooling`."""
    settings = Embeddings.model_validate({"pooling": pooling})
    return experiments.load(str(MINIATURE)).model_copy(update={"embeddings": settings})


def make_work(root: Path, pooling: str = "mean", wait_s: float = 0.0) -> Any:
    """Return work over an empty store. Its messages go to `work.said`."""
    experiment, store = make_experiment(pooling), Store("miniature", str(root))
    said: list[str] = []
    unit, expected = Unit("prompt_embeddings"), Expectation(IDENTITY, {})
    work = CountingWork(experiment, store, REGISTRY.look(experiment, store), unit, expected, said.append, wait_s=wait_s)
    object.__setattr__(work, "said", said)
    return work


def write(work: Work, lm: LanguageModel, prompts: list[str] = PROMPTS, shard_rows_n: int = SHARD_ROWS_N) -> None:
    embedder = of_base(work, lm, work.experiment.embeddings.pooling)
    write_embeddings(work, embedder, pa.chunked_array([prompts]), shard_rows_n=shard_rows_n)


def content(root: Path) -> dict[str, bytes]:
    """Return the folder's files by name, without `.tmp` files: a kill may leave half of one, which no manifest names."""
    paths = (root / "miniature" / "folders" / IDENTITY).iterdir()
    return {path.name: path.read_bytes() for path in sorted(paths) if path.suffix != ".tmp"}


def write_in_a_process(root: Path, folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    write(make_work(root, wait_s=0.3), load(folder, dtype="float32", attention="sdpa"))


@pytest.fixture(scope="module")
def undisturbed(miniature: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of an uninterrupted run."""
    root = tmp_path_factory.mktemp("undisturbed")
    work = make_work(root)
    write(work, miniature)
    assert work.rendered == PROMPTS
    assert all("took" in line for line in work.said)  # a slow machine says at the end how long it took
    return content(root)


def read_back(
    root: Path, lm: LanguageModel, prompts: list[str], shard_rows_n: int, pooling: str = "mean"
) -> np.ndarray:
    work = make_work(root / str(shard_rows_n), pooling)
    write(work, lm, prompts, shard_rows_n)
    return read_embeddings(work.store, IDENTITY)


@pytest.mark.parametrize(
    ("pooling", "dtype"),
    [
        ("mean", "float32"),
        pytest.param("last", "bfloat16", marks=pytest.mark.full),
        pytest.param("mean", "bfloat16", marks=pytest.mark.full),
        pytest.param("last", "float32", marks=pytest.mark.full),
    ],
)
def test_not_a_bit_depends_on_the_shards(miniature_folder, tmp_path, pooling, dtype):
    lm = load(miniature_folder, dtype=dtype, attention="sdpa")
    one, many = (read_back(tmp_path, lm, PROMPTS, rows_n, pooling) for rows_n in (8192, SHARD_ROWS_N))
    assert isinstance(one, np.memmap) and not isinstance(many, np.memmap)
    assert one.dtype == many.dtype == np.float16
    assert one.tobytes() == many.tobytes() == embed(lm, PROMPTS, pooling=pooling).tobytes()


@pytest.mark.full
def test_nor_with_a_real_model_and_real_prompts(stories, dolly_prompts, tmp_path):
    one, many = (read_back(tmp_path, stories, dolly_prompts[:10], rows_n) for rows_n in (8192, 3))
    assert one.tobytes() == many.tobytes()


@pytest.mark.full
@pytest.mark.parametrize("shards_n", [1, 3])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    miniature: LanguageModel, miniature_folder: Path, undisturbed: dict[str, bytes], tmp_path: Path, shards_n: int
) -> None:
    folder = tmp_path / "miniature" / "folders" / IDENTITY
    worker = multiprocessing.get_context("spawn").Process(target=write_in_a_process, args=(tmp_path, miniature_folder))
    worker.start()
    deadline = time.monotonic() + 120
    while len(list(folder.glob("shard-*.npy"))) < shards_n:
        assert time.monotonic() < deadline and worker.is_alive()
        time.sleep(0.005)
    worker.kill()  # SIGKILL
    worker.join(30)
    finished = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*.npy")}
    assert shards_n <= len(finished) < len(SHARDS)
    work = make_work(tmp_path)
    assert not work.store.is_whole(IDENTITY)
    write(work, miniature)
    assert {name: (folder / name).stat().st_mtime_ns for name in finished} == finished, (
        "a finished shard was done again"
    )
    assert work.rendered == PROMPTS[len(finished) * SHARD_ROWS_N :]
    assert work.said == [f"found {len(finished) * SHARD_ROWS_N} of 14 prompts embedded before"]
    assert content(tmp_path) == undisturbed
    assert work.store.is_whole(IDENTITY)


def test_killed_between_the_last_shard_and_the_manifest(miniature, undisturbed, tmp_path):
    write(make_work(tmp_path), miniature)
    (tmp_path / "miniature" / "folders" / IDENTITY / "manifest.json").unlink()
    work = make_work(tmp_path)
    write(work, miniature)
    assert work.rendered == [] and work.said == ["found 14 of 14 prompts embedded before"]
    assert content(tmp_path) == undisturbed


def damage(data: bytes, how: str) -> bytes:
    """Return bytes that may be in the place of a shard."""
    vectors = np.frombuffer(data, np.float16, offset=128).reshape(SHARD_ROWS_N, -1)
    return {
        "empty": b"",
        "truncated": data[:-1],
        "only a header": data[:128],
        "longer": data + b"\0",
        "too few rows": to_npy(vectors[1:]),
        "other dimensions": to_npy(vectors[:, :-1]),
        "float32": data.replace(b"<f2", b"<f4") + bytes(vectors.nbytes),
        "by columns": data.replace(b"'fortran_order': False", b"'fortran_order': True "),
        "pickled": b"\x80\x04K\x01." + data[5:],
        "zeros": bytes(len(data)),
    }[how]


DAMAGES = (
    "empty",
    "truncated",
    "only a header",
    "longer",
    "too few rows",
    "other dimensions",
    "float32",
    "by columns",
    "pickled",
    "zeros",
)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_shard_is_named_and_done_again(miniature, undisturbed, tmp_path, how):
    work = make_work(tmp_path)
    for name in SHARDS[:3]:
        data = undisturbed[name]
        work.store.put(damage(data, how) if name == SHARDS[1] else data, "folders", IDENTITY, name)
    write(work, miniature)
    assert work.rendered == PROMPTS[3:6] + PROMPTS[9:]
    told, found, *_ = work.said  # a line of progress may follow on a slow machine
    assert SHARDS[1] in told and "not a whole float16 array of 3 × 32" in told
    assert found == "found 6 of 14 prompts embedded before"
    assert content(tmp_path) == undisturbed


def test_every_prefix_of_a_shard_is_seen_as_damaged():
    data = to_npy(np.ones((2, 5), np.float16))
    assert is_npy(data, 2, 5)
    assert not any(is_npy(data[:end], 2, 5) for end in range(len(data)))


def test_shards_of_another_size_are_no_part_of_the_result(miniature, undisturbed, tmp_path):
    work = make_work(tmp_path)
    write(work, miniature, shard_rows_n=2)
    work.store.remove("folders", IDENTITY, "manifest.json")
    write(work, miniature)
    assert len(content(tmp_path)) > len(undisturbed)  # those of the other cut still lie there
    assert read_embeddings(work.store, IDENTITY).tobytes() == embed(miniature, PROMPTS).tobytes()


def test_errors_name_the_row_in_the_pool_and_finished_shards_stay(miniature_folder, tmp_path):
    import torch

    lm = load(miniature_folder, dtype="float32", attention="sdpa")
    with pytest.raises(ValueError, match=r"prompt in row 7 \(''\)"):
        write(make_work(tmp_path), lm, [*PROMPTS[:7], "", *PROMPTS[8:]])
    assert list(content(tmp_path)) == SHARDS[:2]
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[lm.tokenizer("7")["input_ids"]] = float("nan")
    work = make_work(tmp_path)
    with pytest.raises(ValueError, match="hidden state for the prompt in row 8 is zero or not finite"):
        write(work, lm, [*PROMPTS[:8], "copy 7", *PROMPTS[9:]])
    assert work.rendered == [*PROMPTS[6:8], "copy 7"]


def test_progress_counts_the_pool_and_what_was_found(miniature, undisturbed, tmp_path):
    from taskdiv_assets.storage import progress

    work = make_work(tmp_path)
    work.store.put(undisturbed[SHARDS[0]], "folders", IDENTITY, SHARDS[0])
    told: list[tuple[str, int, int, str]] = []
    progress.listen(lambda *at: told.append(at[:4]))
    try:
        write(work, miniature)
    finally:
        progress.listen(None)
    assert all(total == 14 for _, _, total, _ in told) and told[0][1] == 3 < told[1][1]
    assert told[-1] == ("prompt_embeddings: embedding prompts", 14, 14, "")


def test_pooling_enters_the_identity_and_the_default_is_the_old_one(tmp_path, monkeypatch):
    reading = {"raw_pool.prompts": "p", "base_model": "b"}
    monkeypatch.setattr(Inputs, "part", lambda self, *_: self.add({"raw_pool.prompts": "p"}))
    monkeypatch.setattr(Inputs, "of", lambda self, *_: self.add({"base_model": "b"}))
    found = {}
    for pooling in ("mean", "last"):
        experiment = make_experiment(pooling)
        found[pooling] = (
            REGISTRY.look(experiment, Store("miniature", str(tmp_path))).expect(Unit("prompt_embeddings")).identity
        )
    # As it was when the pooling could not be chosen: embeddings that are stored stay found.
    settings = {"pooling": "mean", "template": [experiment.prompt_template, False], "shapes": FIXED_SHAPES}
    version = REGISTRY["prompt_embeddings"].code_version
    assert found["mean"] == identity("prompt_embeddings", version, settings, reading) != found["last"]


def test_an_experiment_says_how_to_pool(tmp_path):
    path = tmp_path / "miniature.yaml"
    assert experiments.load(str(MINIATURE)).embeddings.pooling == "mean"
    path.write_text(MINIATURE.read_text() + "\nembeddings: {pooling: last}\n")
    assert experiments.load(str(path)).embeddings.pooling == "last"
    path.write_text(MINIATURE.read_text() + "\nembeddings: {pooling: max}\n")
    with pytest.raises(ExperimentError, match="embeddings.pooling"):
        experiments.load(str(path))
