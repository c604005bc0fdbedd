"""The last day of which any bar is stored: read off the end of an index, so that it costs the same however many there are."""

from datetime import date

from sqlalchemy import Connection, text

NEWEST = text("""
    SELECT '1d' AS timeframe, max(date) AS day FROM ohlcv_daily
    UNION ALL SELECT '1m', (max(timestamp) AT TIME ZONE :zone)::date FROM ohlcv_1min
""")


def newest_days(connection: Connection, zone: str) -> dict[str, date]:
    """Return the day of the newest daily and minute bar of any symbol, by timeframe; nothing for one without bars.

    Args:
        connection: open.
        zone: time zone of the exchange; trading after its hours may be on the next day in UTC.
    """
    rows = connection.execute(NEWEST, {"zone": zone})
    return {row.timeframe: row.day for row in rows if row.day is not None}
