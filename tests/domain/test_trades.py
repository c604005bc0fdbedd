"""Minute bars from trades: worked sums by condition, and pandas' own first, max, min, last and sum."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickstock_assets.domain.trade_conditions import POLYGON, Rules
from tickstock_assets.domain.trades import COLUMNS, minute_bars

type Trade = tuple[str, float, float, Sequence[str] | None]


def trades(*rows: Trade, symbol: str = "AAPL", regular: bool = True) -> pd.DataFrame:
    """Return trades of 3 July 2024: time in UTC, price, shares and conditions."""
    return pd.DataFrame(
        {
            "symbol": symbol,
            "timestamp": pd.to_datetime([f"2024-07-03 {row[0]}" for row in rows], utc=True, format="ISO8601").as_unit(
                "us"
            ),
            "price": [row[1] for row in rows],
            "quantity": [row[2] for row in rows],
            "conditions": pd.Series([row[3] for row in rows], dtype=object),
            "in_regular_hours": regular,
        }
    )


def only_bar(found: pd.DataFrame) -> dict[str, float]:
    [bar] = found.to_dict("records")
    return bar


def test_regular_trades_make_open_high_low_close_and_the_sum_of_their_shares() -> None:
    bar = only_bar(
        minute_bars(
            trades(("14:30:01", 10.0, 100, None), ("14:30:20", 12.0, 300, ["14"]), ("14:30:59.999999", 11.0, 100, [])),
            POLYGON,
        )
    )
    # (1000 + 3600 + 1100) / 500 shares.
    assert bar == {
        "symbol": "AAPL", "timestamp": pd.Timestamp("2024-07-03 14:30", tz="UTC"), "open": 10.0, "high": 12.0, "low": 10.0,
        "close": 11.0, "volume": 500.0, "quote_volume": 5700.0, "vwap": 11.4, "trades_count": 3.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("conditions", "high", "close", "volume"),
    [
        # What a trade at 20 of 1,000 shares adds to one at 10 of 100, by its conditions.
        (["14"], 20.0, 20.0, 1100.0),
        (["14", "41"], 20.0, 20.0, 1100.0),
        (["37"], 10.0, 10.0, 1100.0),
        (["2"], 10.0, 10.0, 1100.0),
        (["52"], 10.0, 10.0, 1100.0),
        (["10"], 20.0, 10.0, 1100.0),
        (["32"], 20.0, 10.0, 1100.0),
        (["14", "37"], 10.0, 10.0, 1100.0),
        (["10", "41"], 20.0, 10.0, 1100.0),
        (["15"], 10.0, 10.0, 100.0),
        (["16"], 10.0, 10.0, 100.0),
        (["38"], 20.0, 20.0, 100.0),
        (["12"], 10.0, 10.0, 1100.0),
        (["14", "e8"], 10.0, 10.0, 100.0),
        (["14", "e12"], 10.0, 10.0, 100.0),
        (["14", "e1"], 20.0, 20.0, 1100.0),
    ],
)
def test_conditions_say_what_a_trade_counts_for(
    conditions: list[str], high: float, close: float, volume: float
) -> None:
    bar = only_bar(minute_bars(trades(("14:30:01", 10.0, 100, None), ("14:30:02", 20.0, 1000, conditions)), POLYGON))
    assert (bar["open"], bar["low"], bar["high"], bar["close"], bar["volume"]) == (10.0, 10.0, high, close, volume)


def test_in_extended_hours_a_form_t_trade_makes_the_price_and_an_odd_lot_does_not() -> None:
    rows = trades(("08:00:01", 10.0, 100, ["12"]), ("08:00:02", 20.0, 5, ["12", "37"]), regular=False)
    bar = only_bar(minute_bars(rows, POLYGON))
    assert (bar["high"], bar["close"], bar["volume"], bar["vwap"]) == (10.0, 10.0, 105.0, 10.0)


def test_a_minute_without_a_trade_that_counts_for_open_and_close_has_no_bar() -> None:
    found = minute_bars(trades(("14:30:01", 10.0, 5, ["37"]), ("14:31:01", 11.0, 100, ["32"])), POLYGON)
    assert found.empty
    assert tuple(found.columns) == COLUMNS


def test_a_price_outside_of_the_rest_that_has_no_high_and_low_leaves_the_vwap_within_them() -> None:
    bar = only_bar(minute_bars(trades(("14:30:01", 10.0, 100, None), ("14:30:02", 99.0, 900, ["2"])), POLYGON))
    assert bar["vwap"] == 10.0
    assert bar["quote_volume"] == 1000.0 + 89_100.0


def test_the_trades_of_a_feed_without_rules_all_count() -> None:
    bar = only_bar(minute_bars(trades(("14:30:01", 10.0, 100, ["37"]), ("14:30:02", 12.0, 5, ["15"])), Rules()))
    assert (bar["high"], bar["close"], bar["volume"], bar["trades_count"]) == (12.0, 12.0, 105.0, 2.0)


def test_no_trades_make_no_bars() -> None:
    found = minute_bars(trades(("14:30:01", 10.0, 100, None))[:0], POLYGON)
    assert found.empty
    assert str(found["timestamp"].dtype) == "datetime64[us, UTC]"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["AAPL", "MSFT"]),
            st.integers(0, 299),
            st.integers(1, 10_000),
            st.integers(0, 5_000),
            st.lists(st.sampled_from(["14", "41", "37", "10", "15", "e8"]), max_size=3),
        ),
        max_size=60,
    )
)
def test_bars_are_those_of_a_loop_over_the_trades(rows: list[tuple[str, int, int, int, list[str]]]) -> None:
    rows = sorted(rows, key=lambda row: row[1])
    frame = pd.DataFrame(rows, columns=["symbol", "second", "cents", "quantity", "conditions"]).astype(
        {"conditions": object}
    )
    frame["timestamp"] = pd.Timestamp("2024-07-03 14:30", tz="UTC").as_unit("us") + pd.to_timedelta(
        frame.pop("second").astype("int64"), unit="s"
    ).astype("timedelta64[us]")
    frame["price"], frame["in_regular_hours"] = frame["cents"] / 100, True
    expected: dict[tuple[str, int], dict[str, list[float]]] = {}
    for symbol, second, cents, quantity, conditions in rows:
        minute = expected.setdefault((symbol, second // 60), {"ends": [], "range": [], "shares": []})
        gone = {"15", "e8"} & set(conditions)
        if not gone and "37" not in conditions:
            minute["range"].append(cents / 100)
            if "10" not in conditions:
                minute["ends"].append(cents / 100)
        if not gone:
            minute["shares"].append(quantity)
    wanted = [
        (*key, ends[0], max(prices), min(prices), ends[-1], sum(shares), len(shares))
        for key, (ends, prices, shares) in sorted((key, tuple(one.values())) for key, one in expected.items())
        if ends
    ]
    found = minute_bars(frame, POLYGON)
    minutes = (found["timestamp"] - pd.Timestamp("2024-07-03 14:30", tz="UTC")) // pd.Timedelta(minutes=1)
    names = ["open", "high", "low", "close", "volume", "trades_count"]
    assert list(zip(found["symbol"], minutes, *(found[name] for name in names), strict=True)) == wanted
    has_vwap = found["vwap"].notna()
    assert (has_vwap | (found["volume"] >= 0)).all()
    assert np.all(found["vwap"][has_vwap].between(found["low"][has_vwap], found["high"][has_vwap]))
