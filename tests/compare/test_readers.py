"""The readers of `taskdiv compare`: files that lm-eval and inspect_ai wrote, and files that are damaged or hostile."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reports.compare import bounded_files, compare, systems
from reports.compare.common_items import join
from reports.compare.score_sources import read_all
from reports.compare.versus import versus
from taskdiv_assets.cli import app
from tests.compare.make_files import DATE, sample, unpacked, write_csv, write_samples
from tests.compare.make_lm_eval_samples import make_samples

LOGS = {"sums": {"good": [6, 5, 4], "poor": [3, 1, 1]}}  # right answers of six, by epoch


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "good.csv", [("t", item, 1) for item in range(4)])


# --- files that other programs wrote ---------------------------------------------------------------------------------


@pytest.mark.xdist_group("own_tasks")
@pytest.mark.full
def test_samples_of_lm_eval_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two adapters of a small model answer two tasks; means and settings are those of lm-eval's own results file."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folders = make_samples(tmp_path)
    found = versus(join(read_all([str(folder) for folder in folders.values()])))
    assert found.joined.metric == "acc and exact_match,first"
    assert found.joined.scores.task_sizes.tolist() == [24, 9]
    for name, folder in folders.items():
        (file,) = folder.rglob("results_*.json")
        theirs: dict[str, Any] = json.loads(file.read_text())["results"]
        mean = (theirs["animals"]["acc,none"] + theirs["sums"]["exact_match,first"]) / 2
        assert found.means[name].estimate == pytest.approx(mean, abs=1e-12)
    (one,) = found.comparisons
    assert not one.difference.is_identical and one.verdict == "not separable from noise"
    (system, _) = found.joined.systems
    assert (
        system.tasks["animals"].settings["number of few-shot examples"] == "0"
        and system.tasks["animals"].settings["version of the task"]
    )
    assert [finding.title for finding in found.joined.findings] == ["one run each", "several metrics"]


def test_logs_of_inspect_ai_itself(tmp_path: Path) -> None:
    folders = unpacked(tmp_path)
    found = versus(join(read_all([str(folder) for folder in folders.values()])))
    assert found.joined.metric == "match" and found.joined.other_metrics == ("includes",)
    assert {system.models for system in found.joined.systems} == {("mockllm/model",)}
    assert found.joined.runs == {"good": (1, 2, 3), "poor": (1, 2, 3)}
    for name in folders:
        sums = sum(LOGS["sums"][name]) / 18
        words = {"good": 0.8, "poor": 0.4}[name]
        assert found.means[name].estimate == pytest.approx((sums + words) / 2)
    (one,) = found.comparisons
    assert one.difference.parts is not None and len(one.difference.parts.seeds) == 2  # epochs are no pairs
    assert join(read_all([str(folder) for folder in folders.values()]), metric="includes").scores.tasks == ("sums",)


def test_the_numbers_of_inspect_logs_are_those_inspect_states(tmp_path: Path) -> None:
    for folder in unpacked(tmp_path).values():
        for file in folder.glob("*.json"):
            log = json.loads(file.read_text())
            (accuracy,) = (
                one["metrics"]["accuracy"]["value"] for one in log["results"]["scores"] if one["name"] == "match"
            )
            (system,) = read_all([f"a={file}", f"b={file}"])[:1]
            scores = list(system.scores["match"].values())
            assert sum(scores) / len(scores) == pytest.approx(accuracy)


# --- forms of values -------------------------------------------------------------------------------------------------


def log_of(values: list[Any], **changes: Any) -> dict[str, Any]:
    samples = [
        {"id": place, "epoch": 1, "input": f"q{place}", "target": "yes", "scores": {"judge": {"value": value}}}
        for place, value in enumerate(values)
    ]
    return {"status": "success", "eval": {"task": "t", "model": "m", "created": "2026"}, "samples": samples} | changes


def write_log(path: Path, values: list[Any], **changes: Any) -> Path:
    path.write_text(json.dumps(log_of(values, **changes)))
    return path


def test_letters_numbers_and_dictionaries_of_inspect(tmp_path: Path) -> None:
    (system, _) = read_all(
        [
            str(write_log(tmp_path / "a.json", ["C", "I", "P", "N", 0.25, True, "no"])),
            str(write_log(tmp_path / "b.json", ["C"])),
        ]
    )
    assert list(system.scores["judge"].values()) == [1, 0, 0.5, 0, 0.25, 1, 0]
    (system, _) = read_all(
        [str(write_log(tmp_path / "c.json", [{"a": 1, "b": "C"}])), str(write_log(tmp_path / "d.json", ["C"]))]
    )
    assert set(system.scores) == {"judge/a", "judge/b"}


def test_another_question_of_inspect_is_left_out(tmp_path: Path) -> None:
    """Input and choices are the question. The ids of messages are not: inspect_ai draws them for each log."""
    paths = []
    for place, name in enumerate("ab"):
        log = log_of(["C", "I", "C"])
        log["samples"][0]["input"] = f"other {place}"
        log["samples"][1]["choices"] = ["x", str(place)]
        log["samples"][2]["input"] = [{"id": f"drawn {place}", "role": "user", "content": "q"}]
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(log))
    found = join(read_all([str(path) for path in paths]))
    assert found.scores.item_ids == ("2",)
    texts = {finding.title: finding.text for finding in found.findings}
    assert texts["another question"].startswith("2 items have another question") and "different prompts" not in texts


def test_logs_of_inspect_can_be_compared_with_samples_of_lm_eval(tmp_path: Path) -> None:
    """Each program hashes a question in its own form, so only hashes of one program are compared."""
    log = log_of(["C", "I"], eval={"task": "animals", "model": "m"})
    for one in log["samples"]:
        one["scores"] = {"acc": one["scores"]["judge"]}
    (tmp_path / "a.json").write_text(json.dumps(log))
    folder = write_samples(tmp_path / "b", "animals", [sample(item, 1) for item in range(2)])
    assert join(read_all([str(tmp_path / "a.json"), f"b={folder}"])).scores.item_ids == ("0", "1")


def test_a_value_that_is_no_score_is_named(tmp_path: Path) -> None:
    paths = [str(write_log(tmp_path / f"{name}.json", ["perhaps", "perhaps"])) for name in "ab"]
    with pytest.raises(
        ValueError, match=r"a: judge, .*a.json, sample 1 has the value 'perhaps' for it, which is no score"
    ):
        join(read_all(paths))


def test_tables_with_semicolons_and_other_columns(tmp_path: Path, good: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_bytes('\ufeffTask;Item;remark;Score\nt;0;"a;b";0.5\nt;1;x;1\n'.encode())
    system = read_all([str(good), str(path)])[1]
    assert system.scores["score"] == {("t", "0", 0): 0.5, ("t", "1", 0): 1.0}


# --- damaged and hostile files ---------------------------------------------------------------------------------------

TABLES = {
    "empty": ("", "line 1: the columns are"),
    "no rows": ("task,item,score\n", "the table has no rows"),
    "no score": ("task,item\nt,1\n", "expected task, item and score"),
    "twice": ("task,item,score,score\nt,1,1,1\n", "each once"),
    "repeated": ("task,item,score\nt,1,1\nt,1,0\n", "line 3: item '1' of task 't' has a second score"),
    "word": ("task,item,score\nt,1,good\n", "line 2: the score is 'good'"),
    "percent": ("task,item,score\nt,1,87.5\n", "line 2: the score is 87.5; expected a number from 0 to 1"),
    "negative": ("task,item,score\nt,1,-0.1\n", "line 2: the score is -0.1"),
    "underscore": ("task,item,score\nt,1,1_0\n", "line 2: the score is '1_0'"),
    "ragged": ("task,item,score\nt,1\n", "line 2: 2 values in 3 columns"),
    "quote": ('task,item,score\nt,"1,1\n', "no valid CSV"),
    "seed": ("task,item,score,seed\nt,1,1,-1\n", "line 2: the seed is '-1'"),
    "no task": ("task,item,score\n,1,1\n", "the name of the task has 0 characters"),
    "long": (f"task,item,score\nt,{'x' * 400},1\n", "the name of the item has 400 characters"),
    "system": ("task,item,score,system\nt,1,1,\n", "the name of the system has 0 characters"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_bad_table_gives_one_sentence_with_its_line(tmp_path: Path, good: Path, name: str) -> None:
    text, expected = TABLES[name]
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as raised:
        compare([str(good), str(path)], str(tmp_path / "out"))
    assert expected in str(raised.value) and "bad.csv" in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_table_that_is_not_utf_8(tmp_path: Path, good: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(b"task,item,score\nt\xff,1,1\n")
    with pytest.raises(ValueError, match=r"bad\.csv: no UTF-8 at byte"):
        read_all([str(good), str(path)])


LINES = {
    "no JSON": ("{", r"line 2: no valid JSON"),
    "a list": ("[1]", "line 2: expected a JSON object, found a list"),
    "no id": ('{"acc": 1}', "line 2: `doc_id` is None"),
    "an odd id": ('{"doc_id": {"a": 1}, "metrics": ["acc"], "acc": 1}', "line 2: `doc_id` is"),
    "a key twice": ('{"doc_id": 1, "acc": 1, "acc": 0}', "line 2: no valid JSON (an object names one key twice)"),
    "deep": ("[" * 100_000 + "]" * 100_000, "line 2: no valid JSON (nested too deeply)"),
    "a repeated item": (json.dumps(sample(0, 1)), "line 2: item '0' of task 'animals' has a second score of acc"),
    "a long number": ('{"doc_id": ' + "1" * 5000 + "}", "line 2: no valid JSON"),
    "bytes": ("\udcff", "line 2: no valid JSON"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_bad_line_gives_one_sentence_with_its_number(tmp_path: Path, good: Path, name: str) -> None:
    text, expected = LINES[name]
    path = tmp_path / f"samples_animals_{DATE}.jsonl"
    path.write_bytes(f"{json.dumps(sample(0, 1))}\n{text}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError) as raised:
        read_all([str(good), f"bad={path}"])
    assert expected in str(raised.value) and path.name in str(raised.value) and "\n" not in str(raised.value)


def test_odd_values_in_samples_and_results_do_no_harm(tmp_path: Path) -> None:
    rows = [sample(0, 1, metrics=["acc", None, {"a": 1}, "f1"], f1=[1, 0], filter=["x"], doc_hash=7, extra=[[]])]
    results = {
        "n-shot": [1],
        "versions": {"animals": {"x": 1}},
        "higher_is_better": {"animals": "yes"},
        "model_name": None,
    }
    folder = write_samples(tmp_path / "a", "animals", rows, **results)
    (system, _) = read_all([f"a={folder}", f"b={folder}"])
    assert system.scores["acc"] == {("animals", "0", 0): 1.0} and "f1" in system.unusable
    assert "number of few-shot examples" not in system.tasks["animals"].settings


def test_sizes_are_bounded(tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_samples(tmp_path / "a", "animals", [sample(item, 1) for item in range(5)])
    for limit, value, expected in (
        ("LINE_BYTES_MAX", 50, "line 1: longer than"),
        ("FILE_BYTES_MAX", 100, "MiB are read"),
        ("FILES_MAX_N", 0, "more than 0 files"),
    ):
        with monkeypatch.context() as patch, pytest.raises(ValueError, match=expected):
            patch.setattr(bounded_files, limit, value)
            read_all([str(good), f"bad={folder}"])
    monkeypatch.setattr(systems, "ROWS_MAX_N", 3)
    with pytest.raises(ValueError, match="has more than 3 scores, which is the limit"):
        read_all([str(good), f"bad={folder}"])


def test_pipes_and_devices_are_not_read(tmp_path: Path, good: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ValueError, match="pipe.csv is no file"):
        read_all([str(good), str(tmp_path / "pipe.csv")])


def test_damaged_files_never_give_another_error(tmp_path: Path, good: Path) -> None:
    """Bytes of valid files are changed at random: the files are read, or a ValueError says why not."""
    draw = random.Random(4)
    samples = "".join(json.dumps(sample(item, 1)) + "\n" for item in range(3)).encode()
    log, table = json.dumps(log_of(["C", "I"])).encode(), good.read_bytes()
    for suffix, raw in ((".jsonl", samples), (".json", log), (".csv", table)) * 60:
        broken = bytearray(raw)
        for _ in range(draw.randint(1, 6)):
            broken[draw.randrange(len(broken))] = draw.randrange(256)
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(broken[: draw.randint(1, len(broken))] if draw.random() < 0.3 else broken)
        try:
            join(read_all([str(good), str(path)]))
        except ValueError as error:
            assert str(error) and "\n" not in str(error)


# --- paths and names -------------------------------------------------------------------------------------------------


def test_folders_that_do_not_name_one_system(tmp_path: Path, good: Path) -> None:
    rows = [sample(0, 1)]
    for model in ("x", "y"):
        (tmp_path / "two" / model).mkdir(parents=True)
        (tmp_path / "two" / model / f"samples_animals_{DATE}.jsonl").write_text(json.dumps(rows[0]))
    (tmp_path / "logs").mkdir()
    write_log(tmp_path / "logs" / "a.json", ["C"])
    write_log(tmp_path / "logs" / "b.json", ["C"], eval={"task": "u", "model": "other"})
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "log.eval").write_bytes(b"PK")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "unsampled").mkdir()
    (tmp_path / "unsampled" / f"results_{DATE}.json").write_text(json.dumps({"results": {}}))
    for folder, expected in (
        ("two", "has samples in several folders"),
        ("logs", "has logs of several models (m, other)"),
        ("binary", "inspect_ai's binary format"),
        ("unsampled", "run lm_eval again with --log_samples"),
        ("nothing", "has no scores that taskdiv can read"),
    ):
        with pytest.raises(ValueError) as raised:
            read_all([str(good), str(tmp_path / folder)])
        assert expected in str(raised.value)
    with pytest.raises(FileNotFoundError, match="does not exist; expected a folder"):
        read_all([str(good), str(tmp_path / "absent")])
    with pytest.raises(ValueError, match="two systems are called 'good'"):
        read_all([str(good), str(good)])
    with pytest.raises(ValueError, match="expected 2 to 20"):
        read_all([str(good)])


def test_logs_that_are_not_finished(tmp_path: Path, good: Path) -> None:
    write_log(tmp_path / "a.json", ["C"], status="error")
    with pytest.raises(ValueError, match="no finished log"):
        read_all([str(good), str(tmp_path / "a.json")])
    (tmp_path / "logs").mkdir()
    write_log(tmp_path / "logs" / "first.json", ["C"] * 4)
    write_log(tmp_path / "logs" / "second.json", ["I"] * 4, eval={"task": "t", "model": "m", "created": "2027"})
    write_log(tmp_path / "logs" / "third.json", ["I"] * 4, status="cancelled")
    system = read_all([str(good), str(tmp_path / "logs")])[1]
    assert set(system.scores["judge"].values()) == {0.0}
    assert system.notes == [
        "logs was run several times on t: only the latest file of each task is used.",
        "Left out, not finished: third.json (cancelled) of logs.",
    ]
    write_log(tmp_path / "b.json", ["C"], samples=None)
    with pytest.raises(ValueError, match="the log has no samples"):
        read_all([str(good), str(tmp_path / "b.json")])


def test_the_command(tmp_path: Path, good: Path) -> None:
    other = write_csv(tmp_path / "other.csv", [("t", item, item % 2) for item in range(4)])
    out = tmp_path / "out"
    found = CliRunner().invoke(app, ["compare", str(good), f"mine={other}", "--reference", "mine", "--out", str(out)])
    assert found.exit_code == 0, found.output
    assert "good against mine: not separable from noise." in found.stdout
    assert found.stdout.strip().splitlines()[-1] == f"page: {out}/index.html"
    files = ["figures", "index.html", "results.csv", "results.parquet"]
    assert sorted(path.name for path in out.iterdir()) == files
    wrong = CliRunner().invoke(app, ["compare", str(good), f"mine={other}", "--reference", "nobody"])
    assert wrong.exit_code == 2 and "no system is called 'nobody'; expected good or mine" in wrong.stderr
    assert "Example:" in CliRunner().invoke(app, ["compare", "--help"]).stdout
