"""The inherited tests fail for a provider that breaks what they are about."""

import socket
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.providers.contract import Case, ProviderContract
from tickstock_assets.domain.windows import Window
from tickstock_assets.providers.base import Dataset, Request, Route
from tickstock_assets.providers.csv_folder import CsvFolder

KEY = "4SECRET2"
SPLIT = "date,open,high,low,close,volume\n2020-08-28,504,506,498,499.23,46\n2020-08-31,127,131,126,129.04,223\n"
YEAR = Request(Dataset.DAILY_BARS, Window("A", date(2020, 1, 1), date(2020, 12, 31)))


class DropsRows(CsvFolder):
    def parse(self, dataset: Dataset, payload: pa.Table) -> pd.DataFrame:
        return super().parse(dataset, payload).dropna(subset="close").reset_index(drop=True)


class Adjusts(CsvFolder):
    def parse(self, dataset: Dataset, payload: pa.Table) -> pd.DataFrame:
        bars = super().parse(dataset, payload)
        return bars.assign(close=bars["close"].where(bars["date"] >= pd.Timestamp(2020, 8, 31), bars["close"] / 4))


class ForgetsAColumn(CsvFolder):
    def parse(self, dataset: Dataset, payload: pa.Table) -> pd.DataFrame:
        return super().parse(dataset, payload).drop(columns="vwap")


class ChangesWhatItParses(CsvFolder):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.parsed = 0

    def parse(self, dataset: Dataset, payload: pa.Table) -> pd.DataFrame:
        self.parsed += 1
        return super().parse(dataset, payload).assign(volume=float(self.parsed))


class KnowsEverySymbol(CsvFolder):
    def fetch(self, request: Request) -> pa.Table:
        return super().fetch(replace(request, window=replace(request.window, symbol="A")))


class KnowsEveryDataset(CsvFolder):
    def fetch(self, request: Request) -> pa.Table:
        return super().fetch(replace(request, dataset=Dataset.DAILY_BARS))


class ShowsItsKey(CsvFolder):
    def __repr__(self) -> str:
        return f"ShowsItsKey({KEY})"


class OffersMore(CsvFolder):
    def routes(self, dataset: Dataset) -> Sequence[Route]:
        return [*super().routes(dataset), Route("by_carrier_pigeon", date(2020, 8, 28))]


class SeesTheFuture(CsvFolder):
    def horizon(self) -> date:
        return date.today() + timedelta(days=7)  # noqa: DTZ011


class GivesOtherColumnsForNothing(CsvFolder):
    def fetch(self, request: Request) -> pa.Table:
        payload = super().fetch(request)
        return payload if payload.num_rows else pa.table({"nothing": pa.array([], pa.string())})


class ListsUnknownSymbols(CsvFolder):
    def symbols(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        listed = super().symbols(wanted)
        return pd.concat([listed, listed.assign(symbol="NOSUCH")], ignore_index=True)


class LandsTheKey(CsvFolder):
    def fetch(self, request: Request) -> pa.Table:
        payload = super().fetch(request)
        return payload.append_column("asked", pa.array([f"/bars?apiKey={KEY}"] * payload.num_rows, pa.string()))


class StopsAtTheHalf(CsvFolder):
    def parse(self, dataset: Dataset, payload: pa.Table) -> pd.DataFrame:
        as_numbers = pc.cast(payload["close"], pa.float64())
        bars = super().parse(dataset, payload)
        return bars.assign(close=np.asarray(as_numbers))


def case_of(provider: CsvFolder) -> Case:
    empty = Request(Dataset.DAILY_BARS, Window("A", date(2019, 1, 1), date(2019, 12, 31)))
    closes = {Dataset.DAILY_BARS: {date(2020, 8, 28): 499.23, date(2020, 8, 31): 129.04}}
    return Case(provider, requests=[YEAR], closes=closes, empty=[empty], key=KEY)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Adjusts, "test_prices_are_as_traded"),
        (ForgetsAColumn, "test_bars_have_the_projects_columns_and_types_and_a_row_for_each_of_the_vendors"),
        (ForgetsAColumn, "test_a_window_without_rows_gives_none_in_the_same_columns"),
        (DropsRows, "test_what_cannot_be_read_is_missing_and_its_row_stays"),
        (StopsAtTheHalf, "test_what_cannot_be_read_is_missing_and_its_row_stays"),
        (ChangesWhatItParses, "test_a_payload_that_was_landed_parses_as_the_one_that_was_fetched"),
        (KnowsEverySymbol, "test_an_unknown_symbol_is_named"),
        (OffersMore, "test_every_route_of_bars_that_it_offers_is_tested_and_no_other"),
        (KnowsEveryDataset, "test_a_dataset_without_a_route_is_refused"),
        (SeesTheFuture, "test_its_horizon_is_not_in_the_future_and_nothing_after_it_is_settled"),
        (GivesOtherColumnsForNothing, "test_a_window_without_rows_gives_none_in_the_same_columns"),
        (ListsUnknownSymbols, "test_symbols_have_their_columns_and_unknown_ones_are_left_out"),
    ],
)
def test_a_provider_that_breaks_the_contract_fails(broken: type[CsvFolder], test: str, tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_text(SPLIT)
    getattr(ProviderContract(), test)(case_of(CsvFolder(tmp_path)))
    with pytest.raises((AssertionError, pytest.fail.Exception, pa.ArrowInvalid, KeyError)):
        getattr(ProviderContract(), test)(case_of(broken(tmp_path)))


@pytest.mark.parametrize("broken", [ShowsItsKey, LandsTheKey])
def test_a_key_that_is_shown_anywhere_is_found(
    broken: type[CsvFolder], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "A.csv").write_text(SPLIT)
    ProviderContract().test_its_key_is_never_shown(case_of(CsvFolder(tmp_path)), caplog)
    with pytest.raises(AssertionError):
        ProviderContract().test_its_key_is_never_shown(case_of(broken(tmp_path)), caplog)


def test_parsing_that_asks_the_network_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class AsksTheNetwork(CsvFolder):
        def parse(self, *args: Any) -> pd.DataFrame:
            with socket.socket() as connection:
                connection.connect(("127.0.0.1", 9))
            return super().parse(*args)

    (tmp_path / "A.csv").write_text(SPLIT)
    with pytest.raises(AssertionError, match="parsing asked the network"):
        ProviderContract().test_parsing_needs_no_network_and_gives_the_same_twice(
            case_of(AsksTheNetwork(tmp_path)), monkeypatch
        )
