"""The jobs that dagster-k8s launches for assets and runs. Each field is checked as it is sent to Kubernetes."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.graph import needs as engine_needs
from taskdiv_assets.orchestration import factory
from tests.deploy.instances import DEPLOY, write_home
from tests.deploy.kubernetes_api import Asked, Body, Cluster, invalid
from tests.home import MINIATURE

pytestmark = [
    pytest.mark.skipif(find_spec("dagster_k8s") is None, reason="the extra k8s is not installed"),
    pytest.mark.full,
    pytest.mark.xdist_group("kubernetes"),  # all of it is launched once
]
ROOT = Path(__file__).resolve().parents[2]
HUB = "dolly"  # a 7B model from the hub; nothing is fetched to build its definitions
SECRETS = {
    "TASKDIV_JUDGE_KEY": "judge-9c1f",
    "AWS_SECRET_ACCESS_KEY": "aws-secret-77aa",
    "AWS_ACCESS_KEY_ID": "AKIA-5d5d",
    "HF_TOKEN": "hf-e0e0",
    "DAGSTER_PG_PASSWORD": "pg-4b4b",
    "AWS_SESSION_TOKEN": "session-1212",
}
SETTINGS = {
    "TASKDIV_HOME": "",  # of each test session
    "TASKDIV_EXECUTOR": "k8s",
    "TASKDIV_EXPERIMENTS": HUB,
    "TASKDIV_TRAINING_PROCESSES": "4",
    "TASKDIV_JUDGE_URL": "https://judge.example.org/v1",
    "AWS_ENDPOINT_URL": "https://objects.example.org",
}
ON_A_CARD = {"full_pool_benchmark_scores": 1, "adapter": 4}  # of the large experiment
FILES = {"miniature": str(MINIATURE), HUB: HUB}


# What each asset needs is the table of tests/engines/test_needs.py: here is one that holds no model, one of the full pool that
# takes a card, and one that takes several.
ASSETS = ("raw_pool", "full_pool_benchmark_scores", "adapter")
STEPS = [(name, asset) for name in FILES for asset in ASSETS]
DNS_1123 = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
LABEL = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
GPU = engine_needs.GPU_RESOURCE
TOLERATION = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield the cluster after every run, and the steps of three assets of two experiments, were launched."""
    folder = tmp_path_factory.mktemp("kubernetes")
    (folder / "results/miniature").mkdir(parents=True)
    shutil.copy(MINIATURE, folder / "results/miniature/experiment.yaml")
    with Cluster(folder) as cluster:
        home = write_home(folder / "dagster", cluster.kubeconfig())
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TASKDIV_", "AWS_"))}
        launched = subprocess.run(
            [sys.executable, "-m", "tests.deploy.launch_every_step", "miniature", HUB, *ASSETS],
            env={**inherited, **SETTINGS, **SECRETS, "TASKDIV_HOME": str(folder / "results"), "DAGSTER_HOME": str(home), "TASKDIV_QUIET": "1"},
            cwd=ROOT, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert launched.returncode == 0, launched.stderr[-3000:]
        yield cluster


def step_job(cluster: Cluster, experiment: str, asset: str) -> Body:
    (found,) = [job for job in cluster.jobs if job["metadata"]["labels"].get("dagster/op") == f"{experiment}__{asset}"]
    return found


def container(job: Body) -> Body:
    (found,) = job["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(job: Body) -> dict[str, str]:
    """Return the variables whose values are in the spec."""
    return {entry["name"]: entry["value"] for entry in container(job)["env"] if "value" in entry}


def test_each_step_and_every_run_was_launched(cluster: Cluster) -> None:
    assert cluster.refused == []
    names = [job["metadata"]["labels"].get("dagster/op", "") for job in cluster.jobs]
    assert sorted(filter(None, names)) == sorted(f"{name}__{asset}" for name, asset in STEPS)
    assert names.count("") == 2 * len(factory.JOB_DESCRIPTIONS)


@pytest.mark.parametrize(("name", "asset"), STEPS)
class TestEveryStep:
    def test_kubernetes_own_models_give_it_back_as_it_was(self, cluster: Cluster, name: str, asset: str) -> None:
        job = step_job(cluster, name, asset)
        assert invalid(job, "V1Job") == ""
        assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")

    def test_it_asks_for_what_its_asset_needs(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, name: str, asset: str
    ) -> None:
        for variable, value in SETTINGS.items():
            monkeypatch.setenv(variable, value)
        wanted = engine_needs.needs(REGISTRY[asset.removeprefix("full_pool_")], experiment_file.load(FILES[name]))
        resources = container(step_job(cluster, name, asset))["resources"]
        assert resources["requests"]["cpu"] == str(wanted.cpus_n)
        assert "cpu" not in resources["limits"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"] == f"{wanted.memory_gib}Gi"

    def test_it_takes_the_cards_it_needs_and_else_none(self, cluster: Cluster, name: str, asset: str) -> None:
        job = step_job(cluster, name, asset)
        cards_n = ON_A_CARD.get(asset, 0) if name == HUB else 0
        resources, pod = container(job)["resources"], job["spec"]["template"]["spec"]
        if cards_n:
            assert resources["requests"][GPU] == resources["limits"][GPU] == str(cards_n)
            assert pod["tolerations"] == [TOLERATION]
        else:
            assert "nvidia" not in json.dumps(job), "a step without a card must not be able to land beside one"
            assert "tolerations" not in pod

    def test_it_runs_the_step_in_the_projects_image(self, cluster: Cluster, name: str, asset: str) -> None:
        found = container(step_job(cluster, name, asset))
        assert found["image"] == "registry.example.org/taskdiv:0.1.0"
        assert found["imagePullPolicy"] == "IfNotPresent"
        assert "command" not in found, "the image's entry point is tini"
        assert found["args"] == ["dagster", "api", "execute_step"]
        arguments = step_arguments(step_job(cluster, name, asset))
        assert arguments["step_keys_to_execute"] == [f"{name}__{asset}"]
        pointer = arguments["pipeline_origin"]["repository_origin"]["code_pointer"]
        assert (pointer["module"], pointer["fn_name"]) == ("taskdiv_assets.definitions", "defs")

    def test_volumes_have_bounds_and_every_mount_has_a_volume(self, cluster: Cluster, name: str, asset: str) -> None:
        job = step_job(cluster, name, asset)
        mounts = {mount["mountPath"]: mount for mount in container(job)["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in job["spec"]["template"]["spec"]["volumes"]}
        assert {mount["name"] for mount in mounts.values()} == set(volumes)
        assert volumes[mounts["/scratch"]["name"]]["emptyDir"] == {"sizeLimit": "100Gi"}
        assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
        settings = mounts["/opt/dagster/home/dagster.yaml"]
        assert volumes[settings["name"]]["configMap"] == {"name": "taskdiv-instance"}
        assert settings["readOnly"] and settings["subPath"] == "dagster.yaml"

    def test_it_is_told_where_the_results_are_and_of_secrets_only_their_names(
        self, cluster: Cluster, name: str, asset: str
    ) -> None:
        job = step_job(cluster, name, asset)
        told = environment(job)
        assert told["TASKDIV_HOME"] == str(cluster.folder / "results")
        assert {name: told[name] for name in SETTINGS if name != "TASKDIV_HOME"} == {
            name: value for name, value in SETTINGS.items() if name != "TASKDIV_HOME"
        }
        assert (told["OMP_NUM_THREADS"], told["DAGSTER_RUN_STEP_KEY"]) == ("1", f"{name}__{asset}")
        assert len(told) + 1 == len(container(job)["env"]), "the password of Postgres, and no name twice"
        assert [entry for entry in container(job)["env"] if "valueFrom" in entry] == [
            {
                "name": "DAGSTER_PG_PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": "taskdiv-postgres", "key": "postgresql-password"}},
            }
        ]
        assert container(job)["envFrom"] == [
            {"configMapRef": {"name": "taskdiv-settings"}},
            {"secretRef": {"name": "taskdiv-secrets"}},
        ]

    def test_nothing_but_dagster_tries_again(self, cluster: Cluster, name: str, asset: str) -> None:
        job = step_job(cluster, name, asset)
        assert job["spec"]["backoffLimit"] == 0
        assert job["spec"]["ttlSecondsAfterFinished"] == 86_400
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def step_arguments(job: Body) -> Body:
    """Return the unpacked arguments of a step's command."""
    packed = environment(job)["DAGSTER_COMPRESSED_EXECUTE_STEP_ARGS"]
    return dict(json.loads(zlib.decompress(base64.b64decode(packed))))


def test_no_secret_stands_in_any_job_packed_or_not(cluster: Cluster) -> None:
    unpacked = [json.dumps(step_arguments(job)) for job in cluster.jobs if container(job)["args"][-1] == "execute_step"]
    assert len(unpacked) == len(STEPS)
    assert all("DAGSTER_PG_PASSWORD" in text for text in unpacked), "the instance names the password's variable"
    for text in (json.dumps(cluster.jobs), *unpacked):
        assert [name for name, value in SECRETS.items() if value in text] == []
    files = (*DEPLOY.iterdir(), cluster.folder / "dagster/dagster.yaml")
    assert not any(value in path.read_text() for path in files for value in SECRETS.values())


def test_names_and_labels_are_those_that_kubernetes_takes(cluster: Cluster) -> None:
    names = [job["metadata"]["name"] for job in cluster.jobs]
    assert len(set(names)) == len(names)
    for job in cluster.jobs:
        template = job["spec"]["template"]
        assert DNS_1123.match(job["metadata"]["name"]) and DNS_1123.match(template["metadata"]["name"])
        assert all(LABEL.match(value) for value in job["metadata"]["labels"].values())
        assert template["metadata"]["labels"] == job["metadata"]["labels"]
        labels = job["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "taskdiv"
        assert labels["app.kubernetes.io/component"] == ("step_worker" if "dagster/op" in labels else "run_worker")
        assert re.fullmatch(r"[0-9a-f-]{36}", labels["dagster/run-id"]) and labels["dagster/job"]


def test_every_pod_is_an_ordinary_user_of_the_projects_account(cluster: Cluster) -> None:
    for job in cluster.jobs:
        pod = job["spec"]["template"]["spec"]
        assert pod["serviceAccountName"] == "taskdiv"
        assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001}
        assert container(job)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not pod.get("hostNetwork") and not any("hostPath" in volume for volume in pod["volumes"])


def test_the_job_of_a_run_only_looks_after_its_steps(cluster: Cluster) -> None:
    runs = [job for job in cluster.jobs if "dagster/op" not in job["metadata"]["labels"]]
    for job in runs:
        assert invalid(job, "V1Job") == ""
        found = container(job)
        assert job["metadata"]["name"] == f"dagster-run-{job['metadata']['labels']['dagster/run-id']}"
        assert found["image"] == "registry.example.org/taskdiv:0.1.0"
        assert found["args"][:3] == ["dagster", "api", "execute_run"]
        assert json.loads(found["args"][3])["set_exit_code_on_failure"] is True
        assert found["resources"] == {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
        assert "nvidia" not in json.dumps(job)
        assert [next(iter(source.values()))["name"] for source in found["envFrom"]] == [
            "taskdiv-settings",
            "taskdiv-secrets",
        ]
        assert (job["spec"]["backoffLimit"], job["spec"]["ttlSecondsAfterFinished"]) == (0, 86_400)


def allowed() -> set[Asked]:
    """Return the requests that the role in kubernetes.yaml allows."""
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    (role,) = [document for document in documents if document["kind"] == "Role"]
    return {
        Asked(group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_role_allows_what_was_asked(cluster: Cluster) -> None:
    assert Asked("batch", "jobs", "create") in cluster.asked
    assert cluster.asked <= allowed()
    assert not {asked for asked in allowed() if "secret" in asked.resource}
