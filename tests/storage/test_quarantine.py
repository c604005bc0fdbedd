"""Whatever a provider sends can be set aside: what PostgreSQL's JSON does not know is written in another way."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime

import pandas as pd
import pytest
from sqlalchemy import Engine

from tests.storage.tick_samples import list_symbols
from tickstock_assets.storage.ledger import Source
from tickstock_assets.storage.quarantine import rejects, set_aside

pytestmark = pytest.mark.tiers("embedded")
SENT_BY = Source("a vendor", "daily_bars", "1")


def reject(**columns: object) -> pd.DataFrame:
    row = {"symbol": "AAPL", "date": pd.Timestamp("2024-01-03"), "rule": "missing_value", "reason": "close is missing"}
    return pd.DataFrame([row | columns]).astype({"date": "datetime64[us]"})


def set_aside_one(database: Engine, row: Mapping[str, object], **columns: object) -> None:
    with database.begin() as connection:
        set_aside(connection, SENT_BY, reject(**columns), [row])


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"c": float("nan")}, {"c": None}),
        ({"c": float("inf"), "o": float("-inf")}, {"c": "inf", "o": "-inf"}),
        ({"T": "AA\0PL", "x\0": 1}, {"T": "AA\ufffdPL", "x\ufffd": 1}),
        ({"T": "half \ud83d"}, {"T": "half \ufffd"}),
        ({"c": [1, [float("nan")]], "of": {"venue": ("\0", 4)}}, {"c": [1, [None]], "of": {"venue": ["\ufffd", 4]}}),
        ({"at": pd.Timestamp(2**60, unit="us", tz="UTC")}, {"at": 2**60}),
        ({"at": pd.NaT}, {"at": None}),
    ],
    ids=["NaN", "infinity", "NUL", "half a character", "nested", "a moment of the year 38504", "no moment"],
)
def test_what_jsonb_does_not_take_is_set_aside_all_the_same(
    database: Engine, sent: Mapping[str, object], kept: Mapping[str, object]
) -> None:
    list_symbols(database)
    set_aside_one(database, sent)
    with database.connect() as connection:
        assert [found.row for found in rejects(connection)] == [kept]


def test_a_row_that_jsonb_takes_is_kept_as_it_was_sent_under_the_id_it_always_had(database: Engine) -> None:
    list_symbols(database)
    sent = {
        "T": "ünï",
        "c": 1.5,
        "n": None,
        "at": datetime(2024, 1, 3, tzinfo=UTC),
        "of": {"d": date(2024, 1, 3)},
        "x": [b"\0"],
    }
    set_aside_one(database, sent)
    with database.connect() as connection:
        [found] = rejects(connection)
    assert found.row == json.loads(json.dumps(sent, default=str))
    # As it was before rows were looked through.
    assert found.id == "7c980366-5515-54b9-9710-f32545df8a48"


def test_a_reason_that_repeats_a_nul_and_a_day_that_nobody_can_read_hold_up_nothing(database: Engine) -> None:
    list_symbols(database)
    moment = pd.Series([2**60]).astype("datetime64[us]")
    with database.begin() as connection:
        rejected = reject(reason="asked for AAPL, got AA\0PL").assign(
            date=moment, timestamp=moment.dt.tz_localize("UTC")
        )
        set_aside(connection, Source("a\0b", "minute_bars", "1"), rejected, [{}])
    with database.connect() as connection:
        [found] = rejects(connection)
    assert (found.reason, found.date, found.timestamp, found.source) == (
        "asked for AAPL, got AA\ufffdPL", None, None, "a\ufffdb",
    )  # fmt: skip
