"""The server of the UI's links to reports: the files it sends, and those it never sends."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from reports.envelope import envelope
from taskdiv_assets.commands import report_server, ui
from taskdiv_assets.orchestration import report_links
from tests.home import Home

PAGE = f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{envelope().policy}"/><p>the report</p>'


@pytest.fixture
def port(empty_home: Home) -> Iterator[int]:
    report = empty_home.folder / "results/mine/report"
    report.mkdir(parents=True)
    (report / "index.html").write_text(PAGE)
    (report / "results.csv").write_text("a,b\n")
    (report / "notes.txt").write_text("secret")
    (report.parent / "experiment.yaml").write_text("secret")
    (empty_home.folder / "results/empty").mkdir()
    with report_server.serve(0) as port:
        yield port


def asked(port: int, path: str, method: str = "GET", host: str = "") -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=bool(host))
    if host:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def of_home(path: str) -> str:
    return f"/{report_links.home_mark()}/{path}"


def test_the_address_in_the_metadata_shows_the_page_with_its_own_policy(port: int) -> None:
    path = report_links.address("mine").partition(":3939")[2]
    status, headers, body = asked(port, path)
    assert (status, body) == (200, PAGE)
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"] == f"{envelope().policy}; frame-ancestors 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
    assert asked(port, of_home("mine/"))[2] == asked(port, of_home("mine/report/index.html"))[2] == PAGE
    assert asked(port, of_home("mine/results.csv"))[1]["Content-Type"] == "text/csv; charset=utf-8"
    status, headers, body = asked(port, path, "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, "", str(len(PAGE)))


@pytest.mark.parametrize(
    "path",
    [
        "/", "/etc/passwd", "//etc/passwd", "mine/notes.txt", "mine/experiment.yaml", "mine/../mine/experiment.yaml",
        "mine/%2e%2e/experiment.yaml", "mine/index.html/../notes.txt", "../mine/index.html", "..%2fmine/index.html",
        "mine/results.csv%00", "MINE/index.html", "mine\\index.html", "mine/report/notes.txt", "mine/report/report/index.html", "empty/index.html",
    ],
)  # fmt: skip
def test_nothing_else_is_sent(port: int, path: str) -> None:
    status, headers, body = asked(port, path if path.startswith("/") else of_home(path))
    assert status == 404 and "secret" not in body and headers["Content-Type"].startswith("text/plain")


def test_nothing_can_be_written(port: int) -> None:
    assert {asked(port, of_home("mine/"), method)[0] for method in ("PUT", "POST", "DELETE")} == {501}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1:1"])
def test_a_foreign_name_for_this_machine_is_not_answered(port: int, host: str) -> None:
    assert asked(port, of_home("mine/"), host=host.format(port=port))[0] == 421


def test_a_link_of_another_home_never_shows_the_report_of_that_name(port: int) -> None:
    status, _, body = asked(port, f"/{report_links.home_mark('/elsewhere')}/mine/index.html")
    assert status == 404 and "another home" in body


def test_a_page_cannot_add_a_header_by_its_policy() -> None:
    page = b'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'&#13;&#10;Set-Cookie: a=b"/>'
    assert "\n" not in report_server.policy_of(page) and "\r" not in report_server.policy_of(page)
    assert report_server.policy_of(b"<p>a page that somebody put there") == "default-src 'none'"


@pytest.mark.parametrize("text", ["0", "70000", "x"])
def test_a_port_that_is_none_is_said(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKDIV_REPORT_PORT", text)
    with pytest.raises(ValueError, match="TASKDIV_REPORT_PORT"):
        report_links.address("mine")


def test_a_signal_ends_the_command_with_all_that_it_started(tmp_path: Path) -> None:
    """The child takes a child of its own along, and both ignore a polite end."""
    stubborn = "import signal, subprocess, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    child = f"{stubborn}; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    child += f"; open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); time.sleep(60)"
    code = "from taskdiv_assets.commands import ui; import sys; ui.END_S = 1.0; sys.exit(ui.run_until_stopped(sys.argv[1:]))"
    parent = subprocess.Popen([sys.executable, "-c", code, sys.executable, "-c", child])
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        assert parent.poll() is None
    parent.send_signal(signal.SIGINT)
    assert parent.wait(30) == 0
    grandchild = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE


def test_what_dagster_loads_is_named_in_its_home_once(tmp_path: Path) -> None:
    path = ui.workspace_in(tmp_path)
    assert path.read_text() == (Path(__file__).parents[1] / "workspace.yaml").read_text()
    path.write_text("load_from: []\n")
    assert ui.workspace_in(tmp_path).read_text() == "load_from: []\n"
