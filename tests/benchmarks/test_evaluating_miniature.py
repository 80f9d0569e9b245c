"""The benchmark of scoring with small sizes. All sides give the same responses, so their times can be compared."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
from lm_eval.api.instance import Instance

from taskdiv_assets.experiment import LabModel
from taskdiv_assets.language_model.lab_model import train
from tests.benchmarks import adapters, asked, evaluating, evaluators
from tests.benchmarks.adapters import Lab, Timed
from tests.benchmarks.asked import Load
from tests.benchmarks.random_llama import Shape

TASKS = ["copy", "first", "last"]
SHAPE = Shape(32, 64, 2, 4, 300, 256)
STORY = "there was once a weaver who kept a ledger of every thread that she had ever cut, and lent it to nobody. "
SENTENCES = [f"{STORY}{name} came by and asked for the {thing}" for name, thing in
             [("anna", "ledger"), ("otto", "thread"), ("mia", "loom"), ("ben", "key")]]  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("evaluating")
    (folder / "base").mkdir()
    train(LabModel(steps=60, hidden_size=32, layers=1), TASKS, folder / "base")
    return adapters.prepare(folder, folder / "base", TASKS, 2)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("own_cache")
class TestAdapters:
    def test_the_loop_finds_what_ours_finds(self, lab: Lab) -> None:
        mine, theirs = adapters.ours(lab), adapters.harness_loop(lab)
        assert len(mine) == len(theirs) == 2 and len(mine[0]) == 120
        for ours, other in zip(mine, theirs, strict=True):
            assert evaluating.check_found("loop", ours, other) < 1e-4
        assert mine[0] != mine[1]  # adapters do something

    def test_a_call_finds_what_ours_finds(self, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its command line, in this process and without the index of all tasks that lm-eval brings: 13 s."""
        from lm_eval import tasks
        from lm_eval._cli import HarnessCLI

        monkeypatch.setattr(tasks, "TaskManager", partial(tasks.TaskManager, include_defaults=False))
        monkeypatch.setattr("sys.argv", ["lm_eval", *adapters.call_arguments(lab, tmp_path / "out")])
        cli = HarnessCLI()
        cli.execute(cli.parse_args())
        found = adapters.read_samples(tmp_path / "out")
        assert evaluating.check_found("call", adapters.ours(lab.of(1))[0], found) < 1e-4


def loads(base: Path) -> list[Load]:
    lm = asked.with_tokenizer(SHAPE, SENTENCES)
    settings = {"until": ["\n"], "max_gen_toks": 8, "do_sample": False}
    texts = {
        str(place): Instance("generate_until", {}, (text, settings), 0, ("texts", place, 1))
        for place, text in enumerate(SENTENCES)
    }
    rows = [(text, text[len(STORY) :]) for text in SENTENCES]
    return [asked.lab(base, TASKS), asked.endings(rows, lm), Load("texts", lm, texts, [[key] for key in texts])]


@pytest.mark.parametrize("place", range(3))
def test_every_side_says_the_same(lab: Lab, place: int) -> None:
    load = loads(lab.base)[place]
    found = evaluating.take_turns(load, 1, (1, 8))
    assert [one.side for one in found] == [
        "ours", "ours, a further adapter", "HFLM, batch size 1", "HFLM, batch size 8",
    ]  # fmt: skip
    assert all(one.off_by <= 1e-4 for one in found) and all(len(one.seconds) == 1 for one in found)
    assert sum("the best" in row[1] for row in evaluating._rows(load, found)) == 1


class TestDifferences:
    ITEMS = (("a", "b"),)
    OURS: ClassVar[evaluators.Responses] = {"a": (-1.0, True), "b": (-1.00001, False)}

    @pytest.mark.parametrize(
        "other",
        [
            {"a": (-1.0, True), "b": (-1.2, False)},  # too far
            {"a": (-1.0, False), "b": (-1.00001, False)},  # not greedy
            {"a": (-1.00002, True), "b": (-1.00001, False)},  # within rounding, but another is the likeliest
            {"a": (-1.0, True)},
        ],
    )
    def test_other_answers_are_not_compared(self, other: evaluators.Responses) -> None:
        with pytest.raises(RuntimeError, match="nothing is compared"):
            evaluating.off_by("side", self.OURS, other, self.ITEMS)

    def test_other_texts_are_not_compared(self) -> None:
        with pytest.raises(RuntimeError, match="nothing is compared"):
            evaluating.off_by("side", {"a": "yes"}, {"a": "yes."}, [["a"]])

    def test_rounding_is_told(self) -> None:
        other = {"a": (-1.000004, True), "b": (-1.00001, False)}
        assert evaluating.off_by("side", self.OURS, other, self.ITEMS) == pytest.approx(4e-6)


def test_calls_are_added_up_and_turns_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def timed(name: str, wall_s: float, lab: Lab) -> Timed:
        order.append(f"{name} {len(lab.adapters)}")
        return Timed(wall_s, [{"a": (-1.0, True)}] * len(lab.adapters))

    monkeypatch.setattr(adapters, "timed_call", lambda lab: timed("call", 4.0, lab))
    monkeypatch.setattr(adapters, "timed_process", lambda way, lab: timed(way, 2.0 + len(lab.adapters), lab))
    lab = Lab(Path(), tuple(map(Path, "abcd")), Path(), ("copy",))
    found = evaluating.processes_take_turns(lab, 2)
    turn = ["ours 4", "ours 1", "harness_loop 4"]
    assert order == ["call 1", *turn, "call 1", "call 1", *turn, "call 1"]
    table = evaluating._adapters_table(4, *found)
    assert "| 4 | `lm_eval`, a call an adapter, 4 calls | 16.0 | 2.67 | time × 3 | **no** |" in table
    assert "| 1 | `lm_eval`, a call an adapter | 4.0 (4.0 to 4.0) | 1.33 |  |  |" in table
