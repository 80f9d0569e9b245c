"""Send one question to a judge at an OpenAI-compatible address, and interpret the errors.

`crew` retries; the retries of the client library `openai` (extra `judge`) are off. The library's pauses could not be interrupted,
its retries are not counted, and it does not retry an answer that is not JSON.
"""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from taskdiv_assets.benchmarks.alpaca.prompts import Prompt
from taskdiv_assets.benchmarks.alpaca.verdict_parts import Reply
from taskdiv_assets.storage.transient import is_transient

if TYPE_CHECKING:
    from openai import APIStatusError

ANSWER_TOKENS = 16  # enough for "The better answer is M", too few for a judge that explains itself before the letter
CONFLICT = 409  # some endpoints return it for simultaneous calls
TOP_TOKENS = 5  # the largest number that every endpoint accepts
ADVICE = {  # by status or error code: errors that are the same for every question
    "401": "the key was not accepted; check $TASKDIV_JUDGE_KEY",
    "403": "the key has no right to this model; check $TASKDIV_JUDGE_KEY and the judge's `model`",
    "404": "there is no such model or no such address; check the judge's `model` and $TASKDIV_JUDGE_URL (it often ends in /v1)",
    "405": "the address takes no questions; check $TASKDIV_JUDGE_URL (it often ends in /v1)",
    "insufficient_quota": "the account's credit is spent; top it up",
    "invalid_api_key": "the key was not accepted; check $TASKDIV_JUDGE_KEY",
    "model_not_found": "there is no such model; check the judge's `model`",
    "unsupported_parameter": "the model takes other parameters than a judge needs; choose another `model`",
    "unsupported_value": "the model takes other parameters than a judge needs; choose another `model`",
}
FILTER_CODES = frozenset({"content_filter", "content_policy_violation"})


class StopAskingError(Exception):
    """The endpoint will answer no question: for example, the key, the model, the address or the account is wrong."""


class NoAnswerError(Exception):
    """A call gave no answer. `detail` is the reason, for the verdict. `wait_s` is the pause that the endpoint requests."""

    def __init__(self, detail: str, *, is_repeatable: bool = True, wait_s: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.is_repeatable = is_repeatable
        self.wait_s = wait_s


class _Token(BaseModel):
    token: str
    logprob: float


class _Position(BaseModel):
    top_logprobs: list[_Token] = []


class _LogProbabilities(BaseModel):
    content: list[_Position] | None = None


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _LogProbabilities | None = None


class _Completion(BaseModel):
    """The fields of an answer that are used. They are validated here, because the library accepts any JSON or text."""

    choices: list[_Choice] = Field(min_length=1)


class Endpoint:
    """A judging model at an address. Several threads may use the same object."""

    def __init__(self, model: str, *, weighted: bool, url: str, key: str, timeout_s: float) -> None:
        try:
            from openai import OpenAI
        except ModuleNotFoundError:
            raise ValueError(
                "a judge is asked with the package openai, which is not installed; install taskdiv-assets[judge]"
            ) from None
        self._model = model
        self._weighted = weighted
        self._key = _checked_key(key)
        base = _checked_url(url)
        parts = urlsplit(base)
        self.place = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._client = OpenAI(api_key=self._key or "none", base_url=base, timeout=timeout_s, max_retries=0)

    def close(self) -> None:
        self._client.close()

    def ask(self, prompt: Prompt) -> Reply:
        """Make one call and return the reply.

        Raises:
            NoAnswerError: this call gave no readable answer.
            StopAskingError: no call will give an answer.
        """
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        try:
            text = self._send(prompt)
        except APITimeoutError:
            raise NoAnswerError("timed out") from None
        except APIConnectionError as error:
            detail = f"no connection, or a broken one ({type(error.__cause__).__name__})"
            raise NoAnswerError(detail, is_repeatable=is_transient(error)) from None
        except APIStatusError as error:
            return self._refused_reply(error)
        return self._reply(text)

    def safe(self, text: str) -> str:
        """Return a text of the endpoint with the key replaced by ***."""
        return text.replace(self._key, "***") if self._key else text

    def _send(self, prompt: Prompt) -> str:
        options: dict[str, Any] = {"logprobs": True, "top_logprobs": TOP_TOKENS} if self._weighted else {}
        response = self._client.chat.completions.with_raw_response.create(
            model=self._model,
            messages=[{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}],
            temperature=0,
            max_tokens=1 if self._weighted else ANSWER_TOKENS,
            **options,
        )
        return str(response.text)

    def _reply(self, text: str) -> Reply:
        try:
            choice = _Completion.model_validate_json(text).choices[0]
        except ValidationError:
            raise NoAnswerError("the answer was no completion in JSON") from None
        content = choice.logprobs.content if choice.logprobs is not None else None
        is_answer = choice.finish_reason != "content_filter" and not choice.message.refusal
        if self._weighted and is_answer and not (content and content[0].top_logprobs):
            raise StopAskingError(
                f"the judge {self._model!r} at {self.place} gives no log-probabilities, which `weighted: true` needs; "
                "set `weighted: false` or choose another judge"
            )
        top = tuple((token.token, token.logprob) for token in content[0].top_logprobs) if content else ()
        refusal = None if choice.message.refusal is None else self.safe(choice.message.refusal)
        return Reply(self.safe(choice.message.content or ""), choice.finish_reason, refusal, top)

    def _refused_reply(self, error: APIStatusError) -> Reply:
        """Return a reply if a content filter stopped the question. Otherwise raise NoAnswerError or StopAskingError."""
        status, code = error.status_code, str(error.code or "")
        message = self.safe(" ".join(error.message.split()))[:200]
        if code in FILTER_CODES:
            return Reply("", "content_filter", f"status {status}: {message}")
        advice = ADVICE.get(code) or ADVICE.get(str(status))
        if advice:
            raise StopAskingError(
                f"the judge {self._model!r} at {self.place} answered with status {status}: {advice} "
                f"(the endpoint says: {message})"
            ) from None
        wait_s = retry_after_s(error.response.headers.get("retry-after"))
        is_repeatable = is_transient(error) or status == CONFLICT or status >= 500  # also codes of a proxy, such as 529
        raise NoAnswerError(f"status {status}: {message}", is_repeatable=is_repeatable, wait_s=wait_s) from None


def retry_after_s(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date. Return None if the header is missing or invalid.

    >>> retry_after_s("1.5"), retry_after_s("soon"), retry_after_s(None)
    (1.5, None, None)
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _checked_key(key: str) -> str:
    """Return the key; raise ValueError if no HTTP header can contain it. The HTTP library's own error would show the key."""
    if not (key.isascii() and key.isprintable()) or key != key.strip():
        raise ValueError(
            "the judge's key holds a character that no HTTP header can carry, such as a line break; check $TASKDIV_JUDGE_KEY"
        )
    return key


def _checked_url(url: str) -> str:
    """Return the base address. A suffix /chat/completions is removed. Raise ValueError if `url` is no http or https address."""
    base = url.rstrip("/").removesuffix("/chat/completions")
    if urlsplit(base).scheme not in ("http", "https") or not urlsplit(base).hostname:
        raise ValueError(
            "the judge's address does not start with http:// or https:// and a host; "
            "set $TASKDIV_JUDGE_URL to a base address such as https://host/v1"
        )
    return base
