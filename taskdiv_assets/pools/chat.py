"""Conversations as prompts and answers, in OpenAI's chat format (`role`, `content`) or in ShareGPT's (`from`, `value`).

A prompt contains all turns before an answer of the assistant; `transcript` turns them into plain text, which annotators see.
`chat_template: true` applies the model's chat template to this text, as to any prompt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

Turns = Literal["last", "all"]
ASSISTANT = "Assistant"
_ROLES_OF = {
    "User": ("user", "human"),
    ASSISTANT: ("assistant", "gpt", "chatgpt", "bing", "bard", "model"),
    "System": ("system", "developer"),
    "Tool": ("tool", "function", "observation"),
}
ROLES = {role: speaker for speaker, roles in _ROLES_OF.items() for role in roles}


class Turn(NamedTuple):
    """One message of a conversation."""

    speaker: str  # a value of ROLES
    text: str


class Exchange(NamedTuple):
    """A prompt and its answer in a conversation."""

    prompt: str
    response: str | None  # None if the conversation ends before an answer
    turn: int  # number of the answer, from 1


def exchanges(text: str | None, place: str, which: Turns) -> list[Exchange]:
    """Return the last exchange of a conversation, or every exchange if `which` is "all".

    Turns after the last answer are an exchange without an answer. With "all", an answer without an earlier turn is ignored.

    Raises:
        ValueError: `text` is not a JSON list of at least one message, or a message has an unknown role or no text.
    """
    turns = list(_turns(text, place))
    ends = [i for i, turn in enumerate(turns) if turn.speaker == ASSISTANT]
    if not ends or turns[-1].speaker != ASSISTANT:
        ends.append(len(turns))
    wanted = ends[-1:] if which == "last" else [end for end in ends if end]
    return [
        Exchange(transcript(turns[:end]), turns[end].text if end < len(turns) else None, ends.index(end) + 1)
        for end in wanted
    ]


def transcript(turns: Sequence[Turn]) -> str:
    r"""Return the turns of a conversation as plain text. If the only turn is the user's, the result is the text of this turn.

    >>> transcript([Turn("System", "Be brief."), Turn("User", "Hello")])
    'System: Be brief.\n\nUser: Hello'
    """
    if len(turns) == 1 and turns[0].speaker == "User":
        return turns[0].text
    return "\n\n".join(f"{turn.speaker}: {turn.text}" for turn in turns)


def _turns(text: str | None, place: str) -> Iterator[Turn]:
    try:
        found = json.loads(text) if text else None
    except (ValueError, RecursionError):
        found = text
    if not isinstance(found, list) or not found:
        raise ValueError(f"{place} holds no conversation but {text!r:.60}; expected a list of messages.")
    for number, message in enumerate(found, start=1):
        where = f"{place}, message {number}"
        if not isinstance(message, dict):
            raise ValueError(f"{where} is {message!r:.60}; expected `role` and `content`, or `from` and `value`.")
        role, content = ("role", "content") if "role" in message else ("from", "value")
        speaker = ROLES.get(str(message.get(role)).lower())
        if speaker is None:
            raise ValueError(f"{where} has {role} {message.get(role)!r:.60}; expected one of {', '.join(ROLES)}.")
        yield Turn(speaker, _content(message.get(content), where, content))


def _content(value: object, where: str, key: str) -> str:
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else [value]
    texts = [
        part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else None for part in parts
    ]
    if not texts or not all(isinstance(text, str) for text in texts):
        found = f"{where}: `{key}` is {value!r:.60}"
        raise ValueError(f"{found}; expected text. Images and tool calls cannot be part of a prompt.")
    return "\n".join(str(text) for text in texts)
