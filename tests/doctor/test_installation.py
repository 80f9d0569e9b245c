"""Checks of Python and packages with requirements that are met, are not met, or belong to an extra."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

import pytest

from taskdiv_assets.commands.doctor import installation
from tests.doctor.shared import levels


class TestPackages:
    def test_what_is_installed_here_is_well(self) -> None:
        findings = list(installation.packages(">=3.11", ["pytest>=9", "rich", "no-such-thing>=1; extra == 'other'"]))
        assert levels(findings) == ["well", "well"]
        assert findings[0].found == platform.python_version()
        assert f"torch {metadata.version('torch')}" in findings[1].found

    @pytest.mark.parametrize(
        ("requirement", "level", "said"),
        [
            ("pytest>=999", "broken", "expected >=999"),
            ("pytest<2,>=1", "broken", "expected <2,>=1"),
            ("no-such-thing>=1", "broken", "no-such-thing is missing, expected >=1"),
            ("pytest>=999; extra == 'other'", "look", "expected >=999"),
        ],
    )
    def test_a_bound_that_does_not_hold_is_named_with_the_command(
        self, requirement: str, level: str, said: str
    ) -> None:
        _, fault = installation.packages(">=3.11", [requirement])
        assert (fault.level, fault.what) == (level, "packages")
        assert said in fault.found and fault.advice.startswith("pip install '")

    def test_an_extra_counts_only_if_it_is_whole(self) -> None:
        own = ["pytest>=999; extra == 'other'", "no-such-thing; extra == 'other'"]
        assert levels(installation.packages(">=3.11", own)) == ["well", "well"]

    def test_another_python_and_no_installation(self) -> None:
        python, project = installation.packages(">=4", None)
        assert python.level == "broken" and ">=4" in python.advice
        assert project.level == "look" and "not installed" in project.found

    def test_a_webserver_of_another_dagster_is_broken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        described = tmp_path / "dagster_webserver-9.9.9.dist-info/METADATA"
        described.parent.mkdir()
        described.write_text(
            "Metadata-Version: 2.1\nName: dagster-webserver\nVersion: 9.9.9\nRequires-Dist: dagster==9.9.9\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        _, fault = installation.packages(">=3.11", [])
        assert fault.level == "broken" and "expected ==9.9.9" in fault.found
