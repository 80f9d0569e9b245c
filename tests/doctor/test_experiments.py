"""Checks of experiment files with and without mistakes, and of the judge that a file names."""

from __future__ import annotations

import re
from pathlib import Path

from taskdiv_assets.commands.doctor import experiment_checks as experiments
from taskdiv_assets.experiment import experiment_file
from tests.doctor.shared import JUDGE, KEY, experiment
from tests.home import Home


def test_a_broken_file_is_named_with_its_first_mistake_and_the_others_are_read(empty_home: Home) -> None:
    root = empty_home.folder / "results"
    for name, replacements in {"mine": (), "typo": (("seeds:", "seedz:"),)}.items():
        path = empty_home.write_experiment(name, *replacements)
        (root / name).mkdir(parents=True)
        path.rename(root / name / "experiment.yaml")
    (root / "demo").mkdir()
    (root / "demo/experiment.yaml").write_text("never read: a user's file does not replace a built-in one")
    read = experiments.read_experiments(str(root))
    assert {entry.name for entry in read.experiments} == {"mine", *experiment_file.built_in_names()}
    well, broken = read.findings
    assert well.level == "well" and "mine" in well.found
    assert broken.level == "broken" and broken.found.startswith("typo cannot be used: ")
    assert re.search(r"typo/experiment\.yaml:\d+: ", broken.found) and "taskdiv plan typo" in broken.advice


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder/experiment.yaml").mkdir(parents=True)
    broken = experiments.read_experiments(str(tmp_path)).findings[-1]
    assert broken.level == "broken" and "folder" in broken.found


def test_no_judge_no_endpoint_and_a_key() -> None:
    plain, judged = [experiment()], experiment(JUDGE)
    assert experiments.judge(plain, "", "").level == "well"
    for url, key, level, said in (
        ("", KEY, "look", "TASKDIV_JUDGE_URL"),
        ("host/v1", KEY, "look", "TASKDIV_JUDGE_URL"),
        ("https://host/v1", f"{KEY}\n", "look", "TASKDIV_JUDGE_KEY"),
        ("https://host/v1", "", "look", "TASKDIV_JUDGE_KEY"),
        ("https://me:pass@host/v1", KEY, "well", "https://host, with a key"),
    ):
        finding = experiments.judge([*plain, judged], url, key)
        assert (finding.level, said in finding.found + finding.advice) == (level, True), finding
        assert "gpt-9 for miniature" in finding.found
        assert KEY not in repr(finding) and "pass" not in repr(finding)
