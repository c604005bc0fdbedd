"""Reading bars, and what hangs on them, as frames: numbers as float64, times in UTC, oldest first.

This is the border at which NUMERIC becomes float64; eight decimals below 1e8 survive it exactly. Everything here reads over
the caller's connection by COPY, so that it sees what the caller's transaction has written; free-standing reads, which go
over connections of their own, are in market_data.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.csv
from sqlalchemy import Connection, text

from tickstock_assets.domain.windows import Window
from tickstock_assets.storage.counted_actions import counted_dividends, counted_splits
from tickstock_assets.storage.database import driver
from tickstock_assets.storage.ledger import Source

UTC = pd.DatetimeTZDtype("us", "UTC")
Dtypes = Mapping[str, str | pd.DatetimeTZDtype]
DAILY_BARS = """
    SELECT b.symbol, b.date, s.open AS timestamp, s.close AS session_close,
           b.open::float8, b.high::float8, b.low::float8, b.close::float8, b.volume::float8, b.vwap::float8, b.source
    FROM ohlcv_daily b LEFT JOIN sessions s ON s.exchange = b.exchange AND s.session = b.date
"""

# The bars of each window, and before each so many more.
IN_WINDOWS = """
    JOIN unnest(CAST(:symbols AS text[]), CAST(:starts AS date[]), CAST(:ends AS date[]))
        AS w (symbol, first_day, last_day) ON b.symbol = w.symbol
    WHERE b.date <= w.last_day AND b.date >= coalesce(
        (SELECT min(date) FROM (SELECT date FROM ohlcv_daily e WHERE e.symbol = w.symbol AND e.date < w.first_day
                                ORDER BY date DESC LIMIT :warm_up_bars) AS warm_up), w.first_day)
    ORDER BY b.symbol, b.date
"""


def query(connection: Connection, statement: str, parameters: Mapping[str, object], dtypes: Dtypes) -> pd.DataFrame:
    """Return the rows of a query with these column types, also when there are none.

    COPY out and Arrow's reader take a fifth of the time of fetching rows.
    """
    compiled = text(statement).bindparams(**parameters).compile(dialect=connection.dialect)
    below = driver(connection)
    literal = psycopg.ClientCursor(below).mogrify(str(compiled), compiled.params)
    with below.cursor() as cursor, cursor.copy(f"COPY ({literal}) TO STDOUT (FORMAT csv, HEADER)".encode()) as copy:
        content = b"".join(bytes(part) for part in copy)
    table = pa.csv.read_csv(pa.BufferReader(content), convert_options=_convert_options(dtypes))
    frame: pd.DataFrame = table.to_pandas()
    if frame.empty:
        # Text without rows comes from Arrow in no chunk at all, over which pandas 3.1 fails to merge.
        return pd.DataFrame({name: pd.Series(dtype=dtypes[name]) for name in frame.columns})
    return frame.astype({column: dtypes[column] for column in frame.columns if column in dtypes})


def _convert_options(dtypes: Dtypes) -> pa.csv.ConvertOptions:
    arrow = {
        "str": pa.string(),
        "float64": pa.float64(),
        "int64": pa.int64(),
        "bool": pa.bool_(),
        str(UTC): pa.timestamp("us", "UTC"),
        "datetime64[us]": pa.timestamp("us"),
    }
    return pa.csv.ConvertOptions(
        column_types={column: arrow[str(dtype)] for column, dtype in dtypes.items()},
        # PostgreSQL writes NULL as nothing and an empty text in quotes.
        null_values=[""],
        true_values=["t"],
        false_values=["f"],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )


def daily_bars(connection: Connection, windows: Sequence[Window] | None = None, warm_up_bars: int = 0) -> pd.DataFrame:
    """Return stored daily bars, unadjusted.

    Args:
        connection: open.
        windows: which days of which symbols; None for everything.
        warm_up_bars: how many bars before each window to return besides.

    Returns:
        symbol, date (datetime64), timestamp and session_close (UTC; NaT where the calendar has no such session), open,
        high, low, close, volume, vwap, source.
    """
    dtypes: Dtypes = {
        "date": "datetime64[us]",
        "timestamp": UTC,
        "session_close": UTC,
        **dict.fromkeys(["open", "high", "low", "close", "volume", "vwap"], "float64"),
        "symbol": "str",
        "source": "str",
    }
    if windows is None:
        return query(connection, DAILY_BARS + "ORDER BY b.symbol, b.date", {}, dtypes)
    return query(connection, DAILY_BARS + IN_WINDOWS, {**_columns(windows), "warm_up_bars": warm_up_bars}, dtypes)


def bar_features(connection: Connection, timeframe: str, windows: Sequence[Window] | None = None) -> pd.DataFrame:
    """Return stored features: symbol, timeframe, timestamp and one float64 column a feature."""
    features = ["spread", "spread_ratio", "volume_ratio", "true_range", "atr_14", "log_return"]
    selected = ", ".join(f"t.{name}::float8" for name in features)
    return query(
        connection,
        f"SELECT t.symbol, t.timeframe, t.timestamp, {selected} FROM bar_features t {_inside(windows)}",  # noqa: S608
        {"timeframe": timeframe, **({} if windows is None else _columns(windows))},
        {"timestamp": UTC, "symbol": "str", "timeframe": "str", **dict.fromkeys(features, "float64")},
    )


def patterns(connection: Connection, timeframe: str, windows: Sequence[Window] | None = None) -> pd.DataFrame:
    """Return stored detections: key, family, direction, known_at, entry_price, stop_loss and both ratios."""
    numbers = ["entry_price", "stop_loss", "volume_ratio", "spread_ratio"]
    selected = ", ".join(f"t.{name}::float8" for name in numbers)
    texts = ["symbol", "timeframe", "pattern", "variant", "family", "direction"]
    return query(
        connection,
        f"SELECT {', '.join('t.' + name for name in texts)}, t.timestamp, t.known_at, {selected} "  # noqa: S608
        f"FROM patterns t {_inside(windows, ', t.pattern, t.variant')}",
        {"timeframe": timeframe, **({} if windows is None else _columns(windows))},
        {"timestamp": UTC, "known_at": UTC, **dict.fromkeys(numbers, "float64"), **dict.fromkeys(texts, "str")},
    )


def symbols(connection: Connection) -> pd.DataFrame:
    """Return symbol, exchange, list_date (datetime64, NaT where unknown), in alphabetical order."""
    return query(
        connection,
        "SELECT symbol, exchange, list_date FROM symbols ORDER BY symbol",
        {},
        {"symbol": "str", "exchange": "str", "list_date": "datetime64[us]"},
    )


def tickers_since(connection: Connection) -> dict[str, pd.Timestamp]:
    """Return the first day on which a ticker stood for its present instrument: what was traded before is another's.

    An instrument that was listed later than the ticker's first bars took it over from somebody who had gone.
    """
    rows = connection.execute(
        text("""
            SELECT symbol, greatest(list_date, ticker_since) AS since FROM symbols
            WHERE list_date IS NOT NULL OR ticker_since IS NOT NULL
        """)
    )
    return {row.symbol: pd.Timestamp(row.since) for row in rows}


def exchanges(connection: Connection, wanted: Iterable[str] | None = None) -> dict[str, str]:
    """Return the calendar code of the exchange of each of some symbols, None for all; unknown ones are left out."""
    symbols = None if wanted is None else list(wanted)
    rows = connection.execute(
        text(
            "SELECT symbol, exchange FROM symbols "
            "WHERE CAST(:symbols AS text[]) IS NULL OR symbol = ANY (CAST(:symbols AS text[]))"
        ),
        {"symbols": symbols},
    )
    return {row.symbol: row.exchange for row in rows}


def sessions(connection: Connection, exchange: str, start: date, end: date) -> pd.DataFrame:
    """Return session (datetime64), open, close, extended_open, extended_close (UTC), kind of an exchange's trading days.

    Those that are closed by override are left out.
    """
    moments = ["open", "close", "extended_open", "extended_close"]
    return query(
        connection,
        """
        SELECT session, open, close, kind, extended_open, extended_close FROM sessions
        WHERE exchange = :exchange AND session BETWEEN :start AND :end AND kind <> 'closed_by_override' ORDER BY session
        """,
        {"exchange": exchange, "start": start, "end": end},
        {"session": "datetime64[us]", "kind": "str", **dict.fromkeys(moments, UTC)},
    )


def years_of_sessions(connection: Connection, exchange: str) -> set[int]:
    """Return the years of which the table has all sessions of an exchange: those with one in January and in December."""
    rows = connection.execute(
        text("""
            SELECT extract(year FROM session)::integer FROM sessions WHERE exchange = :exchange GROUP BY 1
            HAVING extract(month FROM min(session)) = 1 AND extract(month FROM max(session)) = 12
        """),
        {"exchange": exchange},
    )
    return set(rows.scalars())


def symbols_of_day(connection: Connection, exchange: str, day: date) -> list[str]:
    """Return the symbols of an exchange that have a daily bar of a day."""
    found = connection.execute(
        text(
            "SELECT symbol FROM ohlcv_daily JOIN symbols USING (symbol) WHERE symbols.exchange = :exchange AND date = :day"
        ),
        {"exchange": exchange, "day": day},
    )
    return list(found.scalars())


def splits(connection: Connection) -> pd.DataFrame:
    """Return symbol, execution_date, split_from, split_to; of several sources the one that ranks first."""
    return query(
        connection,
        counted_splits("SELECT * FROM splits"),
        {},
        {"symbol": "str", "execution_date": "datetime64[us]", "split_from": "float64", "split_to": "float64"},
    )


def dividends(connection: Connection) -> pd.DataFrame:
    """Return symbol, ex_dividend_date, cash_amount; of several sources the one that ranks first."""
    return query(
        connection,
        counted_dividends("SELECT * FROM dividends"),
        {},
        {"symbol": "str", "ex_dividend_date": "datetime64[us]", "cash_amount": "float64"},
    )


def quarantined(
    connection: Connection, sources: Sequence[Source], windows: Sequence[Window] | None = None
) -> pd.DataFrame:
    """Return the rows that are rejected at a source's present version: symbol, date, rule, reason, row.

    A row that was corrected or withdrawn since stays in the table, superseded or under its older version. One that names
    no day, or no possible symbol, is in every window.
    """
    return query(
        connection,
        """
        SELECT q.symbol, q.date, q.rule, q.reason, q.row::text AS row FROM quarantined_bars q
        WHERE (q.source, q.dataset, q.source_version) IN (
            SELECT * FROM unnest(CAST(:providers AS text[]), CAST(:datasets AS text[]), CAST(:versions AS text[])))
          AND q.released_at IS NULL AND q.superseded_at IS NULL AND (CAST(:everything AS boolean) OR q.symbol IS NULL OR EXISTS (
            SELECT FROM unnest(CAST(:symbols AS text[]), CAST(:starts AS date[]), CAST(:ends AS date[]))
                AS w (symbol, first_day, last_day)
            WHERE q.symbol = w.symbol AND (q.date IS NULL OR q.date BETWEEN w.first_day AND w.last_day)))
        ORDER BY q.symbol, q.date, q.rule
        """,
        {
            "everything": windows is None,
            "providers": [source.provider for source in sources],
            "datasets": [source.dataset for source in sources],
            "versions": [source.version for source in sources],
            **_columns(windows or ()),
        },
        {"date": "datetime64[us]", **dict.fromkeys(["symbol", "rule", "reason", "row"], "str")},
    )


def backtest_results(connection: Connection, run: str) -> pd.DataFrame:
    """Return the results of a backtest, numbers as float64, counts as int."""
    numbers = [
        "win_rate",
        "average_r_multiple",
        "roi",
        "sharpe",
        "sortino",
        "max_drawdown",
        "profit_factor",
        "expectancy",
    ]
    counts = ["patterns_detected", "signals", "winning", "losing"]
    return query(
        connection,
        f"""
        SELECT scope, strategy_name, pattern, {", ".join(counts)}, look_ahead_bias_check,
               {", ".join(f"{name}::float8" for name in numbers)}
        FROM backtest_results WHERE run = CAST(:run AS uuid)
        ORDER BY scope, strategy_name
        """,  # noqa: S608 names from the two lists above
        {"run": run},
        {
            **dict.fromkeys(numbers, "float64"),
            **dict.fromkeys(counts, "int64"),
            **dict.fromkeys(["scope", "strategy_name", "pattern"], "str"),
            "look_ahead_bias_check": "bool",
        },
    )


def coverage(
    connection: Connection, horizons: Mapping[str, date], symbols: Iterable[str] | None = None
) -> pd.DataFrame:
    """Return what is stored per symbol and source, against the sessions of the symbol's exchange.

    A symbol is expected from its first stored bar of a source to the source's horizon, or to its last bar where the
    source's horizon is not in `horizons`.

    Returns:
        symbol, timeframe, source, first and last (datetime64), bars, expected, missing (list of days).
    """
    wanted = None if symbols is None else list(symbols)
    result = connection.execute(
        text("""
        WITH held AS (
            SELECT symbol, exchange, source, min(date) AS first, max(date) AS last, count(*) AS bars
            FROM ohlcv_daily WHERE CAST(:symbols AS text[]) IS NULL OR symbol = ANY (:symbols)
            GROUP BY symbol, exchange, source),
        spans AS (
            SELECT held.*, greatest(last, coalesce(horizon, last)) AS horizon FROM held
            LEFT JOIN unnest(CAST(:sources AS text[]), CAST(:horizons AS date[])) AS h (source, horizon) USING (source))
        SELECT p.symbol, '1d' AS timeframe, p.source, p.first, p.last, p.bars, count(s.session) AS expected,
               coalesce(array_agg(s.session ORDER BY s.session) FILTER (WHERE b.date IS NULL), '{}') AS missing
        FROM spans p
        LEFT JOIN sessions s ON s.exchange = p.exchange AND s.session BETWEEN p.first AND p.horizon
                            AND s.kind <> 'closed_by_override'
        LEFT JOIN ohlcv_daily b ON b.symbol = p.symbol AND b.date = s.session
        GROUP BY p.symbol, p.source, p.first, p.last, p.bars ORDER BY p.symbol, p.first
        """),
        {"symbols": wanted, "sources": list(horizons), "horizons": list(horizons.values())},
    )
    frame = pd.DataFrame(result.all(), columns=list(result.keys()))
    return frame.astype({"first": "datetime64[us]", "last": "datetime64[us]"})


def minutes_held(connection: Connection, symbols: Iterable[str] | None = None) -> pd.DataFrame:
    """Return which minute bars are stored per symbol and source; which are missing is in `data_gaps`.

    Returns:
        symbol, timeframe, source, first and last (UTC), bars.
    """
    return query(
        connection,
        """
        SELECT symbol, '1m' AS timeframe, source, min(timestamp) AS first, max(timestamp) AS last, count(*) AS bars
        FROM ohlcv_1min WHERE CAST(:symbols AS text[]) IS NULL OR symbol = ANY (CAST(:symbols AS text[]))
        GROUP BY symbol, source ORDER BY symbol, first
        """,
        {"symbols": None if symbols is None else list(symbols)},
        {
            **dict.fromkeys(["symbol", "timeframe", "source"], "str"),
            **dict.fromkeys(["first", "last"], UTC),
            "bars": "int64",
        },
    )


def _inside(windows: Sequence[Window] | None, order: str = "") -> str:
    joined = (
        "JOIN unnest(CAST(:symbols AS text[]), CAST(:starts AS date[]), CAST(:ends AS date[])) "
        "AS w (symbol, first_day, last_day) "
        "ON t.symbol = w.symbol AND t.timestamp >= w.first_day AND t.timestamp < w.last_day + 1"
    )
    return f"{'' if windows is None else joined} WHERE t.timeframe = :timeframe ORDER BY t.symbol, t.timestamp{order}"


def _columns(windows: Sequence[Window]) -> dict[str, object]:
    return {
        "symbols": [window.symbol for window in windows],
        "starts": [window.start for window in windows],
        "ends": [window.end for window in windows],
    }
