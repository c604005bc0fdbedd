"""From detections to trades: when each is entered, how it is left, and which of them a sleeve can take.

A *strategy* is a pattern with its variant; it has one account. A *sleeve* is that account's share in one symbol: it
holds one position at a time and puts all of its equity in it. A position's size is proportional to its sleeve's
equity, so sleeves are walked once with a capital of 1 and scaled.

Elsewhere: settings and contracts of the input (inputs.py), fills (costs.py), equity and ratios (metrics.py).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tickstock_assets.domain.backtest import metrics
from tickstock_assets.domain.backtest.costs import affordable_shares, commission, fill_price, slippage_cost
from tickstock_assets.domain.backtest.inputs import (
    BacktestConfig,
    Market,
    lay_out_detections,
    lay_out_market,
)

__all__ = ["BacktestConfig", "BacktestReport", "run_backtest"]


@dataclass(frozen=True)
class BacktestReport:
    """What every strategy did, how well, and its account over time; see `run_backtest`."""

    trades: pd.DataFrame
    results: pd.DataFrame
    equity: pd.DataFrame


def run_backtest(
    bars: pd.DataFrame, detections: pd.DataFrame, dividends: pd.DataFrame, config: BacktestConfig
) -> BacktestReport:
    """Trade every detection after it was known, each strategy on its own account.

    A bullish detection is bought, a bearish one sold short, at the open of the first bar stamped at or after its
    known_at, unless that open is already at or beyond the stop. Of several detections of a strategy that share an
    entry bar only the earliest counts, even if its stop forbids the trade. A position is left at its stop ('stop'; at
    the open where a later bar opens beyond it), at the close of the last bar to be held ('time') or, where the data end
    first, at the last close ('end_of_data'). A dividend belongs to who held before its ex-date.

    Args:
        bars: symbol, date (of the session), timestamp (session open, UTC), session_close (UTC), open, high, low, close
            (continuous: price as traded times split_factor), split_factor; sorted by symbol and timestamp.
        detections: symbol, timestamp (of one of the bars), pattern, variant, direction ('bullish' or 'bearish'),
            known_at, stop_loss (as traded on the detection's bar; NaN for none); in any order.
        dividends: symbol, ex_dividend_date, cash_amount (per share as traded on the ex-date).
        config: capital, costs and holding time.

    Returns:
        trades: a row per trade at portfolio sizing (each symbol in `bars` gets an equal part of the capital, never
            rebalanced), ordered by pattern, variant, symbol and entry_time: trade_number (from 1), symbol, pattern,
            variant, direction ('LONG' or 'SHORT'), detection_timestamp, entry_time (the entry bar's timestamp),
            entry_price, exit_time (the exit bar's session_close, also for a stop: its moment within the session is not
            in the bars, and by the close it is known), exit_price, quantity, costs (commission and slippage),
            dividends (negative for a short), pnl (net), r_multiple (pnl over the amount at risk between entry_price and
            stop, NaN without a stop), exit_reason. Prices are fills, slippage included. Both prices and quantity are in
            shares as traded on the *entry* bar, also when a split falls within the trade, so
            pnl = ±quantity * (exit_price - entry_price) + dividends - commissions.
        results: a row per strategy and scope; see `metrics.score`.
        equity: a row per strategy and session; see `metrics.equity_frame`.

    Raises:
        ContractError: a frame does not keep its promise; see `inputs`.
    """
    market = lay_out_market(bars, dividends)
    placed, strategies = lay_out_detections(detections, market)
    positions = take_positions(price_trades(market, find_entries(market, placed), config))
    trades = _ledger(market, positions, strategies, detections, config)
    portfolios, curve_ratios = metrics.measure_curves(market, positions, len(strategies), config)
    return BacktestReport(
        trades=trades,
        results=metrics.score(
            market, strategies, curve_ratios, detections=detections, placed=placed, positions=positions, trades=trades
        ),
        equity=metrics.equity_frame(market, strategies, portfolios, config.capital),
    )


def find_entries(market: Market, placed: pd.DataFrame) -> pd.DataFrame:
    """Return the placed detections that may be traded, ordered by strategy, symbol and entry bar."""
    reached = placed.assign(detection=np.arange(len(placed)))[placed["entry_bar"] >= 0]
    order = ["strategy", "symbol", "entry_bar", "timestamp"]
    firsts = reached.sort_values(order).drop_duplicates(["strategy", "symbol", "entry_bar"], ignore_index=True)
    side, opening = firsts["side"].to_numpy(), market.open[firsts["entry_bar"].to_numpy()]
    tradable: pd.DataFrame = firsts[~(side * opening <= side * firsts["stop"].to_numpy())]
    return tradable.reset_index(drop=True)


def find_exits(market: Market, entries: pd.DataFrame, holding_bars: int) -> pd.DataFrame:
    """Return how each entry would be left on its own: exit_bar, exit_quote (before slippage) and exit_reason."""
    side, stop = entries["side"].to_numpy(), entries["stop"].to_numpy()
    entry_bar = entries["entry_bar"].to_numpy()
    last_bar = market.last_bar[entries["symbol"].to_numpy()]
    exit_bar = np.minimum(entry_bar + holding_bars - 1, last_bar)
    exit_quote = market.close[exit_bar]
    reason = np.where(entry_bar + holding_bars - 1 <= last_bar, "time", "end_of_data").astype(object)
    held = np.flatnonzero(~np.isnan(stop))
    # Not past the longest history, however long a position may be held.
    for offset in range(min(holding_bars, int(np.max(last_bar - entry_bar, initial=0)) + 1)):
        held = held[entry_bar[held] + offset <= exit_bar[held]]
        bar = entry_bar[held] + offset
        worst = np.where(side[held] > 0, market.low[bar], market.high[bar])
        touched = side[held] * worst <= side[held] * stop[held]
        hit, bar = held[touched], bar[touched]
        exit_bar[hit], reason[hit] = bar, "stop"
        # The worse of open and stop: a gap through the stop. An entry bar never opens beyond it, see find_entries.
        exit_quote[hit] = side[hit] * np.minimum(side[hit] * market.open[bar], side[hit] * stop[hit])
        held = held[~touched]
    return pd.DataFrame({"exit_bar": exit_bar, "exit_quote": exit_quote, "exit_reason": reason})


def price_trades(market: Market, entries: pd.DataFrame, config: BacktestConfig) -> pd.DataFrame:
    """Return the entries with their exits, priced for a sleeve of 1: fills, shares, costs, dividends and pnl."""
    trades = entries.join(find_exits(market, entries, config.holding_bars))
    side, entry_bar, exit_bar = (trades[name].to_numpy() for name in ("side", "entry_bar", "exit_bar"))
    entry_quote, exit_quote = market.open[entry_bar], trades["exit_quote"].to_numpy()
    entry_fill = fill_price(entry_quote, side, config.slippage_rate)
    exit_fill = fill_price(exit_quote, -side, config.slippage_rate)
    shares = affordable_shares(1.0, entry_fill, config.commission_rate)
    entry_fee = commission(shares, entry_fill, config.commission_rate)
    fees = entry_fee + commission(shares, exit_fill, config.commission_rate)
    slippage = slippage_cost(shares, entry_quote, entry_fill) + slippage_cost(shares, exit_quote, exit_fill)
    # Plus 0, so that a short without a dividend shows 0 and not -0.
    dividends = side * shares * (market.paid[exit_bar] - market.paid[entry_bar]) + 0.0
    return trades.assign(
        entry_fill=entry_fill,
        exit_fill=exit_fill,
        shares=shares,
        entry_fee=entry_fee,
        costs=fees + slippage,
        dividends=dividends,
        pnl=side * shares * (exit_fill - entry_fill) + dividends - fees,
    )


def take_positions(trades: pd.DataFrame) -> pd.DataFrame:
    """Return the trades their sleeves can take, with the stake: the sleeve's equity at entry, having begun with 1.

    Args:
        trades: priced for a sleeve of 1, ordered by strategy, symbol and entry bar, one per entry bar.
    """
    taken, stakes = [], []
    sleeve, busy_until, equity = (-1, -1), -1, 1.0
    columns = (trades[name].tolist() for name in ("strategy", "symbol", "entry_bar", "exit_bar", "pnl"))
    for row, (strategy, symbol, entry_bar, exit_bar, pnl) in enumerate(zip(*columns, strict=True)):
        if (strategy, symbol) != sleeve:
            sleeve, busy_until, equity = (strategy, symbol), -1, 1.0
        if entry_bar <= busy_until or equity <= metrics.RUINED:
            continue
        taken.append(row)
        stakes.append(equity)
        busy_until = exit_bar
        equity *= 1.0 + pnl
    return trades.iloc[taken].assign(stake=np.array(stakes, np.float64)).reset_index(drop=True)


def _ledger(
    market: Market,
    positions: pd.DataFrame,
    strategies: pd.DataFrame,
    detections: pd.DataFrame,
    config: BacktestConfig,
) -> pd.DataFrame:
    entry_bar, strategy = positions["entry_bar"].to_numpy(), positions["strategy"].to_numpy()
    money = positions["stake"].to_numpy() * config.capital / len(market.symbols)
    factor = market.split_factor[entry_bar]
    at_risk = (positions["entry_fill"] - positions["stop"]).abs() * positions["shares"]
    labels = strategies.iloc[strategy]
    return pd.DataFrame(
        {
            "trade_number": np.arange(1, len(positions) + 1),
            "symbol": market.symbols[positions["symbol"].to_numpy()],
            "pattern": labels["pattern"].to_numpy(),
            "variant": labels["variant"].to_numpy(),
            "direction": np.where(positions["side"] > 0, "LONG", "SHORT"),
            "detection_timestamp": detections["timestamp"].iloc[positions["detection"].to_numpy()].array,
            "entry_time": market.timestamp[entry_bar],
            "entry_price": positions["entry_fill"] / factor,
            "exit_time": market.session_close[positions["exit_bar"].to_numpy()],
            "exit_price": positions["exit_fill"] / factor,
            "quantity": money * positions["shares"] * factor,
            "costs": money * positions["costs"],
            "dividends": money * positions["dividends"],
            "pnl": money * positions["pnl"],
            "r_multiple": positions["pnl"] / at_risk,
            "exit_reason": positions["exit_reason"],
        }
    )
