"""Scores of sessions: counted from what is stored, missing, excused, rejected and found; with their history."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import pandas as pd
import pytest
from sqlalchemy import Connection, Engine, text

from tickstock_assets.domain.anomalies.scores import session_scores
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.quality_scores import with_rejected
from tickstock_assets.storage import local_splits, quality_findings, quality_scores
from tickstock_assets.storage.minutes_dropped import mark_dropped

# A week with a half day, and the holiday after it.
DAYS = [date(2012, 7, 2), date(2012, 7, 3), date(2012, 7, 5), date(2012, 7, 6)]
WEEK = [Window("AAPL", date(2012, 7, 1), date(2012, 7, 8))]
DISAGREE = "provider_disagreement"
ONE_SESSION = {"expected": 1, "excused": 0, "present": 1, "rejected": 0, "errors": 0, "warnings": 0, "infos": 0,
               "disagreements": 0}  # fmt: skip


def opened(day: date) -> pd.Timestamp:
    return pd.Timestamp(day, tz="UTC") + pd.Timedelta(hours=13, minutes=30)


@pytest.fixture
def market(database: Engine) -> Engine:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL'), ('MSFT')"))
        for day in DAYS:
            hours = 3.5 if day == DAYS[1] else 6.5
            connection.execute(
                text("""
                    INSERT INTO sessions (exchange, session, open, close, kind, extended_open, extended_close)
                    VALUES ('XNYS', :day, :open, :close, :kind, :early, :late)
                """),
                {
                    "day": day,
                    "open": opened(day),
                    "close": opened(day) + timedelta(hours=hours),
                    "kind": "half_day" if hours < 6 else "regular",
                    "early": opened(day) - timedelta(hours=5.5),
                    "late": opened(day) + timedelta(hours=hours + 4),
                },
            )
    return database


def add_days(connection: Connection, days: Sequence[date]) -> None:
    connection.execute(
        text("""
            INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, source)
            SELECT 'AAPL', unnest(CAST(:days AS date[])), 10, 11, 9, 10, 100, 'sample'
        """),
        {"days": list(days)},
    )


def add_minutes(connection: Connection, first: datetime, count: int) -> None:
    connection.execute(
        text("""
            INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, source)
            SELECT 'AAPL', CAST(:first AS timestamptz) + n * interval '1 minute', 10, 11, 9, 10, 100, 'sample'
            FROM generate_series(0, :count - 1) AS n
        """),
        {"first": first, "count": count},
    )


def a_finding(rule: str, severity: str, at: datetime, **evidence: str) -> dict[str, object]:
    return {
        "symbol": "AAPL", "timestamp": at, "rule": rule, "severity": severity, "source": "sample", "reason": "odd",
        "evidence": evidence,
    }  # fmt: skip


def enter(connection: Connection, *rows: dict[str, object], **scope: object) -> quality_findings.FindingCounts:
    frame = pd.DataFrame(list(rows))
    if rows:
        frame["timestamp"] = pd.to_datetime(frame["timestamp"]).astype("datetime64[us, UTC]")
    everything = {"rules": ["price_spike", "stale_run", DISAGREE], "timeframe": "1d", "symbols": ["AAPL"], **scope}
    return quality_findings.enter(connection, frame, **everything)  # type: ignore[arg-type]


def counted(connection: Connection, timeframe: str) -> dict[date, dict[str, int]]:
    rows = quality_scores.counts(connection, timeframe, WEEK, DISAGREE)
    return {row.pop("session").date(): row for row in rows.drop(columns="symbol").to_dict("records")}  # type: ignore[misc]


def test_a_session_without_a_bar_between_others_is_expected_and_missing(market: Engine) -> None:
    with market.begin() as connection:
        add_days(connection, [DAYS[0], DAYS[2]])
        found = counted(connection, "1d")
    # Nothing is expected after the last bar.
    assert {day: row["present"] for day, row in found.items()} == {DAYS[0]: 1, DAYS[1]: 0, DAYS[2]: 1}
    assert {row["expected"] for row in found.values()} == {1}


def test_minutes_of_regular_hours_are_expected_and_those_without_a_trade_excused(market: Engine) -> None:
    with market.begin() as connection:
        add_minutes(connection, opened(DAYS[0]) - timedelta(minutes=5), 395)
        add_minutes(connection, opened(DAYS[1]), 200)
        for klass, first in (("no_trade", 200), ("provider_hole", 204)):
            connection.execute(
                text("""
                    INSERT INTO data_gaps (id, symbol, timeframe, gap_start, gap_end, missing_bars, class)
                    VALUES (gen_random_uuid(), 'AAPL', '1m', :first, :last, 4, :class)
                """),
                {
                    "first": opened(DAYS[1]) + timedelta(minutes=first),
                    "last": opened(DAYS[1]) + timedelta(minutes=first + 3),
                    "class": klass,
                },
            )
        found = counted(connection, "1m")
    # A half day has 210 minutes; the five before the open are not in regular hours.
    assert {day: (row["expected"], row["present"], row["excused"]) for day, row in found.items()} == {
        DAYS[0]: (390, 390, 0),
        DAYS[1]: (210, 200, 4),
    }


def test_minutes_that_retention_dropped_are_not_scored(market: Engine) -> None:
    with market.begin() as connection:
        add_minutes(connection, opened(DAYS[0]), 390)
        add_minutes(connection, opened(DAYS[2]), 390)
        mark_dropped(connection, opened(DAYS[0]) + timedelta(hours=3))
        assert list(counted(connection, "1m")) == [DAYS[1], DAYS[2]]


def test_a_finding_counts_in_every_session_that_it_reaches_while_it_holds(market: Engine) -> None:
    with market.begin() as connection:
        add_days(connection, DAYS)
        spike = a_finding("price_spike", "error", opened(DAYS[0]))
        stale = a_finding("stale_run", "warning", opened(DAYS[1]), last=opened(DAYS[2]).isoformat())
        apart = a_finding(DISAGREE, "warning", opened(DAYS[3]))
        assert enter(connection, spike, stale, apart).inserted == 3
        names = ("errors", "warnings", "infos", "disagreements")
        found = {day: tuple(row[name] for name in names) for day, row in counted(connection, "1d").items()}
        assert found == {DAYS[0]: (1, 0, 0, 0), DAYS[1]: (0, 1, 0, 0), DAYS[2]: (0, 1, 0, 0), DAYS[3]: (0, 0, 0, 1)}
        assert enter(connection).resolved == 3
        assert all(row["errors"] + row["warnings"] == 0 for row in counted(connection, "1d").values())


def test_what_was_not_looked_at_is_not_resolved(market: Engine) -> None:
    with market.begin() as connection:
        first, second = (a_finding("price_spike", "warning", opened(day)) for day in DAYS[:2])
        enter(connection, first, second)
        later = (opened(DAYS[1]).to_pydatetime(), opened(DAYS[3]).to_pydatetime())
        assert enter(connection, between=later).resolved == 1
        assert enter(connection, symbols=["MSFT"]).resolved == 0
        still = quality_findings.stored(connection, symbols=["AAPL"], only_open=True)
        assert still["timestamp"].tolist() == [opened(DAYS[0])]
        # It came back, under the id that it had.
        assert enter(connection, first, second).changed == 1
        everything = quality_findings.stored(connection, rules=["price_spike"], first=DAYS[1], last=DAYS[1])
        assert everything[["symbol", "source", "severity"]].to_numpy().tolist() == [["AAPL", "sample", "warning"]]


def scored(connection: Connection, **changes: int) -> int:
    row = {"symbol": "AAPL", "session": pd.Timestamp(DAYS[0]), **ONE_SESSION, **changes}
    return quality_scores.enter(connection, "1d", session_scores(pd.DataFrame([row])))


def test_a_score_is_entered_when_it_or_its_components_change_and_the_old_one_stays(market: Engine) -> None:
    with market.begin() as connection:
        assert scored(connection) == 1
    with market.begin() as connection:
        assert scored(connection) == 0
    with market.begin() as connection:
        assert scored(connection, warnings=1) == 1
    with market.begin() as connection:
        [newest] = quality_scores.newest(connection, symbols=["AAPL"]).to_dict("records")
        history = connection.execute(text("SELECT score FROM quality_scores ORDER BY scored_at")).scalars().all()
    assert (newest["score"], newest["plausibility"], newest["completeness"]) == (80, 0.8, 1)
    assert [float(score) for score in history] == [100, 80]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 100.0),
        ({"present": 0}, 0.0),
        ({"present": 0, "excused": 1}, 100.0),
        # 390 expected, 10 of them a halt, 342 there: 342 / 380.
        ({"expected": 390, "excused": 10, "present": 342}, 90.0),
        ({"rejected": 1}, 50.0),
        ({"errors": 1, "warnings": 1}, 40.0),
        ({"infos": 2}, 96.04),
        ({"disagreements": 1, "warnings": 2}, 44.8),
    ],
)  # fmt: skip
def test_the_score_is_the_product_of_its_components(changes: dict[str, int], expected: float) -> None:
    assert session_scores(pd.DataFrame([{**ONE_SESSION, **changes}]))["score"].tolist() == [expected]


def test_a_rejected_bar_of_a_holiday_counts_to_the_next_session() -> None:
    sessions = pd.DataFrame({"symbol": "AAPL", "session": pd.to_datetime(DAYS).astype("datetime64[us]")})
    days = [date(2012, 7, 4), DAYS[0], DAYS[0], date(2012, 7, 9), None]
    rejected = pd.DataFrame({"symbol": "AAPL", "date": pd.to_datetime(pd.Series(days)).astype("datetime64[us]")})
    assert with_rejected(sessions, rejected)["rejected"].tolist() == [2, 0, 1, 0]


def test_a_split_entered_by_hand_is_audited_and_stands_once(market: Engine) -> None:
    from decimal import Decimal

    from tickstock_assets.domain.errors import ConfigError
    from tickstock_assets.storage import bars

    known = {"author": "Ada", "reason": "press release"}
    with market.begin() as connection:
        assert local_splits.add(connection, "AAPL", DAYS[0], Decimal(1), Decimal(2), **known)
        assert not local_splits.add(connection, "AAPL", DAYS[0], Decimal(1), Decimal(2), **known)
        [split] = bars.splits(connection).to_dict("records")
        [entry] = connection.execute(text("SELECT metadata FROM audit_trail WHERE action = 'add'")).scalars()
        assert (split["split_from"], split["split_to"], entry["reason"]) == (1, 2, "press release")
        with pytest.raises(ConfigError, match="expected a known symbol, found none"):
            local_splits.add(connection, "NONE", DAYS[0], Decimal(1), Decimal(2), **known)
        with pytest.raises(ConfigError, match="expected two different numbers of shares from"):
            local_splits.add(connection, "AAPL", DAYS[0], Decimal(2), Decimal(2), **known)
        connection.execute(text("INSERT INTO splits VALUES ('AAPL', '2012-07-03', 'polygon', 1, 2)"))
        with pytest.raises(ConfigError, match="found one from polygon"):
            local_splits.add(connection, "AAPL", DAYS[1], Decimal(1), Decimal(3), **known)
        local_splits.remove(connection, "AAPL", DAYS[0], **known)
        assert connection.execute(text("SELECT source FROM splits")).scalars().all() == ["polygon"]
        # Who asks as of a moment when it stood is told of it still.
        kept = connection.execute(text("SELECT source, split_to FROM split_revisions")).all()
        assert [tuple(row) for row in kept] == [("local", 2)]
        with pytest.raises(ConfigError, match="expected a split that somebody has entered here, found none"):
            local_splits.remove(connection, "AAPL", DAYS[1], **known)
