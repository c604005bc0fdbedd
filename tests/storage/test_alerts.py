"""Alerts are counted once, hold until they are well again, and remember what each receiver was told."""

from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from tickstock_assets.domain.alerts import Condition, Kind, Notice, Occurrence, Told
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import alerts

pytestmark = pytest.mark.tiers("embedded")

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
YEAR = [Window("A", date(2011, 1, 1), date(2011, 12, 31))]
CHECK = Kind.CHECK_FAILED


def occurrence(key: str, kind: Kind = Kind.RUN_FAILED, subject: str = "daily", minute: int = 0) -> Occurrence:
    at = NOON + timedelta(minutes=minute)
    return Occurrence(kind, subject, f"message {key}", key, at, run_id=f"run-{key}", scope=YEAR)


def condition(subject: str) -> Condition:
    return Condition(Kind.LAG, subject, f"{subject} are behind")


def test_what_happens_is_counted_once_however_often_it_is_found(database: Engine) -> None:
    with database.begin() as connection:
        assert alerts.count(connection, [occurrence("b", minute=2), occurrence("a", minute=1), occurrence("a")]) == 2
        assert alerts.count(connection, [occurrence("a"), occurrence("c", minute=3)]) == 1
        assert alerts.count(connection, []) == 0
        assert alerts.known(connection, ["a", "x"]) == {"a"}
        (one,) = alerts.newest(connection, 10)
    assert (one.kind, one.subject, one.times, one.message) == (Kind.RUN_FAILED, "daily", 3, "message c")
    assert (one.first_at, one.last_at) == (NOON, NOON + timedelta(minutes=3))
    assert (one.run_id, one.resolved_at) == ("run-c", None)


def test_a_state_holds_while_it_is_found_and_is_well_again_when_it_is_not(database: Engine) -> None:
    with database.begin() as connection:
        alerts.hold(connection, Kind.LAG, [condition("1d bars"), condition("1m bars")])
        alerts.hold(connection, Kind.LAG, [condition("1m bars")])
        alerts.hold(connection, Kind.DISK_LOW, [])
        daily, minutes = sorted(alerts.newest(connection, 10), key=lambda one: one.subject)
        assert (daily.times, daily.resolved_at is None) == (1, False)
        assert (minutes.times, minutes.resolved_at is None) == (2, True)
        assert [one.subject for one in alerts.newest(connection, 10, only_open=True)] == ["1m bars"]
        alerts.hold(connection, Kind.LAG, [condition("1d bars")])
        daily, minutes = sorted(alerts.newest(connection, 10), key=lambda one: one.subject)
    assert (daily.times, daily.resolved_at) == (2, None)
    assert daily.first_at == daily.last_at  # it holds since now, not since the time before
    assert minutes.resolved_at is not None


def test_a_check_is_well_again_when_all_that_did_not_pass_is(database: Engine) -> None:
    with database.begin() as connection:
        alerts.count(connection, [occurrence(key, CHECK, "bars:contract") for key in ("1", "2")])
        alerts.count(connection, [occurrence("3", CHECK, "bars:complete")])
        still = alerts.open_occurrences(connection, CHECK, ["bars:contract"])
        assert [(one.key, one.scope) for one in still] == [("1", YEAR), ("2", YEAR)]
        half = [Window("A", date(2011, 7, 1), date(2011, 12, 31))]
        alerts.narrow(connection, "2", half)
        alerts.settle(connection, CHECK, ["1"])
        assert [(one.key, one.scope) for one in alerts.open_occurrences(connection, CHECK, ["bars:contract"])] == [
            ("2", half)
        ]
        assert {one.subject for one in alerts.newest(connection, 10, only_open=True)} == {
            "bars:contract",
            "bars:complete",
        }
        alerts.settle(connection, CHECK, ["2"])
        assert {one.subject for one in alerts.newest(connection, 10, only_open=True)} == {"bars:complete"}


def test_a_receiver_is_told_of_an_alert_as_it_stood(database: Engine) -> None:
    with database.begin() as connection:
        alerts.know_receivers(connection, ["mail a", "mail b"])
        alerts.know_receivers(connection, ["mail a"])
        alerts.count(connection, [occurrence("a")])
        ((alert, told),) = alerts.untold(connection, "mail a")
        assert told is None
        alerts.delivered(connection, "mail a", [Notice(alert, 0)])
        assert alerts.untold(connection, "mail a") == []
        assert len(alerts.untold(connection, "mail b")) == 1
        alerts.count(connection, [occurrence("b")])
        ((alert, told),) = alerts.untold(connection, "mail a")
        assert told is not None
        assert (alert.times, told.times, told.as_resolved) == (2, 1, False)
        assert alerts.receivers(connection)["mail a"].delivered_at is not None


def test_that_all_is_well_does_not_begin_a_quiet_period(database: Engine) -> None:
    def told(engine: Engine) -> Told | None:
        with engine.connect() as connection:
            row = connection.execute(text("SELECT told_at, told_times, as_resolved FROM alert_notices")).one()
        return Told(*row)

    with database.begin() as connection:
        alerts.know_receivers(connection, ["mail a"])
        alerts.hold(connection, Kind.LAG, [condition("1d bars")])
        ((alert, _),) = alerts.untold(connection, "mail a")
        alerts.delivered(connection, "mail a", [Notice(alert, 0)])
    first = told(database)
    assert first is not None
    with database.begin() as connection:
        alerts.hold(connection, Kind.LAG, [])
        ((alert, _),) = alerts.untold(connection, "mail a")
        alerts.delivered(connection, "mail a", [Notice(alert, 0)])
    with database.begin() as connection:
        assert alerts.untold(connection, "mail a") == []
    assert told(database) == Told(first.at, 1, as_resolved=True)


def test_only_one_sends_to_a_receiver_and_a_failure_leaves_it_alone_for_a_while(database: Engine) -> None:
    lease = timedelta(minutes=1)
    with database.begin() as connection:
        alerts.know_receivers(connection, ["mail a"])
        assert alerts.claim(connection, "mail a", lease)
        assert not alerts.claim(connection, "mail a", lease)
        alerts.delivered(connection, "mail a", [])
        assert alerts.claim(connection, "mail a", lease)
        alerts.not_delivered(connection, "mail a", "found 550", timedelta(minutes=5), is_refusing=True)
        assert not alerts.claim(connection, "mail a", lease)
        state = alerts.receivers(connection)["mail a"]
        assert (state.failures, state.error, state.is_refusing, state.delivered_at) == (1, "found 550", True, None)
        connection.execute(text("UPDATE alert_receivers SET not_before = clock_timestamp() - interval '1 second'"))
        assert alerts.claim(connection, "mail a", lease)
        assert not alerts.claim(connection, "mail of nobody", lease)


def test_what_is_settled_and_old_is_forgotten_and_nothing_else(database: Engine) -> None:
    with database.begin() as connection:
        alerts.count(connection, [occurrence("run"), occurrence("check", CHECK, "bars:contract")])
        alerts.hold(connection, Kind.LAG, [condition("1d bars")])
        connection.execute(text("UPDATE alert_occurrences SET created_at = created_at - interval '8 days'"))
        connection.execute(text("UPDATE alerts SET first_at = LEAST(first_at, :at), last_at = :at"),
                           {"at": datetime.now(UTC) - timedelta(days=91)})  # fmt: skip
        alerts.forget(connection)
        # A check that still does not pass, and a state that still holds.
        assert alerts.known(connection, ["run", "check"]) == {"check"}
        assert {one.kind for one in alerts.newest(connection, 10)} == {CHECK, Kind.LAG}
        alerts.settle(connection, CHECK, ["check"])
        alerts.forget(connection)
        assert alerts.known(connection, ["check"]) == set()
