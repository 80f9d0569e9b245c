"""Helpers that ask a judge: pairs with a known better output, a server that finds it, and a client that does not wait long."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from taskdiv_assets.benchmarks.alpaca.judge import ask_all
from taskdiv_assets.benchmarks.alpaca.prompts import Pair
from taskdiv_assets.benchmarks.alpaca.verdict_parts import Verdict
from taskdiv_assets.chat.crew import ClientOptions
from taskdiv_assets.experiment.benchmark_settings import Judge
from tests.alpaca.chat_server import Act, ChatServer, completion, serving

KEY = "sk-test-7f3a9c-very-secret"
QUICK = ClientOptions(timeout_s=10, retries_n=2, backoff_s=0.02)
GOOD = "GOOD"  # the judge below likes outputs with this word


def pairs(n: int) -> list[Pair]:
    return [Pair(f"Question {i}?", f"plain {i}", f"{GOOD} {i}") for i in range(n)]


def fair(number: int, body: dict[str, Any]) -> Act:
    """Return the letter of the output that contains GOOD, in either order of the outputs."""
    user = body["messages"][1]["content"]
    found = re.search(rf"\[begin ([mM]) \w+\]\n[^\n]*{GOOD}", user)
    assert found is not None
    return completion(found[1])


def always(*acts: Act) -> Callable[[int, dict[str, Any]], Act]:
    """Return a script that answers with these acts in turn, and then always with the last one."""
    return lambda number, body: acts[min(number, len(acts) - 1)]


def ask(
    server: ChatServer, asked: Sequence[Pair], *, parallel: int = 1, weighted: bool = False, **more: Any
) -> list[Verdict]:
    judge = Judge(model="judge-1", calls=1000, parallel=parallel, weighted=weighted)
    options = {"keep": lambda verdicts: None, "options": QUICK, "url": server.url, "key": KEY, **more}
    return ask_all(judge, asked, **options)


def ask_one(act: Act, *more: Act, pair: Pair | None = None, **more_options: Any) -> tuple[Verdict, int]:
    """Return the verdict on one pair, and the number of calls that the server received."""
    with serving(always(act, *more)) as server:
        [verdict] = ask(server, [pair or pairs(1)[0]], **more_options)
        return verdict, len(server.bodies)
