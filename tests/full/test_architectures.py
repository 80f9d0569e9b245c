"""Every family of causal language models, from a folder to benchmarks: equal to a second computation, or clearly rejected.

The second computation is a plain pass over one text: no batch, no padding, no cache. docs/ARCHITECTURES.md states what each
family supports, and the tests compare that page with their results.
"""

from __future__ import annotations

import re
import traceback
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from taskdiv_assets.benchmarks.answering import Answerer
from taskdiv_assets.language_model.confidence import score
from taskdiv_assets.language_model.counted import CLEAN, COUNTS, counted_padding, notes_of
from taskdiv_assets.language_model.embeddings import dimensions, embed
from taskdiv_assets.language_model.loading import LanguageModel, context_tokens, end_tokens, load, release_memory
from taskdiv_assets.language_model.model_folder import check_folder, check_loads
from taskdiv_assets.language_model.tuning import Base, Example, encode, tune
from taskdiv_assets.tuning_settings import Tuning
from tests.full.architectures import CONTEXT, FAMILIES, NOT_MADE, save

pytestmark = pytest.mark.full

PAGE = Path(__file__).parents[2] / "docs" / "ARCHITECTURES.md"
STEPS = ("scored", "trained", "benchmarked")
PROMPTS = [
    "Q: red\nA:",
    "Q: yellow, long, and what else is there to say of it? It grows in bunches.\nA:",
    "x",
    "Name a fruit that is red.",
]
EXAMPLES = [
    Example("a", "Q: red\nA:", " apple"),
    Example("b", "Q: yellow, long\nA:", " banana"),
    Example("c", "Q: sky\nA:", " blue"),
]
# Beginnings of two lengths, both long enough to be read once for all texts that share them.
STORIES = [
    "Name a fruit that is red, yellow or blue, and say why it is so. What is it? Q: red\nA: apple\n\n",
    "What is red? What is long and yellow? And what is blue as the sky?\n\nQ: red",
]
ENDS = [
    "Q: yellow\nA:",
    "Q: sky\nA:",
    "Q: long, yellow, and what else is there?\nA:",
    "x",
    "Q: it\nA:",
    "A:",
    "Q: blue fruit\nA:",
    "Q: a\nA:",
]
NEW_N = 4
# Padding moves a text over the borders of their chunks and windows. Those of these tiny models are passed by each text, those of
# published models hardly ever, so no identity says it.
BY_WINDOW = {"inkling_text", "llama4", "llama4_text"}


class Made(NamedTuple):
    """A model of one family, as a folder and loaded, or the sentence that rejected it."""

    family: str
    folder: Path
    lm: LanguageModel | None
    refusal: str


class Request:
    """The attributes of an lm-eval request that our code reads."""

    def __init__(self, kind: str, *arguments: Any) -> None:
        self.request_type, self.args = kind, arguments


@cache
def page() -> dict[str, tuple[bool, ...]]:
    """Return the statements of the page on each family: scored, trained, benchmarked."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0] in ("yes", "no"):
            for family in re.findall(r"`([^`]+)`", cells[4]):
                found[family] = tuple(cell == "yes" for cell in cells[:3])
    return found


def refusal(step: Callable[[], object]) -> str:
    """Return the sentence by which our code rejected a step; empty if the step succeeded. Other exceptions are raised again."""
    try:
        step()
    except ValueError as error:
        if "taskdiv_assets" not in traceback.extract_tb(error.__traceback__)[-1].filename:
            raise
        assert re.search(r"; (use|expected|copy)\b", str(error)), f"what to do is not said: {error}"
        return str(error)
    return ""


def is_always_tried(family: str) -> bool:
    """Return True for an eighth of the families, drawn by name, and for those of which the code knows something by name."""
    return family in {*COUNTS, *CLEAN, *BY_WINDOW} or zlib.crc32(family.encode()) % 8 == 0


@pytest.fixture(
    scope="module",
    params=[
        family if is_always_tried(family) else pytest.param(family, marks=pytest.mark.families) for family in FAMILIES
    ],
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = save(request.param, tmp_path_factory.mktemp(request.param))
    loaded: list[LanguageModel] = []

    def open_folder() -> None:
        check_folder(folder)
        check_loads(folder)
        loaded.append(load(folder, dtype="float32", attention="sdpa"))

    why = refusal(open_folder)
    yield Made(request.param, folder, loaded[0] if loaded else None, why)
    loaded.clear()
    release_memory()


def check(made: Made, step: str, action: Callable[[LanguageModel], None]) -> None:
    """Try a step, and compare with the page whether it was rejected."""
    why = made.refusal if made.lm is None else refusal(lambda: action(made.lm))
    assert page()[made.family][STEPS.index(step)] == (not why), f"{step}: {why or 'it was not refused'}"


def plain_logits(lm: LanguageModel, tokens: list[int], model: Any = None) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = (model or lm.model)(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    return logits.double()


def written(lm: LanguageModel, tokens: list[int], new_n: int) -> tuple[list[int], list[float]]:
    """Decode one text greedily by plain passes. Return its tokens and the log-probability of each."""
    tokens, first_n, nats = list(tokens), len(tokens), []
    for _ in range(new_n):
        log_probabilities = plain_logits(lm, tokens)[-1].log_softmax(-1)
        tokens.append(int(log_probabilities.argmax()))
        nats.append(float(log_probabilities.max()))
        if tokens[-1] in end_tokens(lm):
            break
    return tokens[first_n:], nats


def log_likelihood(lm: LanguageModel, context: list[int], answer: list[int], model: Any = None) -> list[float]:
    """Return the log-probability (nats) of each token of an answer, by one plain pass."""
    rows = plain_logits(lm, [*context, *answer][:-1], model).log_softmax(-1)[-len(answer) :]
    found: list[float] = rows.gather(-1, torch.tensor(answer)[:, None])[:, 0].tolist()
    return found


def test_notes_of_a_type_are_what_its_probe_finds(made: Made) -> None:
    """The padding that a family counts, as the probe finds it, is what identities say of its type."""
    if made.lm is None:
        pytest.skip("refused when it is loaded")
    found, noted = counted_padding(made.lm)._asdict(), notes_of(made.lm.model.config)
    noted["left"] |= made.family in BY_WINDOW
    assert found == {name: noted[name] for name in found}


def test_what_is_read_alone_needs_no_neighbours(made: Made) -> None:
    """Every family that loads can score the tokens of prompts, embed them, and read a text as long as the context."""
    if made.lm is None:
        return
    lm = made.lm
    columns = score(lm, PROMPTS[:2], max_new_tokens=NEW_N, of="prompt").columns
    for row, prompt in enumerate(PROMPTS[:2]):
        tokens = lm.tokenizer(prompt)["input_ids"]
        nats = log_likelihood(lm, tokens[:1], tokens[1:])
        assert columns["sequence_log_probability"][row] == pytest.approx(sum(nats), rel=1e-4, abs=1e-4)
    assert embed(lm, PROMPTS[2:3]).shape == (1, dimensions(lm))
    longest_n = context_tokens(lm) or 2 * CONTEXT
    assert plain_logits(lm, [20 + place % 200 for place in range(longest_n)]).isfinite().all()


def test_confidence_is_that_of_greedy_decoding_by_plain_passes(made: Made) -> None:
    def scored(lm: LanguageModel) -> None:
        columns = score(lm, PROMPTS, max_new_tokens=NEW_N).columns
        for row, prompt in enumerate(PROMPTS):
            _, nats = written(lm, lm.tokenizer(prompt)["input_ids"], NEW_N)
            assert columns["generated_n"][row] == len(nats)
            found = columns["mean_probability"][row], columns["sequence_log_probability"][row]
            assert found == pytest.approx((np.exp(nats).mean(), np.sum(nats)), rel=1e-4, abs=1e-4), prompt

    check(made, "scored", scored)


def test_benchmarks_get_the_answers_of_plain_passes(made: Made) -> None:
    requests: dict[str, Any] = {}
    for prompt in (STORIES[0] + ENDS[0], STORIES[1] + ENDS[2], ENDS[1]):
        for answer in (" apple", " banana", " blue"):
            requests[prompt + answer] = Request("loglikelihood", prompt, answer)
    for prompt in (*PROMPTS, *(STORIES[0] + end for end in ENDS)):
        requests[prompt] = Request("generate_until", prompt, {"until": ["\n\n"], "max_gen_toks": NEW_N})

    def benchmarked(lm: LanguageModel) -> None:
        answerer = Answerer(lm, requests)
        answers = {key: one for found in answerer.run({}) for key, one in found.items()}
        for key, one in answerer.asked.items():
            expected = sum(log_likelihood(lm, list(one.context), list(one.answer)))
            assert answers[key].nats == pytest.approx(expected, rel=1e-4, abs=1e-4), key
        for key, wanted in answerer.wanted.items():
            tokens, _ = written(lm, list(wanted.context), NEW_N)
            assert answers[key].text == lm.tokenizer.decode(tokens, skip_special_tokens=True).split("\n\n")[0], key

    check(made, "benchmarked", benchmarked)


def test_an_adapter_learns_from_the_loss_that_is_said_and_changes_the_model(made: Made) -> None:
    from peft import PeftModel

    def loss_of(lm: LanguageModel, model: Any) -> float:
        """Return the mean loss (nats) of a completion token, one example at a time."""
        nats: list[float] = []
        for example in (encode(lm, one, CONTEXT) for one in EXAMPLES):
            first = next(place for place, label in enumerate(example.labels) if label != -100)
            nats += log_likelihood(lm, example.input_ids[:first], example.input_ids[first:], model)
        return -float(np.mean(nats))

    def trained(lm: LanguageModel) -> None:
        out = made.folder / "adapter"
        out.mkdir()
        tuning = Tuning(learning_rate=1e-2, epochs=5, batch_size=3)
        result = tune(Base(made.folder, "float32", "sdpa"), EXAMPLES, tuning, seed=0, out=out)
        before = loss_of(lm, lm.model)
        assert result.losses[0] == pytest.approx(before, rel=1e-3)
        assert result.losses[-1] < result.losses[0] - 0.02
        assert loss_of(lm, PeftModel.from_pretrained(lm.model, str(out)).eval()) < before - 0.02

    check(made, "trained", trained)


def test_the_page_names_every_family_of_the_installed_transformers() -> None:
    """Each family is tried here, or is named with the reason why it is not."""
    text = PAGE.read_text()
    assert set(FAMILIES) == set(page())
    for family, why in NOT_MADE.items():
        assert f"| `{family}` | {why} |" in text
