"""A second backtest, bar by bar on real shares: the oracle of the kernel. Imports nothing of the package.

It differs in every choice that could hide a shared mistake: prices are turned back into what was traded on the day, a
split multiplies the shares held and divides the stop, money sits in an account that buys, is paid dividends and sells,
and every scope is simulated on its own with its own capital.
"""

import bisect
import math
from collections import defaultdict
from datetime import date

# Money below this part of the capital is what float64 leaves over.
NOTHING = 1e-12


def backtest(bars, detections, dividends, terms):
    """Simulate every scope of every strategy.

    Args:
        bars, detections, dividends: lists of dicts, as the rows of the kernel's input.
        terms: dict with capital, holding_bars, commission_bps, slippage_bps.

    Returns:
        {(scope, pattern, variant): {"trades": [dict], "equity": {timestamp: float}, "detected": int}}
    """
    bars_of = defaultdict(list)
    for bar in bars:
        bars_of[bar["symbol"]].append(bar)
    sessions = sorted({bar["timestamp"] for bar in bars})
    scopes = {}
    for pattern, variant in sorted({(d["pattern"], d["variant"]) for d in detections}):
        portfolio = {"trades": [], "equity": dict.fromkeys(sessions, 0.0), "detected": 0}
        scopes["portfolio", pattern, variant] = portfolio
        for symbol, own in bars_of.items():
            chosen = [d for d in detections if (d["symbol"], d["pattern"], d["variant"]) == (symbol, pattern, variant)]
            paid = [d for d in dividends if d["symbol"] == symbol]
            alone = _sleeve(own, chosen, paid, terms, terms["capital"])
            scopes[symbol, pattern, variant] = alone | {"detected": len(chosen)}
            part = _sleeve(own, chosen, paid, terms, terms["capital"] / len(bars_of))
            portfolio["trades"] += part["trades"]
            portfolio["detected"] += len(chosen)
            worth = terms["capital"] / len(bars_of)
            for session in sessions:
                worth = part["equity"].get(session, worth)
                portfolio["equity"][session] += worth
    return scopes


def _sleeve(bars, detections, dividends, terms, capital):
    slippage, commission = terms["slippage_bps"] / 1e4, terms["commission_bps"] / 1e4
    entries = _entries(bars, detections)
    cash, position, trades, equity = capital, None, [], {}
    for number, bar in enumerate(bars):
        factor = bar["split_factor"]
        opened, high, low, close = (bar[name] / factor for name in ("open", "high", "low", "close"))
        if position:
            split_ratio = factor / bars[number - 1]["split_factor"]
            position["shares"] *= split_ratio
            position["stop"] /= split_ratio
            for dividend in _gone_ex(bars, number, dividends):
                # Cash per share of the ex-date, and this bar is the first since: no split in between.
                amount = position["side"] * position["shares"] * dividend["cash_amount"]
                cash += amount
                position["dividends"] += amount
        elif number in entries and cash > NOTHING * capital:
            signal, stop = entries[number]
            side = 1 if signal["direction"] == "bullish" else -1
            refused = opened <= stop if side == 1 else opened >= stop
            if not refused:
                fill = opened * (1 + side * slippage)
                shares = cash / (fill * (1 + commission))
                fees = shares * fill * commission
                position = {
                    "signal": signal,
                    "side": side,
                    "first": number,
                    "shares": shares,
                    "stop": stop,
                    "risk": abs(fill - stop) * shares,
                    "cash_before": cash,
                    "fill": fill,
                    "quantity": shares,
                    "costs": fees + shares * abs(fill - opened),
                    "dividends": 0.0,
                }
                cash -= side * shares * fill + fees
        if position:
            leave = _leave(position, number, opened, high, low, close, len(bars), terms["holding_bars"])
            if leave:
                quote, reason = leave
                side, shares = position["side"], position["shares"]
                fill = quote * (1 - side * slippage)
                fees = shares * fill * commission
                cash += side * shares * fill - fees
                entry_bar = bars[position["first"]]
                pnl = cash - position["cash_before"]
                trades.append(
                    {
                        "symbol": bar["symbol"],
                        "pattern": position["signal"]["pattern"],
                        "variant": position["signal"]["variant"],
                        "direction": "LONG" if side == 1 else "SHORT",
                        "detection_timestamp": position["signal"]["timestamp"],
                        "entry_time": entry_bar["timestamp"],
                        "entry_price": position["fill"],
                        "exit_time": bar["session_close"],
                        "exit_price": fill * factor / entry_bar["split_factor"],
                        "quantity": position["quantity"],
                        "costs": position["costs"] + fees + shares * abs(fill - quote),
                        "dividends": position["dividends"],
                        "pnl": pnl,
                        "r_multiple": pnl / position["risk"],
                        "exit_reason": reason,
                    }
                )
                position = None
        equity[bar["timestamp"]] = cash + (position["side"] * position["shares"] * close if position else 0.0)
    return {"trades": trades, "equity": equity}


def _entries(bars, detections):
    """The detection to act on at each bar's open, with its stop in that bar's own shares."""
    entries = {}
    for signal in sorted(detections, key=lambda d: d["timestamp"]):
        number = _first_at_or_after(bars, signal["known_at"])
        if number < len(bars) and number not in entries:
            detected_on = bars[_first_at_or_after(bars, signal["timestamp"])]
            assert detected_on["timestamp"] == signal["timestamp"]
            ratio = bars[number]["split_factor"] / detected_on["split_factor"]
            entries[number] = signal, signal["stop_loss"] / ratio
    return entries


def _first_at_or_after(bars, instant):
    return bisect.bisect_left(bars, instant, key=lambda bar: bar["timestamp"])


def _gone_ex(bars, number, dividends):
    """The dividends whose first bar on or after the ex-date is this one."""
    # A date, or a moment at its midnight, as frames have it.
    before, today = (date.fromisoformat(str(bars[place]["date"])[:10]) for place in (number - 1, number))
    return [d for d in dividends if before < d["ex_dividend_date"] <= today]


def _leave(position, number, opened, high, low, close, n_bars, holding_bars):
    """(price, reason) when the position is left on this bar, otherwise None."""
    stop, just_entered = position["stop"], number == position["first"]
    if position["side"] == 1 and low <= stop:
        return (stop if just_entered else min(opened, stop)), "stop"
    if position["side"] == -1 and high >= stop:
        return (stop if just_entered else max(opened, stop)), "stop"
    if number - position["first"] + 1 == holding_bars:
        return close, "time"
    if number == n_bars - 1:
        return close, "end_of_data"
    return None


def figures(scope, capital, risk_free_rate, periods_per_year):
    """The figures of one scope out of `backtest`, in plain sums."""
    equity = list(scope["equity"].values())
    pnl = [trade["pnl"] for trade in scope["trades"]]
    multiples = [trade["r_multiple"] for trade in scope["trades"] if not math.isnan(trade["r_multiple"])]
    losses = -sum(p for p in pnl if p < 0)
    peak, drawdown = capital, 0.0
    for worth in equity:
        peak = max(peak, worth)
        drawdown = max(drawdown, (peak - worth) / peak)
    sharpe, sortino = _yearly(equity, capital, risk_free_rate, periods_per_year)
    return {
        "patterns_detected": scope["detected"],
        "signals": len(pnl),
        "winning": sum(p > 0 for p in pnl),
        "losing": sum(p < 0 for p in pnl),
        "win_rate": _mean([p > 0 for p in pnl]),
        "average_r_multiple": _mean(multiples),
        "roi": (equity[-1] - capital) / capital,
        "sharpe": sharpe,
        "sortino": sortino,
        "max_drawdown": drawdown,
        "profit_factor": sum(p for p in pnl if p > 0) / losses if losses else math.nan,
        "expectancy": _mean(pnl),
        "look_ahead_bias_check": True,
    }


def _yearly(equity, capital, risk_free_rate, periods_per_year):
    if min(equity) <= NOTHING * capital:
        return math.nan, math.nan
    returns = [now / before - 1 for before, now in zip([capital, *equity], equity, strict=False)]
    excess = [r - risk_free_rate / periods_per_year for r in returns]
    mean = _mean(returns)
    variance = sum((r - mean) ** 2 for r in returns) / (len(returns) - 1) if len(returns) > 1 else 0.0
    if math.sqrt(variance) <= NOTHING:
        return math.nan, math.nan
    downside = math.sqrt(_mean([min(e, 0) ** 2 for e in excess]))
    yearly = _mean(excess) * math.sqrt(periods_per_year)
    return yearly / math.sqrt(variance), yearly / downside if downside else math.nan


def _mean(values):
    return sum(values) / len(values) if values else math.nan
