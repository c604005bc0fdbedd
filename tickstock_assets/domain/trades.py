"""Minute bars made from trades, whole arrays at a time.

Elsewhere: which trades count for what (trade_conditions.py), coarser bars (resampling.py).
"""

import numpy as np
import pandas as pd
import pyarrow as pa

from tickstock_assets.domain.trade_conditions import Rules, counts

# Trades on their way from a live feed to their table: price in currency per share, quantity in shares.
TICKS = pa.schema(
    [
        ("symbol", pa.string()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("exchange", pa.string()),
        ("trade_id", pa.string()),
        ("price", pa.float64()),
        ("quantity", pa.float64()),
        ("conditions", pa.list_(pa.string())),
        ("source", pa.string()),
    ]
)
COLUMNS = ("symbol", "timestamp", "open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades_count")


def minute_bars(trades: pd.DataFrame, rules: Rules) -> pd.DataFrame:
    """Return the minute bars that trades make.

    A minute has a bar when it has a trade that counts for open and close. Its high and low are of the trades that count
    for them, open and close among them; its volume is of those that count for volume; its vwap of those of them whose
    price counts. So what has no price of the moment, such as an average price, adds shares and moves no price.

    Args:
        trades: symbol, timestamp (UTC), price (currency per share), quantity (shares), conditions (lists of text or
            None), in_regular_hours (bool); in the order in which they were made within each symbol.
        rules: what conditions mean in the feed that the trades are of.

    Returns:
        symbol, timestamp (UTC, start of the minute), open, high, low, close, volume, quote_volume (currency), vwap
        (NaN where nothing with a price has a volume), trades_count (float64); by symbol and time.
    """
    what = counts(trades["conditions"], trades["in_regular_hours"].to_numpy(np.bool_), rules)
    price, quantity = trades["price"].to_numpy(np.float64), trades["quantity"].to_numpy(np.float64)
    for_range = what.high_low | what.open_close
    shares = np.where(what.volume, quantity, 0.0)
    priced_shares = np.where(for_range, shares, 0.0)
    columns = pd.DataFrame(
        {
            "symbol": trades["symbol"].to_numpy(),
            "timestamp": trades["timestamp"].dt.floor("min").array,
            # first and last pass over what is missing.
            "open": np.where(what.open_close, price, np.nan),
            "high": np.where(for_range, price, np.nan),
            "low": np.where(for_range, price, np.nan),
            "close": np.where(what.open_close, price, np.nan),
            "volume": shares,
            "quote_volume": shares * price,
            "priced_shares": priced_shares,
            "priced_value": priced_shares * price,
            "trades_count": what.volume.astype(np.float64),
        }
    )
    bars = columns.groupby(["symbol", "timestamp"], sort=True).agg(
        {"open": "first", "high": "max", "low": "min", "close": "last"}
        | dict.fromkeys(["volume", "quote_volume", "priced_shares", "priced_value", "trades_count"], "sum")
    )
    bars = bars[bars["open"].notna()].reset_index()
    has_shares = bars["priced_shares"] > 0
    vwap = (bars["priced_value"] / bars["priced_shares"].where(has_shares)).clip(bars["low"], bars["high"])
    return bars.assign(vwap=vwap)[list(COLUMNS)]
