"""Send one question to a model at an OpenAI-compatible address, and interpret the errors.

`crew` retries; the retries of the client library `openai` (extra `judge`) are off. The library's pauses could not be interrupted,
its retries are not counted, and it does not retry an answer that is not JSON. An endpoint may be hostile, so the size and the
time of an answer are limited.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from taskdiv_assets.storage.transient import is_transient

if TYPE_CHECKING:
    from openai import APIStatusError

CONFLICT = 409  # some endpoints return it for simultaneous calls
TOP_TOKENS = 5  # the largest number that every endpoint accepts
BODY_BYTES_MAX = 4 * 2**20  # of one answer, some thirty times the longest answer of today's models
SLOW_FACTOR = 10  # an answer that comes in pieces may take this many time-outs in total
TOKENS_MAX = 10**8  # a larger count of tokens in one answer is not believed
ADVICE = {  # by status or error code: errors that are the same for every question
    "401": "the key was not accepted; check ${key}",
    "403": "the key has no right to this model; check ${key} and the {who}'s `model`",
    "404": "there is no such model or no such address; check the {who}'s `model` and ${url} (it often ends in /v1)",
    "405": "the address takes no questions; check ${url} (it often ends in /v1)",
    "insufficient_quota": "the account's credit is spent; top it up",
    "invalid_api_key": "the key was not accepted; check ${key}",
    "model_not_found": "there is no such model; check the {who}'s `model`",
    "unsupported_parameter": "the model takes other parameters than a {who} needs; choose another `model`",
    "unsupported_value": "the model takes other parameters than a {who} needs; choose another `model`",
}
FILTER_CODES = frozenset({"content_filter", "content_policy_violation"})


class Service(NamedTuple):
    """What a model is asked for, as messages name it, and the environment variables of its address and its key."""

    who: str  # a noun, such as judge
    url_variable: str
    key_variable: str


JUDGE = Service("judge", "TASKDIV_JUDGE_URL", "TASKDIV_JUDGE_KEY")
ANNOTATOR = Service("annotator", "TASKDIV_ANNOTATOR_URL", "TASKDIV_ANNOTATOR_KEY")


class Question(NamedTuple):
    """One question: a key that is unique in one run, and the two messages. An empty system message is left out."""

    key: str
    system: str
    user: str


class Usage(NamedTuple):
    """The tokens of one call, as the endpoint counts them."""

    input_tokens: int
    output_tokens: int


class Reply(NamedTuple):
    """The reply of a model."""

    text: str
    finish_reason: str | None = None
    refusal: str | None = None  # the endpoint's field for a refusal
    top_log_probabilities_nats: tuple[tuple[str, float], ...] = ()  # for the first token: (token, log-probability)
    usage: Usage | None = None  # None if the endpoint does not say it, or not in whole numbers


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
    usage: Any = None


class Endpoint:
    """A model at an address. Several threads may use the same object. If `weighted`, each call asks for log-probabilities."""

    def __init__(
        self,
        model: str,
        *,
        url: str,
        key: str,
        timeout_s: float,
        max_tokens: int,
        service: Service = JUDGE,
        weighted: bool = False,
    ) -> None:
        try:
            from openai import DefaultHttpxClient, OpenAI

            from taskdiv_assets.chat.error_bodies import limit
        except ModuleNotFoundError:
            raise ValueError(
                f"the {service.who} is asked with the package openai, which is not installed; install taskdiv-assets[judge]"
            ) from None
        self._model, self._service, self._weighted, self._max_tokens = model, service, weighted, max_tokens
        self._key, self._slow_s = _checked_key(key, service), timeout_s * SLOW_FACTOR
        base = _checked_url(url, service)
        parts = urlsplit(base)
        self.place = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        web = DefaultHttpxClient(event_hooks={"response": [limit]})
        self._client = OpenAI(
            api_key=self._key or "none", base_url=base, timeout=timeout_s, max_retries=0, http_client=web
        )

    def close(self) -> None:
        self._client.close()

    @property
    def name(self) -> str:
        """The model and its place, for messages."""
        return f"the {self._service.who} {self._model!r} at {self.place}"

    def ask(self, question: Question) -> Reply:
        """Make one call and return the reply.

        Raises:
            NoAnswerError: this call gave no readable answer.
            StopAskingError: no call will give an answer.
        """
        from openai import APIStatusError

        try:
            with _named_troubles():
                text = self._send(question)
        except APIStatusError as error:
            return self._refused_reply(error)
        return self._reply(text)

    def safe(self, text: str) -> str:
        """Return a text of the endpoint with the key replaced by ***."""
        return text.replace(self._key, "***") if self._key else text

    def _send(self, question: Question) -> str:
        options: dict[str, Any] = {"logprobs": True, "top_logprobs": TOP_TOKENS} if self._weighted else {}
        system = [{"role": "system", "content": question.system}] if question.system else []
        messages: list[Any] = [*system, {"role": "user", "content": question.user}]
        started, body = time.monotonic(), bytearray()
        with self._client.chat.completions.with_streaming_response.create(
            model=self._model,
            messages=messages,
            temperature=0,
            max_tokens=self._max_tokens,
            **options,
        ) as response:
            for piece in response.iter_bytes():
                body += piece
                if len(body) > BODY_BYTES_MAX:
                    too_large = f"the answer is larger than {BODY_BYTES_MAX // 2**20} MiB"
                    raise NoAnswerError(too_large, is_repeatable=False)
                if time.monotonic() - started > self._slow_s:
                    raise NoAnswerError("timed out")
        return body.decode(errors="replace")

    def _reply(self, text: str) -> Reply:
        try:
            completion = _Completion.model_validate_json(text)
        except ValidationError:
            raise NoAnswerError("the answer was no completion in JSON") from None
        choice = completion.choices[0]
        content = choice.logprobs.content if choice.logprobs is not None else None
        is_answer = choice.finish_reason != "content_filter" and not choice.message.refusal
        if self._weighted and is_answer and not (content and content[0].top_logprobs):
            raise StopAskingError(
                f"{self.name} gives no log-probabilities, which `weighted: true` needs; "
                f"set `weighted: false` or choose another {self._service.who}"
            )
        top = tuple((token.token, token.logprob) for token in content[0].top_logprobs) if content else ()
        refusal = None if choice.message.refusal is None else self.safe(choice.message.refusal)
        usage = usage_of(completion.usage)
        return Reply(self.safe(choice.message.content or ""), choice.finish_reason, refusal, top, usage)

    def _refused_reply(self, error: APIStatusError) -> Reply:
        """Return a reply if a content filter stopped the question. Otherwise raise NoAnswerError or StopAskingError."""
        status, code = error.status_code, str(error.code or "")
        message = self.safe(" ".join(error.message.split()))[:200]
        if code in FILTER_CODES:
            return Reply("", "content_filter", f"status {status}: {message}")
        advice = ADVICE.get(code) or ADVICE.get(str(status))
        if advice:
            who, url, key = self._service
            advised = advice.format(who=who, url=url, key=key)
            raise StopAskingError(
                f"{self.name} answered with status {status}: {advised} (the endpoint says: {message})"
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


def usage_of(raw: object) -> Usage | None:
    """Return the tokens in the field `usage` of an answer; None unless both counts are believable whole numbers.

    >>> usage_of({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}), usage_of({"prompt_tokens": -1})
    (Usage(input_tokens=9, output_tokens=1), None)
    """
    counts = [raw.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(raw, dict) else []
    believable = [n for n in counts if isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= TOKENS_MAX]
    return Usage(*believable) if len(believable) == 2 else None


@contextmanager
def _named_troubles() -> Iterator[None]:
    """Raise NoAnswerError for a time-out and for a missing or broken connection."""
    from openai import APIConnectionError, APIError, APITimeoutError

    try:
        yield
    except APITimeoutError:
        raise NoAnswerError("timed out") from None
    except APIConnectionError as error:
        detail = f"no connection, or a broken one ({type(error.__cause__).__name__})"
        raise NoAnswerError(detail, is_repeatable=is_transient(error)) from None
    except (APIError, NoAnswerError, StopAskingError):
        raise
    except Exception as error:  # the HTTP library's own error, while the body is read
        if not is_transient(error):
            raise
        is_slow = "Timeout" in type(error).__name__
        raise NoAnswerError(
            "timed out" if is_slow else f"no connection, or a broken one ({type(error).__name__})"
        ) from None


def _checked_key(key: str, service: Service) -> str:
    """Return the key; raise ValueError if no HTTP header can contain it. The HTTP library's own error would show the key."""
    if not (key.isascii() and key.isprintable()) or key != key.strip():
        raise ValueError(
            f"the {service.who}'s key holds a character that no HTTP header can carry, such as a line break; "
            f"check ${service.key_variable}"
        )
    return key


def _checked_url(url: str, service: Service) -> str:
    """Return the base address. A suffix /chat/completions is removed. Raise ValueError if `url` is no http or https address."""
    base = url.rstrip("/").removesuffix("/chat/completions")
    try:
        parts = urlsplit(base)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a malformed port or IPv6 address
        is_address = False
    if not is_address:
        raise ValueError(
            f"the {service.who}'s address does not start with http:// or https:// and a valid host and port; "
            f"set ${service.url_variable} to a base address such as https://host/v1"
        )
    return base
