"""Alpha Vantage's answers as rows: what it sent as text for landing, and from there bars, splits, dividends, listings.

Everything here is pure. Elsewhere: asking (alpha_vantage.py), what an answer without rows means (alpha_vantage_answers.py).
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import pandas as pd
import pyarrow as pa

from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE
from tickstock_assets.providers.base import BAR_COLUMNS, Dataset
from tickstock_assets.providers.moments import of_clock

BAR_FIELDS = {"1. open": "open", "2. high": "high", "3. low": "low", "4. close": "close", "5. volume": "volume"}
PAYLOAD = pa.schema([(name, pa.string()) for name in ("timestamp", *BAR_FIELDS, "symbol")])
LISTING_FIELDS = ["symbol", "name", "exchange", "assetType", "ipoDate", "delistingDate", "status"]

DAY = "%Y-%m-%d"
MINUTE = "%Y-%m-%d %H:%M:%S"
EASTERN = "America/New_York"
# How the vendor writes that it does not know.
UNKNOWN = {"None", "null", "", "-", "0000-00-00"}

# Half of the fourth decimal.
FACTOR_ERROR = Fraction(1, 20_000)
# Below it four decimals say too little: 0.0013 may be one for 741 or for 799.
SMALLEST_TELLING_FACTOR = Fraction(1, 100)
# In a split one of the two numbers is small: 3 for 2, 1 for 15, 21 for 20.
LARGEST_SMALL_SIDE = 20
LARGEST_SIDE = 2_000


class JsonObject(dict[str, Any]):
    """A JSON object that remembers every pair: a series may hold the same moment twice, and a dict forgets the first."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def decoded(body: bytes) -> JsonObject | str:
    """Return a JSON object, or the text of anything else (lists of symbols come as CSV).

    Raises:
        ValueError: it begins like JSON and is broken or cut short, or is no UTF-8.
    """
    text = body.decode("utf-8-sig")
    if not text.lstrip().startswith("{"):
        return text
    parsed: JsonObject = json.loads(text, object_pairs_hook=JsonObject)
    return parsed


def bars_payload(symbol: str, series: JsonObject) -> pa.Table:
    """Return a time series as it was sent: one row an entry, all text, with the symbol asked for."""
    entries = [(stamp, entry if isinstance(entry, dict) else {}) for stamp, entry in series.pairs]
    columns = {
        "timestamp": [stamp for stamp, _ in entries],
        **{field: [_as_text(entry.get(field)) for _, entry in entries] for field in BAR_FIELDS},
        "symbol": [symbol] * len(entries),
    }
    return pa.table(columns, schema=PAYLOAD)


def bars(dataset: Dataset, payload: pa.Table) -> pd.DataFrame:
    """Return the bars of a payload, row for row; see `Provider.parse`."""
    text = {name: payload.column(name).to_pandas() for name in payload.column_names}
    numbers = {name: pd.to_numeric(text[field], errors="coerce") for field, name in BAR_FIELDS.items()}
    local = pd.to_datetime(text["timestamp"], format=MINUTE if dataset is Dataset.MINUTE_BARS else DAY, errors="coerce")
    frame = pd.DataFrame({"symbol": text["symbol"], "date": local.dt.normalize(), **numbers})
    frame = frame.reindex(columns=list(BAR_COLUMNS)).astype(BAR_COLUMNS)
    if dataset is Dataset.MINUTE_BARS:
        # A stamp is the *start* of its minute: an extended day, 4:00 to 20:00, ends with 19:59, and with
        # extended_hours=false a session begins with 9:30. (Until 2021 the vendor stamped the end, 16:00 for the last.)
        # What no clock in New York ever showed, or showed twice, is no moment; quality finds it missing.
        frame = frame.assign(timestamp=of_clock(local, EASTERN))
    return frame


def splits(rows_by_symbol: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Return symbol, execution_date, split_from, split_to of the entries that SPLITS sent for each symbol."""
    rows = [(symbol, row) for symbol, entries in rows_by_symbol.items() for row in entries]
    ratios = [_split_ratio(row.get("split_factor")) for _, row in rows]
    return pd.DataFrame(
        {
            "symbol": pd.Series([symbol for symbol, _ in rows], dtype="str"),
            "execution_date": _days(row.get("effective_date") for _, row in rows),
            "split_from": pd.Series([split_from for split_from, _ in ratios], dtype="float64"),
            "split_to": pd.Series([split_to for _, split_to in ratios], dtype="float64"),
        }
    )


def dividends(rows_by_symbol: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Return symbol, ex_dividend_date, cash_amount and the other days of the entries that DIVIDENDS sent."""
    rows = [(symbol, row) for symbol, entries in rows_by_symbol.items() for row in entries]
    return pd.DataFrame(
        {
            "symbol": pd.Series([symbol for symbol, _ in rows], dtype="str"),
            "ex_dividend_date": _days(row.get("ex_dividend_date") for _, row in rows),
            "cash_amount": pd.to_numeric(
                pd.Series([row.get("amount") for _, row in rows], dtype="object"), errors="coerce"
            ).astype("float64"),
            "declaration_date": _days(row.get("declaration_date") for _, row in rows),
            "record_date": _days(row.get("record_date") for _, row in rows),
            "pay_date": _days(row.get("payment_date") for _, row in rows),
        }
    )


def listings(*answers: str) -> pd.DataFrame:
    """Return the instruments of lists of symbols; of one that is listed more than once, the first of the newest list.

    Args:
        answers: CSV; an active listing stands before a delisted one, which had the ticker before.

    Returns:
        symbol, name, exchange (of the calendar: every list is of US exchanges), type, active, list_date,
        delisted_utc; in the order of symbols.
    """
    rows = [row for answer in answers for row in csv.DictReader(io.StringIO(answer))]
    frame = pd.DataFrame(
        {
            "symbol": _texts(row["symbol"] for row in rows),
            "name": _texts(row["name"] for row in rows),
            "exchange": pd.Series([DEFAULT_EXCHANGE] * len(rows), dtype="str"),
            "type": _texts(row["assetType"] for row in rows),
            "active": pd.Series([row["status"] == "Active" for row in rows], dtype="bool"),
            "list_date": _days(row["ipoDate"] for row in rows),
            "delisted_utc": _days(row["delistingDate"] for row in rows).dt.tz_localize("UTC"),
        }
    )
    newest_first = frame.sort_values(["active", "delisted_utc"], ascending=False, kind="stable")
    newest = newest_first[newest_first["symbol"].notna()].drop_duplicates("symbol")
    return newest.sort_values("symbol").reset_index(drop=True)


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _texts(values: Iterable[Any]) -> pd.Series:
    return pd.Series([None if value is None or value in UNKNOWN else value for value in values], dtype="str")


def _days(values: Iterable[Any]) -> pd.Series:
    text = pd.Series([value if isinstance(value, str) else None for value in values], dtype="object")
    return pd.to_datetime(text, format=DAY, errors="coerce").astype("datetime64[us]")


def _split_ratio(factor: Any) -> tuple[float, float]:
    """Return how many old shares became how many new ones.

    The vendor rounds to four decimals: one for three arrives as 0.3333. The simplest ratio that rounds to it is taken
    where it is as simple as a split's; a factor of another kind, such as a spin-off's 1.281, stays as it is.
    """
    try:
        sent = Fraction(str(factor))
    except (ValueError, ZeroDivisionError):
        return float("nan"), float("nan")
    if 1 in (sent.numerator, sent.denominator):
        return float(sent.denominator), float(sent.numerator)
    for old in range(1, LARGEST_SIDE if sent >= SMALLEST_TELLING_FACTOR else 1):
        new = round(sent * old)
        if abs(Fraction(new, old) - sent) <= FACTOR_ERROR:
            return (float(old), float(new)) if min(old, new) <= LARGEST_SMALL_SIDE else (1.0, float(sent))
    return 1.0, float(sent)
