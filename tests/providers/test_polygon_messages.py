"""Messages of Polygon's live feed, read by examples of the vendor's format."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tickstock_assets.providers.polygon_messages import read

TRADE = {
    "ev": "T", "sym": "MSFT", "x": 4, "i": "12345", "z": 3, "p": 114.125, "s": 100, "c": [0, 12],
    "t": 1536036818784, "q": 3681328,
}  # fmt: skip
MINUTE = {
    "ev": "AM", "sym": "GTE", "v": 4110, "av": 9470157, "op": 0.4372, "vw": 0.4488, "o": 0.4488, "c": 0.4486,
    "h": 0.4489, "l": 0.4486, "a": 0.4352, "z": 685, "s": 1610144640000, "e": 1610144700000,
}  # fmt: skip


def said(*events: object) -> str:
    return json.dumps(events)


def test_a_trade_keeps_venue_and_id_as_rest_has_them_and_its_moment_in_milliseconds() -> None:
    message = read(said(TRADE))
    assert message.trades.to_pylist() == [
        {
            "symbol": "MSFT",
            "timestamp": datetime(2018, 9, 4, 4, 53, 38, 784000, tzinfo=UTC),
            "exchange": "4",
            "trade_id": "12345",
            "price": 114.125,
            "quantity": 100.0,
            "conditions": ["0", "12"],
            "source": "polygon",
        }
    ]
    assert (message.first, message.last) == (message.trades["timestamp"][0].as_py(),) * 2
    assert message.minutes.empty


def test_a_minute_is_a_bar_stamped_at_its_start() -> None:
    message = read(said(MINUTE).encode())
    [row] = message.minutes.to_dict("records")
    # It happened when it was over.
    assert message.first == message.last == datetime(2021, 1, 8, 22, 25, tzinfo=UTC)
    # 22:24 UTC is 17:24 in New York.
    assert row.pop("timestamp").to_pydatetime() == datetime(2021, 1, 8, 22, 24, tzinfo=UTC)
    assert row.pop("date").to_pydatetime() == datetime(2021, 1, 8)  # noqa: DTZ001
    assert str(row.pop("trades_count")) == "nan"
    assert row == {
        "symbol": "GTE", "open": 0.4488, "high": 0.4489, "low": 0.4486, "close": 0.4486, "vwap": 0.4488, "volume": 4110.0,
    }  # fmt: skip
    assert message.trades.num_rows == 0


def test_the_day_of_an_evening_minute_is_that_of_new_york() -> None:
    # 00:30 UTC of January 9th is 19:30 of the 8th.
    [day] = read(said({**MINUTE, "s": 1610152200000})).minutes["date"]
    assert day.to_pydatetime() == datetime(2021, 1, 8)  # noqa: DTZ001


def test_fractions_of_shares_are_read_from_their_text() -> None:
    message = read(said({**TRADE, "s": 1, "ds": "1.25"}, {**MINUTE, "dv": "4110.5"}))
    assert message.trades["quantity"].to_pylist() == [1.25]
    assert message.minutes["volume"].tolist() == [4110.5]


def test_what_cannot_be_read_is_missing_and_no_row_is_dropped() -> None:
    wrong: dict[str, Any] = {"sym": None, "x": None, "i": None, "p": "much", "s": None, "c": "12", "t": 1e30}
    [row] = read(said({**TRADE, **wrong})).trades.to_pylist()
    assert row == {
        "symbol": None, "timestamp": None, "exchange": "", "trade_id": None, "price": None, "quantity": None,
        "conditions": None, "source": "polygon",
    }  # fmt: skip
    minutes = read(said({"ev": "AM"})).minutes
    assert len(minutes) == 1
    assert minutes.isna().all(axis=None)


def test_statuses_are_told_apart_and_other_events_left_alone() -> None:
    message = read(said({"ev": "status", "status": "success", "message": "subscribed to: T.MSFT"}, {"ev": "Q"}))
    assert list(message.statuses) == [("success", "subscribed to: T.MSFT")]
    assert (message.trades.num_rows, len(message.minutes), message.first, message.last) == (0, 0, None, None)


@pytest.mark.parametrize("text", ["", "[", '{"ev": "T"}', "[1]", "null"])
def test_a_text_that_is_no_list_of_events_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text)
