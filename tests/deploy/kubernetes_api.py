"""The part of the Kubernetes API that dagster-k8s uses, over real HTTP on loopback, with a small kubelet.

Tests provide config maps and secrets. The server records each request, and checks each body with kubernetes' own client models.
On request, it runs the commands of containers as processes with exactly the environment of their specs. The kubelet ignores
images and volumes: every process has the files of this machine.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlparse

Body = dict[str, Any]
PATH = re.compile(
    r"^/(?:api|apis/(?P<group>[^/]+))/v1/namespaces/(?P<namespace>[^/]+)/(?P<kind>[a-z]+)(?:/(?P<rest>.+))?$"
)
# What a container has that no spec mentions: where the interpreter is, in an image by its ENV.
IMAGE_ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "LANG": "C.UTF-8"}


class Asked(NamedTuple):
    """A request in the terms of a role: what a service account must be allowed to do."""

    group: str
    resource: str
    verb: str


@dataclass
class Pod:
    """The only pod of a job, and its process after the kubelet has started it."""

    job: Body
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.job['metadata']['name']}-0"

    @property
    def step(self) -> str:
        """Name of the run's step; empty for the pod of a run."""
        return str(self.job["metadata"]["labels"].get("dagster/op", ""))

    def exit_code(self) -> int | None:
        return None if self.process is None else self.process.poll()

    def kill(self) -> None:
        """Kill the whole process group at once, as if the node had failed."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@dataclass
class Cluster:
    """The content of the cluster, and the recorded requests."""

    folder: Path
    is_running_pods: bool = False
    config_maps: dict[str, Mapping[str, str]] = field(default_factory=dict)
    secrets: dict[str, Mapping[str, str]] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)  # by job
    asked: set[Asked] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    on_start: Callable[[Pod], None] = lambda pod: None
    server: Any = None

    def __enter__(self) -> Cluster:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"cluster": self}))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        for pod in self.pods.values():
            pod.kill()

    @property
    def jobs(self) -> list[Body]:
        """Return the bodies of all created jobs."""
        return [pod.job for pod in self.pods.values()]

    def kubeconfig(self) -> Path:
        """Write a kubeconfig file for this server, without TLS."""
        path = self.folder / "kubeconfig.json"
        context = {"cluster": "loopback", "user": "nobody", "namespace": "taskdiv"}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "loopback",
            "clusters": [{"name": "loopback", "cluster": {"server": f"http://127.0.0.1:{self.server.server_port}"}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "loopback", "context": context}],
        }
        path.write_text(json.dumps(content))  # JSON is YAML
        return path

    def create(self, body: Body) -> tuple[int, Body]:
        """Create a job. Return 422 with kubernetes' message if its models reject the body, and 409 if the name is in use."""
        name = body.get("metadata", {}).get("name", "")
        problem = invalid(body, "V1Job")
        if problem:
            self.refused.append(f"{name}: {problem}")
            return 422, {"kind": "Status", "status": "Failure", "message": problem}
        if name in self.pods:
            return 409, {"kind": "Status", "status": "Failure", "message": f"jobs {name!r} already exists"}
        pod = self.pods[name] = Pod(body)
        if self.is_running_pods:
            self.start(pod)
        return 201, body

    def start(self, pod: Pod) -> None:
        """Start the container's command with exactly the environment of its spec, as the kubelet does."""
        (container,) = pod.job["spec"]["template"]["spec"]["containers"]
        pod.log = self.folder / f"{pod.name}.log"
        with pod.log.open("wb") as log:
            pod.process = subprocess.Popen(
                [*container.get("command", ()), *container["args"]],
                env={**IMAGE_ENVIRONMENT, **self.environment(container)},
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )
        self.on_start(pod)

    def environment(self, container: Body) -> dict[str, str]:
        """Return the variables of `envFrom`, then those of `env`, as in Kubernetes. A missing name raises an error."""
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            kind, reference = next(iter(source.items()))
            found |= (self.config_maps if kind == "configMapRef" else self.secrets)[reference["name"]]
        for entry in container.get("env", ()):
            if "valueFrom" in entry:
                reference = entry["valueFrom"]["secretKeyRef"]
                found[entry["name"]] = self.secrets[reference["name"]][reference["key"]]
            else:
                found[entry["name"]] = entry.get("value", "")
        return found

    def job_with_status(self, pod: Pod) -> Body:
        code = pod.exit_code()
        status = {"active": 1} if code is None else {"succeeded": 1} if code == 0 else {"failed": 1}
        return {**pod.job, "status": {"startTime": "2026-01-01T00:00:00Z", **status}}

    def pod_body(self, pod: Pod) -> Body:
        code = pod.exit_code()
        template = pod.job["spec"]["template"]
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
        container = {"name": "dagster", "image": "", "imageID": "", "ready": code is None, "restartCount": 0}
        phase = "Running" if code is None else "Succeeded" if code == 0 else "Failed"
        labels = {**template["metadata"].get("labels", {}), "job-name": pod.job["metadata"]["name"]}
        return {
            "metadata": {"name": pod.name, "labels": labels},
            "spec": template["spec"],
            "status": {"phase": phase, "containerStatuses": [{**container, "state": state}]},
        }


class Handler(BaseHTTPRequestHandler):
    cluster: Cluster

    def do_GET(self) -> None:
        found = self._parts()
        kind, name = found["kind"], (found["rest"] or "").partition("/")[0]
        query = {key: value[0] for key, value in parse_qs(urlparse(self.path).query).items()}
        selector = f"{query.get('fieldSelector', '')},{query.get('labelSelector', '')}"
        chosen = [
            pod
            for pod in list(self.cluster.pods.values())
            if (pod.job["metadata"]["name"] in (name, *re.findall(r"(?:metadata\.name|job-name)=([^,]+)", selector)))
            or pod.name in (name, *re.findall(r"metadata\.name=([^,]+)", selector))
        ]
        self._note(found, "get" if name else "list")
        if kind == "events":
            self._answer(200, {"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": []})
        elif name and not chosen:
            self._answer(404, {"kind": "Status", "status": "Failure", "message": f"{kind} {name!r} not found"})
        elif (found["rest"] or "").endswith("/log"):
            self._answer(200, (chosen[0].log.read_text(errors="replace") if chosen[0].log else ""))
        else:
            make = self.cluster.job_with_status if kind == "jobs" else self.cluster.pod_body
            items = [make(pod) for pod in chosen]
            self._answer(
                200, items[0] if name else {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}
            )

    def do_POST(self) -> None:
        found = self._parts()
        self._note(found, "create")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(*self.cluster.create(body))

    def do_DELETE(self) -> None:
        found = self._parts()
        self._note(found, "delete")
        pod = self.cluster.pods.get((found["rest"] or "").removesuffix("-0" if found["kind"] == "pods" else ""))
        if pod is not None:
            pod.kill()
        self._answer(200 if pod else 404, {"kind": "Status", "status": "Success" if pod else "Failure"})

    def _parts(self) -> dict[str, str | None]:
        matched = PATH.match(urlparse(self.path).path)
        assert matched is not None, self.path
        return matched.groupdict()

    def _note(self, found: Mapping[str, str | None], verb: str) -> None:
        _, _, part = (found["rest"] or "").partition("/")
        resource = f"{found['kind']}/{part}" if part else str(found["kind"])
        self.cluster.asked.add(Asked(found["group"] or "", resource, verb))

    def _answer(self, status: int, body: Body | str) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


def invalid(body: Any, model: str) -> str:
    """Return the objections of kubernetes' client models to a body; empty if a model restores the body unchanged.

    With validation on the client's side, a model rejects a body with missing keys when it is created. It drops unknown keys,
    which the comparison finds.
    """
    from kubernetes import client  # here: without the extra k8s, the tests of this folder are collected and skipped

    configuration = client.Configuration()
    configuration.client_side_validation = True
    api = client.ApiClient(configuration)
    try:
        made = api.deserialize(SimpleNamespace(data=json.dumps(body)), model)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    back = api.sanitize_for_serialization(made)
    return "" if back == body else f"not a {model}: {difference(body, back)}"


def difference(ours: Any, theirs: Any, path: str = "") -> str:
    """Return the first difference between two JSON values."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}):
            if ours.get(key) != theirs.get(key):
                return difference(ours.get(key), theirs.get(key), f"{path}.{key}")
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (left, right) in enumerate(zip(ours, theirs, strict=True)):
            if left != right:
                return difference(left, right, f"{path}[{index}]")
    return f"{path or 'the whole'} is {ours!r}, and {theirs!r} to the models"
