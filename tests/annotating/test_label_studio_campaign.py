"""A campaign of three annotators over a real Label Studio on loopback, in two rounds: one never answers, one renames a header.

The test runs where `label-studio` is on PATH, or where LABEL_STUDIO names its executable. It was tried with version 1.23.2.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import krippendorff
import pytest

from reports import annotator_agreement as agreement
from taskdiv_assets.annotating import ledger, recalling
from taskdiv_assets.graph.known_answers import all_annotations, answers_by_person
from taskdiv_assets.storage.store import Store
from tests.annotating.conftest import make_list, opened
from tests.annotating.test_team import ids_of, said
from tests.home import Home

EXECUTABLE = os.environ.get("LABEL_STUDIO") or shutil.which("label-studio")
TOKEN = "0123456789abcdef0123456789abcdef01234567"  # of a server that only this test uses
pytestmark = [
    pytest.mark.full,
    pytest.mark.xdist_group("annotating"),
    pytest.mark.skipif(EXECUTABLE is None, reason="label-studio is not installed"),
]
EXPORT = (
    "annotations",
    "export",
    "own",
    "--strategy",
    "task_diversity",
    "--annotators",
    "a1,a2,a3",
    "--overlap",
    "0.1",
)


class Server:
    """A Label Studio of this test, spoken to by its API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: object = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        with urlopen(Request(f"{self.url}{path}", data, headers, method=method), timeout=60) as answer:
            return json.load(answer)

    def annotate(self, tasks: Path, answers: dict[str, str]) -> list[dict[str, Any]]:
        """Make a project of one list, answer its prompts through the API, and return the project's JSON export."""
        config = tasks.with_name(f"{tasks.stem}.config.xml").read_text()
        project = self.ask("/api/projects", {"title": tasks.stem, "label_config": config})["id"]
        self.ask(f"/api/projects/{project}/import", json.loads(tasks.read_text()))
        for task in self.ask(f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true"):
            result = {"from_name": "response", "to_name": "prompt", "type": "textarea"}
            text = answers[task["data"]["prompt_id"]]
            self.ask(f"/api/tasks/{task['id']}/annotations", {"result": [{**result, "value": {"text": [text]}}]})
        found: list[dict[str, Any]] = self.ask(f"/api/projects/{project}/export?exportType=JSON")
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("label-studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--no-browser", "--port", str(port), "--data-dir", str(folder), "--user-token", TOKEN)
    login = ("--username", "lead@example.org", "--password", "only-on-loopback-1")
    environment = {
        "PATH": f"{Path(str(EXECUTABLE)).parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "false",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [str(EXECUTABLE), "start", *options, *login], env=environment, stdout=log, stderr=log
        )
        try:
            yield _started(Server(port), process)
        finally:
            process.terminate()
            process.wait(30)


def _started(server: Server, process: subprocess.Popen[bytes]) -> Server:
    until = time.monotonic() + 240
    while time.monotonic() < until and process.poll() is None:
        try:
            server.ask("/api/projects")
        except (URLError, OSError):
            time.sleep(1)
        else:
            return server
    raise RuntimeError("Label Studio did not start; see the file log in its folder")


def answer_of(name: str, prompt_id: str) -> str:
    """Return what somebody answers: people agree on three prompts of four."""
    return "yes" if int(prompt_id, 16) % 4 or name == "a1" else f"no, says {name}"


def send_back(server: Server, home: Home, path: Path, name: str) -> None:
    """Answer a list in Label Studio and import the export."""
    rows = json.loads(path.read_text())
    exported = server.annotate(path, {one: answer_of(name, one) for one in (row["data"]["prompt_id"] for row in rows)})
    back = path.with_name(f"{path.stem}-export.json")
    back.write_text(json.dumps(exported))
    said(home, "annotations", "import", "own", str(back), "--annotator", name)


def test_nothing_is_sent_twice_to_one_person_nothing_is_lost_and_agreement_is_right(server: Server, own: Home) -> None:
    store, folder = Store("own"), own.folder
    for round_, budget in enumerate(("6", "12"), start=1):
        make_list(opened(own, "own")[0], f"{budget}|task_diversity")  # after the answers of the round before
        said(own, *EXPORT, "--budget", budget, "-o", f"round{round_}.json", "--format", "label-studio")
        send_back(server, own, folder / f"round{round_}-a1.json", "a1")
        # a3 works in a spreadsheet program, and renames a header
        said(own, "annotations", "rewrite", "own", str(len(ledger.entries(store))), "--format", "csv")
        renamed = folder / f"round{round_}-a3-back.csv"
        with renamed.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["prompt_id", "Antwort"])
            writer.writerows([one, answer_of("a3", one)] for one in ids_of(folder / f"round{round_}-a3.csv"))
        refused = said(own, "annotations", "import", "own", str(renamed), code=2)
        assert "--columns" in refused
        said(own, "annotations", "import", "own", str(renamed), "--columns", "response=Antwort")
        # a2 never answers
        said(own, "annotations", "recall", "own", "--annotator", "a2", "--to", "a1,a4", "-o", f"again{round_}.json",
             "--format", "label-studio")  # fmt: skip
        for path in sorted(folder.glob(f"again{round_}-a?.json")):
            send_back(server, own, path, path.stem[-2:])
    check_ledger(store)
    check_agreement(store)


def check_ledger(store: Store) -> None:
    """Check that nobody was sent a prompt twice, that every prompt has its answers, and that files are written again equally."""
    entries = ledger.entries(store)
    sent = [(one.annotator, i) for entry in entries for one in entry.shares for i in one.prompt_ids]
    assert len(sent) == len(set(sent)) and len({i for _, i in sent}) == 12
    state = recalling.read(store)
    assert (
        not state.outstanding() and sum(map(len, state.active.values())) == 14
    )  # 12 prompts, of which two went to two
    assert set(all_annotations(store)["annotator"].to_pylist()) == {"a1", "a3", "a4"}
    files = {Path(file): sha256 for entry in entries for file, sha256 in entry.files}
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == sha256 for path, sha256 in files.items())


def check_agreement(store: Store) -> None:
    """Compare the agreement with counts that this test makes itself, and alpha with another package."""
    twice = {i: by for i, by in answers_by_person(store).items() if len(by) > 1}
    assert len(twice) == 2 and all(answer_of(name, i) == text for i, by in twice.items() for name, text in by.items())
    found = agreement.agreement(twice.values())
    equal = [len({answer_of(name, i) for name in by}) == 1 for i, by in twice.items()]
    assert found.equal.estimate == sum(equal) / len(equal)
    values = sorted({text for by in twice.values() for text in by.values()})
    if len(values) > 1:
        data = [[values.index(list(by.values())[k]) for by in twice.values()] for k in (0, 1)]
        expected = krippendorff.alpha(reliability_data=data, level_of_measurement="nominal")
        assert found.alpha.estimate == pytest.approx(expected)
