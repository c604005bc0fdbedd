"""The rules of a trade as worked sums, and the engine against a naive account that trades bar by bar."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.domain.backtest import naive
from tests.domain.backtest.samples import (
    TERMS,
    detect,
    in_sydney,
    make_bars,
    make_detections,
    make_dividends,
    markets,
    session_close,
    session_open,
)
from tickstock_assets.domain.backtest.engine import BacktestConfig, run_backtest

FREE = BacktestConfig(capital=1_000.0, holding_bars=3, commission_bps=0.0, slippage_bps=0.0)
CALM = [(10.0, 10.5, 9.5, 10.0)] * 6


def trades_of(prices, *detections, dividends=(), factors=None, config=FREE):
    bars = make_bars(prices, factors=factors)
    return run_backtest(bars, make_detections(*detections), make_dividends(*dividends), config).trades


def only_trade(*args, **kwargs):
    trades = trades_of(*args, **kwargs)
    assert len(trades) == 1
    return trades.iloc[0]


# Entry


def test_a_detection_is_entered_at_the_open_after_it_was_known():
    trade = only_trade([(10, 11, 9, 10.5), (12, 13, 11, 12), (12, 13, 11, 12), (12, 13, 11, 12)], detect(0))
    assert (trade.entry_time, trade.entry_price) == (session_open(1), 12.0)
    assert trade.quantity == pytest.approx(1_000 / 12)


def test_a_detection_known_exactly_at_an_open_is_entered_there():
    assert only_trade(CALM, detect(0, known_at=session_open(2))).entry_time == session_open(2)


def test_a_detection_confirmed_days_later_waits_for_its_confirmation():
    assert only_trade(CALM, detect(0, known_at=session_close(2))).entry_time == session_open(3)


def test_a_detection_known_after_the_last_open_is_not_traded():
    assert trades_of(CALM, detect(5)).empty


@pytest.mark.parametrize("opening", [9.0, 8.5])
def test_a_long_is_not_entered_at_or_below_its_stop(opening):
    assert trades_of([CALM[0], (opening, 11, 8, 10), *CALM], detect(0, stop=9.0)).empty


@pytest.mark.parametrize("opening", [11.0, 11.5])
def test_a_short_is_not_entered_at_or_above_its_stop(opening):
    assert trades_of([CALM[0], (opening, 12, 9, 10), *CALM], detect(0, "bearish", stop=11.0)).empty


def test_of_detections_sharing_an_entry_bar_the_earliest_counts():
    trade = only_trade(CALM, detect(1, stop=8.0), detect(0, stop=9.0, known_at=session_close(1)))
    assert trade.detection_timestamp == session_open(0)


def test_a_detection_while_a_position_is_open_is_ignored():
    # Held on bars 1, 2 and 3: a detection known on bar 2 enters bar 3, which is not after the exit.
    assert trades_of(CALM, detect(0), detect(1), detect(2))["entry_time"].tolist() == [session_open(1)]


def test_the_next_position_may_open_on_the_bar_after_an_exit():
    assert trades_of(CALM, detect(0), detect(3))["entry_time"].tolist() == [session_open(1), session_open(4)]


def test_strategies_do_not_stand_in_each_others_way():
    trades = trades_of(CALM, detect(0), detect(1, pattern="engulfing"))
    assert trades[["pattern", "entry_time"]].to_numpy().tolist() == [
        ["engulfing", session_open(2)],
        ["hammer", session_open(1)],
    ]
    assert trades["trade_number"].tolist() == [1, 2]


# Exit


def test_a_position_is_left_at_the_close_of_the_last_bar_to_be_held():
    # The entry bar is the first of three: bars 1, 2 and 3.
    trade = only_trade([*CALM[:3], (10, 13, 9, 12), *CALM], detect(0))
    assert (trade.exit_time, trade.exit_price, trade.exit_reason) == (session_close(3), 12.0, "time")
    assert trade.pnl == pytest.approx(200.0)


def test_a_position_of_one_bar_is_left_at_the_close_of_its_entry_bar():
    config = BacktestConfig(capital=1_000.0, holding_bars=1, commission_bps=0.0, slippage_bps=0.0)
    trade = only_trade([CALM[0], (10, 12, 9, 11), *CALM], detect(0), config=config)
    assert (trade.exit_time, trade.pnl) == (session_close(1), pytest.approx(100.0))


def test_a_position_the_data_do_not_see_the_end_of_is_left_at_the_last_close():
    trade = only_trade([*CALM[:2], (10, 12, 9, 11)], detect(0))
    assert (trade.exit_time, trade.exit_price, trade.exit_reason) == (session_close(2), 11.0, "end_of_data")


def test_a_position_held_long_enough_on_the_very_last_bar_ends_by_time():
    assert only_trade(CALM[:4], detect(0)).exit_reason == "time"


def test_the_stop_ends_a_long_on_its_entry_bar():
    trade = only_trade([CALM[0], (10, 11, 8, 10.5), *CALM], detect(0, stop=9.0))
    assert (trade.exit_time, trade.exit_price, trade.exit_reason) == (session_close(1), 9.0, "stop")
    # 100 shares lose 1 each, which is all that was at risk.
    assert (trade.pnl, trade.r_multiple) == (pytest.approx(-100.0), pytest.approx(-1.0))


def test_the_stop_ends_a_short_on_its_entry_bar():
    trade = only_trade([CALM[0], (10, 12, 9, 9), *CALM], detect(0, "bearish", stop=11.0))
    assert (trade.direction, trade.exit_price, trade.exit_reason) == ("SHORT", 11.0, "stop")
    assert trade.pnl == pytest.approx(-100.0)


def test_touching_the_stop_is_enough():
    trade = only_trade([*CALM[:2], (10, 11, 9, 10), *CALM], detect(0, stop=9.0))
    assert (trade.exit_time, trade.exit_price, trade.exit_reason) == (session_close(2), 9.0, "stop")


def test_a_long_that_gaps_through_its_stop_is_filled_at_the_open():
    trade = only_trade([*CALM[:2], (8, 8.5, 7, 8), *CALM], detect(0, stop=9.0))
    assert (trade.exit_price, trade.r_multiple) == (8.0, pytest.approx(-2.0))


def test_a_short_that_gaps_through_its_stop_is_filled_at_the_open():
    trade = only_trade([*CALM[:2], (12, 13, 11.5, 12), *CALM], detect(0, "bearish", stop=11.0))
    assert (trade.exit_price, trade.r_multiple) == (12.0, pytest.approx(-2.0))


def test_on_the_last_bar_the_stop_comes_before_the_close():
    trade = only_trade([*CALM[:3], (10, 12, 9, 12), *CALM], detect(0, stop=9.0))
    assert (trade.exit_time, trade.exit_reason) == (session_close(3), "stop")


def test_a_stop_touched_on_the_last_bar_of_all_still_counts():
    assert only_trade([*CALM[:2], (10, 11, 8, 10)], detect(0, stop=9.0)).exit_reason == "stop"


def test_a_bar_after_the_last_one_held_cannot_stop_a_position():
    assert only_trade([*CALM[:4], (10, 11, 1, 10)], detect(0, stop=9.0)).exit_reason == "time"


def test_without_a_stop_there_is_no_r_multiple():
    trade = only_trade([*CALM[:2], (10, 11, 1, 10), *CALM], detect(0))
    assert trade.exit_reason == "time"
    assert np.isnan(trade.r_multiple)


# Money


def test_slippage_and_commission_are_paid_on_both_fills():
    config = BacktestConfig(capital=1_020.1, holding_bars=1, commission_bps=100.0, slippage_bps=100.0)
    trade = only_trade([CALM[0], (10, 12, 9, 11), *CALM], detect(0), config=config)
    # Bought at 10 + 1% = 10.10 and 1% commission on top: 1020.1 buys 100 shares. Sold at 11 - 1% = 10.89.
    assert (trade.entry_price, trade.exit_price) == (pytest.approx(10.10), pytest.approx(10.89))
    assert trade.quantity == pytest.approx(100.0)
    # Commission 10.10 and 10.89; slippage 0.10 and 0.11 on 100 shares.
    assert trade.costs == pytest.approx(10.10 + 10.89 + 10.0 + 11.0)
    assert trade.pnl == pytest.approx(1_089.0 - 1_010.0 - 10.10 - 10.89)


def test_a_short_sells_below_the_open_and_buys_back_above_the_close():
    config = BacktestConfig(capital=999.9, holding_bars=1, commission_bps=100.0, slippage_bps=100.0)
    trade = only_trade([CALM[0], (10, 11, 7, 8), *CALM], detect(0, "bearish"), config=config)
    # Sold at 9.90: 999.9 / (9.90 * 1.01) = 100 shares. Bought back at 8.08.
    assert (trade.entry_price, trade.exit_price) == (pytest.approx(9.90), pytest.approx(8.08))
    assert trade.quantity == pytest.approx(100.0)
    assert trade.pnl == pytest.approx(990.0 - 808.0 - 9.90 - 8.08)


def test_profits_and_losses_are_staked_on_the_next_trade():
    config = BacktestConfig(capital=1_000.0, holding_bars=1, commission_bps=0.0, slippage_bps=0.0)
    prices = [CALM[0], (10, 20, 10, 20), (20, 20, 10, 10), (10, 20, 10, 20)]
    trades = trades_of(prices, detect(0), detect(1), detect(2), config=config)
    # 1000 become 2000, then 1000, then 2000 again.
    assert trades["quantity"].tolist() == pytest.approx([100.0, 100.0, 100.0])
    assert trades["pnl"].tolist() == pytest.approx([1_000.0, -1_000.0, 1_000.0])


def test_a_sleeve_that_owes_money_trades_no_more():
    # A short from 10 to 25 loses 150% of its stake.
    prices = [*CALM[:3], (10, 25, 9, 25), *CALM, *CALM]
    trades = trades_of(prices, detect(0, "bearish"), detect(5))
    assert trades["pnl"].tolist() == pytest.approx([-1_500.0])


def test_a_sleeve_that_has_exactly_nothing_left_trades_no_more():
    # 49 * (1 / 49) is not 1 in float64: what rounding leaves behind is not capital.
    prices = [CALM[0], (49, 98, 49, 98), *CALM]
    config = BacktestConfig(capital=1.0, holding_bars=1, commission_bps=0.0, slippage_bps=0.0)
    assert len(trades_of(prices, detect(0, "bearish"), detect(2), config=config)) == 1


def test_each_symbol_of_a_portfolio_trades_its_own_part_of_the_capital():
    bars = pd.concat([make_bars(CALM), make_bars(CALM, symbol="BBB")])
    detections = make_detections(detect(0, symbol="BBB"), detect(0))
    trades = run_backtest(bars, detections, make_dividends(), FREE).trades
    assert trades["symbol"].tolist() == ["AAA", "BBB"]
    assert trades["quantity"].tolist() == pytest.approx([50.0, 50.0])


# Dividends


@pytest.mark.parametrize(("direction", "sign"), [("bullish", 1), ("bearish", -1)])
def test_a_dividend_is_paid_to_a_long_and_by_a_short(direction, sign):
    trade = only_trade(CALM, detect(0, direction), dividends=[("AAA", 2, 0.5)])
    # 100 shares, 0.5 each, nothing else moves.
    assert (trade.dividends, trade.pnl) == (pytest.approx(sign * 50.0), pytest.approx(sign * 50.0))


def test_a_position_opened_on_the_ex_date_gets_no_dividend():
    assert only_trade(CALM, detect(0), dividends=[("AAA", 1, 0.5)]).dividends == 0.0


def test_a_position_left_on_the_ex_date_still_gets_the_dividend():
    assert only_trade(CALM, detect(0), dividends=[("AAA", 3, 0.5)]).dividends == pytest.approx(50.0)


def test_a_position_left_before_the_ex_date_gets_no_dividend():
    assert only_trade(CALM, detect(0), dividends=[("AAA", 4, 0.5)]).dividends == 0.0


def test_a_dividend_during_a_halt_is_paid_by_the_next_bar():
    bars = make_bars(CALM, days=[0, 1, 5, 6, 7, 8])
    dividends = make_dividends(("AAA", 3, 0.5), ("AAA", 3, 0.25))
    trades = run_backtest(bars, make_detections(detect(0)), dividends, FREE).trades
    # Regular and special dividends of one date add up.
    assert trades["dividends"].tolist() == pytest.approx([75.0])


def test_the_ex_date_is_the_date_of_the_session_also_where_that_opens_on_the_day_before_in_utc():
    bars, detections = in_sydney(make_bars(CALM)), in_sydney(make_detections(detect(0), detect(1, pattern="engulfing")))
    trades = run_backtest(bars, detections, make_dividends(("AAA", 2, 0.5)), FREE).trades
    # Day 2 opens at 23:00 UTC of day 1. Who bought on day 2 gets nothing; the 100 shares bought on day 1 get 0.5 each.
    assert trades["pattern"].tolist() == ["engulfing", "hammer"]
    assert trades["dividends"].tolist() == pytest.approx([0.0, 50.0])


def test_the_dividend_of_an_unlisted_symbol_is_left_aside():
    assert only_trade(CALM, detect(0), dividends=[("ZZZ", 2, 0.5)]).dividends == 0.0


# Splits


def test_a_split_within_a_trade_is_not_a_loss_and_is_told_in_shares_of_the_entry():
    # Two for one on bar 2: 12 after the split is 24 before it.
    prices = [*[(20, 21, 19, 20)] * 2, (10, 10.5, 9.5, 10), (10, 12, 9.5, 12)]
    trade = only_trade(prices, detect(0, stop=18.0), factors=[1.0, 1.0, 2.0, 2.0])
    assert (trade.entry_price, trade.exit_price, trade.quantity) == (20.0, 24.0, 50.0)
    assert (trade.pnl, trade.r_multiple) == (pytest.approx(200.0), pytest.approx(2.0))


def test_a_trade_after_a_split_is_told_in_the_shares_of_its_day():
    # The basis of before the split, in which it all cost twice as much, is nowhere to be seen.
    trade = only_trade([*CALM[:2], (10, 10, 8, 8)], detect(0, stop=9.0), factors=[2.0] * 3)
    assert (trade.entry_price, trade.exit_price, trade.quantity) == (10.0, 9.0, pytest.approx(100.0))
    assert (trade.pnl, trade.r_multiple) == (pytest.approx(-100.0), pytest.approx(-1.0))


def test_a_stop_follows_the_split_of_three_for_one():
    # 27 before the split is 9 after it.
    prices = [*[(30, 31, 29, 30)] * 2, (10, 10.5, 8.5, 10), *CALM]
    trade = only_trade(prices, detect(0, stop=27.0), factors=[1.0, 1.0, *[3.0] * 7])
    assert (trade.exit_reason, trade.exit_price, trade.r_multiple) == ("stop", 27.0, pytest.approx(-1.0))


def test_a_dividend_after_a_split_is_paid_on_the_shares_the_split_made():
    prices = [*[(20, 21, 19, 20)] * 2, *[(10, 10.5, 9.5, 10)] * 4]
    trade = only_trade(prices, detect(0), factors=[1.0, 1.0, *[2.0] * 4], dividends=[("AAA", 3, 0.5)])
    # 50 shares became 100.
    assert (trade.quantity, trade.dividends) == (pytest.approx(50.0), pytest.approx(50.0))


@settings(deadline=None, max_examples=30)
@given(markets(), TERMS)
def test_a_world_without_splits_makes_the_same_money(market, terms):
    bars, detections, dividends = market
    config = BacktestConfig(**terms)
    report = run_backtest(bars, detections, dividends, config)
    whole = bars.assign(split_factor=1.0)
    factor = bars.set_index(["symbol", "timestamp"])["split_factor"]
    of_bar = factor.reindex(pd.MultiIndex.from_frame(detections[["symbol", "timestamp"]])).to_numpy()
    restated = detections.assign(stop_loss=detections["stop_loss"] * of_bar)
    cash = [
        row.cash_amount * next(iter(own["split_factor"]), 1.0)
        for row in dividends.itertuples()
        for own in [bars[(bars["symbol"] == row.symbol) & (bars["timestamp"].dt.date >= row.ex_dividend_date)]]
    ]
    unsplit = run_backtest(whole, restated, dividends.assign(cash_amount=np.array(cash, float)), config)
    share_columns = ["entry_price", "exit_price", "quantity"]
    pd.testing.assert_frame_equal(
        report.trades.drop(columns=share_columns), unsplit.trades.drop(columns=share_columns), rtol=1e-9, atol=1e-7
    )
    pd.testing.assert_frame_equal(report.equity, unsplit.equity, rtol=1e-9, atol=1e-7)


# Against the naive account


@settings(deadline=None, max_examples=100)
@given(markets(), TERMS)
def test_the_engine_trades_as_an_account_kept_bar_by_bar_does(market, terms):
    bars, detections, dividends = market
    trades = run_backtest(bars, detections, dividends, BacktestConfig(**terms)).trades
    scopes = naive.backtest(*(frame.to_dict("records") for frame in market), terms)
    expected = [trade for key, scope in scopes.items() if key[0] == "portfolio" for trade in scope["trades"]]
    assert trades["trade_number"].tolist() == list(range(1, len(expected) + 1))
    for found, wanted in zip(trades.to_dict("records"), expected, strict=True):
        for name, value in wanted.items():
            if isinstance(value, float):
                value = pytest.approx(value, rel=1e-9, abs=1e-12 * terms["capital"], nan_ok=True)  # noqa: PLW2901
            assert found[name] == value, name


@settings(deadline=None, max_examples=30)
@given(markets(), TERMS)
def test_the_money_of_a_trade_is_explained_by_its_own_columns(market, terms):
    trades = run_backtest(*market, BacktestConfig(**terms)).trades
    sign = np.where(trades["direction"] == "LONG", 1.0, -1.0)
    traded = trades["quantity"] * (trades["entry_price"] + trades["exit_price"])
    moved = sign * trades["quantity"] * (trades["exit_price"] - trades["entry_price"])
    commissions = traded * terms["commission_bps"] / 1e4
    explained = moved + trades["dividends"] - commissions
    assert trades["pnl"].to_numpy() == pytest.approx(explained.to_numpy(), rel=1e-9, abs=1e-7)


# Causality


@settings(deadline=None, max_examples=50)
@given(markets(), TERMS, st.integers(0, 14))
def test_the_future_never_changes_a_trade_already_closed(market, terms, day):
    bars, detections, dividends = market
    config = BacktestConfig(**terms)
    full = run_backtest(bars, detections, dividends, config).trades
    # Every symbol keeps its first bar: how many there are decides the size of a sleeve.
    seen = (bars["timestamp"] <= session_open(day)) | ~bars["symbol"].duplicated()
    known = detections.merge(bars.loc[seen, ["symbol", "timestamp"]])
    prefix = run_backtest(bars[seen], known, dividends, config).trades
    closed = prefix[prefix["exit_reason"] != "end_of_data"].drop(columns="trade_number").reset_index(drop=True)
    same = full.drop(columns="trade_number").merge(closed[["symbol", "pattern", "variant", "entry_time"]])
    pd.testing.assert_frame_equal(closed, same, check_dtype=False)
    by_then = full[(full["exit_time"] <= session_close(day)) & (full["exit_reason"] != "end_of_data")]
    # And none that was closed by then is missing.
    assert len(by_then.merge(closed[["symbol", "pattern", "variant", "entry_time"]])) == len(by_then)


def test_the_order_of_the_detections_does_not_matter():
    rows = [detect(day, pattern=pattern) for day in range(4) for pattern in ("hammer", "engulfing")]
    pd.testing.assert_frame_equal(trades_of(CALM, *rows), trades_of(CALM, *reversed(rows)))


def test_no_detections_make_an_empty_report_with_all_its_columns():
    report = run_backtest(make_bars(CALM), make_detections(), make_dividends(), FREE)
    assert report.trades.empty
    assert report.results.empty
    assert report.equity.empty
    filled = run_backtest(make_bars(CALM), make_detections(detect(0)), make_dividends(), FREE)
    assert report.trades.columns.tolist() == filled.trades.columns.tolist()
    assert report.results.columns.tolist() == filled.results.columns.tolist()
