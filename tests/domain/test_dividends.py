"""Dividend factors and prices without dividends. The oracle holds one share, day by day, in exact fractions."""

import csv
import gzip
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tickstock_assets
from tickstock_assets.domain.adjustments import CONVENTIONS, adjust, dividend_factors, split_adjust
from tickstock_assets.domain.errors import ConfigError, ContractError
from tickstock_assets.providers.sample import SampleProvider

SAMPLE_FILE = Path(tickstock_assets.__file__).parent / "sample_data" / "stocks.csv.gz"
SPLIT_COLUMNS = ["symbol", "execution_date", "split_from", "split_to"]
DIVIDEND_COLUMNS = ["symbol", "ex_dividend_date", "cash_amount"]
both_conventions = pytest.mark.parametrize("convention", CONVENTIONS)


def splits_of(*rows: tuple[str, date, float, float]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=SPLIT_COLUMNS)


def dividends_of(*rows: tuple[str, date, float | Decimal]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=DIVIDEND_COLUMNS)


def bars_of(*closes: tuple[str, date, float], volume: float = 100.0) -> pd.DataFrame:
    symbols, days, prices = zip(*closes, strict=True)
    columns = {name: np.array(prices) for name in ("open", "high", "low", "close")}
    return pd.DataFrame({"symbol": symbols, "date": days, **columns, "volume": volume})


NO_SPLITS, NO_DIVIDENDS = splits_of(), dividends_of()

# Microsoft's split and first dividend, as published in the worked example of Yahoo's help page on the adjusted close.
THURSDAY, FRIDAY, TUESDAY, WEDNESDAY = (date(2003, 2, day) for day in (13, 14, 18, 19))
MSFT = bars_of(("MSFT", THURSDAY, 46.99), ("MSFT", FRIDAY, 48.30), ("MSFT", TUESDAY, 24.96), ("MSFT", WEDNESDAY, 24.53))
MSFT_SPLIT = splits_of(("MSFT", TUESDAY, 1, 2))
MSFT_DIVIDEND = dividends_of(("MSFT", WEDNESDAY, 0.08))

# Monday to Friday of one week, a share at 100, 80, 50, 40, 20.
WEEK = [date(2024, 1, day) for day in (8, 9, 10, 11, 12)]
A = bars_of(*(("A", day, price) for day, price in zip(WEEK, (100.0, 80.0, 50.0, 40.0, 20.0), strict=True)))
SATURDAY_BEFORE, SATURDAY, SUNDAY = date(2024, 1, 6), date(2024, 1, 13), date(2024, 1, 14)
MONDAY_AFTER = date(2024, 1, 15)
TWO_WEEKS = pd.concat([A, bars_of(("A", MONDAY_AFTER, 16.0))], ignore_index=True)


# --- by hand


def test_the_crsp_series_is_that_of_the_published_example():
    adjusted = adjust(MSFT, MSFT_SPLIT, MSFT_DIVIDEND)
    assert adjusted["close"].round(2).tolist() == [23.42, 24.07, 24.88, 24.53]
    # The dividend is 0.08 of a close of 24.96: 1 - 1 / 312.
    factors = dividend_factors(MSFT, MSFT_DIVIDEND, MSFT_SPLIT, "crsp")
    assert factors.tolist() == pytest.approx([311 / 312] * 3 + [1.0], rel=1e-15)


def test_the_wiki_series_divides_by_one_plus_the_yield_on_the_ex_date():
    # 24.53 / (24.53 + 0.08) = 24.53 / 24.61.
    adjusted = adjust(MSFT, MSFT_SPLIT, MSFT_DIVIDEND, convention="wiki")
    expected = [46.99 / 2 * 24.53 / 24.61, 48.30 / 2 * 24.53 / 24.61, 24.96 * 24.53 / 24.61, 24.53]
    assert adjusted["close"].tolist() == pytest.approx(expected, rel=1e-15)


def test_dividends_multiply_from_the_last_bar_backwards():
    dividends = dividends_of(("A", WEEK[3], 5), ("A", WEEK[1], 10))
    # Previous closes 100 and 50: steps of 9/10, before Tuesday, and 9/10, before Thursday.
    assert dividend_factors(A, dividends, NO_SPLITS).tolist() == pytest.approx([0.81, 0.9, 0.9, 1.0, 1.0])
    # Closes of the day 80 and 40: steps of 80/90 and 40/45.
    wiki = dividend_factors(A, dividends, NO_SPLITS, "wiki")
    assert wiki.tolist() == pytest.approx([64 / 81, 8 / 9, 8 / 9, 1.0, 1.0])


def test_a_dividend_on_the_day_of_a_split_is_paid_on_the_new_shares():
    splits, dividends = splits_of(("A", WEEK[2], 1, 2)), dividends_of(("A", WEEK[2], 4))
    # Tuesday's close of 80 is 40 of a new share, so the dividend is a tenth of it; the day's close of 50 is a new share's.
    assert dividend_factors(A, dividends, splits).tolist() == pytest.approx([0.9, 0.9, 1.0, 1.0, 1.0])
    assert dividend_factors(A, dividends, splits, "wiki").tolist() == pytest.approx([50 / 54, 50 / 54, 1.0, 1.0, 1.0])


@both_conventions
def test_volume_takes_part_in_splits_only(convention):
    splits, dividends = splits_of(("A", WEEK[2], 1, 2)), dividends_of(("A", WEEK[1], 4))
    assert adjust(A, splits, dividends, convention=convention)["volume"].tolist() == [200.0, 200.0, 100.0, 100.0, 100.0]


@both_conventions
def test_all_prices_of_a_bar_are_multiplied_alike(convention):
    bars = A.assign(vwap=A["close"], open=A["close"] / 2)
    factor = dividend_factors(A, dividends_of(("A", WEEK[3], 5)), NO_SPLITS, convention)
    adjusted = adjust(bars, NO_SPLITS, dividends_of(("A", WEEK[3], 5)), convention=convention)
    for name in ("high", "low", "close", "vwap"):
        assert adjusted[name].tolist() == (A["close"] * factor).tolist()
    assert adjusted["open"].tolist() == (A["close"] / 2 * factor).tolist()
    assert bars["close"].tolist() == A["close"].tolist()


def test_dividends_of_one_day_add_up():
    dividends = dividends_of(("A", WEEK[1], 12), ("A", WEEK[1], 8))
    # 20 of 100; one after the other would be 0.88 x 0.92.
    assert dividend_factors(A, dividends, NO_SPLITS).tolist() == pytest.approx([0.8, 1.0, 1.0, 1.0, 1.0])
    assert dividend_factors(A, dividends, NO_SPLITS, "wiki").tolist() == pytest.approx([0.8, 1.0, 1.0, 1.0, 1.0])


def test_an_ex_date_without_a_session_belongs_to_the_next_one():
    dividends = dividends_of(("A", SATURDAY, 4))
    # Friday's close is 20, Monday's 16.
    assert dividend_factors(TWO_WEEKS, dividends, NO_SPLITS).tolist() == pytest.approx([0.8] * 5 + [1.0])
    assert dividend_factors(TWO_WEEKS, dividends, NO_SPLITS, "wiki").tolist() == pytest.approx([0.8] * 5 + [1.0])
    with_mondays = dividends_of(("A", SATURDAY, 4), ("A", MONDAY_AFTER, 1))
    assert dividend_factors(TWO_WEEKS, with_mondays, NO_SPLITS).tolist() == pytest.approx([0.75] * 5 + [1.0])


def test_a_split_between_the_ex_date_and_its_session_is_allowed_for():
    splits, dividends = splits_of(("A", MONDAY_AFTER, 1, 2)), dividends_of(("A", SATURDAY, 8))
    # 8 on an old share, of which Friday's 20 is the price, is 4 on a new one, of which Monday's 16 is.
    assert dividend_factors(TWO_WEEKS, dividends, splits).tolist() == pytest.approx([0.6] * 5 + [1.0])
    assert dividend_factors(TWO_WEEKS, dividends, splits, "wiki").tolist() == pytest.approx([0.8] * 5 + [1.0])


@both_conventions
@pytest.mark.parametrize("ex_date", [SATURDAY_BEFORE, WEEK[0], MONDAY_AFTER])
def test_a_dividend_with_no_bar_before_it_or_after_the_last_bar_changes_nothing(convention, ex_date):
    # On the very first bar there is no previous close, and no earlier price that it could change.
    assert dividend_factors(A, dividends_of(("A", ex_date, 500)), NO_SPLITS, convention).tolist() == [1.0] * 5


@both_conventions
def test_a_dividend_after_the_day_asked_for_is_ignored(convention):
    dividends = dividends_of(("A", WEEK[1], 10), ("A", WEEK[3], 5))
    found = dividend_factors(A, dividends, NO_SPLITS, convention, as_of=WEEK[2])
    first = dividend_factors(A, dividends.iloc[:1], NO_SPLITS, convention)
    assert found.tolist() == first.tolist()
    assert first[0] < 1


def test_as_of_a_day_before_the_next_session_crsp_knows_its_close_and_wiki_waits_for_it():
    dividends = dividends_of(("A", SATURDAY, 4))
    assert dividend_factors(TWO_WEEKS, dividends, NO_SPLITS, "crsp", SUNDAY).tolist() == pytest.approx(
        [0.8] * 5 + [1.0]
    )
    assert dividend_factors(TWO_WEEKS, dividends, NO_SPLITS, "wiki", SUNDAY).tolist() == [1.0] * 6
    # The same when Monday's bar is not there yet.
    assert dividend_factors(A, dividends, NO_SPLITS, "crsp", SUNDAY).tolist() == pytest.approx([0.8] * 5)
    assert dividend_factors(A, dividends, NO_SPLITS, "wiki", SUNDAY).tolist() == [1.0] * 5


def test_each_symbol_has_its_own_dividends_and_its_own_last_bar():
    b = bars_of(("B", WEEK[0], 10.0), ("B", WEEK[1], 10.0))
    dividends = dividends_of(("C", WEEK[1], 1), ("B", WEEK[3], 1), ("A", WEEK[3], 5), ("B", WEEK[1], 1))
    bars = pd.concat([b, A], ignore_index=True).iloc[::-1]
    assert dividend_factors(bars, dividends, NO_SPLITS).tolist() == pytest.approx([1, 1, 0.9, 0.9, 0.9, 1, 0.9])


def test_no_dividend_is_measured_by_a_close_of_another_symbol():
    b = bars_of(("B", WEEK[2], 10.0), ("B", WEEK[3], 10.0))
    bars = pd.concat([A.iloc[:2], b], ignore_index=True)
    # Next to A's last close stands B's first, and the other way round.
    after_a, before_b = (
        dividends_of(("A", WEEK[2], 8), ("B", WEEK[3], 1)),
        dividends_of(("A", WEEK[1], 10), ("B", WEEK[0], 99)),
    )
    found = [dividend_factors(bars, after_a, NO_SPLITS, convention, WEEK[4]).tolist() for convention in CONVENTIONS]
    assert found == [pytest.approx([0.9, 0.9, 0.9, 1.0]), pytest.approx([1.0, 1.0, 10 / 11, 1.0])]
    found = [dividend_factors(bars, before_b, NO_SPLITS, convention, WEEK[4]).tolist() for convention in CONVENTIONS]
    assert found == [pytest.approx([0.9, 1.0, 1.0, 1.0]), pytest.approx([8 / 9, 1.0, 1.0, 1.0])]


def test_bars_of_a_part_of_history_are_adjusted_by_closes_given_apart():
    dividends = dividends_of(("A", WEEK[3], 5), ("A", WEEK[1], 10))
    closes = A[["symbol", "date", "close"]]
    for convention in CONVENTIONS:
        whole = dividend_factors(A, dividends, NO_SPLITS, convention)
        part = dividend_factors(A.iloc[:2], dividends, NO_SPLITS, convention, WEEK[4], closes=closes)
        assert part.tolist() == whole[:2].tolist()
    # Several bars a day have no one close.
    minutes = A.iloc[[0, 0, 3]]
    found = adjust(minutes, NO_SPLITS, dividends, closes=closes)
    assert found["close"].tolist() == pytest.approx([81.0, 81.0, 40.0])


def test_amounts_and_prices_may_be_the_decimals_of_the_database():
    bars = A.assign(close=[Decimal(str(price)) for price in A["close"]])
    dividends = dividends_of(("A", WEEK[1], Decimal("10.00000000")))
    assert dividend_factors(bars, dividends, NO_SPLITS).tolist() == [0.9, 1.0, 1.0, 1.0, 1.0]


def test_dates_may_be_datetime64():
    bars = A.assign(date=pd.to_datetime(A["date"]))
    dividends = dividends_of(("A", WEEK[1], 10)).assign(ex_dividend_date=pd.to_datetime([WEEK[1]]))
    assert dividend_factors(bars, dividends, NO_SPLITS).tolist() == [0.9, 1.0, 1.0, 1.0, 1.0]


@both_conventions
def test_no_bars_give_no_factors(convention):
    assert dividend_factors(A.iloc[:0], MSFT_DIVIDEND, NO_SPLITS, convention).tolist() == []
    assert dividend_factors(A.iloc[:0], NO_DIVIDENDS, NO_SPLITS, convention).tolist() == []


# --- refusals


@pytest.mark.parametrize(
    ("dividends", "sentence"),
    [
        (
            dividends_of(("A", WEEK[1], 100)),
            "A 2024-01-09: expected a dividend below the previous close, found 1 times",
        ),
        (
            dividends_of(("A", WEEK[2], 60), ("A", WEEK[2], 60)),
            "A 2024-01-10: expected a dividend below the previous close, found 1.5 times",
        ),
        (dividends_of(("A", WEEK[1], 0)), "A 2024-01-09: expected a positive cash amount, found 0"),
        (dividends_of(("A", WEEK[1], float("nan"))), "A 2024-01-09: expected a positive cash amount, found nan"),
        (dividends_of(("A", pd.NaT, 1)), "dividends.ex_dividend_date: expected a date in every row, found 1 without"),
    ],
)
def test_dividends_that_cannot_be_true_are_refused(dividends, sentence):
    with pytest.raises(ContractError, match=sentence):
        adjust(A, NO_SPLITS, dividends)


def test_a_dividend_too_large_is_no_matter_before_its_day():
    assert dividend_factors(A, dividends_of(("A", WEEK[1], 100)), NO_SPLITS, as_of=WEEK[0]).tolist() == [1.0] * 5


@pytest.mark.parametrize(("convention", "measured_on"), [("crsp", 0), ("wiki", 1)])
@pytest.mark.parametrize("close", [0.0, float("nan"), float("inf"), -1.0])
def test_a_close_that_is_no_price_measures_nothing(convention, measured_on, close):
    bars = A.copy()
    bars.loc[measured_on, "close"] = close
    sentence = (
        f"A {WEEK[measured_on]}: expected a positive close to measure the dividend of {WEEK[1]} by, found {close:g}"
    )
    with pytest.raises(ContractError, match=sentence):
        dividend_factors(bars, dividends_of(("A", WEEK[1], 1)), NO_SPLITS, convention)
    # Where it measures nothing it does no harm.
    assert dividend_factors(bars, dividends_of(("A", WEEK[4], 20)), NO_SPLITS, convention)[4] == 1.0


def test_two_closes_of_one_day_are_refused_where_they_could_measure():
    twice = pd.concat([A, A.iloc[:1]], ignore_index=True)
    with pytest.raises(ContractError, match="A 2024-01-08: expected one close a day"):
        dividend_factors(twice, dividends_of(("A", WEEK[1], 1)), NO_SPLITS)
    assert dividend_factors(twice, dividends_of(("B", WEEK[1], 1)), NO_SPLITS).tolist() == [1.0] * 6


def test_an_unknown_convention_is_refused_by_name():
    with pytest.raises(ConfigError, match="convention: expected one of crsp, wiki, found yahoo"):
        adjust(A, NO_SPLITS, NO_DIVIDENDS, convention="yahoo")  # type: ignore[arg-type]


# --- always

FIRST = date(2020, 1, 1)
LAST = FIRST + timedelta(days=14)
days = st.dates(FIRST, LAST)
symbols = st.sampled_from("AB")
# Three splits of at most 2:1 leave 50 / 8 of a close, and four dividends of 1 stay below that.
prices = st.integers(5000, 9999).map(lambda cents: cents / 100)
amounts = st.integers(1, 100).map(lambda cents: cents / 100)
ratios = st.sampled_from([(1, 2), (2, 3), (5, 1)])


@st.composite
def histories(draw):
    closes = draw(st.dictionaries(st.tuples(symbols, days), prices, min_size=1, max_size=20))
    splits = draw(st.dictionaries(st.tuples(symbols, days), ratios, max_size=3))
    dividends = draw(st.lists(st.tuples(symbols, days, amounts), max_size=4))
    rows = draw(st.permutations([(symbol, day, price) for (symbol, day), price in closes.items()]))
    return bars_of(*rows), splits_of(*((*key, *ratio) for key, ratio in splits.items())), dividends_of(*dividends)


def shares_grown(symbol, start, end, bars, splits, dividends, convention):
    """Return what one share bought at the close of a day has become, every dividend put into more shares."""
    closes = {row.date: Fraction(row.close) for row in bars.itertuples() if row.symbol == symbol}
    shares, cash, last_close = Fraction(1), Fraction(0), closes[start]

    def reinvest_at_the_old_close():
        # It opens lower by what it paid, and that is the price.
        return cash / (last_close - cash / shares)

    for number in range(1, (end - start).days + 1):
        day = start + timedelta(days=number)
        for split in splits.itertuples():
            if (split.symbol, split.execution_date) == (symbol, day):
                ratio = Fraction(split.split_to, split.split_from)
                shares, last_close = shares * ratio, last_close / ratio
        for dividend in dividends.itertuples():
            if (dividend.symbol, dividend.ex_dividend_date) == (symbol, day):
                cash += shares * Fraction(dividend.cash_amount)
        if day in closes:
            shares += cash / closes[day] if convention == "wiki" else reinvest_at_the_old_close()
            cash, last_close = Fraction(0), closes[day]
    return shares + (reinvest_at_the_old_close() if convention == "crsp" else 0)


@both_conventions
@given(history=histories(), as_of=st.none() | days)
@settings(deadline=None, max_examples=50)
def test_the_adjusted_series_is_the_return_of_holding_and_reinvesting(convention, history, as_of):
    bars, splits, dividends = history
    adjusted = adjust(bars, splits, dividends, as_of, convention)["close"]
    for bar, found in zip(bars.itertuples(), adjusted, strict=True):
        end = as_of or bars.loc[bars["symbol"] == bar.symbol, "date"].max()
        if bar.date <= end:
            expected = Fraction(bar.close) / shares_grown(
                bar.symbol, bar.date, end, bars, splits, dividends, convention
            )
            assert found == pytest.approx(float(expected), rel=1e-12)


@both_conventions
@given(history=histories(), as_of=days)
@settings(deadline=None, max_examples=50)
def test_adjusting_as_of_a_day_depends_on_nothing_after_it(convention, history, as_of):
    bars, splits, dividends = history
    before = bars[bars["date"] <= as_of]
    found = adjust(bars, splits, dividends, as_of, convention).loc[before.index]
    known_then = adjust(
        before,
        splits[splits["execution_date"] <= as_of],
        dividends[dividends["ex_dividend_date"] <= as_of],
        as_of,
        convention,
    )
    pd.testing.assert_frame_equal(found, known_then, check_exact=True)


@both_conventions
@given(history=histories(), as_of=st.none() | days)
@settings(deadline=None, max_examples=50)
def test_without_dividends_only_splits_are_adjusted(convention, history, as_of):
    bars, splits, _ = history
    expected = split_adjust(bars, splits, as_of)
    pd.testing.assert_frame_equal(adjust(bars, splits, None, as_of, convention), expected, check_exact=True)
    pd.testing.assert_frame_equal(adjust(bars, splits, NO_DIVIDENDS, as_of, convention), expected, check_exact=True)


@both_conventions
@given(history=histories())
@settings(deadline=None, max_examples=50)
def test_factors_do_not_depend_on_the_currency_or_on_the_order_of_rows(convention, history):
    bars, splits, dividends = history
    factors = dividend_factors(bars, dividends, splits, convention)
    assert ((factors > 0) & (factors <= 1)).all()
    # A power of two rounds nothing.
    eighths = dividend_factors(
        bars.assign(close=bars["close"] * 8),
        dividends.assign(cash_amount=dividends["cash_amount"] * 8),
        splits,
        convention,
    )
    assert eighths.tolist() == factors.tolist()
    turned = dividend_factors(bars.iloc[::-1], dividends.iloc[::-1], splits.iloc[::-1], convention)
    assert turned[::-1].tolist() == pytest.approx(factors.tolist(), rel=1e-14)


@both_conventions
@given(history=histories(), executed=days)
@settings(deadline=None, max_examples=50)
def test_counting_in_smaller_shares_from_some_day_on_changes_no_factor(convention, history, executed):
    bars, splits, dividends = history
    splits = splits[splits["execution_date"] != executed]
    smaller = pd.concat([splits, splits_of(("A", executed, 1, 4), ("B", executed, 1, 4))], ignore_index=True)
    found = dividend_factors(
        bars.assign(close=bars["close"].where(bars["date"] < executed, bars["close"] / 4)),
        dividends.assign(
            cash_amount=dividends["cash_amount"].where(
                dividends["ex_dividend_date"] < executed, dividends["cash_amount"] / 4
            )
        ),
        smaller,
        convention,
    )
    assert found.tolist() == pytest.approx(dividend_factors(bars, dividends, splits, convention).tolist(), rel=1e-14)


# --- the vendored file


def rows_of_the_sample(symbol: str) -> list[dict[str, str]]:
    with gzip.open(SAMPLE_FILE, "rt", newline="") as file:
        return [row for row in csv.DictReader(file) if row["Ticker"] == symbol]


def bars_of_the_sample(symbol: str) -> pd.DataFrame:
    rows = rows_of_the_sample(symbol)
    return bars_of(*((symbol, date.fromisoformat(row["Date"]), float(row["Close"])) for row in rows))


@pytest.mark.parametrize(("symbol", "n_dividends"), [("AAPL", 3), ("IBM", 52), ("MSFT", 37)])
def test_the_wiki_close_is_the_files_adjusted_close_on_every_row(symbol, n_dividends):
    rows, provider = rows_of_the_sample(symbol), SampleProvider()
    dividends = provider.dividends()
    assert (dividends["symbol"] == symbol).sum() == n_dividends
    # The file's factors hold later splits and dividends too: the last row has 1 instead.
    rescale = float(rows[-1]["Close"]) / float(rows[-1]["Adj Close"])
    expected = [float(row["Adj Close"]) * rescale for row in rows]
    bars = bars_of_the_sample(symbol)
    adjusted = adjust(bars, provider.splits(), dividends, convention="wiki")
    assert adjusted["close"].tolist() == pytest.approx(expected, rel=1e-6)
    # The other convention is another series, so the equality says something.
    crsp = adjust(bars, provider.splits(), dividends, convention="crsp")
    assert crsp["close"].iloc[0] != pytest.approx(expected[0], rel=1e-6)


def test_dividends_known_from_the_news_are_in_the_sample():
    known = SampleProvider().dividends().set_index(["symbol", "ex_dividend_date"])["cash_amount"]
    # Microsoft's special 3.00 and regular 0.08 of one day; Apple's first since 1995; IBM's last of 2012.
    assert known["MSFT", pd.Timestamp(2004, 11, 15)] == pytest.approx(3.08, abs=1e-5)
    assert known["AAPL", pd.Timestamp(2012, 8, 9)] == pytest.approx(2.65, abs=1e-5)
    assert known["IBM", pd.Timestamp(2012, 11, 7)] == pytest.approx(0.85, abs=1e-5)


def test_apples_three_dividends_of_2012_and_2013_by_crsp():
    bars = bars_of_the_sample("AAPL").set_index("date")
    # Closes of the days before: 619.86, 582.85 and 457.35 in the file.
    dividends = dividends_of(*(("AAPL", day, 2.65) for day in (date(2012, 8, 9), date(2012, 11, 7), date(2013, 2, 7))))
    before = [bars["close"][day] for day in (date(2012, 8, 8), date(2012, 11, 6), date(2013, 2, 6))]
    assert before == pytest.approx([619.86, 582.85, 457.35], abs=0.01)
    factors = dividend_factors(bars.reset_index(), dividends, NO_SPLITS)
    expected = (1 - 2.65 / before[0]) * (1 - 2.65 / before[1]) * (1 - 2.65 / before[2])
    assert factors[0] == pytest.approx(expected, rel=1e-14)
    assert factors[-1] == 1.0
