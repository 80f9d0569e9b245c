"""The source text of a task's functions: the functions, and the parts of their module that they name, but nothing else."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from taskdiv_assets.benchmarks.tasks import written_by

STOPS = ["</s>", "<|stop|>"]
TURN = "<|user|>"
TURNS = {"start": ["<|start|>"], "end": ("<|end|>",)}


def stop_texts() -> list[str]:
    return STOPS


def framed(text: str) -> str:
    return TURN + text


def doc_to_text(doc: dict[str, Any], separator: str = "<|sep|>") -> str:
    parts = [f"<|im_start|>{part}" + separator for part in doc["parts"]]
    return framed("".join(parts)) + str((lambda: TURNS)()["end"])


def again(depth: int) -> str:
    return again(depth - 1) if depth else TURN


def written(**config: Any) -> list[str]:
    return written_by(SimpleNamespace(config=SimpleNamespace(**config)))


def test_texts_of_a_function_and_of_what_it_names_are_written() -> None:
    found = written(doc_to_text=doc_to_text)
    for name in ("<|im_start|>", "<|sep|>", "<|user|>", "<|start|>", "<|end|>"):
        assert any(name in text for text in found), name


def test_stop_texts_elsewhere_in_the_module_are_not_written() -> None:
    assert not any(stop in text for text in written(doc_to_text=doc_to_text) for stop in STOPS)
    assert STOPS[0] in written(doc_to_text=stop_texts), "unless the code names them"


def test_partials_recursion_and_callables_without_code_are_read() -> None:
    assert TURN in written(doc_to_text=partial(again, 2))
    assert written(doc_to_text=len) == []
    assert sorted(written(description="a", doc_to_choice=["b", None])) == ["a", "b"]
