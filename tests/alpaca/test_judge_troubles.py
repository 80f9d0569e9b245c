"""The judge with an HTTP server that fails: repeated requests, failures that are not counted, and errors that end the scoring."""

import gzip
import random
import re
import time

import pytest

from taskdiv_assets.benchmarks.alpaca.judge import ask_all
from taskdiv_assets.benchmarks.alpaca.prompts import is_model_first
from taskdiv_assets.benchmarks.alpaca.verdict_parts import Verdict, is_final
from taskdiv_assets.chat.crew import STOPPED, ClientOptions, Crew
from taskdiv_assets.chat.endpoint import Endpoint, Question
from taskdiv_assets.chat.error_bodies import ERROR_BYTES_MAX
from taskdiv_assets.experiment.benchmark_settings import Judge
from tests.alpaca.asking import KEY, QUICK, always, ask, ask_one, fair, pairs
from tests.alpaca.chat_server import Act, completion, error, serving, top

GOOD_ANSWER = completion("m")
TROUBLES = {  # what the server does, and what the verdict says
    "time-out": (Act(b"{}", wait_s=1.5), "timed out"),
    "429": (error(429, "slow down"), "status 429: .*slow down"),
    "500": (error(500, "oops"), "status 500: .*oops"),
    "503 in HTML": (Act(b"<html>busy</html>", 503, {"content-type": "text/html"}), "status 503"),
    "malformed JSON": (Act(b'{"choices": [{"mess'), "no completion in JSON"),
    "a web page": (Act(b"<html>hello</html>", 200, {"content-type": "text/html"}), "no completion in JSON"),
    "dropped in the middle": (Act(completion("m").body, is_dropped=True), "broken one"),
    "no choices": (
        Act(b'{"id": "c", "object": "chat.completion", "created": 1, "model": "j", "choices": []}'),
        "no completion in JSON",
    ),
    "an error with status 200": (Act(b'{"error": {"message": "no"}}'), "no completion in JSON"),
}


def options_for(name: str) -> ClientOptions:
    """Return a short time-out only for the case that tests time-outs, because the machine may be busy."""
    return QUICK._replace(timeout_s=0.5) if name == "time-out" else QUICK


class TestTroubleIsRepeatedAndThenFails:
    @pytest.mark.parametrize("name", TROUBLES)
    def test_once_is_forgiven(self, name: str) -> None:
        verdict, calls_n = ask_one(TROUBLES[name][0], GOOD_ANSWER, options=options_for(name))
        assert (verdict.kind, verdict.calls_n, calls_n) == ("judged", 2, 2)

    @pytest.mark.parametrize("name", TROUBLES)
    def test_for_good_is_failed_and_neither_won_nor_lost(self, name: str) -> None:
        act, words = TROUBLES[name]
        verdict, calls_n = ask_one(act, options=options_for(name))
        assert (verdict.kind, verdict.preference, calls_n) == ("failed", None, QUICK.retries_n + 1)
        assert re.search(words, verdict.detail)
        assert verdict.calls_n == calls_n
        assert not is_final(verdict)

    def test_nobody_listens(self) -> None:
        with serving(fair) as server:
            url = server.url
        judge = Judge(model="judge-1", calls=10)
        [verdict] = ask_all(judge, pairs(1), url=url, key=KEY, keep=lambda verdicts: None, options=QUICK)
        assert verdict.kind == "failed"
        assert "connection" in verdict.detail

    def test_retry_after_is_waited_for(self) -> None:
        with serving(always(error(429, "slow down", retry_after="0.5"), GOOD_ANSWER)) as server:
            [verdict] = ask(server, pairs(1))
            assert server.arrived_at[1] - server.arrived_at[0] >= 0.5
        assert verdict.kind == "judged"

    def test_a_pause_of_an_hour_is_not_waited_for(self) -> None:
        verdict, calls_n = ask_one(error(429, "come back later", retry_after="3600"))
        assert (verdict.kind, calls_n) == ("failed", 1)

    def test_a_question_that_is_too_long_is_not_repeated(self) -> None:
        verdict, calls_n = ask_one(error(400, "maximum context length is 8192", "context_length_exceeded"))
        assert (verdict.kind, calls_n) == ("failed", 1)
        assert "context length" in verdict.detail

    @pytest.mark.parametrize("packed", [False, True])
    def test_the_text_of_an_error_is_read_up_to_a_limit(self, packed: bool) -> None:
        """An endless text would fill the memory. A packed text is cut in the middle of its stream."""
        text = bytes(random.Random(1).choices(range(65, 91), k=40 * ERROR_BYTES_MAX))
        act = Act(gzip.compress(text), 400, {"content-encoding": "gzip"}) if packed else Act(text, 400)
        verdict, calls_n = ask_one(act)
        assert (verdict.kind, calls_n) == ("failed", 1)
        assert verdict.detail.startswith("status 400: ") and len(verdict.detail) < 300

    def test_what_a_stopped_crew_has_asked_is_counted(self) -> None:
        with serving(always(error(429, "wait", retry_after="60"))) as server:
            endpoint = Endpoint("judge-1", url=server.url, key=KEY, timeout_s=5, max_tokens=1)
            asked = [Question(str(number), "", "Why?") for number in range(5)]
            crew = Crew(endpoint, asked, parallel=2, options=QUICK._replace(backoff_s=60))
            while len(server.bodies) < 2:
                time.sleep(0.01)
            ended = [*crew.stop(5.0)]
            endpoint.close()
        assert [(one.reply, one.detail, one.calls_n) for one in ended] == [(None, STOPPED, 1)] * 2


class TestAnswersThatCannotBeCounted:
    def test_a_refusal_in_words(self) -> None:
        verdict, _ = ask_one(completion("I'm sorry, but I can't help with that."))
        assert (verdict.kind, verdict.preference) == ("refused", None)
        assert verdict.answer.startswith("I'm sorry")
        assert is_final(verdict)

    def test_a_refusal_in_its_own_field(self) -> None:
        verdict, _ = ask_one(completion(None, refusal="That is against the rules."))
        assert (verdict.kind, verdict.detail) == ("refused", "That is against the rules.")

    def test_a_content_filter_even_if_a_letter_came_through(self) -> None:
        verdict, _ = ask_one(completion("m", finish_reason="content_filter"))
        assert verdict.kind == "refused"

    def test_a_content_filter_that_turns_the_question_away(self) -> None:
        verdict, calls_n = ask_one(error(400, "filtered", "content_filter"))
        assert (verdict.kind, calls_n) == ("refused", 1)

    @pytest.mark.parametrize("text", ["banana", "", "m or M", "Both"])
    def test_nonsense(self, text: str) -> None:
        verdict, calls_n = ask_one(completion(text, finish_reason="length"))
        assert (verdict.kind, verdict.preference, verdict.answer, calls_n) == ("unreadable", None, text, 1)


class TestWeighted:
    def test_the_preference_is_the_letters_share(self) -> None:
        act = completion("M", logprobs=top(("M", -0.5), (" m", -1.5), ("The", -3.0)))
        share = 1 / (1 + 2.718281828459045)  # e^-1.5 / (e^-0.5 + e^-1.5)
        for pair in pairs(8):
            verdict, _ = ask_one(act, weighted=True, pair=pair)
            assert verdict.preference == pytest.approx(share if is_model_first(pair) else 1 - share)

    def test_log_probabilities_are_asked_for(self) -> None:
        with serving(always(completion("m", logprobs=top(("m", -0.1))))) as server:
            [verdict] = ask(server, pairs(1), weighted=True)
            assert server.bodies[0]["logprobs"] is True
            assert server.bodies[0]["top_logprobs"] >= 2
        assert verdict.preference in (0.0, 1.0)

    def test_neither_letter(self) -> None:
        verdict, _ = ask_one(completion("The", logprobs=top(("The", -0.1), ("A", -2.0))), weighted=True)
        assert (verdict.kind, verdict.preference) == ("unreadable", None)

    def test_an_endpoint_without_log_probabilities_stops_at_once(self) -> None:
        with serving(fair) as server, pytest.raises(ValueError, match="weighted: false"):
            ask(server, pairs(30), weighted=True)
        assert len(server.bodies) <= 2


class TestHopeless:
    @pytest.mark.parametrize(
        ("act", "words"),
        [
            (error(401, f"Incorrect API key provided: {KEY}"), r"TASKDIV_JUDGE_KEY"),
            (error(403, "no access"), r"TASKDIV_JUDGE_KEY"),
            (error(404, "The model `judge-1` does not exist", "model_not_found"), r"'judge-1'.*`model`"),
            (Act(b"<html>404</html>", 404, {"content-type": "text/html"}), r"TASKDIV_JUDGE_URL"),
            (error(400, "Invalid model", "model_not_found"), r"`model`"),
            (error(429, "You exceeded your quota", "insufficient_quota"), r"credit"),
        ],
    )
    def test_a_wrong_key_model_address_or_empty_account_stops_at_once(self, act: Act, words: str) -> None:
        with serving(always(act)) as server, pytest.raises(ValueError, match=words) as caught:
            ask(server, pairs(50), parallel=4)
        assert len(server.bodies) <= 12
        assert KEY not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None

    def test_ten_failures_in_a_row_end_it(self) -> None:
        kept: list[Verdict] = []
        with serving(always(error(500, "broken"))) as server, pytest.raises(ValueError, match="10 questions in a row"):
            ask(server, pairs(200), parallel=4, keep=kept.extend)
        assert len(server.bodies) < 20 * (QUICK.retries_n + 1)
        assert len(kept) >= 10
        assert {verdict.kind for verdict in kept} == {"failed"}

    def test_failures_between_answers_do_not(self) -> None:
        with serving(lambda number, body: error(400, "odd") if number % 3 else fair(number, body)) as server:
            verdicts = ask(server, pairs(60))
        assert [verdict.kind for verdict in verdicts].count("failed") == 40

    def test_a_judge_that_never_gives_a_letter_is_given_up(self) -> None:
        with serving(always(completion("Let me think"))) as server, pytest.raises(ValueError, match="Let me think"):
            ask(server, pairs(200))
        assert len(server.bodies) < 15
