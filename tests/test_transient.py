"""Failures that are tried again: real clients against real servers on loopback, and a step that fails twice."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.client import IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import dagster as dg
import fsspec
import pytest
import requests

from taskdiv_assets.orchestration import produce
from taskdiv_assets.storage.transient import is_transient
from tests.graph import Graph, failure
from tests.home import Home

NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens
POOL = "prompt,response,task\n" + "".join(f"say {word}.,{word},t{i % 3}\n" for i, word in enumerate("abcdefghijkl"))


class Server:
    """Answers each request with the next given status, then with a small pool."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.asked_n = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked_n += 1
                status = outer.statuses.pop(0) if outer.statuses else 200
                body = POOL.encode() if status == 200 else b"not now"
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_HEAD(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(POOL)))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Print nothing on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/pool.csv"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def raised(action: Callable[[], object]) -> Exception:
    try:
        action()
    except Exception as error:
        return error
    pytest.fail("nothing was raised")


def hub(**settings: str) -> Callable[[], object]:
    from huggingface_hub import hf_hub_download

    return lambda: hf_hub_download("owner/name", "config.json", revision="0" * 40, **settings)


def bucket(**settings: str) -> fsspec.AbstractFileSystem:
    return fsspec.filesystem("s3", key="a", secret="b", endpoint_url=NOWHERE, skip_instance_cache=True, **settings)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_busy_or_broken_server_may_recover(server: Server, status: int) -> None:
    server.statuses = [status] * 20
    assert is_transient(raised(lambda: fsspec.open(server.url).open().read()))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_what_a_server_refuses_it_will_refuse_again(server: Server, status: int) -> None:
    server.statuses = [status] * 20
    assert not is_transient(raised(lambda: fsspec.open(server.url).open().read()))


@pytest.mark.full
def test_nobody_at_the_address_may_be_somebody_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_transient(raised(lambda: fsspec.open(f"{NOWHERE}/x").open().read()))
    assert is_transient(raised(lambda: bucket().cat_file("some/file")))
    assert is_transient(raised(hub(endpoint=NOWHERE, cache_dir=str(tmp_path))))


def test_a_hub_that_the_user_switched_off_stays_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert not is_transient(raised(hub(cache_dir=str(tmp_path))))


@pytest.mark.parametrize(
    "action",
    [
        lambda: int("x"),
        lambda: Path("/nowhere/x").read_text(),
        lambda: Path("/proc/version").write_text("x"),
        lambda: {}[1],
    ],
)
def test_mistakes_and_missing_files_are_not_tried_again(action: Callable[[], object]) -> None:
    assert not is_transient(raised(action))


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_AGAIN, "no answer"), OSError(errno.ENETUNREACH, "unreachable"),
        URLError(socket.gaierror(socket.EAI_AGAIN, "no answer")).reason, IncompleteRead(b"half"),
    ],
)  # fmt: skip
def test_networks_that_are_down_come_back(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "no such name"), BrokenPipeError(), ssl.SSLCertVerificationError("expired"),
        requests.exceptions.SSLError("expired"), requests.exceptions.ProxyError("refused"),
        PermissionError(errno.EACCES, "not yours"), OSError(errno.ENOSPC, "full"),
    ],
)  # fmt: skip
def test_addresses_certificates_and_disks_stay_as_they_are(error: Exception) -> None:
    assert not is_transient(error)


def test_an_address_without_its_protocol_is_a_mistake(tmp_path: Path) -> None:
    assert not is_transient(raised(hub(endpoint="127.0.0.1:9", cache_dir=str(tmp_path))))


def test_what_was_said_to_have_no_cause_has_none() -> None:
    """`from None` on a status 429 that means "your credit is spent"."""

    def refused() -> None:
        try:
            raise TimeoutError
        except TimeoutError:
            raise ValueError("the judge will never answer") from None

    assert not is_transient(raised(refused))


def test_what_a_failure_was_raised_from_counts() -> None:
    def wrapped() -> None:
        try:
            raise ConnectionResetError
        except ConnectionResetError as error:
            raise ValueError("the pool cannot be read") from error

    assert is_transient(raised(wrapped))


EXPERIMENT = """
name: remote
purpose: campaign
pool: {{reader: table, path: {url}, columns: {{prompt: prompt, response: response, task: task}}}}
base_model: {{path: base}}
strategies: [random, task_diversity]
budgets: [4]
seeds: [0]
tuning: {{method: lora, rank: 4, alpha: 8, learning_rate: 1.0e-3, epochs: 1, batch_size: 4}}
benchmarks: [{{name: mmlu}}]
primary: {{strategy: random, reference: task_diversity, benchmark: mmlu, metric: acc}}
"""


@pytest.fixture
def graph(empty_home: Home, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    """Yield the graph of an experiment whose pool comes from the server. Its steps wait only briefly between attempts."""
    monkeypatch.setattr(produce, "FIRST_WAIT_S", 0.01)
    path = empty_home.folder / "remote.yaml"
    path.write_text(EXPERIMENT.format(url=server.url))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Graph(path, instance)


def retries(result: dg.ExecuteInProcessResult) -> int:
    return sum(event.event_type_value == "STEP_UP_FOR_RETRY" for event in result.all_events)


def test_a_step_is_tried_again_until_the_server_answers(graph: Graph, server: Server) -> None:
    server.statuses = [503, 429]
    result = graph.run("pool", "raw_pool")
    assert result.success, failure(result)
    assert 1 <= retries(result) <= 2  # one try may ask twice
    assert graph.store.read_table("raw_pool").table.num_rows == 12


def test_after_three_tries_the_step_fails_with_the_sentence(graph: Graph, server: Server) -> None:
    server.statuses = [503] * 100
    result = graph.run("pool", "raw_pool")
    assert not result.success and retries(result) == produce.RETRIES_N
    assert "503" in failure(result) and "Traceback" not in failure(result)
    assert graph.store.read_footer("raw_pool") is None


def test_a_file_that_is_not_there_is_said_at_once(graph: Graph, server: Server) -> None:
    server.statuses = [404] * 100
    result = graph.run("pool", "raw_pool")
    assert not result.success and retries(result) == 0


def not_there(kind: str, status: int) -> Exception:
    import httpx2
    from huggingface_hub import errors

    request = httpx2.Request("GET", "https://hub.invalid/owner/name")
    found: Exception = getattr(errors, kind)("no", response=httpx2.Response(status, request=request))
    return found


@pytest.mark.parametrize(
    ("kind", "status"),
    [("RepositoryNotFoundError", 401), ("GatedRepoError", 403), ("RevisionNotFoundError", 404), ("RemoteEntryNotFoundError", 404)],
)  # fmt: skip
def test_what_is_not_on_the_hub_or_not_for_this_user_is_not_asked_for_again(kind: str, status: int) -> None:
    assert not is_transient(not_there(kind, status))


OFFLINE = """
import tempfile
from pathlib import Path
from taskdiv_assets.experiment.benchmark_settings import MmluBenchmark
from taskdiv_assets.benchmarks import suite_of
from taskdiv_assets.language_model.loading import _download
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.storage.transient import is_transient

pool = Pool(reader="flan", hub="owner/name", revision="0" * 40)
mmlu = MmluBenchmark(name="mmlu")
for action in (
    lambda: _download("owner/name", "0" * 40, Path(tempfile.mkdtemp())),
    lambda: read_pool(pool),
    lambda: suite_of(mmlu, pool=pool, template="{prompt}", lm=None),
):
    try:
        action()
    except Exception as error:
        print(is_transient(error), "OfflineModeIsEnabled" in f"{error!r} {error.__cause__!r} {error.__cause__.__cause__!r}" if error.__cause__ else str(error))
"""


def test_with_the_hub_switched_off_model_pool_and_benchmark_are_asked_for_once(tmp_path: Path) -> None:
    """Each took 75 s: a step is tried again after 5, 15 and 45 s where a failure may pass."""
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OFFLINE],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [line.split()[0] for line in found.stdout.strip().splitlines()] == ["False"] * 3, found.stdout
