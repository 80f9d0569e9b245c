"""Read the texts of special tokens, such as `</s>` and `<|im_end|>`, as tokens in a template and as plain text in data.

A tokenizer reads the text of a special token as the token, also inside a prompt or an answer. A prompt would then end in its
middle, or the model would learn an end inside an answer. So scoring, training and benchmarks mark the template's parts of a text
(see `around`). Special tokens are read in the marked parts only. A text without marks is data.

Added tokens that are not special (`<think>` of Qwen 3, HTML tags of Gemma) are text that a model may write. They are read as
tokens everywhere, also in data.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

OPEN, CLOSE = "\ufdd0", "\ufdd1"  # noncharacters of Unicode, for use inside a program: no text should contain them


class Piece(NamedTuple):
    """A part of a text, from the template or from the data."""

    text: str
    is_data: bool


Pieces = tuple[Piece, ...]


def around(before: str, data: str, after: str) -> str:
    """Join data and the template around it. The template's parts are marked, so that `pieces` can separate them.

    Data without a template are returned unchanged, unless they begin with a mark.

    >>> around("", "red", ""), pieces(around("<s>", "red", ""))[:2]
    ('red', (Piece(text='<s>', is_data=False), Piece(text='red', is_data=True)))
    """
    if not (before or after or data.startswith(OPEN)):
        return data
    return f"{OPEN}{before}{CLOSE}{data}{OPEN}{after}{CLOSE}"


def pieces(text: str) -> Pieces:
    """Separate a text that `around` returned into its parts. A text without marks is data. Marks inside data have no effect."""
    if not text.startswith(OPEN):
        return (Piece(text, True),)
    before, _, rest = text[1:].partition(CLOSE)
    data, _, after = rest.rpartition(OPEN)
    return Piece(before, False), Piece(data, True), Piece(after[:-1], False)


def plain(text: str) -> str:
    """Return a text without the marks of `around`."""
    return "".join(piece.text for piece in pieces(text))


def names_pattern(names: Iterable[str]) -> str:
    """Return a regular expression for the texts of special tokens, longer ones first. Without names it never matches."""
    return "|".join(re.escape(name) for name in sorted(names, key=lambda name: (-len(name), name))) or r"[^\s\S]"


def control_names(tokenizer: Any) -> tuple[str, ...]:
    """Return the texts that a tokenizer reads as special tokens, sorted."""
    added = [str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if token.special]
    return tuple(sorted({*getattr(tokenizer, "all_special_tokens", ()), *added}))


def token_ids(
    tokenizer: Any, texts: Sequence[Pieces], name_of: Callable[[int], str] = "text {}".format, **options: Any
) -> list[list[int]]:
    """Return the tokens of each text, with special tokens only where the template or the tokenizer itself adds them.

    `options` are passed to the tokenizer. Raise ValueError, with the i-th text's name (`name_of`), if the tokenizer cannot read
    the text of a special token as text.
    """
    if tokenizer not in _readers:
        _readers[tokenizer] = _Reader(tokenizer)
    reader = _readers[tokenizer]
    found: list[list[int]] = tokenizer(list(map(_joined, texts)), verbose=False, **options)["input_ids"]
    return [
        reader.checked(tokenizer, parts, ids, partial(name_of, place), options)
        for place, (parts, ids) in enumerate(zip(texts, found, strict=True))
    ]


def ids_of(tokenizer: Any, parts: Pieces, name: str, **options: Any) -> list[int]:
    """Return the tokens of one text, as `token_ids` does."""
    return token_ids(tokenizer, [parts], lambda _place: name, **options)[0]


class _Reader:
    """The special tokens of one tokenizer. A fast tokenizer also gets a copy, if needed, in which they have other names."""

    def __init__(self, tokenizer: Any) -> None:
        self.ids = {name: int(tokenizer.convert_tokens_to_ids(name)) for name in control_names(tokenizer)}
        self.names = re.compile(names_pattern(self.ids))
        unknown = getattr(tokenizer, "unk_token", None)  # any character may be unknown, so only the token's text counts
        self.unknown = re.compile(names_pattern([unknown] if unknown else []))
        self.is_control = np.zeros(max(self.ids.values(), default=0) + 1, np.bool_)
        self.is_control[[number for name, number in self.ids.items() if name != unknown]] = True
        self.in_frame: dict[tuple[object, ...], int] = {}
        self.copied: tuple[Any, Mapping[int, int]] | None = None

    def checked(
        self, tokenizer: Any, parts: Pieces, ids: list[int], name_of: Callable[[], str], options: Mapping[str, Any]
    ) -> list[int]:
        """Return `ids`, or new tokens if `ids` may contain special tokens from data.

        Raise ValueError if the new tokens may also contain such special tokens.
        """
        wanted_n = self._of_frame(tokenizer, parts, options)
        if self._count(ids) > wanted_n or any(part.is_data and self.unknown.search(part.text) for part in parts):
            ids = self._as_text(tokenizer, parts, options)
            if self._count(ids) > wanted_n:
                held = [found for part in parts if part.is_data for found in self.names.findall(part.text)]
                raise ValueError(
                    f"{name_of()} ({_joined(parts)[:80]!r}) holds {held[0] if held else 'a control token'!r}, and this model's "
                    "tokenizer cannot read that as text: it would end or steer the text; remove it from the data"
                )
        return ids

    def _count(self, ids: Sequence[int]) -> int:
        numbers = np.asarray(ids, np.int64)
        return int(self.is_control[numbers[numbers < len(self.is_control)]].sum())

    def _of_frame(self, tokenizer: Any, parts: Pieces, options: Mapping[str, Any]) -> int:
        """Return the number of special tokens in the template alone, including those that the tokenizer adds."""
        if not self.ids:
            return 0
        frame = tuple(None if part.is_data else part.text for part in parts)
        key = (frame, *sorted(options.items()))
        if key not in self.in_frame:
            text = "".join("a" if part is None else part for part in frame)
            self.in_frame[key] = self._count(tokenizer([text], verbose=False, **options)["input_ids"][0])
        return self.in_frame[key]

    def _as_text(self, tokenizer: Any, parts: Pieces, options: Mapping[str, Any]) -> list[int]:
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            return _piecewise(tokenizer, parts, options)
        self.copied = self.copied or _renamed(tokenizer, self.ids)
        renamed, original = self.copied
        text = "".join(
            part.text if part.is_data else self.names.sub(lambda found: _alias(self.ids[found[0]]), part.text)
            for part in parts
        )
        return [original.get(one, one) for one in renamed([text], verbose=False, **options)["input_ids"][0]]


_readers: WeakKeyDictionary[Any, _Reader] = WeakKeyDictionary()


def _joined(parts: Pieces) -> str:
    return "".join(part.text for part in parts)


def _alias(number: int) -> str:
    """Return a special token's name in the renamed tokenizer, a text that no data should contain."""
    return f"{OPEN}{number}{CLOSE}"


def _renamed(tokenizer: Any, ids: Mapping[str, int]) -> tuple[Any, Mapping[int, int]]:
    """Return a copy of a fast tokenizer that knows special tokens by aliases only, and a map from alias ids to token ids."""
    from transformers import AddedToken

    renamed = copy.deepcopy(tokenizer)
    renamed.split_special_tokens = True  # special tokens are text
    own = {token.content: token for token in tokenizer.added_tokens_decoder.values()}
    renamed.backend_tokenizer.add_special_tokens([name for name in ids if name in own and not own[name].special])
    sides = {name: (own[name].lstrip, own[name].rstrip) if name in own else (False, False) for name in ids}
    renamed.add_tokens(
        [
            AddedToken(_alias(ids[name]), lstrip=left, rstrip=right, normalized=False, special=False)
            for name, (left, right) in sides.items()
        ]
    )
    return renamed, {renamed.convert_tokens_to_ids(_alias(number)): number for number in ids.values()}


def _piecewise(tokenizer: Any, parts: Pieces, options: Mapping[str, Any]) -> list[int]:
    """Return the tokens of a slow tokenizer.

    A template part is split at all added and special tokens, and data only at added tokens that are not special. Then the texts
    between these tokens are tokenised.
    """
    added = {token.content: token for token in tokenizer.added_tokens_decoder.values()}
    special = set(control_names(tokenizer))
    everywhere = re.compile(f"({names_pattern(name for name in added if name not in special)})")
    in_template = re.compile(f"({names_pattern({*added, *special})})")
    cut: list[str] = [""]  # texts at even places, tokens between them at odd places
    for part in parts:
        first, *rest = (everywhere if part.is_data else in_template).split(part.text)
        cut[-1] += first
        cut += rest
    for place in range(1, len(cut), 2):
        token = added.get(cut[place])
        if token is not None and token.lstrip:
            cut[place - 1] = cut[place - 1].rstrip()
        if token is not None and token.rstrip:
            cut[place + 1] = cut[place + 1].lstrip()
    names = [
        name
        for place, text in enumerate(cut)
        for name in ([text] if place % 2 else tokenizer.tokenize(text, split_special_tokens=True) if text else [])
    ]
    ids: list[int] = tokenizer.convert_tokens_to_ids(names)
    return ids if options.get("add_special_tokens") is False else tokenizer.build_inputs_with_special_tokens(ids)
