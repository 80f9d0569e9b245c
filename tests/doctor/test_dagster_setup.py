"""Dagster's home, settings, workspace, pools and threads, in folders that exist, do not exist, or are read-only."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import yaml

from taskdiv_assets.commands.doctor import dagster_setup
from taskdiv_assets.orchestration import instance
from tests.doctor.shared import NOWHERE, levels
from tests.home import Home


def test_one_thread_a_process_is_well_and_anything_else_says_what_to_export() -> None:
    assert dagster_setup.threads("1", 2).level == "well"
    for value in ("", "2"):
        finding = dagster_setup.threads(value, 2)
        assert finding.level == "look" and "export OMP_NUM_THREADS=1" in finding.advice


class TestDagsterHome:
    def test_a_folder_that_is_not_there_yet_is_well_and_is_not_made(self, tmp_path: Path) -> None:
        findings = list(dagster_setup.dagster_home(tmp_path / "a/b", "", instance.settings_text()))
        assert levels(findings) == ["well", "well"]
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_takes_no_file_is_broken(self) -> None:
        (finding,) = dagster_setup.dagster_home(NOWHERE, str(NOWHERE), "{}")
        assert finding.level == "broken" and str(NOWHERE) in finding.found and "$DAGSTER_HOME" in finding.advice

    def test_an_address_is_broken_and_a_relative_path_is_to_look_at(self, tmp_path: Path) -> None:
        assert levels(dagster_setup.dagster_home(tmp_path, "s3://bucket/dagster", "{}")) == ["broken"]
        relative, *others = dagster_setup.dagster_home(tmp_path, "dagster", "{}")
        assert relative.level == "look" and str(tmp_path) in relative.advice
        assert levels(others) == ["well", "look"] and "taskdiv home-folder" in others[1].advice, (
            "it has no dagster.yaml"
        )

    @pytest.mark.parametrize(("kind", "level"), [("nfs4", "look"), ("fuse.sshfs", "look"), ("ext4", "well")])
    def test_a_network_file_system_is_to_look_at(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, level: str
    ) -> None:
        class Mount(NamedTuple):
            mountpoint: str
            fstype: str

        mounts = [Mount("/", "ext4"), Mount(str(tmp_path), kind)]
        monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
        assert next(dagster_setup.dagster_home(tmp_path / "dagster", "", "{}")).level == level

    def test_what_prepare_home_writes_has_everything_and_other_values_are_a_choice(self, empty_home: Home) -> None:
        path = instance.prepare_home() / "dagster.yaml"
        assert dagster_setup.dagster_yaml(path, instance.settings_text()).level == "well"
        path.write_text(instance.settings_text().replace("enabled: true", "enabled: false"))
        assert dagster_setup.dagster_yaml(path, instance.settings_text()).level == "well"

    def test_an_older_file_is_told_each_setting_that_it_lacks(self, tmp_path: Path) -> None:
        ours = yaml.safe_load(instance.settings_text())
        older = {"telemetry": ours["telemetry"], "concurrency": {"pools": ours["concurrency"]["pools"]}}
        (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(older))
        finding = dagster_setup.dagster_yaml(tmp_path / "dagster.yaml", instance.settings_text())
        assert finding.level == "look" and "taskdiv home-folder" in finding.advice
        lacking = finding.found.partition(" lacks ")[2].split(", ")
        assert lacking == ["nux", "concurrency.runs", *[key for key in ours if key not in ("nux", *older)]]

    @pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe"])
    def test_a_file_that_is_no_yaml_is_broken(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "dagster.yaml").write_bytes(content)
        assert dagster_setup.dagster_yaml(tmp_path / "dagster.yaml", "{}").level == "broken"

    def test_an_empty_file_lacks_everything(self, tmp_path: Path) -> None:
        (tmp_path / "dagster.yaml").touch()
        assert "lacks a, b" in dagster_setup.dagster_yaml(tmp_path / "dagster.yaml", "{a: 1, b: {c: 2}}").found

    def test_a_section_of_pyproject_that_hides_the_workspace_is_named(self, tmp_path: Path) -> None:
        assert not list(dagster_setup.hidden_workspace(tmp_path))
        assert not list(dagster_setup.hidden_workspace(Path(__file__).parents[2])), "our own has none"
        (tmp_path / "pyproject.toml").write_text("[tool.ruff]\n[tool.dg.project]\n[tool.dagster]\n")
        said = [finding.found.partition(" ")[0] for finding in dagster_setup.hidden_workspace(tmp_path)]
        assert said == ["[tool.dagster]", "[tool.dg]"]
        (tmp_path / "pyproject.toml").write_text("[tool")
        assert levels(dagster_setup.hidden_workspace(tmp_path)) == ["look"]

    def test_pools_of_an_instance_are_compared_and_none_is_made_to_look(self, empty_home: Home) -> None:
        folder = instance.prepare_home()
        assert not list(dagster_setup.pool_limits(folder, 1))
        assert [path.name for path in folder.iterdir()] == ["dagster.yaml"]
        with instance.open_instance() as opened:
            opened.event_log_storage.set_concurrency_slots("accelerator", 3)
        assert levels(dagster_setup.pool_limits(folder, 3)) == ["well"]
        (finding,) = dagster_setup.pool_limits(folder, 2)
        assert finding.level == "look" and "concurrency set accelerator 2" in finding.advice
        (folder / "dagster.yaml").write_text("no_such_setting: 1")
        assert levels(dagster_setup.pool_limits(folder, 3)) == ["broken"]
