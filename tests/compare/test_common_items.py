"""What `taskdiv compare` finds in files that do not fit together, and says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports.compare import compare
from reports.compare.common_items import Joined, join
from reports.compare.score_sources import read_all
from reports.compare.versus import versus
from tests.compare.make_files import DATE, facts, hashed, sample, write_csv, write_samples


def joined(*folders: Path, metric: str = "") -> Joined:
    return join(read_all([f"{name}={folder}" for name, folder in zip("abcd", folders, strict=False)]), metric)


def said(found: Joined) -> dict[str, str]:
    return {finding.title: finding.text for finding in found.findings}


def two(tmp_path: Path, other: list[dict[str, Any]], first: list[dict[str, Any]] | None = None) -> Joined:
    """Join ten items of one system with those of another."""
    rows = first or [sample(item, item % 2) for item in range(10)]
    return joined(
        write_samples(tmp_path / "a", "animals", rows, **facts()),
        write_samples(tmp_path / "b", "animals", other, **facts()),
    )


def test_unequal_item_sets(tmp_path: Path) -> None:
    found = two(tmp_path, [sample(item, 1) for item in range(2, 12)])
    assert found.scores.task_of_item.size == 8 and found.kept_n == {"a": 10, "b": 10}
    assert said(found)["4 items left out"] == (
        "The comparison uses 8 of the 12 items of the files. Missing scores can decide a comparison. "
        "a has no score for 2: the others score 1.00 there and 1.00 on the items in use. "
        "b has no score for 2: the others score 0.50 there and 0.50 on the items in use."
    )


def test_different_prompts_stay_and_are_said(tmp_path: Path) -> None:
    found = two(tmp_path, [sample(item, 1, prompt_hash=hashed(f"other {item}")) for item in range(10)])
    assert found.scores.task_of_item.size == 10
    assert said(found)["different prompts"].startswith(
        "10 of 10 items were asked with different prompts (the task animals)"
    )


@pytest.mark.parametrize(("key", "title"), [("doc_hash", "another question"), ("target_hash", "another right answer")])
def test_other_questions_and_other_right_answers_are_left_out(tmp_path: Path, key: str, title: str) -> None:
    found = two(tmp_path, [sample(item, 1, **({key: hashed("other")} if item < 3 else {})) for item in range(10)])
    assert found.scores.task_of_item.size == 7
    assert said(found)[title].startswith(f"3 items have {title} under the same id")
    with pytest.raises(ValueError, match=rf"no item in common.*10 items have {title}"):
        two(tmp_path / "all", [sample(item, 1, **{key: hashed("other")}) for item in range(10)])


def test_different_few_shot_counts_and_versions(tmp_path: Path) -> None:
    rows = [sample(item, item % 2) for item in range(10)]
    found = joined(
        write_samples(tmp_path / "a", "animals", rows, **facts(shots=0, version=1)),
        write_samples(tmp_path / "b", "animals", rows, **facts(shots=5, version=2)),
    )
    assert (
        said(found)["different number of few-shot examples"]
        == "Task animals: number of few-shot examples is 0 in a and 5 in b."
    )
    assert said(found)["different version of the task"] == "Task animals: version of the task is 1 in a and 2 in b."
    assert "different version of lm-eval" not in said(found)


def test_without_a_results_file_the_settings_are_not_known(tmp_path: Path) -> None:
    rows = [sample(item, item % 2) for item in range(10)]
    found = joined(
        write_samples(tmp_path / "a", "animals", rows), write_samples(tmp_path / "b", "animals", rows, **facts())
    )
    assert "No results file of lm-eval is beside the samples of a" in said(found)["about the files"]


def test_a_metric_of_which_less_is_better_is_turned(tmp_path: Path) -> None:
    rows = [[sample(item, score, metrics=["loss"], loss=score) for item in range(10)] for score in (0.25, 0.5)]
    results = facts(metric="loss", higher_is_better={"animals": {"loss": False}})
    found = joined(
        *(write_samples(tmp_path / name, "animals", own, **results) for name, own in zip("ab", rows, strict=True))
    )
    assert {name: mean.estimate for name, mean in versus(found).means.items()} == {"a": 0.75, "b": 0.5}
    assert said(found)["lower is better"].startswith(
        "A lower loss is better in the task animals. The comparison uses 1 − loss"
    )


def test_the_same_files_and_the_same_scores(tmp_path: Path) -> None:
    rows = [sample(item, item % 2) for item in range(10)]
    folders = [write_samples(tmp_path / name, "animals", rows, **facts()) for name in "ab"]
    third = write_samples(tmp_path / "c", "animals", [row | {"resps": [["x"]]} for row in rows], **facts())
    found = said(joined(*folders, third))
    assert found["same files"].startswith("Read from the same files: a and b.")
    assert found["identical scores"].startswith("The same score on every item that is compared: a and c and b and c.")


def test_scores_that_are_missing_or_not_finite(tmp_path: Path) -> None:
    rows = [("t", item, score) for item, score in enumerate([1, 0, "", "nan", "inf", 1])]
    first = write_csv(tmp_path / "first.csv", rows)
    second = write_csv(tmp_path / "second.csv", [("t", item, 1) for item in range(6)])
    found = joined(first, second)
    assert found.scores.task_of_item.size == 3 and found.kept_n == {"a": 3, "b": 6}
    assert (
        "a has no score for 3 (3 without a finite score in each run): the others score 1.00 there"
        in said(found)["3 items left out"]
    )


def test_scores_that_are_missing_where_a_system_is_low_are_said_first(tmp_path: Path) -> None:
    first = write_csv(tmp_path / "first.csv", [("t", item, int(item >= 80)) for item in range(200)])
    second = write_csv(tmp_path / "second.csv", [("t", item, 1 if item >= 80 else "") for item in range(200)])
    lines = compare([f"a={first}", f"b={second}"], str(tmp_path / "out")).lines
    assert lines[1].startswith("80 items left out: The comparison uses 120 of the 200 items of the files.")
    assert "the others score 0.00 there and 1.00 on the items in use" in lines[1]
    assert any("the same score on every item that is compared" in line for line in lines)


def test_no_finite_score_in_common_names_the_cause(tmp_path: Path) -> None:
    first = write_csv(tmp_path / "first.csv", [("t", item, "nan") for item in range(4)])
    second = write_csv(tmp_path / "second.csv", [("t", item, 1) for item in range(4)])
    with pytest.raises(ValueError, match=r"4 items in common, but none has a finite score .* \(a lacks one for 4\)"):
        joined(first, second)
    rows = [("t", item, 1, seed) for item in range(4) for seed in (0, 1) if (item < 2) == (seed == 0)]
    runs = write_csv(tmp_path / "runs.csv", rows, "task,item,score,seed")
    with pytest.raises(ValueError, match=r"\(a lacks one for 4\); add the missing scores, or remove the runs"):
        joined(runs, second)


def test_tasks_with_few_or_no_common_items(tmp_path: Path) -> None:
    rows = {name: [("a", item, 1) for item in range(500)] for name in "xy"}
    rows["x"] += [("b", item, 1) for item in range(500)] + [("c", 0, 1)]
    rows["y"] += [("b", 0, 0), ("c", 1, 1)]
    found = joined(*(write_csv(tmp_path / f"{name}.csv", own) for name, own in rows.items()))
    assert said(found)["1 task with few common items"] == (
        "Few common items: b (1 of 500). Each of the 2 tasks has the same weight, however few items it has."
    )
    assert said(found)["1 task without common items"] == "No item is in common in the task c. It is left out."


def test_runs_that_only_one_system_has(tmp_path: Path) -> None:
    paths = [
        write_csv(
            tmp_path / f"{name}.csv", [("t", i, i % 2, s) for i in range(6) for s in seeds], "task,item,score,seed"
        )
        for name, seeds in (("a", range(5)), ("b", range(3, 9)))
    ]
    assert said(joined(*paths))["runs without a partner"] == (
        "3 of 5 runs of a are not used in the difference from b and 4 of 6 runs of b are not used in the difference from a, "
        "because the other system has no such runs."
    )


def test_runs_and_tasks_that_not_all_have(tmp_path: Path) -> None:
    rows = [("t", item, item % 2, seed) for item in range(6) for seed in (0, 1, 2)]
    rows += [("u", item, item % 2, seed) for item in range(4) for seed in (0, 1)] + [
        ("only", 1, 1, 0),
        ("only", 1, 1, 1),
    ]
    first = write_csv(tmp_path / "first.csv", rows, "task,item,score,seed")
    second = write_csv(tmp_path / "second.csv", [row for row in rows if row[0] != "only"], "task,item,score,seed")
    found = joined(first, second)
    assert found.runs == {"a": (0, 1), "b": (0, 1)} and found.scores.tasks == ("t", "u")
    assert said(found)["runs left out"] == "1 run of b left out, because not every task has it."
    assert "in the task only. It is left out." in said(found)["1 task left out"]


def test_the_metric_of_each_task(tmp_path: Path) -> None:
    def folder(name: str) -> Path:
        rows = [sample(item, item % 2, metrics=["bleu", "acc", "acc_norm"], bleu=30.5, acc_norm=1) for item in range(8)]
        write_samples(tmp_path / name, "animals", rows)
        sums = [
            sample(item, 0, "sums", metrics=["exact_match"], exact_match=item % 2, filter=one)
            for item in range(8)
            for one in ("strict", "flexible")
        ]
        return write_samples(tmp_path / name, "sums", sums)

    folders = folder("a"), folder("b")
    found = joined(*folders)
    assert found.metric == "acc and exact_match,strict" and found.other_metrics == ("acc_norm", "exact_match,flexible")
    assert "acc in the task animals and exact_match,strict in the task sums" in said(found)["several metrics"]
    assert joined(*folders, metric="acc_norm").scores.tasks == ("animals",)
    assert joined(*folders, metric="exact_match,flexible").metric == "exact_match,flexible"
    with pytest.raises(
        ValueError, match="sums has exact_match with several filters; expected one of exact_match,strict or"
    ):
        joined(*folders, metric="exact_match")
    with pytest.raises(ValueError, match="bleu of task animals has scores outside 0 to 1"):
        joined(*folders, metric="bleu")
    with pytest.raises(ValueError, match="no task has the metric 'f1' in all systems; all have acc, acc_norm"):
        joined(*folders, metric="f1")


def test_a_table_can_be_compared_with_samples(tmp_path: Path) -> None:
    folder = write_samples(tmp_path / "a", "animals", [sample(item, item % 2) for item in range(10)], **facts())
    table = write_csv(tmp_path / "other.csv", [("animals", item, 1) for item in range(10)])
    found = joined(folder, table)
    assert versus(found).comparisons[0].difference.estimate == 0.5
    assert said(found)["metric of a table"] == "The score of b is taken as acc. More is better in a table."


@pytest.mark.parametrize("results", [{}, facts(metric="loss", higher_is_better={"animals": {"loss": False}})])
def test_a_table_beside_an_unclear_or_lower_metric_is_never_turned(tmp_path: Path, results: dict[str, Any]) -> None:
    rows = [sample(item, 0, metrics=["loss"], loss=0.25) for item in range(10)]
    folder = write_samples(tmp_path / "a", "animals", rows, **results)
    table = write_csv(tmp_path / "other.csv", [("animals", item, 0.5) for item in range(10)])
    with pytest.raises(ValueError, match="name the metric with --metric"):
        joined(folder, table)
    found = joined(folder, table, metric="loss")
    is_lower = bool(results)
    assert {name: mean.estimate for name, mean in versus(found).means.items()} == {
        "a": 0.75 if is_lower else 0.25,
        "b": 0.5,
    }
    assert said(found)["metric of a table"].startswith(f"The score of b is taken as {'1 − ' if is_lower else ''}loss.")


def test_nothing_in_common_is_an_error_with_examples(tmp_path: Path) -> None:
    first = write_csv(tmp_path / "first.csv", [("t", f"a{item}", 1) for item in range(3)])
    second = write_csv(tmp_path / "second.csv", [("t", f"b{item}", 1) for item in range(3)])
    with pytest.raises(ValueError, match="no item in common: a has task 't', item 'a0'; b has task 't', item 'b0'"):
        joined(first, second)


def test_a_run_of_a_task_that_was_repeated_counts_once_and_is_said(tmp_path: Path) -> None:
    rows = [sample(item, 0) for item in range(10)]
    folder = write_samples(tmp_path / "a", "animals", rows, **facts())
    later = folder / "some__model" / f"samples_animals_{DATE.replace('T10', 'T11')}.jsonl"
    later.write_text("".join(json.dumps(row | {"acc": 1.0}) + "\n" for row in rows))
    found = joined(folder, write_samples(tmp_path / "b", "animals", rows, **facts()))
    assert versus(found).means["a"].estimate == 1
    assert "a was run several times on animals: only the latest file" in " ".join(
        finding.text for finding in found.findings
    )


def test_terminal_and_page_say_the_findings(tmp_path: Path) -> None:
    rows = [sample(item, item % 2) for item in range(10)]
    hostile = "<script>alert(1)</script>\u202e"
    folders = [
        write_samples(tmp_path / name, "animals", rows, **facts(shots=shots, model_name=hostile))
        for name, shots in (("a", 0), ("b", 5))
    ]
    made = compare([f"{hostile}={folders[0]}", f"b={folders[1]}"], str(tmp_path / "out"))
    page = Path(made.page).read_text()
    assert "<script>alert" not in page and "\u202e" not in page and "&lt;script&gt;alert" in page
    assert (
        any("number of few-shot examples is 0" in line for line in made.lines)
        and "number of few-shot examples is 0" in page
    )
    assert any("another run of the same system may differ" in line for line in made.lines)
    assert "\u202e" not in "".join(made.lines)


@pytest.mark.parametrize("name", ["index.html", "results.csv", "results.parquet", "figures/captions.txt"])
def test_files_that_no_comparison_wrote_are_not_replaced(tmp_path: Path, name: str) -> None:
    paths = [str(write_csv(tmp_path / f"{one}.csv", [("t", item, item % 2) for item in range(6)])) for one in "ab"]
    theirs = tmp_path / "out" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("task,item,score\nt,1,1\n")
    with pytest.raises(ValueError, match=rf"{name} was not written by an earlier comparison"):
        compare(paths, str(tmp_path / "out"))
    assert theirs.read_text() == "task,item,score\nt,1,1\n" and len(list((tmp_path / "out").iterdir())) == 1


def test_an_input_is_not_replaced_and_an_earlier_comparison_is(tmp_path: Path) -> None:
    rows = [("t", item, item % 2, 0, name) for item in range(6) for name in "ab"]
    path = write_csv(tmp_path / "results.csv", rows, "task,item,score,seed,system")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"results\.csv is read and would be replaced"):
        compare([str(path)], str(tmp_path))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    pages = [Path(compare([str(path)], str(tmp_path / "out")).page).read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]
    with pytest.raises(ValueError, match="is a file; expected a folder"):
        compare([str(path)], str(path))


def test_figures_of_the_user_stay(tmp_path: Path) -> None:
    paths = [str(write_csv(tmp_path / f"{name}.csv", [("t", item, item % 2) for item in range(6)])) for name in "ab"]
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.png").write_bytes(b"PNG")
    for _ in range(2):
        compare(paths, str(tmp_path))
    assert {path.name for path in (tmp_path / "figures").iterdir()} >= {"mine.png", "captions.txt", "forest.svg"}
