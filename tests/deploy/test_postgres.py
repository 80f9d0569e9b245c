"""The settings of docs/deploy with a real Postgres: an instance is loaded, and a run is recorded and read again."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from tests.deploy import postgres
from tests.deploy.instances import write_home
from tests.deploy.kubernetes_api import Cluster

pytest.importorskip("dagster_postgres", reason="the extra k8s is not installed")
pytest.importorskip("dagster_k8s", reason="the extra k8s is not installed")
pytestmark = pytest.mark.xdist_group("postgres")


@dg.asset(pool="accelerator")
def counted(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    context.log.info("counting")
    return dg.MaterializeResult(metadata={"rows": 3})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with postgres.running(tmp_path_factory.mktemp("server") / "postgres") as variables:
        yield variables


@pytest.fixture
def home(server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a home with the storage of docs/deploy on this server. Only the port differs from the file."""
    with Cluster(tmp_path) as cluster:
        folder = write_home(tmp_path / "dagster", cluster.kubeconfig(), keeps_postgres=True)
        path = folder / "dagster.yaml"
        content = yaml.safe_load(path.read_text())
        content["storage"]["postgres"]["postgres_db"]["port"] = int(server["port"])
        path.write_text(yaml.safe_dump(content))
        for name in set(server) - {"port"}:
            monkeypatch.setenv(name, server[name])
        yield folder


def test_a_run_is_recorded_and_read_back(home: Path) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        result = dg.materialize([counted], instance=instance)
        assert result.success
        run_id = result.run_id
    with dg.DagsterInstance.from_config(str(home)) as instance:  # another process would see this
        assert type(instance.event_log_storage).__name__ == "PostgresEventLogStorage"
        assert type(instance.run_launcher).__name__ == "K8sRunLauncher"
        run = instance.get_run_by_id(run_id)
        assert run is not None and run.status == dg.DagsterRunStatus.SUCCESS
        messages = [record.event_log_entry.user_message for record in instance.get_records_for_run(run_id).records]
        assert "counting" in messages
        event = instance.get_latest_materialization_event(dg.AssetKey("counted"))
        assert event is not None and event.asset_materialization is not None
        assert event.asset_materialization.metadata["rows"].value == 3
        assert {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()} == {"accelerator": 8}
        instance.add_dynamic_partitions("miniature_budget", ["12"])
        assert instance.get_dynamic_partitions("miniature_budget") == ["12"]
        ref = instance.get_ref()
    assert instance.run_monitoring_enabled and instance.run_retries_enabled
    assert "DAGSTER_PG_PASSWORD" in str(ref.storage_data), "the reference that goes into every pod names the variable"


def test_sqlalchemy_would_look_for_another_driver_without_the_scheme(home: Path) -> None:
    """The trap that the file's comment names; should it be gone, the line in the file can go too."""
    path = home / "dagster.yaml"
    content = yaml.safe_load(path.read_text())
    del content["storage"]["postgres"]["postgres_db"]["scheme"]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ModuleNotFoundError, match="psycopg"), dg.DagsterInstance.from_config(str(home)) as instance:
        instance.get_runs_count()
