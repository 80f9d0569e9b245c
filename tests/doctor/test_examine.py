"""The whole command `taskdiv doctor`: printed findings without secrets, and the command with a remote home."""

from __future__ import annotations

import io
import os
import re
from importlib import metadata

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from taskdiv_assets.commands import doctor
from taskdiv_assets.commands.doctor.findings import Finding
from taskdiv_assets.storage.machine import FIELDS
from tests.doctor.shared import JUDGE, KEY
from tests.home import Home


class TestOutput:
    def test_findings_are_lines_that_keep_brackets_and_are_counted(self) -> None:
        findings = [Finding("well", "a", "x"), Finding("look", "b", "[red]x"), Finding("broken", "c", "y", "do [z]")]
        out = Console(record=True, width=30, file=io.StringIO())
        assert doctor.print_findings(out, findings) == 1
        assert out.export_text().splitlines() == [
            "well   a: x", "look   b: [red]x", "broken c: y; do [z]", "1 broken, 1 to look at",
        ]  # fmt: skip

    def test_a_narrow_terminal_cuts_nothing(self) -> None:
        words = [f"word{i}" for i in range(30)] + ["/a" * 60]
        out = Console(record=True, width=40, file=io.StringIO(), force_terminal=True)
        doctor.print_findings(out, [Finding("look", "what", " ".join(words), "advice")])
        *lines, last = out.export_text().splitlines()
        assert max(map(len, lines)) <= 40 and all(line.startswith(("look   ", " " * 7)) for line in lines)
        shown = "".join("".join(line[7:].split()) for line in lines)
        assert shown == "".join(["what:", *words, ";advice"])
        assert last == "nothing broken, 1 to look at"

    @given(
        secrets=st.dictionaries(
            st.sampled_from(["TASKDIV_JUDGE_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "db_password"]),
            st.text("abAB01+/=", min_size=4),
        ),
        words=st.lists(st.text("abAB01+/= "), max_size=4),
        data=st.data(),
    )
    def test_no_secret_is_left_in_any_text(
        self, secrets: dict[str, str], words: list[str], data: st.DataObject
    ) -> None:
        hidden = doctor.secrets_of(secrets)
        assert set(hidden) == set(secrets.values())
        parts = data.draw(st.permutations([*words, *secrets.values()]))
        text = doctor.redacted("".join(parts), hidden)
        assert not [secret for secret in hidden if secret in text]

    def test_names_of_files_and_switches_are_no_secrets(self) -> None:
        plain = {
            "TOKENIZERS_PARALLELISM": "false",
            "HF_TOKEN_PATH": "/home/me/token",
            "KEYBOARD": "qwerty",
            "HOME": "/root",
        }
        assert doctor.secrets_of(plain) == []

    def test_what_a_library_says_is_shown_without_secrets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TASKDIV_HOME", "refusing://me:pass@host/x")
        storage = next(finding for finding in doctor.examine({"MY_API_KEY": KEY}) if finding.what == "storage")
        assert storage.level == "broken" and "***@host" in storage.found and "with *** was denied" in storage.found
        assert KEY not in repr(storage) and "pass@" not in repr(storage)


@pytest.mark.full
def test_the_command_looks_at_everything_in_a_remote_home_and_shows_no_secret(
    empty_home: Home, s3: str, hub_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user types it: every secret is in use, a judge is asked for, and one experiment has a mistake."""
    store = fsspec.filesystem("s3")
    for name, text in {"judged": JUDGE, "typo": ("seeds:", "seedz:")}.items():
        store.pipe_file(f"bucket/doctor/{name}/experiment.yaml", empty_home.write_experiment(name, text).read_bytes())
    secrets = {"TASKDIV_JUDGE_KEY": KEY, "HF_TOKEN": "hf_0123456789", "UNRELATED_PASSWORD": "hunter2!"}
    plain = {
        "TASKDIV_HOME": "s3://bucket/doctor",
        "TASKDIV_JUDGE_URL": "https://me:hunter3@host/v1",
        "HF_ENDPOINT": hub_url,
    }
    monkeypatch.setattr(empty_home, "variables", lambda: {**Home(empty_home.folder).variables(), **plain, **secrets})
    result = empty_home.taskdiv("doctor")
    assert result.returncode == 1, result.stdout + result.stderr
    assert not result.stderr
    rows = [re.split(" +", line, maxsplit=1) for line in result.stdout.splitlines()[:-1]]
    listed = {row.partition(":")[0]: f"{mark} {row}" for mark, row in rows if mark in ("set", "default")}
    assert [*listed] == [*FIELDS]
    assert listed["TASKDIV_HOME"].startswith("set TASKDIV_HOME: s3://bucket/doctor; results")
    assert listed["TASKDIV_JUDGE_KEY"].startswith("set TASKDIV_JUDGE_KEY: set, not shown; ")
    assert listed["TASKDIV_JUDGE_URL"].startswith("set TASKDIV_JUDGE_URL: https://***@host/v1; ")
    assert listed["TASKDIV_CHECKPOINT_S"].startswith("default TASKDIV_CHECKPOINT_S: 60; seconds")
    lines = [row.partition(":")[0] for mark, row in rows if mark not in ("set", "default")]
    names = [
        "environment",
        "Python",
        "packages",
        "threads",
        "Dagster's home",
        "dagster.yaml",
        "storage",
        "experiments",
        "judge",
        "torch",
        "hub",
    ]
    assert list(dict.fromkeys(line for line in lines if line != "GPU")) == names
    assert "well   storage: s3://bucket/doctor" in result.stdout
    assert f" torch: {metadata.version('torch')}, made for " in result.stdout
    assert "broken experiments: typo cannot be used: s3://bucket/doctor/typo/experiment.yaml:" in result.stdout
    assert "well   judge: gpt-9 for judged at https://host, with a key" in result.stdout
    assert f"well   hub: {hub_url} answers, and a token is found" in result.stdout
    for secret in (*secrets.values(), "hunter3", os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_ACCESS_KEY_ID"]):
        assert secret not in result.stdout
