"""What the sensors of alerts find in Dagster and in the database, and that they tell it once."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._utils.error import SerializableErrorInfo
from sqlalchemy import text

from tests.defs.conftest import OpenProject
from tests.defs.crashed_runs import crash
from tests.defs.gap_holes import load
from tests.defs.simulated import FIRST, KEY, LAST, Project, forget_settings
from tests.providers.scripted_server import Reply, ScriptedServer, serving
from tickstock_assets.definitions import defs
from tickstock_assets.defs import alert_sensors, run_alerts
from tickstock_assets.defs.partitions import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG
from tickstock_assets.defs.request_runs import REQUEST_TAG
from tickstock_assets.defs.watch_lists import CONTENT_TAG, FILE_TAG
from tickstock_assets.domain.alerts import Alert, Kind
from tickstock_assets.domain.errors import ReceiverError, TickstockError
from tickstock_assets.settings import settings
from tickstock_assets.storage import alerts

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]
SECRET = "s3cr3t-of-the-webhook"
AS_IT_IS = {"TICKSTOCK_LOW_DISK_GB": "0", "TICKSTOCK_ALERT_LAG_SESSIONS": "0"}


@pytest.fixture
def slack() -> Iterator[ScriptedServer]:
    with serving(Reply(b"ok")) as server:
        yield server


def opened(open_project: OpenProject, slack: ScriptedServer, **more: str) -> Project:
    hook = {"TICKSTOCK_ALERT_WEBHOOKS": f"{slack.url}/{SECRET}", "TICKSTOCK_UI_URL": "http://ui.example.org"}
    return open_project(companies=2, calls_per_day=25, **{**AS_IT_IS, **hook, **more})


def watch(project: Project, cursor: str | None = None) -> str:
    """Let the watching sensor tick, and return its cursor."""
    with dg.build_sensor_context(
        instance=project.instance, cursor=cursor, repository_def=defs.get_repository_def()
    ) as context:
        result = alert_sensors.alert_watch(context)
    assert isinstance(result, dg.SensorResult)
    assert result.cursor is not None
    return result.cursor


def tell(project: Project) -> str:
    """Let the sending sensor tick, and return what it says."""
    with dg.build_sensor_context(instance=project.instance) as context:
        result = alert_sensors.alert_delivery(context)
    assert isinstance(result, dg.SkipReason)
    return str(result.skip_message)


def found(project: Project, kind: Kind, *, only_open: bool = False) -> list[Alert]:
    with project.engine.connect() as connection:
        return [one for one in alerts.newest(connection, 100, only_open=only_open) if one.kind is kind]


def lines(slack: ScriptedServer) -> list[str]:
    return [line for asked in slack.asked for line in json.loads(asked.body)["text"].split("\n")[1:]]


@dg.op
def burn() -> None:
    raise ValueError(f"expected a price, found none for the key {KEY}")


@dg.job(executor_def=dg.in_process_executor)
def burning() -> None:
    burn()


def fail(project: Project, **tags: str) -> str:
    result = burning.execute_in_process(instance=project.instance, raise_on_error=False, tags=tags)
    assert not result.success
    return result.run_id


def evaluate(
    project: Project,
    asset: str = "prices",
    *,
    passed: bool,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
    **more: object,
) -> None:
    """Evaluate a check in a run of its own."""
    run_tags = more.pop("tags", {})

    @dg.asset(name=asset)
    def prices() -> None: ...

    @dg.asset_check(asset=prices, name=f"{asset}_contract")
    def prices_contract() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=passed, severity=severity, **more)  # type: ignore[arg-type]

    job = dg.Definitions(
        assets=[prices], asset_checks=[prices_contract], jobs=[dg.define_asset_job("checked", "*")]
    ).resolve_job_def("checked")
    assert job.execute_in_process(instance=project.instance, tags=run_tags).success  # type: ignore[arg-type]


def test_without_a_receiver_they_do_nothing_and_say_what_turns_them_on(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    for sensor in alert_sensors.ALERT_SENSORS:
        with dg.build_sensor_context(instance=project.instance) as context:
            result = sensor(context)
        assert isinstance(result, dg.SkipReason)
        assert "TICKSTOCK_ALERT_WEBHOOKS or TICKSTOCK_ALERT_MAIL_TO turns them on" in str(result.skip_message)


def test_a_run_that_fails_is_told_once_with_its_reason_and_a_link(
    open_project: OpenProject, slack: ScriptedServer
) -> None:
    project = opened(open_project, slack)
    run = fail(project)
    cursor = watch(project)
    # Killed before Dagster kept the cursor, or with it: the same run is found again, and is the same.
    assert watch(project) != ""
    watch(project, cursor)
    (alert,) = found(project, Kind.RUN_FAILED)
    assert (alert.subject, alert.times, alert.run_id) == ("burning", 1, run)
    assert tell(project).endswith("was told of 1")
    (line,) = lines(slack)
    assert line.startswith("ERROR run_failed burning: expected the run to succeed, found ")
    assert "burn: ValueError: expected a price, found none for the key [key]; open the run for its log" in line
    assert line.endswith(f"http://ui.example.org/runs/{run}")
    assert tell(project) == "Nothing new for 1 receivers"
    fail(project)
    watch(project, cursor)
    assert found(project, Kind.RUN_FAILED)[0].times == 2


def test_what_heals_by_itself_is_not_alerted(open_project: OpenProject, slack: ScriptedServer) -> None:
    project = opened(open_project, slack)
    # Dagster says so of a run whose process was lost.
    crash(project)
    fail(project, **{REQUEST_TAG: "0b6e0a80-1a4f-4d51-9a0c-16f3f1b6d0aa"})
    watch(project)
    assert found(project, Kind.RUN_FAILED) == []


def test_a_watch_list_that_waits_is_not_alerted_and_silences_nothing(
    open_project: OpenProject, slack: ScriptedServer, tmp_path: Path
) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    project = opened(open_project, slack, TICKSTOCK_WATCH_FOLDER=str(folder))
    load(project, ["S0001"], FIRST, LAST)
    with project.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE provider_quota SET used = budget WHERE period = 'day'")
    burned = fail(project)
    (folder / "mine.csv").write_text("UNKNOWN\n")
    content = hashlib.sha256(b"UNKNOWN\n").hexdigest()
    with pytest.raises(TickstockError, match=r"mine\.csv: 1 lines wait until .* UTC: UNKNOWN: "):
        project.run({FILE_TAG: "mine.csv", CONTENT_TAG: content}, "watch_list")
    watch(project)
    assert [one.run_id for one in found(project, Kind.RUN_FAILED)] == [burned]


def break_down(*_: object, **__: object) -> None:
    raise KeyError("share_landed")


@pytest.mark.parametrize(
    ("broken", "silent"),
    [
        ("count_failed_runs", Kind.RUN_FAILED),
        ("count_failed_checks", Kind.CHECK_FAILED),
        ("health", Kind.DATABASE_SLOW),
    ],
)
def test_a_look_that_fails_holds_up_no_other_and_fails_the_tick(
    open_project: OpenProject, slack: ScriptedServer, monkeypatch: pytest.MonkeyPatch, broken: str, silent: Kind
) -> None:
    project = opened(open_project, slack, TICKSTOCK_LOW_DISK_GB="1e9")
    monkeypatch.setattr("tickstock_assets.defs.state_alerts.SLOW_MS", 0.0)
    fail(project)
    evaluate(project, passed=False)
    monkeypatch.setattr(alert_sensors, broken, break_down)
    with pytest.raises(KeyError, match="share_landed"):
        watch(project)
    kinds = {Kind.RUN_FAILED, Kind.CHECK_FAILED, Kind.DATABASE_SLOW, Kind.DISK_LOW}
    assert {kind for kind in kinds if found(project, kind)} == kinds - {silent}
    assert tell(project).endswith("was told of 3")


def test_a_look_that_fails_again_and_again_does_not_keep_another_where_it_is(
    open_project: OpenProject, slack: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = opened(open_project, slack)
    monkeypatch.setattr(run_alerts, "RUNS_A_TICK", 1)
    monkeypatch.setattr(alert_sensors, "count_failed_checks", break_down)
    for _ in range(3):
        fail(project)
    for n_told in (1, 2, 3):
        with pytest.raises(KeyError):
            watch(project)
        assert [one.times for one in found(project, Kind.RUN_FAILED)] == [n_told]


def test_a_check_is_alerted_until_all_that_did_not_pass_does(open_project: OpenProject, slack: ScriptedServer) -> None:
    project = opened(open_project, slack)
    whole = {RANGE_START_TAG: "S0001|2011", RANGE_END_TAG: "S0002|2012"}
    named = {"partitions_failed": 2, "failed_partitions": {"S0001|2011": 3, "S0002|2012": 1}}
    evaluate(project, passed=False, tags=whole, metadata={"rows_offending": 4, **named})
    cursor = watch(project)
    (alert,) = found(project, Kind.CHECK_FAILED)
    assert (alert.subject, alert.severity, alert.times) == ("prices:prices_contract", "error", 1)
    assert "found partitions_failed 2, rows_offending 4; look at its offending rows" in alert.message
    # One of the two is well, and another year that was never ill; then the other.
    evaluate(project, passed=True, tags={PARTITION_TAG: "S0001|2011"})
    evaluate(project, passed=True, tags={PARTITION_TAG: "S0002|2011"})
    cursor = watch(project, cursor)
    assert len(found(project, Kind.CHECK_FAILED, only_open=True)) == 1
    tell(project)
    evaluate(project, passed=True, tags={PARTITION_TAG: "S0002|2012"})
    watch(project, cursor)
    assert found(project, Kind.CHECK_FAILED, only_open=True) == []
    tell(project)
    assert [line.split(" ")[:2] for line in lines(slack)] == [["ERROR", "check_failed"], ["RESOLVED", "check_failed"]]
    # All of it read anew changes nothing.
    watch(project)
    assert [(one.times, one.resolved_at is None) for one in found(project, Kind.CHECK_FAILED)] == [(1, False)]


def test_a_check_of_an_asset_without_partitions_speaks_for_all_of_it_whatever_its_run_is_of(
    open_project: OpenProject, slack: ScriptedServer
) -> None:
    project = opened(open_project, slack)
    for asset in ("symbols", "ohlcv_daily"):
        evaluate(project, asset, passed=False, tags={PARTITION_TAG: "S0001|2011"})
    cursor = watch(project)
    for asset in ("symbols", "ohlcv_daily"):
        evaluate(project, asset, passed=True, tags={PARTITION_TAG: "S0002|2012"})
    cursor = watch(project, cursor)
    # The table of symbols is one; of the bars another symbol's year was looked at.
    assert [one.subject for one in found(project, Kind.CHECK_FAILED, only_open=True)] == [
        "ohlcv_daily:ohlcv_daily_contract"
    ]
    # What failed in a run of everything is settled by a later one of a part too.
    evaluate(project, "symbols", passed=False)
    cursor = watch(project, cursor)
    assert len(found(project, Kind.CHECK_FAILED, only_open=True)) == 2
    evaluate(project, "symbols", passed=True, tags={PARTITION_TAG: "S0002|2012"})
    watch(project, cursor)
    assert len(found(project, Kind.CHECK_FAILED, only_open=True)) == 1


def test_a_check_of_symbols_that_somebody_has_removed_holds_up_nothing(
    open_project: OpenProject, slack: ScriptedServer
) -> None:
    project = opened(open_project, slack)
    evaluate(
        project, passed=False, tags={RANGE_START_TAG: "GONE1|2011", RANGE_END_TAG: "GONE2|2012"}, metadata={"rows": 1}
    )
    evaluate(project, passed=False, tags={PARTITION_TAG: "S0001|2011"}, metadata={"rows": 2})
    watch(project)
    assert [one.times for one in found(project, Kind.CHECK_FAILED)] == [2]


def test_a_check_that_only_warns_is_alerted_where_that_is_wanted(
    open_project: OpenProject, slack: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = opened(open_project, slack)
    evaluate(project, passed=False, severity=dg.AssetCheckSeverity.WARN, description="a little")
    watch(project)
    assert found(project, Kind.CHECK_FAILED) == []
    monkeypatch.setenv("TICKSTOCK_ALERT_WARNINGS", "true")
    settings.cache_clear()
    watch(project)
    (alert,) = found(project, Kind.CHECK_FAILED)
    assert alert.severity == "warning"
    assert alert.message.startswith("expected the check to pass, found a little; look at")


def test_failed_requests_and_gaps_given_up_are_alerted_once(open_project: OpenProject, slack: ScriptedServer) -> None:
    project = opened(open_project, slack)
    with project.engine.begin() as connection:
        for kind, ended in (("history", "1 hour"), ("gaps", "1 hour"), ("trades", "2 days")):
            connection.execute(
                text("INSERT INTO backfill_requests (symbols, timeframe, start_date, end_date, requested_by, status, error, "
                     "kind, started_at, finished_at) VALUES ('{A,B,C,D}', '1d', '2011-01-03', '2011-02-01', 'ada', 'failed', "
                     "'the vendor is gone', :kind, now() - interval '3 days', now() - CAST(:ended AS interval))"),
                {"kind": kind, "ended": ended},
            )  # fmt: skip
        connection.execute(
            text("INSERT INTO data_gaps (id, symbol, timeframe, gap_start, gap_end, missing_bars, class, given_up_at, "
                 "given_up_reason) SELECT gen_random_uuid(), 'S0001', '1d', moment, moment, 1, 'provider_hole', now(), "
                 "'5 attempts' FROM unnest('{2011-03-01 14:30Z, 2011-03-02 14:30Z}'::timestamptz[]) AS moment")
        )  # fmt: skip
    watch(project)
    watch(project)
    (request,) = found(project, Kind.REQUEST_FAILED)
    assert request.times == 1
    assert request.message == (
        "expected A, B, C and 1 more 1d 2011-01-03..2011-02-01, asked for by ada, to be loaded, found the vendor is gone; "
        "mend that and ask again"
    )
    (gap,) = found(project, Kind.GAP_GIVEN_UP)
    assert (gap.subject, gap.times) == ("S0001 1d", 2)
    assert "found that it was given up: 5 attempts; load them from another provider" in gap.message
    # One that somebody had tried again is told of when that was in vain too.
    with project.engine.begin() as connection:
        connection.execute(text("UPDATE data_gaps SET given_up_at = now() WHERE gap_start < '2011-03-02'"))
    watch(project)
    watch(project)
    assert [one.times for one in found(project, Kind.GAP_GIVEN_UP)] == [3]


def test_states_are_alerted_while_they_hold(
    open_project: OpenProject, slack: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = opened(open_project, slack, TICKSTOCK_LOW_DISK_GB="1e9", TICKSTOCK_ALERT_LAG_SESSIONS="3")
    monkeypatch.setattr("tickstock_assets.defs.state_alerts.SLOW_MS", 0.0)
    with project.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, source) "
                 "VALUES ('S0001', '2012-12-20', 1, 1, 1, 1, 1, 'alpha_vantage')")
        )  # fmt: skip
    watch(project)
    (disk,), (slow,), (lag,) = (found(project, kind) for kind in (Kind.DISK_LOW, Kind.DATABASE_SLOW, Kind.LAG))
    assert disk.message.startswith("expected at least 1e+09 GB free (TICKSTOCK_LOW_DISK_GB), found ")
    assert slow.message.startswith("expected an answer within 0 ms, found ")
    assert lag.subject == "1d bars"
    assert "expected them to be at most 3 sessions behind " in lag.message
    tell(project)

    monkeypatch.setattr("tickstock_assets.defs.state_alerts.SLOW_MS", 1e9)
    monkeypatch.setenv("TICKSTOCK_LOW_DISK_GB", "0")
    monkeypatch.setenv("TICKSTOCK_ALERT_LAG_SESSIONS", "10000")
    settings.cache_clear()
    watch(project)
    tell(project)
    assert {line.split(" ")[0] for line in lines(slack)[:3]} == {"ERROR", "WARNING"}
    assert [line.split(" ")[0] for line in lines(slack)[3:]] == ["RESOLVED"] * 3


def enter_tick(project: Project, status: TickStatus, minute: int) -> None:
    """Enter a tick of a sensor that is on, as the daemon does."""
    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="somewhere"))
    origin = RemoteRepositoryOrigin(location, "__repository__").get_instigator_origin("heal_gaps")
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData())
    if not project.instance.all_instigator_state():
        project.instance.add_instigator_state(state)
    moment = (datetime.now(UTC) + timedelta(minutes=minute)).timestamp()
    error = SerializableErrorInfo("DatabaseError: the database went away\n", [], "DatabaseError")
    project.instance.create_tick(
        TickData(
            state.instigator_origin_id, state.instigator_name, InstigatorType.SENSOR, status, moment,
            error=error if status is TickStatus.FAILURE else None, run_ids=[], end_timestamp=moment,
            selector_id=state.selector_id,
        )
    )  # fmt: skip


def test_a_sensor_whose_ticks_fail_is_alerted_until_one_succeeds(
    open_project: OpenProject, slack: ScriptedServer
) -> None:
    project = opened(open_project, slack)
    enter_tick(project, TickStatus.SUCCESS, 0)
    enter_tick(project, TickStatus.FAILURE, 1)
    enter_tick(project, TickStatus.STARTED, 2)
    watch(project)
    (alert,) = found(project, Kind.TICK_FAILED)
    assert alert.subject == "heal_gaps"
    assert "expected its ticks to succeed, found DatabaseError: the database went away; see its page" in alert.message
    enter_tick(project, TickStatus.SKIPPED, 3)
    watch(project)
    assert found(project, Kind.TICK_FAILED, only_open=True) == []


def test_a_wrong_address_fails_the_tick_in_a_sentence_without_the_address(
    open_project: OpenProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Reply(b"no_service", status=404)) as slack:
        project = opened(open_project, slack)
        fail(project)
        watch(project)
        with pytest.raises(
            ReceiverError, match=r"found 404 \(no_service\); correct TICKSTOCK_ALERT_WEBHOOKS"
        ) as caught:
            tell(project)
    assert SECRET not in str(caught.value)
    # With an address that is right, what was not told is.
    with serving(Reply(b"ok")) as right:
        monkeypatch.setenv("TICKSTOCK_ALERT_WEBHOOKS", f"{right.url}/{SECRET}")
        forget_settings()
        assert tell(project).endswith("was told of 1")
