"""Which gaps are due for another attempt, how long they wait, and when and why they are given up."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Connection, Engine, text

from tickstock_assets.storage import backfill_requests, data_gaps, gap_attempts

SETTLED = date(2024, 1, 4)
FIRST, LAST = date(2024, 1, 2), date(2024, 1, 5)


@pytest.fixture
def connection(database: Engine) -> Any:
    """Two symbols, and the sessions of four days."""
    with database.connect() as opened:
        opened.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL'), ('MSFT')"))
        for day in pd.date_range(FIRST, LAST):
            opened.execute(
                text("INSERT INTO sessions (exchange, session, open, close) VALUES ('XNYS', :day, :open, :close)"),
                {"day": day.date(), "open": f"{day:%F} 14:30Z", "close": f"{day:%F} 21:00Z"},
            )
        yield opened


def enter(connection: Connection, day: int, kind: str = "provider_hole", symbol: str = "AAPL", **values: Any) -> str:
    """Enter a gap of one day, and return its id."""
    row = {
        "symbol": symbol, "timeframe": "1d", "gap_start": f"2024-01-0{day} 14:30Z", "gap_end": f"2024-01-0{day} 14:30Z",
        "missing_bars": 1, "class": kind, **values,
    }  # fmt: skip
    columns, names = ", ".join(row), ", ".join(f":{name}" for name in row)
    inserted = f"INSERT INTO data_gaps (id, {columns}) VALUES (gen_random_uuid(), {names}) RETURNING id::text"
    gap: str = connection.execute(text(inserted), row).scalar_one()
    return gap


def due(connection: Connection, most_attempts: int = 9) -> list[tuple[str, str]]:
    found = gap_attempts.due(connection, SETTLED, most_attempts, 100)
    return sorted(zip(found["symbol"], found["day"].dt.strftime("%m-%d"), strict=True))


def request(
    connection: Connection, gap: str, status: str = "requested", error: str | None = None, symbol: str = "AAPL"
) -> str:
    entered = backfill_requests.enter(connection, [symbol], "1d", FIRST, LAST, kind="gaps")
    gap_attempts.try_under(connection, entered, [gap])
    connection.execute(
        text("UPDATE backfill_requests SET status = :status, error = :error WHERE id = CAST(:id AS uuid)"),
        {"status": status, "error": error, "id": entered},
    )
    return entered


def test_holes_are_due_and_what_is_late_once_its_session_is_settled(connection: Connection) -> None:
    enter(connection, 2)
    enter(connection, 4, "not_yet_published")
    enter(connection, 5, "not_yet_published", "MSFT")
    for kind in ("holiday", "half_day", "halt", "no_trade", "removed"):
        enter(connection, 3, kind, "MSFT")
    enter(connection, 4, symbol="MSFT", healed_at="2024-02-01")
    enter(connection, 2, symbol="MSFT", given_up_at="2024-02-01", given_up_reason="nobody has it")
    assert due(connection) == [("AAPL", "01-02"), ("AAPL", "01-04")]
    assert due(connection, most_attempts=0) == []


@pytest.mark.parametrize(
    ("attempts", "minutes"), [(1, 15), (2, 60), (3, 4 * 60), (4, 16 * 60), (5, 24 * 60), (8, 24 * 60)]
)
def test_each_attempt_is_waited_for_four_times_as_long_and_no_longer_than_a_day(
    connection: Connection, attempts: int, minutes: int
) -> None:
    waited = timedelta(minutes=minutes)
    margin = timedelta(minutes=1)
    enter(connection, 2, attempts=attempts, attempted_at=datetime.now(UTC) - waited + margin)
    assert due(connection) == []
    enter(connection, 3, attempts=attempts, attempted_at=datetime.now(UTC) - waited - margin)
    assert due(connection) == [("AAPL", "01-03")]
    assert due(connection, most_attempts=attempts) == []


def test_a_symbol_is_asked_about_by_one_request_at_a_time(connection: Connection) -> None:
    gap = enter(connection, 2)
    enter(connection, 3)
    enter(connection, 3, symbol="MSFT")
    enter(connection, 3, timeframe="1m")
    entered = request(connection, gap)
    assert due(connection) == [("AAPL", "01-03"), ("MSFT", "01-03")]
    backfill_requests.succeed(connection, entered)
    # The one that was tried waits now, the others need not any more.
    assert due(connection) == [("AAPL", "01-03"), ("AAPL", "01-03"), ("MSFT", "01-03")]
    assert gap_attempts.of_request(connection, entered)["id"].tolist() == [gap]


def test_a_wait_begins_when_the_request_has_ended(connection: Connection) -> None:
    gap = enter(connection, 2)
    entered = request(connection, gap)
    connection.execute(text("UPDATE data_gaps SET attempted_at = now() - interval '3 days'"))
    backfill_requests.succeed(connection, entered)
    assert due(connection) == []
    connection.execute(text("UPDATE backfill_requests SET finished_at = now() - interval '1 day'"))
    assert due(connection) == [("AAPL", "01-02")]


def test_of_a_request_those_are_known_that_were_filled_since_it_was_entered(connection: Connection) -> None:
    filled, still_open = enter(connection, 2), enter(connection, 3)
    entered = request(connection, filled)
    gap_attempts.try_under(connection, entered, [still_open])
    entered_at, healed_at = datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 2, 2, tzinfo=UTC)
    connection.execute(
        text("UPDATE data_gaps SET healed_at = :at WHERE id::text = :id"), {"at": healed_at, "id": filled}
    )
    found = gap_attempts.filled_since(connection, entered, entered_at)
    assert found.to_dict("records") == [
        {"symbol": "AAPL", "day": pd.Timestamp("2024-01-02"), "healed_at": pd.Timestamp(healed_at)}
    ]
    assert gap_attempts.filled_since(connection, entered, healed_at + timedelta(seconds=1)).empty


@pytest.mark.parametrize(
    ("status", "error", "answer", "reason"),
    [
        ("succeeded", None, "polygon answered without it", "polygon answered without it"),
        ("failed", "the key is wrong", None, "the key is wrong"),
        ("failed", "1 of 3 windows did not come", "polygon: 404", "polygon: 404"),
        ("cancelled", None, "polygon: 404", "a person cancelled the request"),
        ("succeeded", None, None, "its request left no answer"),
    ],
)
def test_what_was_tried_often_enough_is_given_up_with_what_came_of_it(
    connection: Connection, status: str, error: str | None, answer: str | None, reason: str
) -> None:
    gap = enter(connection, 2)
    request(connection, gap, status, error)
    if answer:
        gap_attempts.note_answers(connection, [gap], [answer])
    (told,) = gap_attempts.give_up(connection, 1)
    assert told.startswith("AAPL 1d 2024-01-02 14:30 UTC, 1 missing: 1 attempt, the last on ")
    assert told.endswith(f" UTC: {reason}")
    assert gap_attempts.give_up(connection, 1) == []
    assert gap_attempts.given_up(connection) == gap_attempts.given_up(connection, ["AAPL"]) == 1
    assert gap_attempts.given_up(connection, ["MSFT"]) == 0
    assert due(connection) == []
    # Once it is filled nobody need hear of it.
    connection.execute(text("UPDATE data_gaps SET healed_at = now()"))
    assert gap_attempts.given_up(connection) == 0


def test_nothing_is_given_up_before_its_time(connection: Connection) -> None:
    request(connection, enter(connection, 2))
    request(connection, enter(connection, 3, symbol="MSFT"), "succeeded", symbol="MSFT")
    enter(connection, 4)
    enter(connection, 5, "no_trade", attempts=9, attempted_at="2024-02-01")
    assert gap_attempts.give_up(connection, 2) == []
    # The first is under way still.
    assert len(gap_attempts.give_up(connection, 1)) == 1


def test_a_gap_that_comes_back_begins_with_the_first_attempt(connection: Connection) -> None:
    found = pd.DataFrame(
        {
            "symbol": ["AAPL"],
            "gap_start": pd.to_datetime(["2024-01-02 14:30Z"]).astype("datetime64[us, UTC]"),
            "gap_end": pd.to_datetime(["2024-01-02 14:30Z"]).astype("datetime64[us, UTC]"),
            "missing_bars": [1],
            "class": ["provider_hole"],
            "evidence": [{}],
        }
    )
    looked_at = [("AAPL", datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 3, tzinfo=UTC))]
    data_gaps.enter(connection, found, "1d", looked_at)
    gap: str = connection.execute(text("SELECT id::text FROM data_gaps")).scalar_one()
    request(connection, gap, "succeeded")
    gap_attempts.give_up(connection, 1)
    tried = "SELECT attempts, given_up_reason IS NOT NULL, healed_at IS NOT NULL FROM data_gaps"
    # Looking again and finding it changes nothing of that.
    data_gaps.enter(connection, found, "1d", looked_at)
    assert connection.execute(text(tried)).all() == [(1, True, False)]
    data_gaps.enter(connection, found.iloc[:0], "1d", looked_at)
    assert connection.execute(text(tried)).all() == [(1, True, True)]
    data_gaps.enter(connection, found, "1d", looked_at)
    assert connection.execute(text(tried)).all() == [(0, False, False)]
