"""Backfill requests: entered once, due when nothing holds them back, closed with what became of them."""

import threading
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage import audit, backfill_requests
from tickstock_assets.storage.backfill_requests import BackfillRequest

RUN = audit.Run("a trader", "6d0f27a4-43a5-4a1c-9d84-0c63d1c5a7a1")
YEAR = (date(2012, 1, 1), date(2012, 12, 31))
MINUTE = timedelta(minutes=1)
LONG_AGO, FAR_OFF = datetime(2001, 1, 1, tzinfo=UTC), datetime(2199, 1, 1, tzinfo=UTC)


def enter(engine: Engine, *symbols: str, timeframe: str = "1d", **more: Any) -> str:
    with engine.begin() as connection:
        audit.begin(connection, RUN)
        return backfill_requests.enter(connection, symbols, timeframe, *YEAR, **more)


def find(engine: Engine, request: str) -> BackfillRequest:
    with engine.connect() as connection:
        found = backfill_requests.find(connection, request)
    assert found is not None
    return found


def due(engine: Engine, most: int = 10) -> list[str]:
    with engine.connect() as connection:
        return [request.id for request in backfill_requests.due(connection, most)]


def begin(engine: Engine, request: str) -> BackfillRequest | None:
    with engine.begin() as connection:
        return backfill_requests.begin(connection, request)


def test_a_request_says_what_who_and_since_when(database: Engine) -> None:
    began = datetime.now(UTC)
    entered = enter(database, "MSFT", "AAPL", "MSFT", timeframe="daily", reason="a paper")
    found = find(database, entered)
    assert began - MINUTE < found.created_at < datetime.now(UTC) + MINUTE
    assert found == BackfillRequest(
        id=entered, symbols=["AAPL", "MSFT"], timeframe="1d", start=YEAR[0], end=YEAR[1], status="requested", attempts=0,
        progress=0.0, requested_by="a trader", reason="a paper", not_before=None, error=None,
        kind="history", created_at=found.created_at,
    )  # fmt: skip


def test_an_id_that_is_none_finds_nothing(database: Engine) -> None:
    with database.connect() as connection:
        assert backfill_requests.find(connection, RUN.correlation_id) is None


def test_the_same_open_request_is_entered_once_and_waits_as_long_as_both_are_to(database: Engine) -> None:
    first = enter(database, "AAPL", "MSFT")
    assert enter(database, "MSFT", "AAPL", timeframe="day") == first
    assert due(database) == [first]
    assert enter(database, "AAPL", "MSFT", not_before=FAR_OFF) == first
    assert enter(database, "AAPL", "MSFT", not_before=LONG_AGO) == first
    assert find(database, first).not_before == FAR_OFF
    assert enter(database, "AAPL") != first
    assert enter(database, "AAPL", "MSFT", timeframe="1m") != first


def test_one_that_is_closed_can_be_asked_for_again_and_one_that_runs_cannot(database: Engine) -> None:
    first = enter(database, "AAPL")
    begin(database, first)
    assert enter(database, "AAPL", not_before=FAR_OFF) == first
    assert find(database, first).not_before is None
    with database.begin() as connection:
        backfill_requests.succeed(connection, first)
    assert enter(database, "AAPL") != first


def test_entered_by_many_at_once_it_is_one(database: Engine) -> None:
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(enter(database, "AAPL"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_what_waits_for_a_moment_is_not_due_before_it_and_the_longest_waiting_comes_first(database: Engine) -> None:
    enter(database, "LATER", not_before=datetime.now(UTC) + timedelta(hours=1))
    now = enter(database, "NOW")
    earlier = enter(database, "EARLIER", not_before=LONG_AGO)
    assert due(database) == [earlier, now]
    assert due(database, most=1) == [earlier]
    assert due(database, most=0) == []


def test_only_one_begins_a_request_and_none_begins_one_that_waits(database: Engine) -> None:
    now, later = enter(database, "NOW"), enter(database, "LATER", not_before=FAR_OFF)
    begun = begin(database, now)
    assert begun is not None
    assert (begun.status, begun.attempts) == ("running", 1)
    assert begin(database, now) is None
    assert begin(database, later) is None
    with database.connect() as connection:
        assert [request.id for request in backfill_requests.running(connection)] == [now]


def test_a_postponed_request_is_requested_again_and_keeps_its_progress_and_attempts(database: Engine) -> None:
    request = enter(database, "AAPL")
    begin(database, request)
    with database.begin() as connection:
        backfill_requests.progress(connection, request, 0.25)
    assert find(database, request).progress == 0.25
    with database.begin() as connection:
        backfill_requests.postpone(connection, request, LONG_AGO, 0.5)
    assert due(database) == [request]
    begun = begin(database, request)
    assert begun is not None
    assert (begun.attempts, begun.progress, begun.not_before) == (2, 0.5, None)


@pytest.mark.parametrize(
    ("close", "status", "error", "progress"),
    [
        (backfill_requests.succeed, "succeeded", None, 1.0),
        (lambda connection, request: backfill_requests.fail(connection, request, "no"), "failed", "no", 0.5),
        (lambda connection, request: backfill_requests.cancel(connection, request, "no"), "cancelled", "no", 0.5),
    ],
)
def test_a_closed_request_stays_as_it_was_closed(
    database: Engine, close: Any, status: str, error: str | None, progress: float
) -> None:
    request = enter(database, "AAPL")
    begin(database, request)
    with database.begin() as connection:
        backfill_requests.progress(connection, request, 0.5)
        close(connection, request)
        # Whoever comes late changes nothing.
        backfill_requests.fail(connection, request, "too late")
        backfill_requests.postpone(connection, request, LONG_AGO, 0.1)
        backfill_requests.progress(connection, request, 0.1)
    found = find(database, request)
    assert (found.status, found.error, found.progress) == (status, error, progress)
    assert due(database) == []


def test_each_step_stands_in_the_audit_trail_once(database: Engine) -> None:
    request = enter(database, "AAPL")
    enter(database, "AAPL")
    begin(database, request)
    with database.begin() as connection:
        backfill_requests.postpone(connection, request, LONG_AGO, 0.5)
    begin(database, request)
    with database.begin() as connection:
        backfill_requests.fail(connection, request, "no")
        backfill_requests.fail(connection, request, "no")
    with database.connect() as connection:
        trail = connection.execute(
            text("SELECT action FROM audit_trail WHERE entity_type = 'backfill_requests' AND entity_id = :id "
                 "ORDER BY timestamp"), {"id": request}
        ).scalars().all()  # fmt: skip
    assert trail == ["request", "begin", "postpone", "begin", "failed"]


@pytest.mark.parametrize(
    ("symbols", "timeframe", "days", "complaint"),
    [
        ([" "], "1d", YEAR, "expected at least one symbol, found none"),
        (["AAPL"], "fortnight", YEAR, "found 'fortnight'"),
        (["AAPL"], "1d", YEAR[::-1], "expected a first day on or before the last, 2012-01-01, found 2012-12-31"),
    ],
)
def test_a_mistake_gets_one_sentence(
    database: Engine, symbols: list[str], timeframe: str, days: tuple[date, date], complaint: str
) -> None:
    with database.begin() as connection, pytest.raises(ConfigError, match=complaint):
        backfill_requests.enter(connection, symbols, timeframe, *days)


def test_a_moment_without_a_zone_is_refused(database: Engine) -> None:
    with pytest.raises(ValueError, match="expected a moment with a time zone"):
        enter(database, "AAPL", not_before=datetime(2012, 1, 1))  # noqa: DTZ001


def test_a_person_names_a_request_by_how_its_id_begins(database: Engine) -> None:
    first, second = enter(database, "AAPL"), enter(database, "MSFT")
    with database.connect() as connection:
        assert backfill_requests.the_one(connection, f" {first[:13].upper()} ", is_open=True).id == first
        for beginning in ("", "%", "nothing"):
            with pytest.raises(ConfigError, match="expected how the id of one begins, found none"):
                backfill_requests.the_one(connection, beginning)
        assert [one.id for one in backfill_requests.newest(connection, 1)] == [second]


def test_requests_are_listed_by_what_became_of_them(database: Engine) -> None:
    first, second = enter(database, "AAPL"), enter(database, "MSFT", not_before=FAR_OFF)
    with database.begin() as connection:
        backfill_requests.cancel(connection, first, "not wanted any more")
        assert backfill_requests.cancelled(connection, [first, second, "no id"]) == {first}
        assert [one.id for one in backfill_requests.newest(connection, 9, backfill_requests.OPEN)] == [second]
        assert backfill_requests.waiting(connection) == (1, FAR_OFF)


@pytest.mark.parametrize(
    ("change", "start", "end", "not_before"),
    [
        ("end_date = 'infinity'", YEAR[0], date(9999, 12, 31), None),
        ("start_date = '-infinity'", date(1, 1, 1), YEAR[1], None),
        ("start_date = '0044-03-15 BC', end_date = '20000-01-01'", date(1, 1, 1), date(9999, 12, 31), None),
        ("not_before = 'infinity'", *YEAR, datetime(9999, 12, 30, tzinfo=UTC)),
    ],
)
def test_what_a_person_writes_into_the_table_can_be_read_whatever_it_is(
    database: Engine, change: str, start: date, end: date, not_before: datetime | None
) -> None:
    request = enter(database, "AAPL")
    with database.begin() as connection:
        connection.exec_driver_sql(f"UPDATE backfill_requests SET {change}")
    found = find(database, request)
    assert (found.start, found.end, found.not_before) == (start, end, not_before)


def test_a_request_whose_times_were_made_up_is_begun_and_closed(database: Engine) -> None:
    request = enter(database, "AAPL")
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE backfill_requests SET attempts = 2147483647")
    assert begin(database, request) is not None
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE backfill_requests SET started_at = '2199-01-01Z'")
        backfill_requests.fail(connection, request, "no")
    assert find(database, request).status == "failed"
