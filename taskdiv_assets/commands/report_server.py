"""A server for stored reports, so that a click in Dagster's UI opens a report. Only this machine can reach the server.

The server sends only a report, `/<mark>/<experiment>/` or `/<mark>/<experiment>/index.html`, and its tables `results.csv` and
`results.parquet`. The page of all experiments is the report of the folder `experiments-index`. Its relative links contain
`report/`, as paths on a disk do, so `/<mark>/<experiment>/report/` is the same as `/<mark>/<experiment>/`. The mark identifies
the results folder (see `report_links`). Any other path is answered with 404. The server writes nothing.
"""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, cast

from data_contracts.experiment_fields import NAME_PATTERN
from taskdiv_assets.assets.experiments_index import FOLDER, NAME
from taskdiv_assets.orchestration.report_links import HOST, home_mark
from taskdiv_assets.storage.store import Store, home

TYPES = {
    "index.html": "text/html; charset=utf-8",
    "results.csv": "text/csv; charset=utf-8",
    "results.parquet": "application/vnd.apache.parquet",
}
REQUEST = re.compile(
    rf"/(?P<mark>[0-9a-f]+)/(?P<experiment>{NAME_PATTERN.strip('^$')}|{FOLDER})/(?:report/)?"
    rf"(?P<name>{'|'.join(map(re.escape, TYPES))})?"
)
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)"')
POLICY_WITHIN = 8192  # bytes at the start of a page in which its policy is searched
NOTHING = "default-src 'none'"
TIMEOUT_S = 30


class Answer(NamedTuple):
    """A response: status, content type, content-security policy, body."""

    status: HTTPStatus
    content_type: str
    policy: str
    body: bytes


def answer(path: str, url: str) -> Answer:
    """Return the response to a request for `path`. The reports are in the results folder `url`, as `store.home()` returns it.

    The status is 404 if there is no such page or report, and 502 if the results folder cannot be read.

    >>> answer("/../etc/passwd", "/home/ada/.taskdiv").status.value
    404
    """
    found = REQUEST.fullmatch(path.partition("?")[0])
    if found is None:
        return _said(HTTPStatus.NOT_FOUND, "This page does not exist. Open a report from its asset in Dagster's UI.")
    if found["mark"] != home_mark(url):
        return _said(
            HTTPStatus.NOT_FOUND,
            f"This report belongs to another home than {url}, which is served here. If its folder was moved, materialise "
            "strategy_report again; otherwise start `taskdiv ui` with the $TASKDIV_HOME of that report.",
        )
    name = found["name"] or "index.html"
    try:
        body = Store(found["experiment"], url).get("report", name)
    except Exception as error:  # the protocol's library may raise anything
        return _said(HTTPStatus.BAD_GATEWAY, f"{url} cannot be read now ({type(error).__name__}); try again.")
    if body is None and found["experiment"] == FOLDER:
        return _said(HTTPStatus.NOT_FOUND, f"There is no page of all experiments yet; materialise {NAME}.")
    if body is None:
        return _said(
            HTTPStatus.NOT_FOUND, f"{found['experiment']} has no report yet; run `taskdiv run {found['experiment']}`."
        )
    return Answer(HTTPStatus.OK, TYPES[name], policy_of(body) if name == "index.html" else NOTHING, body)


def policy_of(page: bytes) -> str:
    """Return the content-security policy at the start of a page, as one line. If there is none, return NOTHING."""
    found = POLICY.search(page[:POLICY_WITHIN].decode("utf-8", "replace"))
    return " ".join(html.unescape(found[1]).split()) if found else NOTHING


class Server(ThreadingHTTPServer):
    """Server of the reports in one results folder."""

    daemon_threads = True

    def __init__(self, port: int, url: str) -> None:
        self.url = url
        super().__init__((HOST, port), Handler)


class Handler(BaseHTTPRequestHandler):
    """Handler of GET and HEAD requests. It rejects a request whose header `Host` is not this server's address.

    This protects the reports from other web sites that use DNS rebinding.
    """

    server_version = "taskdiv"
    sys_version = ""
    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        self._send(has_body=True)

    def do_HEAD(self) -> None:
        self._send(has_body=False)

    def _send(self, *, has_body: bool) -> None:
        port = self.connection.getsockname()[1]
        is_ours = self.headers.get("Host") in {f"{name}:{port}" for name in (HOST, "localhost")}
        refused = _said(HTTPStatus.MISDIRECTED_REQUEST, "Only local requests are answered.")
        sent = answer(self.path, cast("Server", self.server).url) if is_ours else refused
        self.send_response(sent.status)
        headers = {
            "Content-Type": sent.content_type,
            "Content-Length": str(len(sent.body)),
            "Content-Security-Policy": f"{sent.policy}; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if has_body:
            self.wfile.write(sent.body)

    def log_message(self, format: str, *args: object) -> None:
        """Do nothing. The terminal shows Dagster's log, and requests would make it hard to read."""


@contextmanager
def serve(port: int, url: str | None = None) -> Iterator[int]:
    """Serve the reports in the results folder `url` (default `store.home()`) in a thread during the block. Yield the port.

    If `port` is 0, a free port is used.

    Raises:
        OSError: the port is in use, or this user may not use it.
    """
    with Server(port, url or home()) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _said(status: HTTPStatus, sentence: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", NOTHING, f"{sentence}\n".encode())
