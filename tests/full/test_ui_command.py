"""`taskdiv ui` starts Dagster and the server of the reports, and one Ctrl-C ends both."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request

import psutil
import pytest

from taskdiv_assets.orchestration import report_links
from tests.dagster_dev import Ui, is_up, wait_for
from tests.home import Home

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_ctrl_c_ends_dagster_and_the_report_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    home, port, report_port = Home(tmp_path_factory.mktemp("ui")), free_port(), free_port()
    report = home.folder / "results/mine/report"
    report.mkdir(parents=True)
    (report / "index.html").write_text("<p>the report</p>")
    os.environ["TASKDIV_REPORT_PORT"] = str(report_port)
    try:
        started = home.start("ui", "--port", str(port))
        served = Ui(port, home, started.pid)
        wait_for(lambda: is_up(served), 150, "the webserver answers")
        mark = report_links.home_mark(str(home.folder / "results"))
        with urllib.request.urlopen(f"http://127.0.0.1:{report_port}/{mark}/mine/", timeout=30) as answer:
            assert answer.read() == b"<p>the report</p>"
        everything = [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)]
        started.send_signal(signal.SIGINT)
        assert started.wait(40) == 0
        _, alive = psutil.wait_procs(everything, 10)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        del os.environ["TASKDIV_REPORT_PORT"]
