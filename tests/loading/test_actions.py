"""Splits and dividends brought into their tables: what a vendor takes back goes, and what it has forgotten stays."""

import pandas as pd
import pytest
from sqlalchemy import Engine, text

from tickstock_assets.loading.reference import store_actions
from tickstock_assets.providers.sample import SampleProvider

pytestmark = pytest.mark.tiers("embedded")


def splits(*rows: tuple[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["symbol", "execution_date"]).astype({"symbol": "str"})
    days = pd.to_datetime(frame["execution_date"]).astype("datetime64[us]")
    return frame.assign(execution_date=days, split_from=1.0, split_to=2.0)


def dividends(*rows: tuple[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["symbol", "ex_dividend_date"]).astype({"symbol": "str"})
    days = pd.to_datetime(frame["ex_dividend_date"]).astype("datetime64[us]")
    return frame.assign(ex_dividend_date=days, cash_amount=0.5)


def test_a_symbol_that_nothing_is_listed_of_keeps_what_it_has(database: Engine) -> None:
    provider = SampleProvider()

    def store(of_splits: pd.DataFrame, of_dividends: pd.DataFrame) -> tuple[list[str], list[str]]:
        with database.begin() as connection:
            store_actions(connection, provider, of_splits, of_dividends, ["A", "B"])
            return tuple(  # type: ignore[return-value]
                [
                    f"{symbol} {day}"
                    for symbol, day in connection.execute(text(f"SELECT symbol, {column} FROM {table} ORDER BY 1, 2"))
                ]
                for table, column in (("splits", "execution_date"), ("dividends", "ex_dividend_date"))
            )

    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('A'), ('B')"))
    two = splits(("A", "2010-06-01"), ("A", "2011-06-01"), ("B", "2012-06-01"))
    paid = dividends(("A", "2010-03-01"), ("B", "2010-03-01"), ("B", "2010-06-01"))
    stored = (["A 2010-06-01", "A 2011-06-01", "B 2012-06-01"], ["A 2010-03-01", "B 2010-03-01", "B 2010-06-01"])
    assert store(two, paid) == stored
    # B is forgotten, or the vendor has a bad day.
    assert store(two[:2], paid[:1]) == stored
    assert store(two[:0], paid[:0]) == stored
    # One of A's is taken back.
    assert store(two[1:], paid) == (["A 2011-06-01", "B 2012-06-01"], stored[1])
