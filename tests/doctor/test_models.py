"""Checks of torch and GPUs, of 4-bit weights without their requirements, and of a hub on loopback."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from taskdiv_assets.commands.doctor import model_checks as models
from taskdiv_assets.commands.doctor.findings import GIB, Finding
from taskdiv_assets.commands.doctor.model_checks import Card, TorchBuild
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.experiment.pool_settings import TaskLabels
from taskdiv_assets.language_model import sentence_embedder
from tests.doctor.shared import KEY, Hub, experiment, levels
from tests.language_model.test_sentence_embedder import write_static

H100 = Card("NVIDIA H100", 79 * GIB, True)
T4 = Card("Tesla T4", 15 * GIB, False)


class TestTorch:
    def test_a_torch_that_cannot_be_imported_is_broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        finding = models.torch_build()
        assert isinstance(finding, Finding) and finding.level == "broken"

    @pytest.mark.parametrize(
        ("made_for", "cards", "present_n", "visible_n", "expected", "said"),
        [
            ("", (), 0, 0, ["well"], "no GPU"),
            ("", (), 2, 2, ["broken"], "torch==2.13.0 without a CPU index"),
            ("", (), 2, 1, ["broken", "look"], "torch==2.13.0 without a CPU index"),
            ("", (), 2, 0, ["well", "look"], "leaves 0 of 2"),
            ("CUDA 12.8", (), 2, 2, ["broken"], "nvidia-smi"),
            ("CUDA 12.8", (), 0, 0, ["well"], "no GPU"),
            ("CUDA 12.8", (H100,), 1, 1, ["well", "well"], "NVIDIA H100, 79 GiB, with bfloat16"),
            ("ROCm 6.4", (H100,), 0, 0, ["well", "well"], "made for ROCm 6.4"),
            ("CUDA 12.8", (T4,), 1, 1, ["well", "look"], "without bfloat16"),
            ("CUDA 12.8", (H100,), 2, 1, ["well", "well", "look"], "CUDA_VISIBLE_DEVICES leaves 1 of 2"),
            ("CUDA 12.8", (), 2, 0, ["well", "look"], "leaves 0 of 2"),
        ],
    )
    def test_every_pair_of_machine_and_build(
        self, made_for: str, cards: tuple[Card, ...], present_n: int, visible_n: int, expected: list[str], said: str
    ) -> None:
        build = TorchBuild("2.13.0" + ("" if made_for else "+cpu"), made_for, cards)
        findings = list(models.graphics(build, present_n, visible_n))
        assert levels(findings) == expected
        assert said in " ".join(finding.found + finding.advice for finding in findings)


def test_a_sentence_embedder_needs_its_library_and_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_static(tmp_path / "static")
    asking = experiment().model_copy(
        update={
            "task_labels": TaskLabels.model_validate(
                {"from": "discovered", "view": {"sentence_embedder": {"path": str(folder)}}}
            )
        }
    )
    assert not list(models.embedders([experiment()]))
    monkeypatch.setattr(sentence_embedder, "find_spec", lambda _: True)
    assert levels(models.embedders([asking])) == ["well"]
    (folder / "modules.json").unlink()
    (finding,) = models.embedders([asking])
    assert finding.level == "look" and "no modules.json" in finding.found and "another `view`" in finding.advice
    monkeypatch.setattr(sentence_embedder, "find_spec", lambda _: None)
    (finding,) = models.embedders([asking])
    assert "pip install 'taskdiv-assets[embedders]'" in finding.found


def test_four_bits_ask_for_a_gpu_and_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = experiment(("{method: lora,", "{method: lora, quantization: nf4,"))
    assert not list(models.four_bits([experiment()], []))
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    assert levels(models.four_bits([asking], [])) == ["look", "look"]
    (finding,) = models.four_bits([asking], [H100])
    assert "bitsandbytes" in finding.found and "qlora" in finding.advice


class TestHub:
    @pytest.fixture(autouse=True)
    def token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        monkeypatch.setenv("HF_TOKEN", KEY)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        Hub.seen.clear()

    def ask(self, monkeypatch: pytest.MonkeyPatch, endpoint: str, timeout_s: float = 3) -> Finding:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        (finding,) = models.hub([experiment(), experiment_file.load("dolly")], timeout_s)
        assert "meta-llama/Llama-2-7b-hf is taken by dolly" in finding.found and "miniature" not in finding.found
        assert KEY not in repr(finding) and KEY not in repr(Hub.seen), (
            "a token goes to nobody to see whether a hub answers"
        )
        return finding

    def test_a_hub_that_answers_is_well(self, monkeypatch: pytest.MonkeyPatch, hub_url: str, tmp_path: Path) -> None:
        finding = self.ask(monkeypatch, hub_url)
        assert finding.level == "well" and "a token is found" in finding.found
        assert len(Hub.seen) == 1

    def test_without_a_token_it_says_how_to_get_one(
        self, monkeypatch: pytest.MonkeyPatch, hub_url: str, tmp_path: Path
    ) -> None:
        from huggingface_hub import constants

        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        assert "no token is found" in self.ask(monkeypatch, hub_url).found

    @pytest.mark.parametrize("status", [403, 503])
    def test_a_refusal_is_to_look_at(self, monkeypatch: pytest.MonkeyPatch, hub_url: str, status: int) -> None:
        finding = self.ask(monkeypatch, f"{hub_url}/{status}")
        assert finding.level == "look" and f"status {status}" in finding.found

    def test_a_slow_hub_and_none_at_all_are_to_look_at(self, monkeypatch: pytest.MonkeyPatch, hub_url: str) -> None:
        started = time.monotonic()
        assert "does not answer" in self.ask(monkeypatch, f"{hub_url}/slow", 0.2).found
        assert time.monotonic() - started < 0.9
        assert "does not answer" in self.ask(monkeypatch, "http://127.0.0.1:9").found

    def test_offline_mode_asks_nothing(self, monkeypatch: pytest.MonkeyPatch, hub_url: str) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        finding = self.ask(monkeypatch, hub_url)
        assert finding.level == "look" and "HF_HUB_OFFLINE" in finding.found
        assert not Hub.seen
