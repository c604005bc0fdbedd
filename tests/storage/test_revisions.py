"""No value of a bar is lost: any sequence of loads and corrections, against a model that keeps every version in a list."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from tests.storage.test_bulk import bars
from tickstock_assets.storage.bulk import MergeCounts, merge
from tickstock_assets.storage.market_data import MarketReader

SYMBOLS = ["AAPL", "MSFT"]
DAYS = [date(2024, 1, 2) + timedelta(days=n) for n in (0, 1, 2, 3, 6, 200)]
RANK = {"polygon": 1, "alpha_vantage": 2, "sample": 3}  # a provider asked first wins; one of them is the finest


@dataclass(frozen=True)
class Load:
    source: str
    closes: dict[tuple[str, date], int]


@dataclass
class Model:
    """What is known of each bar: the versions it has had, oldest first."""

    versions: dict[tuple[str, date], list[tuple[int, str]]] = field(default_factory=dict)

    def apply(self, load: Load) -> MergeCounts:
        inserted = corrected = unchanged = outranked = 0
        for key, close in load.closes.items():
            if key not in self.versions:
                self.versions[key] = [(close, load.source)]
                inserted += 1
            elif RANK[load.source] > RANK[self.versions[key][-1][1]]:
                outranked += 1
            elif self.versions[key][-1] == (close, load.source):
                unchanged += 1
            else:
                self.versions[key].append((close, load.source))
                corrected += 1
        return MergeCounts(inserted, corrected, unchanged, outranked)

    def now(self) -> dict[tuple[str, date], tuple[int, str]]:
        return {key: versions[-1] for key, versions in self.versions.items()}


loads = st.builds(
    Load,
    source=st.sampled_from(sorted(RANK)),
    closes=st.dictionaries(
        st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(DAYS)), st.integers(10, 12), min_size=1, max_size=8
    ),
)


@pytest.fixture
def listed(database: Engine) -> Engine:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL'), ('MSFT')"))
        # Two of the days are sessions; a bar of another keeps its old values all the same.
        connection.execute(
            text("""
                INSERT INTO sessions (exchange, session, open, close)
                SELECT 'XNYS', day, day + time '14:30', day + time '21:00'
                FROM unnest(CAST(:days AS date[])) AS day
            """),
            {"days": DAYS[:2]},
        )
    return database


def load_into(database: Engine, load: Load) -> MergeCounts:
    frame = pd.concat([bars((str(day), close), symbol=symbol) for (symbol, day), close in load.closes.items()])
    with database.begin() as connection:
        return merge(connection, "ohlcv_daily", frame.assign(source=load.source).reset_index(drop=True))


def clock(connection: Connection) -> datetime:
    moment = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert isinstance(moment, datetime)
    return moment


def current(connection: Connection) -> dict[tuple[str, date], tuple[int, str]]:
    rows = connection.execute(text("SELECT symbol, date, close::int, source FROM ohlcv_daily"))
    return {(symbol, day): (close, source) for symbol, day, close, source in rows}


def kept(connection: Connection) -> dict[tuple[str, date], list[tuple[int, str]]]:
    rows = connection.execute(
        text("SELECT symbol, session, close::int, source FROM bar_revisions ORDER BY symbol, session, superseded_at")
    )
    found: dict[tuple[str, date], list[tuple[int, str]]] = {}
    for symbol, session, close, source in rows:
        found.setdefault((symbol, session), []).append((close, source))
    return found


def as_of(reader: MarketReader, moment: datetime) -> dict[tuple[str, date], tuple[int, str]]:
    table = reader.bars(SYMBOLS, "1d", as_of=moment, columns=["date", "close", "source"]).to_pandas()
    return {(row.symbol, pd.Timestamp(row.date).date()): (int(row.close), row.source) for row in table.itertuples()}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(sequence=st.lists(loads, min_size=1, max_size=6))
def test_current_bars_revisions_and_every_past_moment_agree_with_the_model(
    listed: Engine, sequence: list[Load]
) -> None:
    with listed.begin() as connection:
        connection.execute(text("DELETE FROM ohlcv_daily"))
        connection.execute(text("DELETE FROM bar_revisions"))
        known = [(clock(connection), {})]
    model = Model()
    for load in sequence:
        assert load_into(listed, load) == model.apply(load)
        with listed.connect() as connection:
            known.append((clock(connection), model.now()))
    with listed.connect() as connection:
        assert current(connection) == model.now()
        assert kept(connection) == {key: v[:-1] for key, v in model.versions.items() if len(v) > 1}
    with MarketReader(listed.url) as reader:
        for moment, expected in known:
            assert as_of(reader, moment) == expected


def test_a_revision_keeps_every_value_and_both_moments(listed: Engine) -> None:
    first = bars(("2024-01-02", 10.0), ("2024-02-29", 20.0)).assign(
        vwap=10.123, trades_count=7, quote_volume=9.5, exchange="XNYS"
    )
    with listed.begin() as connection:
        merge(connection, "ohlcv_daily", first)
    before = datetime.now(UTC)
    with listed.begin() as connection:
        merge(connection, "ohlcv_daily", first.assign(close=[10.5, 20.5], volume=[1.0, 2.0]))
        rows = connection.execute(text("SELECT * FROM bar_revisions ORDER BY session")).mappings().all()
        recorded = connection.execute(text("SELECT recorded_at FROM ohlcv_daily ORDER BY date")).scalars().all()
    assert [row["superseded_at"] for row in rows] == recorded  # not a moment between the two
    assert all(row["recorded_at"] < before < row["superseded_at"] for row in rows)
    revision = dict(rows[0])
    assert revision["timestamp"] == datetime(2024, 1, 2, 14, 30, tzinfo=UTC)  # the session's open
    assert rows[1]["timestamp"] == datetime(2024, 2, 29, tzinfo=UTC)  # no session is known of that day
    expected = {
        "symbol": "AAPL", "timeframe": "1d", "session": date(2024, 1, 2), "open": Decimal(10), "high": Decimal(11),
        "low": Decimal(9), "close": Decimal(10), "volume": Decimal("1000.5"), "quote_volume": Decimal("9.5"),
        "vwap": Decimal("10.123"), "trades_count": 7, "exchange": "XNYS", "source": "sample",
    }  # fmt: skip
    assert {name: revision[name] for name in expected} == expected


def test_a_correction_that_is_rolled_back_leaves_no_revision(listed: Engine) -> None:
    load_into(listed, Load("sample", {("AAPL", DAYS[0]): 10}))
    with listed.connect() as connection:
        merge(connection, "ohlcv_daily", bars((str(DAYS[0]), 11.0)))
        assert len(kept(connection)) == 1
        connection.rollback()
        assert kept(connection) == {}
        assert current(connection) == {("AAPL", DAYS[0]): (10, "sample")}


def test_a_corrected_bar_stands_in_the_audit_trail_under_its_run(listed: Engine) -> None:
    from tickstock_assets.storage import audit

    run = "7f1e0a52-5b0e-4a57-9d4f-0c8f0a8f8f11"
    load_into(listed, Load("sample", {("AAPL", DAYS[0]): 10, ("AAPL", DAYS[1]): 10}))
    with listed.begin() as connection:
        audit.begin(connection, audit.Run("a test", run))
        merge(connection, "ohlcv_daily", bars((str(DAYS[0]), 11.0), (str(DAYS[1]), 10.0)))
    with listed.connect() as connection:
        entries = connection.execute(
            text("SELECT event_type, entity_id, actor, correlation_id::text, metadata FROM audit_trail")
        ).all()
    assert [tuple(entry) for entry in entries] == [("correction", "ohlcv_daily", "a test", run, {"rows": 1})]
