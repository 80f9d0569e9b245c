"""The judge with a real HTTP server: requests, verdicts kept after an interruption, and secrets that it never prints."""

import json
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from taskdiv_assets.benchmarks.alpaca.judge import KEEP_N, ask_all
from taskdiv_assets.benchmarks.alpaca.prompts import Pair, is_model_first
from taskdiv_assets.benchmarks.alpaca.verdict_parts import Verdict, key_of
from taskdiv_assets.experiment.benchmark_settings import Judge
from tests.alpaca.asking import KEY, always, ask, fair, pairs
from tests.alpaca.chat_server import Act, completion, error, serving


def assert_no_threads() -> None:
    """Check that the judge's threads end within 2 s, also those that wait for a minute to pass."""
    end = time.monotonic() + 2
    while time.monotonic() < end and any(thread.name.startswith("asking-") for thread in threading.enumerate()):
        time.sleep(0.02)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("asking-")]


def test_verdicts_come_back_in_the_order_of_the_pairs_whichever_output_stands_first() -> None:
    asked = pairs(40)
    swapped = [Pair(p.instruction, p.model_output, p.reference_output) for p in asked]
    with serving(fair) as server:
        verdicts = ask(server, [*asked, *swapped], parallel=8)
    assert_no_threads()
    assert [verdict.preference for verdict in verdicts] == [1.0] * 40 + [0.0] * 40
    assert [verdict.key for verdict in verdicts] == [key_of(pair) for pair in [*asked, *swapped]]
    assert len({is_model_first(pair) for pair in asked}) == 2


def test_a_request_is_small_and_certain_and_carries_the_key() -> None:
    with serving(fair) as server:
        ask(server, pairs(1), url=server.url + "/chat/completions/")
        [body], [headers], [path] = server.bodies, server.headers, server.paths
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"]) == ("judge-1", 0)
    assert body["max_tokens"] <= 16
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert "logprobs" not in body


def test_equal_outputs_are_a_tie_and_a_pair_that_stands_twice_is_asked_once() -> None:
    one = pairs(1)[0]
    with serving(fair) as server:
        verdicts = ask(server, [one, Pair("Same?", "yes", "yes"), one])
        assert len(server.bodies) == 1
    assert [verdict.preference for verdict in verdicts] == [1.0, 0.5, 1.0]
    assert [verdict.calls_n for verdict in verdicts] == [1, 0, 1]


class TestKeeping:
    def test_small_batches_and_each_verdict_once(self) -> None:
        kept: list[Sequence[Verdict]] = []
        seen: list[tuple[int, int]] = []
        with serving(fair) as server:
            verdicts = ask(
                server, pairs(50), parallel=4, keep=kept.append, progress=lambda done, total: seen.append((done, total))
            )
        assert max(len(batch) for batch in kept) <= KEEP_N
        assert sorted(verdict for batch in kept for verdict in batch) == sorted(verdicts)
        assert seen == [(n, 50) for n in range(1, 51)]

    def test_a_slow_judge_is_kept_by_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("taskdiv_assets.benchmarks.alpaca.judge.KEEP_S", 0.2)
        sizes: list[int] = []

        def slow(number: int, body: dict[str, Any]) -> Act:
            return Act(fair(number, body).body, wait_s=0.1)

        with serving(slow) as server:
            ask(server, pairs(9), keep=lambda verdicts: sizes.append(len(verdicts)))
        assert len(sizes) >= 3

    def test_a_kill_in_the_middle_and_a_rerun_asks_only_what_is_missing(self) -> None:
        asked = pairs(100)
        kept: dict[str, Verdict] = {}

        def keep_then_break(verdicts: Sequence[Verdict]) -> None:
            if len(kept) >= 40:
                raise OSError("disk full")
            kept.update((verdict.key, verdict) for verdict in verdicts)

        with serving(fair) as server, pytest.raises(OSError, match="disk full"):
            ask(server, asked, parallel=4, keep=keep_then_break)
        assert len(kept) == 40
        missing = [pair for pair in asked if key_of(pair) not in kept]
        with serving(fair) as server:
            verdicts = ask(server, missing, parallel=4)
            texts = "\n".join(body["messages"][1]["content"] for body in server.bodies)
        assert len(server.bodies) == 60
        assert {int(n) for n in re.findall(r"Question (\d+)\?", texts)} == {
            i for i, pair in enumerate(asked) if key_of(pair) not in kept
        }
        assert {verdict.preference for verdict in verdicts} == {1.0}

    def test_ctrl_c_stops_promptly_and_keeps_what_came(self) -> None:
        """15 answers, then each of four threads is told to wait for a minute; the last of them presses Ctrl-C."""
        kept: list[Verdict] = []
        pressed_at: list[float] = []

        def press() -> None:
            pressed_at.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        def then_wait(number: int, body: dict[str, Any]) -> Act:
            if number == 18:
                threading.Timer(1.0, press).start()
            return fair(number, body) if number < 15 else error(429, "wait", retry_after="60")

        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of xdist may have another one
        try:
            with serving(then_wait) as server, pytest.raises(KeyboardInterrupt):
                ask(server, pairs(40), parallel=4, keep=kept.extend)
            assert time.monotonic() - pressed_at[0] < 2
        finally:
            signal.signal(signal.SIGINT, before)
        assert_no_threads()
        assert len(kept) == 15


class TestTheKeyIsToldToNobody:
    def test_not_in_verdicts_errors_or_logs(
        self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        echoes = [completion(f"You said {KEY}"), completion(None, refusal=f"no, {KEY}"), error(400, f"bad {KEY}")]
        kept: list[Verdict] = []
        with caplog.at_level(logging.DEBUG), serving(always(*echoes)) as server:
            verdicts = ask(server, pairs(3), keep=kept.extend)
            assert all(KEY in headers["authorization"] for headers in server.headers)
        assert [verdict.kind for verdict in verdicts] == ["unreadable", "refused", "failed"]
        told = json.dumps([verdicts, kept]) + caplog.text + "".join(capfd.readouterr())
        assert KEY not in told
        assert "***" in told

    def test_a_key_with_a_line_break_is_refused_without_showing_it(self) -> None:
        with pytest.raises(ValueError, match="TASKDIV_JUDGE_KEY") as caught:
            ask_all(Judge(model="m", calls=1), pairs(1), url="http://x/v1", key=KEY + "\n", keep=lambda verdicts: None)
        assert KEY not in str(caught.value)

    def test_an_address_with_a_password_is_named_by_its_host(self) -> None:
        with serving(always(error(401, "no"))) as server, pytest.raises(ValueError) as caught:
            ask(server, pairs(1), url=server.url.replace("http://", "http://me:hunter2@"))
        assert "127.0.0.1" in str(caught.value)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "api.example.org/v1", "ftp://host/v1", "https://"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="TASKDIV_JUDGE_URL"):
        ask_all(Judge(model="m", calls=1), pairs(1), url=url, key=KEY, keep=lambda verdicts: None)


def test_an_annotator_cannot_be_asked() -> None:
    with pytest.raises(ValueError, match="imported|import"):
        ask_all(Judge(annotator="a"), pairs(1), url="http://x", key=KEY, keep=lambda verdicts: None)
