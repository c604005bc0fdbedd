"""Missing bars filled with the last close, against pandas' own forward fill on a grid."""

from datetime import UTC, datetime

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickstock_assets.domain.filling import forward_filled
from tickstock_assets.domain.timeframes import bar_length

EVER = datetime(2030, 1, 1, tzinfo=UTC)


def sessions() -> pd.DataFrame:
    """November 2024: a clock change on the third, a holiday and a half day at the end."""
    schedule = exchange_calendars.get_calendar("XNYS", start="2024-10-25", end="2024-12-05").schedule
    return pd.DataFrame(
        {
            "exchange": "XNYS",
            "session": schedule.index.to_numpy("datetime64[us]"),
            "open": schedule["open"].dt.tz_localize(None).to_numpy("datetime64[us]"),
            "close": schedule["close"].dt.tz_localize(None).to_numpy("datetime64[us]"),
        }
    )


def bars(symbol: str, moments: pd.DatetimeIndex, closes: np.ndarray) -> pd.DataFrame:  # type: ignore[type-arg]
    frame = pd.DataFrame({"symbol": symbol, "timestamp": moments.as_unit("us"), "exchange": "XNYS", "close": closes})
    return frame.assign(open=closes, volume=1.0)


@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.002, 0.05, 0.5, 1.0]))
@settings(max_examples=25, deadline=None)
def test_minutes_are_filled_as_pandas_fills_each_session_by_itself(seed: int, share: float) -> None:
    some = np.random.default_rng(seed)
    known = sessions()
    pieces, expected = [], []
    for symbol in ("AAPL", "MSFT"):
        for row in known.iloc[some.integers(0, 2) :: 3].itertuples():
            grid = pd.date_range(row.open, row.close, freq="min", inclusive="left", tz="UTC")
            is_there = some.random(len(grid)) < share
            closes = pd.Series(np.where(is_there, some.random(len(grid)), np.nan), index=grid)
            pieces.append(bars(symbol, grid[is_there], closes[is_there].to_numpy()))
            filled = closes.ffill().dropna()
            expected += [(symbol, moment, close, not there) for (moment, close), there in
                         zip(filled.items(), is_there[len(grid) - len(filled) :], strict=True)]  # fmt: skip
    found = forward_filled(pd.concat(pieces, ignore_index=True), known, bar_length("1m"), until=EVER)
    assert list(zip(found["symbol"], found["timestamp"], found["close"], found["filled"], strict=True)) == expected
    assert found.loc[found["filled"], "volume"].eq(0).all()


def test_an_hour_that_begins_before_the_open_is_expected_and_one_at_the_close_is_not() -> None:
    # Half past two to nine in winter.
    moments = pd.to_datetime(["2024-11-05 13:00", "2024-11-05 14:00"], utc=True)
    found = forward_filled(bars("AAPL", moments, np.array([5.0, 7.0])), sessions(), bar_length("1h"), until=EVER)
    assert found["timestamp"].dt.hour.tolist() == [13, 14, 15, 16, 17, 18, 19, 20]
    assert found["close"].tolist() == [5, *[7] * 7]


def test_what_ends_with_a_half_day_is_filled_to_its_close() -> None:
    moments = pd.to_datetime(["2024-11-29 14:30"], utc=True)
    made = bars("AAPL", moments, np.array([5.0]))
    found = forward_filled(made, sessions(), bar_length("2h"), until=EVER, align="session")
    assert found["timestamp"].dt.strftime("%d %H:%M").tolist() == ["29 14:30", "29 16:30"]
    # The second ends with the session, at six.
    still = forward_filled(
        made, sessions(), bar_length("2h"), until=datetime(2024, 11, 29, 17, 59, tzinfo=UTC), align="session"
    )
    assert still["filled"].tolist() == [False]


@pytest.mark.parametrize(("length", "moment"), [("1m", "2024-11-05 15:00"), ("1h", "2024-11-05 15:00")])
def test_a_bar_without_a_price_stays_and_the_close_before_it_is_carried_past_it(length: str, moment: str) -> None:
    step = pd.Timedelta(bar_length(length).count, unit="min")
    moments = pd.DatetimeIndex([pd.Timestamp(moment, tz="UTC") + step * n for n in (0, 1, 3)])
    found = forward_filled(
        bars("AAPL", moments, np.array([5.0, np.nan, 6.0])), sessions(), bar_length(length), until=EVER
    )
    assert found["close"].iloc[0] == 5
    assert np.isnan(found["close"].iloc[1])
    assert found["close"].iloc[2:4].tolist() == [5, 6]
    assert found["filled"].iloc[:4].tolist() == [False, False, True, False]
