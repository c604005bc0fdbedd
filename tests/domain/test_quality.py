"""The contract of daily bars: one worked row for each rule."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.domain.quality import violations
from tickstock_assets.domain.schemas import daily_bars, minute_bars
from tickstock_assets.domain.sessions import trading_sessions

SESSIONS = pd.Series(pd.to_datetime(["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"]).astype("datetime64[us]"))
CONTRACT = daily_bars(SESSIONS)


def frame(*rows: dict[str, object]) -> pd.DataFrame:
    good = {
        "symbol": "AAPL",
        "date": "2024-01-02",
        "open": 10.0,
        "high": 12.0,
        "low": 9.0,
        "close": 11.0,
        "volume": 5.0,
    }
    bars = pd.DataFrame([{**good, **row} for row in rows])
    return bars.assign(date=pd.to_datetime(bars["date"]).astype("datetime64[us]"))


def test_a_good_bar_offends_nobody() -> None:
    assert violations(frame({}), CONTRACT).empty


def test_a_bar_without_volume_and_a_bar_of_one_price_are_good() -> None:
    assert violations(frame({"volume": 0.0, "open": 10.0, "high": 10.0, "low": 10.0, "close": 10.0}), CONTRACT).empty


@pytest.mark.parametrize(
    ("change", "rule", "reason"),
    [
        ({"high": 8.0, "open": 8.0, "close": 8.0}, "high_below_low", "high 8 is below low 9"),
        ({"open": 12.5}, "price_above_high", "open 12.5 or close 11 is above high 12"),
        ({"close": 12.5}, "price_above_high", "open 10 or close 12.5 is above high 12"),
        ({"open": 8.5}, "price_below_low", "open 8.5 or close 11 is below low 9"),
        ({"low": 0.0}, "non_positive_price", "low is not above 0"),
        ({"open": -1.0, "low": -2.0}, "non_positive_price", "low and open is not above 0"),
        ({"volume": -1.0}, "negative_volume", "volume -1 is below 0"),
        ({"date": "2024-01-06"}, "not_a_session", "2024-01-06 is not a session of the exchange"),
        ({"date": None}, "missing_value", "date is missing or cannot be read"),
        ({"close": np.nan}, "missing_value", "close is missing or cannot be read"),
        ({"high": 1e12}, "out_of_range", "high is larger or smaller than the database can hold"),
        ({"low": 1e-9}, "out_of_range", "low is larger or smaller than the database can hold"),
        ({"high": np.inf}, "out_of_range", "high is larger or smaller than the database can hold"),
        ({"volume": 1e17}, "out_of_range", "volume is larger or smaller than the database can hold"),
        ({"symbol": "A|B"}, "invalid_symbol", "'A|B' is not a symbol"),
    ],
)
def test_each_rule_names_itself_and_the_values(change: dict[str, object], rule: str, reason: str) -> None:
    offending = violations(frame({}, {"date": "2024-01-03", **change}), CONTRACT)
    assert offending.index.tolist() == [1]
    assert offending["rule"].tolist() == [rule]
    assert reason in offending["reason"].item()


def test_a_row_that_breaks_several_rules_stands_once_with_every_reason() -> None:
    offending = violations(frame({"date": "2024-01-06", "volume": -1.0}), CONTRACT)
    assert offending["rule"].tolist() == ["negative_volume"]
    assert offending["reason"].tolist() == ["volume -1 is below 0; 2024-01-06 is not a session of the exchange"]


def test_of_exact_repeats_the_first_stays() -> None:
    offending = violations(frame({}, {}, {}), CONTRACT)
    assert offending.index.tolist() == [1, 2]
    assert set(offending["rule"]) == {"duplicate_key"}


def test_of_repeats_that_disagree_none_can_be_trusted() -> None:
    offending = violations(frame({}, {"close": 10.5}, {"date": "2024-01-03"}), CONTRACT)
    assert offending.index.tolist() == [0, 1]


def test_a_frame_without_a_column_cannot_be_judged() -> None:
    with pytest.raises(ContractError, match="found open"):
        violations(frame({}).drop(columns="open"), CONTRACT)


def test_a_column_of_another_type_cannot_be_judged() -> None:
    with pytest.raises(ContractError, match="volume: expected"):
        violations(frame({}).assign(volume="many"), CONTRACT)


def test_offending_rows_keep_their_place_in_the_frame() -> None:
    rows = frame({}, {"date": "2024-01-03", "volume": -1.0}, {"date": "2024-01-04"}).set_index(pd.Index([7, 3, 5]))
    assert violations(rows, CONTRACT).index.tolist() == [3]


@pytest.mark.parametrize(
    ("moment", "rule"),
    [
        # July 4th 2012 was a holiday, the 3rd a half day: after-hours trading ended at 17:00 New York, which is 21:00 UTC.
        ("2012-07-03 20:59", None),
        ("2012-07-03 21:00", "outside_hours"),
        ("2012-07-04 15:00", "not_a_session"),
        ("2012-07-05 07:59", "outside_hours"),
        ("2012-07-05 08:00", None),
        ("2012-07-05 23:59", None),
        ("2012-07-06 00:00", "outside_hours"),
    ],
)
def test_a_minute_in_which_the_exchange_is_closed_is_rejected(moment: str, rule: str | None) -> None:
    stamp = pd.Timestamp(moment, tz="UTC")
    day = stamp.tz_convert("America/New_York").tz_localize(None).normalize()
    rows = frame({"date": day}).assign(timestamp=pd.Series([stamp]).astype("datetime64[us, UTC]"))
    contract = minute_bars(trading_sessions("XNYS", date(2012, 7, 1), date(2012, 7, 31)))
    assert violations(rows, contract)["rule"].tolist() == ([] if rule is None else [rule])
