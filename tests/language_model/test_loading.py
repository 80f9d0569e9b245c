"""Base models: found in a folder, rejected in one sentence, or loaded with the chosen data type and attention."""

import json
import os
from pathlib import Path

import pytest

from taskdiv_assets.experiment import BaseModelSource, LabModel
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.language_model.loading import (
    choose_attention,
    choose_dtype,
    context_tokens,
    end_tokens,
    load,
    resolve_source,
)
from taskdiv_assets.language_model.model_folder import check_folder, count_parameters, model_fingerprint

LAB = Pool(reader="lab", tasks=["copy", "max"])


@pytest.fixture
def folder(tmp_path):
    out = tmp_path / "resolved"
    out.mkdir()
    return out


def local(path: Path) -> BaseModelSource:
    return BaseModelSource(path=str(path))


class TestResolve:
    def test_the_labs_own_is_trained(self, folder):
        lab = LabModel(seed=2, steps=3, hidden_size=16, layers=1)
        told = []
        resolved = resolve_source(BaseModelSource(lab=lab), LAB, folder, lambda *at: told.append(at))
        assert resolved.source == "lab seed 2"
        assert resolved.revision is None
        assert len(resolved.losses) == 3 and told[-1] == (3, 3)
        lm = load(folder, dtype="float32", attention="sdpa")
        assert resolved.parameters_n == lm.model.num_parameters() == count_parameters(folder)

    def test_a_local_one_is_copied_without_what_is_not_needed(self, folder, miniature_folder, tmp_path):
        origin = tmp_path / "my_model"
        origin.mkdir()
        for path in miniature_folder.iterdir():
            os.link(path, origin / path.name)
        for name in ("pytorch_model.bin", "modeling_mine.py", "consolidated.safetensors", "notes.txt"):
            (origin / name).write_bytes(b"not to be touched")
        resolved = resolve_source(local(origin), LAB, folder)
        assert sorted(path.name for path in folder.iterdir()) == sorted(p.name for p in miniature_folder.iterdir())
        assert resolved.source == "my_model"  # never the whole path
        assert resolved.losses == ()
        assert model_fingerprint(folder) == model_fingerprint(origin)

    def test_the_configuration_is_a_copy_that_can_be_edited_apart(self, folder, miniature_folder):
        resolve_source(local(miniature_folder), LAB, folder)
        assert (folder / "config.json").stat().st_ino != (miniature_folder / "config.json").stat().st_ino

    def test_a_hub_that_cannot_be_reached(self, folder, monkeypatch):
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        source = BaseModelSource(hub="nobody/nothing", revision="0" * 40)
        with pytest.raises(
            ValueError, match=r"base model nobody/nothing at revision 0+ cannot be fetched from the hub"
        ):
            resolve_source(source, LAB, folder)


class TestRefusals:
    def test_no_folder(self, tmp_path, folder):
        with pytest.raises(ValueError, match="nowhere: there is no such folder"):
            resolve_source(local(tmp_path / "nowhere"), LAB, folder)
        assert not list(folder.iterdir())

    def test_no_configuration(self, tmp_path):
        with pytest.raises(ValueError, match=r"no config\.json"):
            check_folder(tmp_path)

    def test_an_adapter(self, tmp_path):
        (tmp_path / "adapter_config.json").write_text("{}")
        (tmp_path / "adapter_model.safetensors").write_bytes(b"")
        with pytest.raises(ValueError, match="this is an adapter"):
            check_folder(tmp_path)

    @pytest.mark.parametrize(
        ("names", "message"),
        [(("pytorch_model.bin",), r"only pytorch_model\.bin, which may run code"), ((), "no weights")],
    )
    def test_no_safetensors(self, tmp_path, names, message):
        for name in ("config.json", *names):
            (tmp_path / name).write_text("{}")
        with pytest.raises(ValueError, match=message):
            load(tmp_path, dtype="float32", attention="sdpa")

    def test_no_tokenizer(self, tmp_path):
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).write_text("{}")
        with pytest.raises(ValueError, match="no tokenizer"):
            check_folder(tmp_path)

    def test_code_in_the_folder_is_not_run(self, tmp_path, miniature_folder):
        for path in miniature_folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        config = json.loads((tmp_path / "config.json").read_text())
        config |= {
            "model_type": "mine",
            "auto_map": {"AutoModelForCausalLM": "mine.Model", "AutoConfig": "mine.Config"},
        }
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        with pytest.raises((ValueError, OSError)):
            load(tmp_path, dtype="float32", attention="sdpa")
        assert not (tmp_path / "ran").exists()


class TestChoices:
    def test_dtype_on_a_cpu(self):
        import torch

        choice = choose_dtype("auto", torch.device("cpu"))
        assert choice.dtype == "float32" and "cpu" in choice.reason

    def test_dtype_that_is_asked_for(self):
        choice = choose_dtype("bfloat16")
        assert choice.dtype == "bfloat16" and "experiment" in choice.reason

    @pytest.mark.parametrize(("capability", "dtype"), [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float32")])
    def test_dtype_on_a_gpu(self, monkeypatch, capability, dtype):
        import torch

        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
        assert choose_dtype("auto", torch.device("cuda")).dtype == dtype

    def test_attention(self):
        assert choose_attention().attention == "sdpa" and choose_attention().reason

    def test_what_a_real_model_says_of_itself(self, stories):
        assert context_tokens(stories) == 512
        assert end_tokens(stories) == (2,)
        assert not stories.model.training

    def test_loading_is_quiet_and_restores_what_it_silenced(self, miniature_folder, capfd):
        from transformers.utils import logging

        before = logging.get_verbosity()
        load(miniature_folder, dtype="float32", attention="sdpa")
        assert capfd.readouterr() == ("", "")
        assert logging.get_verbosity() == before and logging.is_progress_bar_enabled()
