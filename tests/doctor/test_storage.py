"""Checks of a store in a folder, on an S3 server, and of stores that fail."""

from __future__ import annotations

import os
import time
from pathlib import Path

import fsspec
import pytest

from taskdiv_assets.commands.doctor import storage
from taskdiv_assets.commands.doctor.findings import GIB
from tests.doctor.shared import NOWHERE, levels


class TestStorage:
    def test_a_local_folder_is_well_and_nothing_is_left_or_made(self, tmp_path: Path) -> None:
        for url in (str(tmp_path / "results"), f"file://{tmp_path}/results"):
            assert [finding.what for finding in storage.local_storage(url)] == ["storage", "disk"]
            assert next(storage.local_storage(url)).level == "well"
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_takes_no_file_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for folder in (NOWHERE, tmp_path / "file", tmp_path / "file/below"):
            (finding,) = storage.local_storage(str(folder))
            assert finding.level == "broken" and str(folder) in finding.found and "$TASKDIV_HOME" in finding.advice
            assert "\n" not in finding.found

    def test_a_file_system_without_hard_links_is_broken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")  # as FAT says it

        monkeypatch.setattr(os, "link", refuse)
        finding = next(storage.local_storage(str(tmp_path)))
        assert finding.level == "broken" and "Operation not permitted" in finding.found
        assert "hard links" in finding.advice and not list(tmp_path.iterdir())

    @pytest.mark.parametrize(("free", "level"), [(GIB // 10, "broken"), (5 * GIB, "look"), (100 * GIB, "well")])
    def test_room_is_measured_by_what_is_stored(self, free: int, level: str) -> None:
        finding = storage.free_space(free)
        assert finding.level == level and f"{free / GIB:.1f} GiB" in finding.found
        assert bool(finding.advice) == (level != "well")

    @pytest.mark.parametrize("is_offline", [False, True])
    def test_an_unknown_protocol_and_a_missing_package_are_broken(self, is_offline: bool) -> None:
        (finding,) = storage.remote_storage("nosuch://x", is_offline=is_offline)
        assert finding.level == "broken" and "nosuch" in finding.found
        fsspec.register_implementation(
            "unpacked", "no_such_package.Store", errtxt="Install no_such_package", clobber=True
        )
        (finding,) = storage.remote_storage("unpacked://x", is_offline=is_offline)
        assert finding.level == "broken" and "Install no_such_package" in finding.found

    def test_offline_asks_nothing(self) -> None:
        assert levels(storage.remote_storage("refusing://x", is_offline=True)) == ["look"]

    def test_a_store_that_writes_over_a_lock_is_broken(self) -> None:
        (finding,) = storage.remote_storage("overwriting://bucket")
        assert finding.level == "broken" and "one lock" in finding.found and "conditional" in finding.advice

    def test_an_error_of_a_library_is_one_sentence(self) -> None:
        (finding,) = storage.remote_storage("refusing://bucket")
        assert finding.level == "broken" and "written" in finding.found and "\n" not in finding.found

    def test_a_store_that_does_not_answer_is_left(self) -> None:
        started = time.monotonic()
        (finding,) = storage.remote_storage("hanging://bucket", timeout_s=0.1)
        assert finding.level == "broken" and "0.1 s" in finding.found
        assert time.monotonic() - started < 0.9

    def test_an_s3_store_is_well_and_keeps_nothing(self, s3: str) -> None:
        (finding,) = storage.remote_storage("s3://bucket/prefix")
        assert finding.level == "well", finding
        assert fsspec.filesystem("s3").find("s3://bucket") == []

    def test_a_bucket_that_is_not_there_is_broken(self, s3: str) -> None:
        (finding,) = storage.remote_storage("s3://nowhere/prefix")
        assert finding.level == "broken" and "bucket" in finding.found
