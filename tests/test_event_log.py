"""The event log that is kept open: the same records as Dagster's own, seen by other processes during a run."""

import threading
import time
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from taskdiv_assets.orchestration import instance
from taskdiv_assets.orchestration.event_log import KeptOpenEventLog
from tests.home import Home


@dg.asset(check_specs=[dg.AssetCheckSpec(f"rule_{i}", asset="table", blocking=True) for i in range(5)])
def table(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Define a step that logs, checks and materialises."""
    context.log.info("at work")
    yield from (
        dg.AssetCheckResult(passed=i != 3, check_name=f"rule_{i}", severity=dg.AssetCheckSeverity.WARN)
        for i in range(5)
    )
    yield dg.MaterializeResult(metadata={"rows": 7})


@pytest.fixture
def reader(empty_home: Home) -> Iterator[dg.DagsterInstance]:
    """Yield the instance as the webserver opens it."""
    with instance.open_instance(1) as opened:
        assert type(opened.event_log_storage) is SqliteEventLogStorage
        yield opened


def run(opened: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return dg.materialize([table], instance=opened)


def test_records_are_those_of_dagsters_own_log(reader: dg.DagsterInstance) -> None:
    with instance.open_for_run() as ours:
        assert type(ours.event_log_storage) is KeptOpenEventLog
        first = run(ours)
    second = run(reader)

    def described(result: dg.ExecuteInProcessResult) -> list[tuple[str | None, str | None]]:
        entries = (record for record in reader.all_logs(result.run_id) if record.dagster_event is not None)
        return [(entry.dagster_event_type and entry.dagster_event_type.value, entry.step_key) for entry in entries]

    assert described(first) == described(second) and len(described(first)) > 20
    records = reader.fetch_materializations(dg.AssetKey("table"), limit=5).records
    assert {record.run_id for record in records} == {first.run_id, second.run_id}
    summary = reader.event_log_storage.get_latest_asset_check_execution_by_key(
        [dg.AssetCheckKey(dg.AssetKey("table"), f"rule_{i}") for i in range(5)]
    )
    assert [entry.status.value for entry in summary.values()] == ["SUCCEEDED"] * 3 + ["FAILED", "SUCCEEDED"]


def test_the_page_of_a_run_follows_it(reader: dg.DagsterInstance) -> None:
    """The webserver watches the file: what is written reaches it while the run goes on, not at its end."""
    seen: list[tuple[float, str]] = []
    with instance.open_for_run() as ours:
        created = ours.create_run_for_job(dg.Definitions([table]).resolve_implicit_global_asset_job_def())
        reader.watch_event_logs(created.run_id, None, lambda entry, _: seen.append((time.monotonic(), entry.message)))
        ended: list[float] = []

        def work() -> None:
            for i in range(5):  # all at once, and then nothing, as before minutes of training
                ours.report_engine_event(f"part {i}", created)
            time.sleep(4)
            ended.append(time.monotonic())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    deadline = time.monotonic() + 10
    while len({text for _, text in seen if text.startswith("part")}) < 5 and time.monotonic() < deadline:
        time.sleep(0.1)
    parts = {text: at for at, text in reversed(seen) if text.startswith("part")}
    assert sorted(parts) == [f"part {i}" for i in range(5)]
    assert max(parts.values()) < ended[0] - 1, "what was written last was seen only at the end"


def test_a_storage_that_the_user_chose_is_used(reader: dg.DagsterInstance) -> None:
    settings = instance.home_folder() / "dagster.yaml"
    elsewhere = instance.home_folder() / "elsewhere"
    settings.write_text(settings.read_text() + f"storage: {{sqlite: {{base_dir: {elsewhere}}}}}\n")
    with instance.open_for_run() as opened:
        assert type(opened.event_log_storage) is SqliteEventLogStorage
        run(opened)
    assert list(elsewhere.rglob("*.db"))
