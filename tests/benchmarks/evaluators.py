"""Answering lm-eval's requests with a loaded model: by our code and by lm-eval's HFLM. The memory is measured in a new process.

    python -m tests.benchmarks.evaluators BATCH DATA ITEMS RESULT

Both sides receive lm-eval's requests and return lm-eval's responses, so both times include encoding.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from taskdiv_assets.benchmarks.answering import Answerer, Answers
from taskdiv_assets.language_model.quiet import quiet_harness
from tests.benchmarks import asked
from tests.benchmarks.asked import Load
from tests.benchmarks.fresh import ROOT, _forget_peak, _memory_mib

Response = tuple[float, bool] | str
Responses = dict[str, Response]
Way = Callable[[Load], tuple[float, Responses]]  # processor seconds, and what was said


def ours(load: Load) -> tuple[float, Responses]:
    """Answer as for the first adapter: the time includes encoding and planning."""
    started = time.process_time()
    answers = _run(Answerer(load.lm, load.requests, as_trained=load.as_trained))
    responses = {key: answers[key].response for key in load.requests}
    return time.process_time() - started, responses


class Again:
    """A side that answers as for a further adapter: the plan is made once, before the clock starts."""

    def __init__(self) -> None:
        self.of: dict[int, Answerer] = {}

    def __call__(self, load: Load) -> tuple[float, Responses]:
        """Return the time and the responses for one adapter."""
        if id(load) not in self.of:
            self.of[id(load)] = Answerer(load.lm, load.requests, as_trained=load.as_trained)
        started = time.process_time()
        answers = _run(self.of[id(load)])
        responses = {key: answers[key].response for key in load.requests}
        return time.process_time() - started, responses


def _run(answerer: Answerer) -> Answers:
    answers: Answers = {}
    for some in answerer.run({}):
        answers |= some
    return answers


def harness(load: Load, batch_n: int) -> tuple[float, Responses]:
    """Answer by lm-eval's own loops at one batch size. HFLM is created before the clock starts."""
    from lm_eval.models.huggingface import HFLM

    requests = list(load.requests.values())
    with quiet_harness():
        # A copy of the tokenizer: lm-eval sets a padding token in place.
        tokenizer = copy.deepcopy(load.lm.tokenizer)
        lm: Any = HFLM(pretrained=load.lm.model, tokenizer=tokenizer, batch_size=batch_n)
        started = time.process_time()
        answer = getattr(lm, requests[0].request_type)  # all requests of a load are of one kind
        responses = answer(requests, disable_tqdm=True)
        return time.process_time() - started, dict(zip(load.requests, responses, strict=True))


class Extra(NamedTuple):
    """Memory in addition to the loaded model, and the responses."""

    mib: float
    responses: Responses


def measure_memory(data: Path, items_n: int, batch_n: int | None) -> Extra:
    """Answer MMLU with the model of random weights in a new interpreter. If `batch_n` is None, use our code."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        arguments = [str(batch_n or 0), str(data), str(items_n), str(result)]
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.evaluators", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"memory at batch size {batch_n} ended with {done.returncode}: {done.stderr[-2000:]}")
        mib, responses = json.loads(result.read_text())
    print(f"  memory at batch size {batch_n or 'ours'}: +{mib:.0f} MiB", flush=True)
    return Extra(mib, {key: value if isinstance(value, str) else tuple(value) for key, value in responses.items()})


def _in_this_process(batch_n: int, data: Path, items_n: int, result: Path) -> None:
    import torch

    torch.set_num_threads(1)
    load = asked.mmlu(data, asked.reader(data), items_n)
    few = load._replace(requests=dict(list(load.requests.items())[:4]))
    way: Way = (lambda some: harness(some, batch_n)) if batch_n else ours
    way(few)
    _forget_peak()
    before_mib = _memory_mib("VmRSS")
    _, responses = way(load)
    result.write_text(json.dumps([_memory_mib("VmHWM") - before_mib, responses]))


if __name__ == "__main__":
    _in_this_process(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
