"""Load a model's tokenizer so that it adds no end token, and write prompts into the model's chat template.

Some published tokenizers add their end token to every text. Some chat templates write today's date, or open a thought (`<think>`)
before the answer. With this module, the model gets a text in the same form in scoring, training and benchmarks.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from taskdiv_assets.language_model.control import control_names
from taskdiv_assets.language_model.faults import explained
from taskdiv_assets.language_model.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The date that chat templates write on every day: the default of Llama 3.1's own template.
PINNED = datetime(2024, 7, 26)
CLOCK = "strftime_now"  # the function by which a template requests the date
_ASKS_DATE = re.compile(CLOCK + r"""\(\s*(['"])([^'"]*)\1\s*\)""")
CONTROL = "control"  # key in `Reading.notes`: texts of the special tokens
THOUGHT = ("<think>", "</think>")


class Reading(NamedTuple):
    """A tokenizer that adds no end token, and facts about the tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    start: str  # text of the start token that the tokenizer adds before every text; empty if it adds none
    # The tokenizer's files request an end token after every text. `read_tokenizer` switches this off, since a model starts
    # another text after an end token.
    ended_texts: bool
    reads_clock: bool  # the chat template requests the date
    control: tuple[str, ...]  # texts of the special tokens (see `control`)

    def notes(self) -> dict[str, object]:
        """Return the facts that identities depend on, for the stored notes on a model."""
        read = {"start": self.start, "ended_texts": self.ended_texts, "reads_clock": self.reads_clock}
        return {**read, CONTROL: list(self.control)}


def read_tokenizer(folder: Path) -> Reading:
    """Load a tokenizer so that it adds no end token; raise ValueError if a file is damaged or the end token cannot be removed."""
    from transformers import AutoTokenizer

    with quiet(), explained(folder, "the tokenizer", "copy tokenizer.json and tokenizer_config.json again"):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        plain: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
        before, after = _added(tokenizer, plain)
    if after:
        _add_only(tokenizer, before, folder)
    start = str(tokenizer.bos_token) if before[:1] == [tokenizer.bos_token_id] else ""
    template = tokenizer.chat_template
    sources = template.values() if isinstance(template, dict) else [template or ""]
    reads_clock = any(CLOCK in str(source) for source in sources)
    return Reading(tokenizer, start, bool(after), reads_clock, control_names(tokenizer))


def _added(tokenizer: Any, plain: list[int]) -> tuple[list[int], list[int]]:
    whole: list[int] = tokenizer("a")["input_ids"]
    if not plain:  # a vocabulary without this letter: all tokens except an end token come before a text
        cut = len(whole) - (whole[-1:] == [tokenizer.eos_token_id])
        return whole[:cut], whole[cut:]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []


def _add_only(tokenizer: Any, before: list[int], folder: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    names = tokenizer.convert_ids_to_tokens(before)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        special = list(dict.fromkeys(zip(names, before, strict=True)))
        backend.post_processor = TemplateProcessing(single=[*names, "$A"], special_tokens=special)
    elif hasattr(tokenizer, "add_eos_token"):
        tokenizer.add_eos_token = False
    if _added(tokenizer, tokenizer("a", add_special_tokens=False)["input_ids"])[1]:
        raise ValueError(
            f"base model {folder}: the tokenizer puts {tokenizer.eos_token!r} after every text, so nothing could follow a "
            "prompt; set `add_eos_token` to false in tokenizer_config.json"
        )


def without_start(template: str, start: str) -> str:
    """Remove the start token from a prompt template if the tokenizer adds it anyway.

    >>> without_start("<s>Q: {prompt}", "<s>"), without_start("<s>Q: {prompt}", "")
    ('Q: {prompt}', '<s>Q: {prompt}')
    """
    return template.removeprefix(start) if start else template


def rendered(tokenizer: Any, template: str, **options: Any) -> str:
    """Return `template` as a user's turn in the tokenizer's chat template, in which each date is replaced by `PINNED`.

    `options` are passed to the chat template. Raise ValueError if the chat template requests a date without a plain format.
    """
    turns = [{"role": "user", "content": template}]
    source = _ASKS_DATE.sub(lambda asked: repr(PINNED.strftime(asked[2])), tokenizer.get_chat_template())
    if f"{CLOCK}(" in source:
        raise ValueError(
            f"the model's chat template asks for the date in a way that cannot be fixed ({CLOCK} without a plain format), so "
            "prompts would differ from day to day; write the turns into `prompt_template` yourself, and remove `chat_template`"
        )
    options |= {"chat_template": source, "tokenize": False, "add_generation_prompt": True}
    return str(tokenizer.apply_chat_template(turns, **options))


def is_thinking(text: str) -> bool:
    """Return True if the last `<think>` of a text has no `</think>` after it."""
    return text.rfind(THOUGHT[0]) > text.rfind(THOUGHT[1])
