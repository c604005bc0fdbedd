"""Equity and ratios: from the positions taken to one row of figures per strategy and scope.

A *scope* is the portfolio (all symbols, equal parts of the capital) or one symbol with the whole capital. Curves are
computed for a capital of 1 and marked at each bar's close; only what is reported in currency is scaled.

Elsewhere: which positions are taken, and at what price (engine.py).
"""

import numpy as np
import pandas as pd

from tickstock_assets.domain.backtest.inputs import BacktestConfig, Floats, Ints, Market

# Less than this part of the capital, or of a return, is the rounding of float64, not money.
RUINED = 1e-12
PORTFOLIO = "portfolio"
CURVE_RATIOS = ("roi", "sharpe", "sortino", "max_drawdown")


def sleeve_curves(market: Market, positions: pd.DataFrame) -> Floats:
    """Return the equity of one strategy's sleeves at each bar's close, each having begun with 1.

    Args:
        market: the bars.
        positions: of one strategy, ordered by symbol and entry bar, without overlap.

    Returns:
        float64, shape (n_bars,); on the exit bar the position is settled.
    """
    if positions.empty:
        return np.ones(len(market.close))
    bar = np.arange(len(market.close))
    # A sleeve holds one position at a time, so the last one entered says all about a bar.
    latest = np.searchsorted(positions["entry_bar"].to_numpy(), bar, side="right") - 1
    names = ("symbol", "side", "entry_bar", "exit_bar", "entry_fill", "entry_fee", "shares", "pnl", "stake")
    symbol, side, entry_bar, exit_bar, fill, fee, shares, pnl, stake = (positions[n].to_numpy()[latest] for n in names)
    per_share = market.close - fill + market.paid - market.paid[entry_bar]
    marked = 1.0 + side * shares * per_share - fee
    untouched = (latest < 0) | (symbol != market.symbol)
    return np.where(untouched, 1.0, stake * np.where(bar < exit_bar, marked, 1.0 + pnl))


def portfolio_curve(market: Market, sleeves: Floats) -> Floats:
    """Return the mean of all sleeves at each session, shape (n_sessions,).

    A sleeve without a bar keeps its last value, and its cash before the symbol is listed.
    """
    change = sleeves - _previous(sleeves, market.first_bar)
    per_session = np.bincount(market.session, change, minlength=len(market.sessions))
    return 1.0 + np.cumsum(per_session) / len(market.symbols)


def measure(curves: Floats, first: Ints, config: BacktestConfig) -> dict[str, Floats]:
    """Return the ratios of several curves laid end to end.

    Args:
        curves: float64, equity at each session's close, every curve having begun with 1 before its first session.
        first: where each curve starts, ascending from 0.
        config: the risk-free rate and the sessions in a year.

    Returns:
        For each of CURVE_RATIOS float64, shape (n_curves,). roi over the whole curve and max_drawdown (from the highest
        equity so far, positive) as fractions; sharpe and sortino of the sessions' returns, idle ones included, in
        excess of the risk-free rate and per year. The last two are NaN when returns do not vary, or when equity was
        ever used up, because a return on nothing is not defined.
    """
    lengths = np.diff(first, append=len(curves))
    curve = np.repeat(np.arange(len(first)), lengths)
    previous = _previous(curves, first)
    solvent = np.minimum.reduceat(curves, first) > RUINED
    returns = np.divide(curves, previous, out=np.ones_like(curves), where=solvent[curve]) - 1.0
    mean = np.add.reduceat(returns, first) / lengths
    scatter = np.add.reduceat((returns - mean[curve]) ** 2, first)
    deviation = np.sqrt(_ratio(scatter, lengths - 1.0))
    excess = returns - config.risk_free_rate / config.periods_per_year
    mean_excess = np.add.reduceat(excess, first) / lengths
    downside = np.sqrt(np.add.reduceat(np.minimum(excess, 0.0) ** 2, first) / lengths)
    varies = solvent & (deviation > RUINED)
    yearly = np.where(varies, np.sqrt(config.periods_per_year), np.nan)
    peak = np.maximum(pd.Series(curves).groupby(curve).cummax().to_numpy(), 1.0)
    return {
        "roi": curves[first + lengths - 1] - 1.0,
        "sharpe": _ratio(mean_excess, deviation) * yearly,
        "sortino": _ratio(mean_excess, downside) * yearly,
        "max_drawdown": np.maximum.reduceat(1.0 - curves / peak, first),
    }


def measure_curves(
    market: Market, positions: pd.DataFrame, n_strategies: int, config: BacktestConfig
) -> tuple[Floats, dict[str, Floats]]:
    """Return each strategy's portfolio curve and the ratios of all its scopes.

    Returns:
        Curves, shape (n_strategies, n_sessions); and for each of CURVE_RATIOS shape (n_strategies, 1 + n_symbols), the
        portfolio first.
    """
    n_sessions = len(market.sessions)
    curves = np.empty((n_strategies, n_sessions))
    ratios = {name: np.empty((n_strategies, 1 + len(market.symbols))) for name in CURVE_RATIOS}
    first = np.append(0, n_sessions + market.first_bar)
    bounds = np.searchsorted(positions["strategy"].to_numpy(), np.arange(n_strategies + 1))
    # One strategy at a time: memory grows with the bars, not with bars times strategies.
    for strategy in range(n_strategies):
        sleeves = sleeve_curves(market, positions.iloc[bounds[strategy] : bounds[strategy + 1]])
        curves[strategy] = portfolio_curve(market, sleeves)
        for name, values in measure(np.append(curves[strategy], sleeves), first, config).items():
            ratios[name][strategy] = values
    return curves, ratios


def entered_too_early(trades: pd.DataFrame, detections: pd.DataFrame) -> pd.DataFrame:
    """Return the trades entered before their detection was known, or whose detection does not exist."""
    known = trades.merge(
        detections[["symbol", "pattern", "variant", "timestamp", "known_at"]],
        how="left",
        left_on=["symbol", "pattern", "variant", "detection_timestamp"],
        right_on=["symbol", "pattern", "variant", "timestamp"],
        validate="many_to_one",
    )
    return trades[~(known["entry_time"] >= known["known_at"]).to_numpy()]


def score(
    market: Market,
    strategies: pd.DataFrame,
    curve_ratios: dict[str, Floats],
    *,
    detections: pd.DataFrame,
    placed: pd.DataFrame,
    positions: pd.DataFrame,
    trades: pd.DataFrame,
) -> pd.DataFrame:
    """Return one row per strategy and scope, ordered by pattern and variant, the portfolio before its symbols.

    Args:
        market: the bars.
        strategies: pattern and variant, sorted.
        curve_ratios: of `measure_curves`.
        detections: as given to the backtest.
        placed: the same, row for row, placed on the market.
        positions: the trades taken, for a sleeve of 1.
        trades: the same, row for row, in currency.

    Returns:
        scope ('portfolio' or a symbol), pattern, variant, start, end (first and last session), patterns_detected,
        signals (trades taken), winning, losing (net of costs; a pnl of 0 is neither), win_rate, average_r_multiple (of
        trades with a stop), roi, sharpe, sortino, max_drawdown (see `measure`), profit_factor (NaN without losses),
        expectancy (mean pnl per trade, in currency), look_ahead_bias_check (True: no trade of the scope was entered
        before its detection was known, as read back from the trades). Without trades the means are NaN.
    """
    n_strategies, n_symbols = len(strategies), len(market.symbols)

    def tally(rows: pd.DataFrame, weights: pd.Series | None = None) -> Floats:
        sleeve = rows["strategy"].to_numpy() * n_symbols + rows["symbol"].to_numpy()
        sums = np.bincount(sleeve, weights, minlength=n_strategies * n_symbols).reshape(n_strategies, n_symbols)
        return np.column_stack([sums.sum(axis=1), sums])

    pnl, r_multiple = trades["pnl"], trades["r_multiple"]
    signals, gains, losses = tally(positions), tally(positions, pnl.clip(lower=0)), tally(positions, -pnl.clip(upper=0))
    # A symbol's own scope trades with all of the capital instead of its part.
    sizing = np.append(1, np.full(n_symbols, n_symbols))
    winning = tally(positions[pnl > 0])
    too_early = positions.loc[entered_too_early(trades, detections).index]
    figures = {
        "patterns_detected": tally(placed).astype(np.int64),
        "signals": signals.astype(np.int64),
        "winning": winning.astype(np.int64),
        "losing": tally(positions[pnl < 0]).astype(np.int64),
        "win_rate": _ratio(winning, signals),
        "average_r_multiple": _ratio(tally(positions, r_multiple.fillna(0)), tally(positions[r_multiple.notna()])),
        **curve_ratios,
        "profit_factor": _ratio(gains, losses),
        "expectancy": _ratio(gains - losses, signals) * sizing,
        "look_ahead_bias_check": tally(too_early) == 0,
    }
    return _scopes(market, strategies).assign(**{name: values.ravel() for name, values in figures.items()})


def equity_frame(market: Market, strategies: pd.DataFrame, portfolios: Floats, capital: float) -> pd.DataFrame:
    """Return the portfolio's equity per strategy and session: timestamp, pattern, variant, equity.

    A row is stamped with its session's start, as bars are (of several exchanges, that of the first to open), and holds
    the equity at that session's close, in currency.
    """
    labels = strategies.loc[np.repeat(np.arange(len(strategies)), len(market.sessions))]
    return pd.DataFrame(
        {
            "timestamp": market.session_start[np.tile(np.arange(len(market.sessions)), len(strategies))],
            "pattern": labels["pattern"].to_numpy(),
            "variant": labels["variant"].to_numpy(),
            "equity": capital * portfolios.ravel(),
        }
    )


def _scopes(market: Market, strategies: pd.DataFrame) -> pd.DataFrame:
    starts = market.sessions[market.session[market.first_bar]].insert(0, market.sessions[0])
    ends = market.sessions[market.session[market.last_bar]].insert(0, market.sessions[-1])
    scope = np.tile(np.arange(1 + len(market.symbols)), len(strategies))
    labels = strategies.loc[np.repeat(np.arange(len(strategies)), 1 + len(market.symbols))]
    return pd.DataFrame(
        {
            "scope": market.symbols.insert(0, PORTFOLIO)[scope],
            "pattern": labels["pattern"].to_numpy(),
            "variant": labels["variant"].to_numpy(),
            "start": starts[scope],
            "end": ends[scope],
        }
    )


def _previous(curves: Floats, first: Ints) -> Floats:
    previous = np.roll(curves, 1)
    previous[first] = 1.0
    return previous


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    quotient: Floats = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient
