"""A prompt inside a model's own chat template."""

import shutil
from pathlib import Path

import pytest

from taskdiv_assets.language_model.loading import in_chat_template
from taskdiv_assets.language_model.texts import read_tokenizer

TURNS = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


@pytest.fixture
def chatty(shared_data: Path, tmp_path: Path) -> Path:
    """Return the folder of the `stories` model with a chat template that writes a BOS. Its tokenizer adds a BOS too."""
    folder = tmp_path / "chatty"
    folder.mkdir()
    for path in (shared_data / "models" / "stories260K").iterdir():
        shutil.copyfile(path, folder / path.name)
    (folder / "chat_template.jinja").write_text(TURNS)
    return folder


def test_the_prompt_stands_in_a_users_turn_and_the_answer_comes_next(chatty):
    text = in_chat_template(chatty, "Say it: {prompt}")
    assert text == "<user>Say it: {prompt}</user><assistant>"


def test_bos_stands_there_once(chatty):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(chatty)
    tokens = tokenizer(in_chat_template(chatty, "{prompt}").replace("{prompt}", "Once upon a time"))["input_ids"]
    assert tokens.count(tokenizer.bos_token_id) == 1 and tokens[0] == tokenizer.bos_token_id


def test_a_bos_that_nobody_adds_is_kept(miniature_folder, tmp_path):
    """The lab's tokenizer adds none, so what the template writes has to stay."""
    folder = tmp_path / "no_bos"
    shutil.copytree(miniature_folder, folder)
    (folder / "chat_template.jinja").write_text("start {{ messages[0].content }} end")
    assert in_chat_template(folder, "{prompt}") == "start {prompt} end"


def test_a_model_without_a_chat_template_is_refused(miniature_folder):
    with pytest.raises(ValueError, match="tokenizer has no chat template; remove the key"):
        in_chat_template(miniature_folder, "{prompt}")


@pytest.mark.parametrize("template", ["fixed text", "{{ messages[0].content }} {{ messages[0].content }}"])
def test_a_template_that_does_not_show_the_prompt_once_is_refused(chatty, template):
    (chatty / "chat_template.jinja").write_text(template)
    with pytest.raises(ValueError, match="does not show the prompt once"):
        in_chat_template(chatty, "{prompt}")


def test_a_template_that_writes_the_date_gives_the_same_text_on_all_days(chatty, monkeypatch):
    import datetime

    from transformers.utils import chat_template_utils

    (chatty / "chat_template.jinja").write_text("Today: {{ strftime_now('%d %b %Y') }} {{ messages[0].content }}")
    first = in_chat_template(chatty, "{prompt}")
    later = type("D", (datetime.datetime,), {"now": classmethod(lambda cls, tz=None: datetime.datetime(2030, 1, 1))})
    monkeypatch.setattr(chat_template_utils, "datetime", later)
    assert in_chat_template(chatty, "{prompt}") == first == "Today: 26 Jul 2024 {prompt}"
    assert read_tokenizer(chatty).reads_clock


THINKING = "{{ messages[0].content }}<assistant>{% if enable_thinking is defined and not enable_thinking %}<think></think>{% else %}<think>{% endif %}"


def test_of_a_template_that_thinks_the_form_without_a_thought_is_used(chatty):
    (chatty / "chat_template.jinja").write_text(THINKING)
    assert in_chat_template(chatty, "{prompt}") == "{prompt}<assistant><think></think>"


def test_a_template_that_always_thinks_is_refused(chatty):
    (chatty / "chat_template.jinja").write_text("{{ messages[0].content }}<assistant><think>")
    with pytest.raises(ValueError, match="answers would be trained as thoughts"):
        in_chat_template(chatty, "{prompt}")
