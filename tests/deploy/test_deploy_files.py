"""The files of docs/deploy: each is valid for its reader, and they agree with each other and with the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from taskdiv_assets.orchestration import instance
from taskdiv_assets.storage.machine import listed
from tests.deploy.instances import DEPLOY, settings

ROOT = DEPLOY.parents[1]
MODELS = {
    "Namespace": "V1Namespace", "ServiceAccount": "V1ServiceAccount", "Role": "V1Role", "RoleBinding": "V1RoleBinding",
    "ConfigMap": "V1ConfigMap", "Deployment": "V1Deployment", "Service": "V1Service",
}  # fmt: skip
NOT_SHARED = {"run_launcher"}  # what one machine and a cluster do in different ways


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


def deployments() -> dict[str, dict[str, Any]]:
    """Return the pod of each deployment."""
    found = {doc["metadata"]["name"]: doc for doc in documents() if doc["kind"] == "Deployment"}
    return {name: document["spec"]["template"]["spec"] for name, document in found.items()}


def test_every_document_is_taken_by_kubernetes_own_models() -> None:
    pytest.importorskip("kubernetes")
    from tests.deploy.kubernetes_api import invalid

    assert {document["kind"] for document in documents()} == set(MODELS)
    assert [problem for document in documents() if (problem := invalid(document, MODELS[document["kind"]]))] == []


def test_the_pods_of_the_ray_cluster_are_too() -> None:
    pytest.importorskip("kubernetes")
    from tests.deploy.kubernetes_api import invalid

    spec = yaml.safe_load((DEPLOY / "raycluster.kuberay.yaml").read_text())["spec"]
    templates = [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
    assert [invalid(template, "V1PodTemplateSpec") for template in templates] == ["", ""]
    head, worker = (template["spec"]["containers"][0]["resources"] for template in templates)
    assert "nvidia.com/gpu" not in str(head)
    assert worker["limits"]["nvidia.com/gpu"] == worker["requests"]["nvidia.com/gpu"] == "1"


def test_names_that_one_document_uses_another_one_makes() -> None:
    made = {(document["kind"], document["metadata"]["name"]) for document in documents()}
    launcher = settings()["run_launcher"]["config"]
    assert {document["metadata"].get("namespace", "taskdiv") for document in documents()} == {launcher["job_namespace"]}
    assert ("ServiceAccount", launcher["service_account_name"]) in made
    readme = (DEPLOY / "README.md").read_text()
    for name in launcher["env_config_maps"]:
        assert ("ConfigMap", name) in made
    for name in (*launcher["env_secrets"], launcher["postgres_password_secret"]):
        assert f"create secret generic {name}" in readme
    assert f"create configmap {launcher['instance_config_map']}" in readme
    (server,) = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    assert ("Service", server["grpc_server"]["host"]) in made


def test_no_secret_has_a_value_in_any_file() -> None:
    assert not any(document["kind"] == "Secret" for document in documents())
    for pod in deployments().values():
        for container in pod["containers"]:
            assert all("value" not in entry for entry in container.get("env", ()))
    for path in DEPLOY.iterdir():
        assert not re.search(
            r"(?i)(password|secret|token|_key)\w*\s*[:=]\s*['\"]?[A-Za-z0-9+/]{12,}", path.read_text()
        ), path


def test_one_image_everywhere_and_it_is_what_the_deployments_share_with_the_jobs() -> None:
    named = {image for path in DEPLOY.glob("*.yaml") for image in re.findall(r"image: (\S+)", path.read_text())}
    assert named == {settings()["run_launcher"]["config"]["job_image"]}
    assert set(deployments()) == {"taskdiv-code", "taskdiv-webserver", "taskdiv-daemon"}
    for name, pod in deployments().items():
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            volume["name"] for volume in pod["volumes"]
        }, name
        assert "DAGSTER_PG_PASSWORD" in [entry["name"] for entry in container["env"]]
        assert pod["securityContext"]["runAsNonRoot"]


def test_what_one_machine_and_a_cluster_have_in_common_is_equal() -> None:
    ours = yaml.safe_load(instance.settings_text(workers_n=1))
    theirs = settings()
    assert set(ours) <= set(theirs)
    watch = theirs["run_monitoring"]
    assert watch.pop("start_timeout_seconds") > ours["run_monitoring"].pop("start_timeout_seconds")
    assert watch.pop("max_resume_run_attempts") > 0, "the launcher of one machine has no such thing"
    for numbers in (ours["concurrency"], theirs["concurrency"]):  # these are the size of what is there
        assert numbers["pools"].pop("default_limit") <= numbers.pop("runs")["max_concurrent_runs"]
    assert {name: theirs[name] for name in ours if name not in NOT_SHARED} == {
        name: value for name, value in ours.items() if name not in NOT_SHARED
    }


def test_the_caches_bound_leaves_room_on_its_volume() -> None:
    launcher = settings()["run_launcher"]["config"]
    (scratch,) = [volume["emptyDir"] for volume in launcher["volumes"] if volume["name"] == "scratch"]
    (config,) = [document["data"] for document in documents() if document["metadata"]["name"] == "taskdiv-settings"]
    assert float(config["TASKDIV_CACHE_GB"]) * 1e9 <= 0.7 * int(scratch["sizeLimit"].removesuffix("Gi")) * 2**30
    assert int(config["TASKDIV_ACCELERATORS"]) == settings()["concurrency"]["pools"]["default_limit"]


def test_ray_takes_its_cluster_file() -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    config = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
    prepared = util.prepare_config(config)  # what `ray up` does first: defaults
    util.validate_config(prepared)  # ray-schema.json, and that names and numbers agree
    head, gpu = (prepared["available_node_types"][name] for name in ("head", "gpu"))
    assert head["resources"] == {"CPU": 0, "GPU": 0} and "--num-gpus=0" in " ".join(prepared["head_start_ray_commands"])
    assert gpu["resources"]["GPU"] == 1 and gpu["min_workers"] == 0 < gpu["max_workers"] <= prepared["max_workers"]


def test_a_machine_of_the_ray_cluster_can_hold_every_step() -> None:
    from taskdiv_assets.assets import REGISTRY

    config = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
    there = config["available_node_types"]["gpu"]["resources"]
    for asset in REGISTRY:
        need = asset.needs
        assert (
            need.cpus_n <= there["CPU"] and need.memory_gib * 2**30 <= there["memory"] and need.gpus_n <= there["GPU"]
        ), asset.name


def instructions() -> Iterator[tuple[str, str]]:
    """Yield the instructions of the Dockerfile with their arguments, without comments, with continued lines joined."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield word, rest.strip()


def test_the_dockerfile_copies_what_is_there_and_what_its_context_lets_in() -> None:
    found = list(instructions())
    assert {word for word, _ in found} <= {"ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}
    allowed = [
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    sources = [
        source
        for word, rest in found
        if word == "COPY" and not rest.startswith("--from")
        for source in shlex.split(rest)[:-1]
    ]
    assert {source.split("/")[0] for source in sources} == set(allowed)
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_image_has_no_secret_no_root_and_the_versions_that_were_tested() -> None:
    found = list(instructions())
    assert [rest for word, rest in found if word == "USER"] == ["10001"]
    declared = " ".join(rest for word, rest in found if word in ("ARG", "ENV"))
    assert not re.search(r"(TOKEN|SECRET|PASSWORD|KEY)\b", declared)
    pip = [rest for word, rest in found if word == "RUN" and "pip install" in rest]
    assert all("constraints.txt" in command or "--no-deps" in command for command in pip)
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert len([line for line in lines if line.startswith("torch==")]) == 1, "the Dockerfile takes torch's line"


def test_the_readme_names_every_variable_of_the_project_and_no_other() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "taskdiv_assets").rglob("*.py"))
    ours = {row.name for row in listed({}) if row.name.startswith("TASKDIV_")}
    known = ours | set(re.findall(r"[\"']((?:TASKDIV|DAGSTER_PG)_[A-Z_]+)[\"']", code))
    text = "\n".join(path.read_text() for path in DEPLOY.iterdir())
    named = set(re.findall(r"\bTASKDIV_[A-Z_]+\b", text))
    assert named <= known, named - known
    engines = {name for name in known if re.search(r"EXECUTOR|STEP_|SCORERS|ACCELERATORS|CACHE|HOME|JUDGE", name)}
    assert engines <= set(re.findall(r"TASKDIV_[A-Z_]+", (DEPLOY / "README.md").read_text()))
