"""Trades that were streamed and came by REST as well: two keys, since the live feed's moments are in milliseconds.

That is so of one vendor, who gives every trade an id of its own. Of a feed without ids the number within a moment stands for
one, and two trades of one number and millisecond are two trades, so those of other sources are left alone.

Whichever comes second finds the other: a spill that was left behind may be stored after its day was loaded.

Elsewhere: where each comes from (providers/polygon_messages.py, providers/polygon_parsing.py).
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, text

# As providers/polygon_messages.py and the provider call it.
SOURCE = "polygon"

REMOVE = text("""
    DELETE FROM ticks AS streamed USING ticks AS exact
    WHERE streamed.symbol = ANY (:symbols) AND streamed.timestamp >= :start AND streamed.timestamp < :end
      AND streamed.timestamp = date_trunc('milliseconds', streamed.timestamp)
      AND exact.symbol = streamed.symbol AND exact.exchange = streamed.exchange AND exact.trade_id = streamed.trade_id
      AND exact.source = :source AND streamed.source = :source
      AND exact.timestamp > streamed.timestamp AND exact.timestamp < streamed.timestamp + INTERVAL '1 millisecond'
      AND exact.timestamp >= :start AND exact.timestamp < :end + INTERVAL '1 millisecond'
""")

HAS_EXACT = text("""
    SELECT EXISTS (SELECT FROM ticks WHERE symbol = ANY (:symbols) AND timestamp >= :start AND timestamp < :end
                   AND source = :source AND timestamp <> date_trunc('milliseconds', timestamp))
""")


def has_exact_trades(connection: Connection, symbols: Sequence[str], start: datetime, end: datetime) -> bool:
    """Return whether a trade of these symbols and this time is stored that may have a streamed twin; quick where none is."""
    found = connection.execute(HAS_EXACT, {"symbols": list(symbols), "start": start, "end": end, "source": SOURCE})
    return bool(found.scalar_one())


def remove_streamed_twins(connection: Connection, symbols: Sequence[str], start: datetime, end: datetime) -> int:
    """Remove streamed trades of `SOURCE` whose exact twin is stored: same symbol, exchange and id, within their millisecond.

    Args:
        connection: open; to be asked in the transaction that stores the later of the two.
        symbols: whose.
        start: with a time zone; streamed trades from here on.
        end: and before here.

    Returns:
        How many were removed.
    """
    values = {"symbols": list(symbols), "start": start, "end": end, "source": SOURCE}
    return connection.execute(REMOVE, values).rowcount
