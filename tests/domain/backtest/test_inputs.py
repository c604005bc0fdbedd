"""What a backtest refuses, and in which words."""

import numpy as np
import pandas as pd
import pytest

from tests.domain.backtest.samples import (
    detect,
    in_sydney,
    make_bars,
    make_detections,
    make_dividends,
    session_open,
)
from tickstock_assets.domain.backtest.inputs import BacktestConfig, has_own_bar, lay_out_detections, lay_out_market
from tickstock_assets.domain.errors import ConfigError, ContractError

FLAT = [(10.0, 10.0, 10.0, 10.0)] * 3


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("capital", 0.0),
        ("capital", float("inf")),
        ("capital", float("nan")),
        ("holding_bars", 0),
        ("holding_bars", 2.5),
        ("commission_bps", -1.0),
        ("slippage_bps", 10_000.0),
        ("risk_free_rate", float("nan")),
        ("periods_per_year", 0),
    ],
)
def test_a_setting_no_backtest_can_mean_is_refused_by_name_and_value(setting, value):
    with pytest.raises(ConfigError, match=f"{setting}: expected .*, found {value}"):
        BacktestConfig(**{setting: value})


def test_basis_points_are_ten_thousandths():
    config = BacktestConfig(commission_bps=1.0, slippage_bps=25.0)
    assert (config.commission_rate, config.slippage_rate) == (0.0001, 0.0025)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda bars: bars.drop(columns="close"), "bars: expected the columns .*; close missing"),
        (lambda bars: bars.iloc[:0], "bars: expected at least one row"),
        (lambda bars: bars.iloc[::-1], "AAA 2024-01-03 14:30:00.*not"),
        (lambda bars: pd.concat([bars, bars]), "AAA 2024-01-02 14:30:00.*not"),
        (lambda bars: bars.assign(date=bars["date"].iloc[0]), "AAA 2024-01-03 14:30:00.*not"),
        (lambda bars: bars.assign(low=[10.0, 0.0, 10.0]), "AAA 2024-01-03.*expected low above 0, found 0.0"),
        (lambda bars: bars.assign(high=[10.0, np.inf, 10.0]), "expected high above 0, found inf"),
        (lambda bars: bars.assign(open=[10.0, np.nan, 10.0]), "expected open in every row, found 1 without"),
        (
            lambda bars: bars.assign(timestamp=bars["timestamp"].dt.tz_localize(None)),
            "expected timestamp with a time zone",
        ),
    ],
)
def test_bars_that_break_their_promise_are_refused(change, message):
    with pytest.raises(ContractError, match=message):
        lay_out_market(change(make_bars(FLAT)), make_dividends())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([detect(0, "sideways")], "AAA 2024-01-02.*hammer sideways: expected a direction out of bullish, bearish"),
        ([detect(7)], "expected a bar of that symbol and timestamp"),
        ([detect(0, symbol="ZZZ")], "ZZZ.*expected a bar of that symbol and timestamp"),
        ([detect(0), detect(0, "bearish")], "bearish: expected one detection of a strategy per bar"),
        ([detect(0) | {"variant": None}], "expected variant in every row"),
    ],
)
def test_detections_that_break_their_promise_are_refused(rows, message):
    market = lay_out_market(make_bars(FLAT), make_dividends())
    with pytest.raises(ContractError, match=message):
        lay_out_detections(make_detections(*rows), market)


def test_a_detection_has_a_bar_of_its_own_where_symbol_and_timestamp_agree():
    bars = pd.concat([make_bars(FLAT[:2]), make_bars(FLAT[:1], symbol="BBB", days=[2])])
    detections = make_detections(detect(1), detect(2), detect(2, symbol="BBB"), detect(0, symbol="ZZZ"))
    found = has_own_bar(detections, bars.assign(timestamp=bars["timestamp"].dt.tz_convert("Asia/Tokyo")))
    assert found.tolist() == [True, False, True, False]
    assert has_own_bar(make_detections(), bars).tolist() == []


def test_symbols_may_come_in_any_order_as_databases_sort_names_differently():
    bars = pd.concat([make_bars(FLAT, symbol="BBB"), make_bars(FLAT, symbol="AAA", days=[1, 2, 3])])
    market = lay_out_market(bars, make_dividends())
    assert market.symbols.tolist() == ["BBB", "AAA"]
    assert (market.first_bar.tolist(), market.last_bar.tolist()) == ([0, 3], [2, 5])
    assert market.session.tolist() == [0, 1, 2, 1, 2, 3]


def test_the_first_bar_at_or_after_an_instant_is_the_symbols_own():
    bars = pd.concat([make_bars(FLAT, days=[0, 1, 5]), make_bars(FLAT, symbol="BBB", days=[0, 2, 3])])
    market = lay_out_market(bars, make_dividends())
    instants = pd.DatetimeIndex([session_open(day) for day in (1, 2, 6, 1, 4)]).to_numpy("datetime64[ns]")
    # AAA on days 1, 2 and 6, then BBB on days 1 and 4.
    assert market.bar_at_or_after(np.array([0, 0, 0, 1, 1]), instants).tolist() == [1, 2, -1, 4, -1]


def test_the_sessions_of_exchanges_that_open_at_different_hours_are_those_of_the_same_dates():
    bars = pd.concat([make_bars(FLAT), in_sydney(make_bars(FLAT, symbol="BBB", days=[1, 2, 3]))])
    market = lay_out_market(bars, make_dividends())
    assert market.sessions.strftime("%m-%d").tolist() == ["01-02", "01-03", "01-04", "01-05"]
    assert market.session.tolist() == [0, 1, 2, 1, 2, 3]
    # BBB's session of 3 January opens on the 2nd at 23:00.
    assert market.session_start.strftime("%d %H:%M").tolist() == ["02 14:30", "02 23:00", "03 23:00", "04 23:00"]


def test_an_instant_of_another_time_zone_is_the_same_instant():
    bars = make_bars(FLAT)
    abroad = bars.assign(timestamp=bars["timestamp"].dt.tz_convert("Asia/Tokyo"))
    market = lay_out_market(abroad, make_dividends())
    assert market.timestamp.equals(lay_out_market(bars, make_dividends()).timestamp)
