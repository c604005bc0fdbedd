"""Rules of quality: a worked case for each, its neighbours that must stay silent, and what may change nothing."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickstock_assets.domain.anomalies import COLUMNS, RULES, Timeframe, find
from tickstock_assets.domain.anomalies.neighbourhood import median_of_others

NO_SPLITS = pd.DataFrame(
    {
        "symbol": pd.Series(dtype="str"),
        "execution_date": pd.Series(dtype="datetime64[us]"),
        "split_from": pd.Series(dtype="float64"),
        "split_to": pd.Series(dtype="float64"),
    }
)
PRICES = ["open", "high", "low", "close"]
DAYS = 120
# The close goes 100, 101, 100, 101 and so on: every return is 1 % one way or the other, and so is the local sigma 1.5 %.
SIGMA = np.log(101 / 100) / 0.6744897501960817


def zigzag(symbol: str = "A", n_bars: int = DAYS, scale: float = 1.0) -> pd.DataFrame:
    """Return days whose every bar opens at the close before and closes 1 % from it, with volumes of 1000 to 1006."""
    number = np.arange(n_bars)
    closes = scale * (100.0 + number % 2)
    opens = scale * (100.0 + (number + 1) % 2)
    session = pd.Series(pd.bdate_range("2012-01-02", periods=n_bars)).astype("datetime64[us]")
    opened = session.dt.tz_localize("UTC") + pd.Timedelta(hours=14, minutes=30)
    return pd.DataFrame(
        {
            "symbol": symbol,
            "session": session,
            "session_open": opened,
            "timestamp": opened,
            "open": opens,
            "high": np.maximum(opens, closes),
            "low": np.minimum(opens, closes),
            "close": closes,
            "volume": 1000.0 + number % 7,
            "is_half_day": False,
            "is_extended": False,
        }
    )


def changed(bars: pd.DataFrame, place: int, **values: float) -> pd.DataFrame:
    bars = bars.copy()
    for name, value in values.items():
        bars.loc[place, name] = value
    return bars


def found(bars: pd.DataFrame, rule: str, splits: pd.DataFrame = NO_SPLITS, timeframe: Timeframe = "1d") -> pd.DataFrame:
    everything = find(bars, splits, timeframe)
    assert list(everything.columns) == COLUMNS
    return everything[everything["rule"] == rule].reset_index(drop=True)


def split(bars: pd.DataFrame, place: int, ratio: float) -> pd.DataFrame:
    """Return the bars in new shares from a place on, `ratio` for each old one."""
    bars = bars.copy()
    bars.loc[place:, PRICES] /= ratio
    bars.loc[place:, "volume"] *= ratio
    return bars


def recorded(bars: pd.DataFrame, place: int, split_from: float, split_to: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "symbol": ["A"],
            "execution_date": [bars["session"][place]],
            "split_from": [split_from],
            "split_to": [split_to],
        }
    )


def test_nothing_is_odd_about_a_zigzag() -> None:
    assert find(zigzag(), NO_SPLITS, "1d").empty


# --- price spikes


def test_a_close_that_is_far_from_both_sides_is_a_spike_with_its_numbers() -> None:
    # Bar 60 closes at 130, its neighbours at 101: 29 % above the bars around it, whose medians are 101 and 101.
    [spike] = found(changed(zigzag(), 60, close=130.0, high=130.0), "price_spike").to_dict("records")
    assert spike["timestamp"] == zigzag()["timestamp"][60]
    assert (spike["evidence"]["field"], spike["evidence"]["price"], spike["evidence"]["expected"]) == (
        "close",
        130,
        101,
    )
    assert spike["evidence"]["relative_move"] == pytest.approx(130 / 101 - 1, abs=1e-3)
    assert spike["evidence"]["sigmas"] == pytest.approx(np.log(130 / 101) / SIGMA, rel=1e-3)
    # 17 sigmas, but less than 30 %: a person should look.
    assert spike["severity"] == "warning"
    assert spike["reason"].startswith("close 130 is 28.7% above the bars before and after it (about 101)")


def test_a_price_that_nobody_can_have_paid_is_an_error() -> None:
    assert found(changed(zigzag(), 60, close=10.0, low=10.0), "price_spike")["severity"].tolist() == ["error"]


def test_a_low_alone_is_a_spike_too() -> None:
    [spike] = found(changed(zigzag(), 60, low=80.0), "price_spike").to_dict("records")
    assert (spike["evidence"]["field"], spike["evidence"]["expected"]) == ("low", 100)


@pytest.mark.parametrize("close", [104.0, 96.0])
def test_a_close_three_percent_off_is_none(close: float) -> None:
    assert found(changed(zigzag(), 60, close=close, high=104.0, low=96.0), "price_spike").empty


def test_a_jump_that_stays_is_none() -> None:
    bars = zigzag()
    bars.loc[60:, PRICES] *= 1.37
    assert found(bars, "price_spike").empty


def test_a_spike_of_two_bars_is_found_in_both() -> None:
    bars = changed(changed(zigzag(), 60, close=130.0, high=130.0), 61, close=130.0, high=131.0)
    assert found(bars, "price_spike")["timestamp"].tolist() == bars["timestamp"][60:62].tolist()


def test_a_move_that_the_other_symbols_make_too_is_none() -> None:
    together = pd.concat([changed(zigzag(name), 60, low=80.0) for name in "ABCD"], ignore_index=True)
    assert found(together, "price_spike").empty
    alone = pd.concat([zigzag(name) for name in "ABC"] + [changed(zigzag("D"), 60, low=80.0)], ignore_index=True)
    assert found(alone, "price_spike")["symbol"].tolist() == ["D"]


def test_a_last_bar_is_not_judged_before_the_next_is_there() -> None:
    bars = changed(zigzag(), 60, close=130.0, high=130.0)
    assert found(bars[:61].reset_index(drop=True), "price_spike").empty
    assert len(found(bars[:66].reset_index(drop=True), "price_spike")) == 1


def test_the_price_is_told_as_traded_where_a_split_was_undone() -> None:
    bars = split(changed(zigzag(), 90, close=130.0, high=130.0), 60, 2.0)
    [spike] = found(bars, "price_spike", recorded(bars, 60, 1, 2)).to_dict("records")
    assert (spike["evidence"]["price"], spike["evidence"]["expected"]) == (65, 50.5)


# --- stale runs


def standing_still(bars: pd.DataFrame, place: int, n_bars: int) -> pd.DataFrame:
    bars = bars.copy()
    bars.loc[place : place + n_bars - 1, PRICES] = bars["close"][place - 1]
    return bars


def test_bars_of_one_price_are_a_stale_run_told_once() -> None:
    [run] = found(standing_still(zigzag(), 60, 5), "stale_run").to_dict("records")
    assert run["timestamp"] == zigzag()["timestamp"][60]
    # Five bars stand still at the close of the one before: six in a row. Bars 60 to 64 have volumes 1004, 5, 6, 0, 1.
    assert (run["evidence"]["bars"], run["evidence"]["close"], run["evidence"]["volume"]) == (6, 101, 5016)
    assert run["evidence"]["last"] == zigzag()["timestamp"][64].isoformat()
    # One run begins after 115 bars that move: (1 + 1) / (115 + 2) a bar, to the fifth power, in 120 bars.
    assert run["evidence"]["expected_by_chance"] == pytest.approx(120 * (2 / 117) ** 5, rel=1e-3)


def test_one_bar_that_stands_still_is_none() -> None:
    assert found(standing_still(zigzag(), 60, 1), "stale_run").empty


def test_an_illiquid_share_may_stand_still_for_as_long() -> None:
    bars = zigzag(n_bars=300)
    for place in range(1, 300, 8):
        bars = standing_still(bars, place, 5)
    assert found(bars, "stale_run").empty


def test_a_row_that_comes_twice_is_none_by_chance_where_its_volume_is_large() -> None:
    bars = zigzag()
    bars["volume"] = 5_000_000.0 + np.arange(DAYS)
    twice = bars.copy()
    twice.loc[60, [*PRICES, "volume"]] = twice.loc[59, [*PRICES, "volume"]]
    [run] = found(twice, "stale_run").to_dict("records")
    assert run["reason"].startswith("2 bars in a row are the same row, close 101")
    # The same hundred shares at the same price, as in a quiet minute, are.
    lots = bars.assign(volume=100.0)
    lots.loc[60, PRICES] = lots.loc[59, PRICES]
    assert found(lots, "stale_run").empty


def test_without_volume_it_may_be_a_halt() -> None:
    bars = standing_still(zigzag(), 60, 6)
    bars.loc[60:65, "volume"] = 0.0
    assert found(bars, "stale_run")["severity"].tolist() == ["info"]


# --- volume


def test_fifty_times_the_usual_volume_is_an_outlier() -> None:
    [outlier] = found(changed(zigzag(), 100, volume=50_150.0), "volume_outlier").to_dict("records")
    # The median of 1000 to 1006 is 1003.
    assert (outlier["evidence"]["expected"], outlier["evidence"]["ratio"]) == (1003, 50)
    assert outlier["severity"] == "warning"


def test_a_fiftieth_of_it_is_one_but_on_a_half_day() -> None:
    bars = changed(zigzag(), 100, volume=20.0)
    assert len(found(bars, "volume_outlier")) == 1
    bars.loc[100, "is_half_day"] = True
    assert found(bars, "volume_outlier").empty


def test_seven_times_is_none_and_neither_is_a_day_that_is_heavy_for_all() -> None:
    assert found(changed(zigzag(), 100, volume=7_000.0), "volume_outlier").empty
    heavy = pd.concat([changed(zigzag(name), 100, volume=50_000.0) for name in "ABC"], ignore_index=True)
    assert found(heavy, "volume_outlier").empty


def test_heavy_volume_on_a_day_of_a_large_move_is_for_information() -> None:
    bars = changed(zigzag(), 100, volume=50_000.0)
    bars.loc[100:, PRICES] *= 1.2
    assert found(bars, "volume_outlier")["severity"].tolist() == ["info"]


def test_a_price_that_changes_without_a_share_is_found() -> None:
    # Of a day it is the whole session.
    assert found(changed(zigzag(), 60, volume=0.0), "zero_volume")["evidence"].map(
        lambda e: e["whole_session"]
    ).tolist() == [True]


def test_an_index_has_no_volume_and_nothing_to_be_found() -> None:
    assert found(zigzag().assign(volume=0.0), "zero_volume").empty


# --- splits


@pytest.mark.parametrize(
    ("ratio", "split_from", "split_to"),
    [(2, 1, 2), (3, 1, 3), (1.5, 2, 3), (4, 1, 4), (5, 1, 5), (7, 1, 7), (10, 1, 10), (20, 1, 20), (0.5, 2, 1), (0.1, 10, 1),
     (0.02, 50, 1)],
)  # fmt: skip
def test_an_overnight_jump_by_a_ratio_that_stays_is_a_split(ratio: float, split_from: int, split_to: int) -> None:
    everything = find(split(zigzag(), 60, ratio), NO_SPLITS, "1d")
    # It is told once: the other rules see bars without it.
    [suspected] = everything.to_dict("records")
    day = f"{zigzag()['session'][60]:%Y-%m-%d}"
    evidence = suspected["evidence"]
    assert (suspected["rule"], evidence["execution_date"]) == ("unrecorded_split", day)
    assert (evidence["split_from"], evidence["split_to"]) == (split_from, split_to)
    assert (evidence["close_before"], evidence["open"]) == (101, pytest.approx(101 / ratio))
    assert f'tickstock splits add A {day} {split_from} {split_to} --reason "..."' in suspected["reason"]


@pytest.mark.parametrize("place", [59, 60, 61])
def test_a_split_that_is_recorded_within_a_session_is_not_reported(place: int) -> None:
    bars = split(zigzag(), 60, 2.0)
    assert found(bars, "unrecorded_split", recorded(bars, place, 1, 2)).empty


def test_a_crash_by_half_brings_volume_and_is_none() -> None:
    bars = zigzag()
    bars.loc[60:, PRICES] /= 2
    # Ten times the shares at half the price are five times the money.
    bars.loc[60:, "volume"] *= 10
    assert found(bars, "unrecorded_split").empty


def test_a_fall_by_a_ratio_that_no_split_has_is_none() -> None:
    assert found(split(zigzag(), 60, 1.75), "unrecorded_split").empty


def test_a_day_at_half_the_price_is_a_spike_and_no_split() -> None:
    bars = zigzag()
    bars.loc[60, PRICES] /= 2
    everything = find(bars, NO_SPLITS, "1d")
    assert set(everything["rule"]) == {"price_spike"}


def test_a_fall_that_all_symbols_share_is_none() -> None:
    together = pd.concat([split(zigzag(name), 60, 2.0) for name in "ABC"], ignore_index=True)
    assert found(together, "unrecorded_split").empty


# --- minutes


def minutes(symbol: str = "A", n_sessions: int = 12) -> pd.DataFrame:
    """Return sessions of 60 minutes; close and volume as in `zigzag`, the first ten minutes with ten times the volume."""
    days = [zigzag(symbol, 60).assign(session=day) for day in pd.bdate_range("2012-07-02", periods=n_sessions)]
    for frame in days:
        opened = frame["session"].dt.tz_localize("UTC") + pd.Timedelta(hours=13, minutes=30)
        frame["session_open"] = opened
        frame["timestamp"] = opened + pd.to_timedelta(np.arange(60), unit="min")
        frame.loc[:9, "volume"] *= 10
    bars = pd.concat(days, ignore_index=True)
    return bars.assign(session=bars["session"].astype("datetime64[us]"))


def test_a_minute_is_held_against_that_minute_of_other_sessions() -> None:
    assert find(minutes(), NO_SPLITS, "1m").empty
    # What is usual in the first minutes is ten times too much later.
    late = 10 * 60 + 40
    [outlier] = found(changed(minutes(), late, volume=10_030.0), "volume_outlier", timeframe="1m").to_dict("records")
    assert outlier["timestamp"] == minutes()["timestamp"][late]


def test_a_minute_without_a_share_in_which_the_price_moved_is_found() -> None:
    [idle] = found(changed(minutes(), 100, volume=0.0), "zero_volume", timeframe="1m").to_dict("records")
    assert not idle["evidence"]["whole_session"]
    # Where it did not move, there was no trade.
    silent = changed(minutes(), 100, volume=0.0, **dict.fromkeys(PRICES, minutes()["close"][99]))
    assert found(silent, "zero_volume", timeframe="1m").empty


def test_a_session_without_a_share_is_found_once() -> None:
    bars = minutes()
    bars.loc[bars["session"] == bars["session"][600], "volume"] = 0.0
    idle = found(bars, "zero_volume", timeframe="1m")
    assert idle["timestamp"].tolist() == [bars["timestamp"][600]]


# --- whatever the bars are


def walks(seed: int, symbols: Sequence[str] = "ABC", n_bars: int = 150) -> pd.DataFrame:
    """Return geometric walks with 2 % a day, and volumes that vary by a third."""
    draw = np.random.default_rng(seed)
    frames = []
    for symbol in symbols:
        closes = 50 * np.exp(np.cumsum(draw.normal(0, 0.02, n_bars)))
        opens = np.concatenate([[50.0], closes[:-1] * np.exp(draw.normal(0, 0.005, n_bars - 1))])
        reach = np.exp(np.abs(draw.normal(0, 0.005, (2, n_bars))))
        frames.append(
            zigzag(symbol, n_bars).assign(
                open=opens,
                close=closes,
                high=np.maximum(opens, closes) * reach[0],
                low=np.minimum(opens, closes) / reach[1],
                volume=np.round(np.exp(draw.normal(14, 0.33, n_bars))),
            )
        )
    return pd.concat(frames, ignore_index=True)


def odd(seed: int) -> pd.DataFrame:
    """Return walks with a spike, a stale run, an outlier and a split."""
    bars = walks(seed)
    bars.loc[70, "close"] = bars.loc[70, "high"] = bars["high"][70] * 2
    bars.loc[220:226, PRICES] = bars["close"][219]
    bars.loc[400, "volume"] *= 60
    bars.loc[380:, PRICES] /= 2
    bars.loc[380:, "volume"] *= 2
    return bars


def keys(rows: pd.DataFrame) -> list[tuple[object, ...]]:
    return sorted(rows[["symbol", "timestamp", "rule", "severity"]].itertuples(index=False, name=None))


SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=6, deadline=None)
@given(SEEDS)
def test_planted_defects_of_each_kind_are_found_in_any_walk(seed: int) -> None:
    rules = Counter(find(odd(seed), NO_SPLITS, "1d")["rule"])
    assert set(rules) >= {"price_spike", "stale_run", "unrecorded_split", "volume_outlier"}


@settings(max_examples=6, deadline=None)
@given(SEEDS, st.sampled_from([0.001953125, 0.5, 4.0, 1024.0]))
def test_prices_in_another_currency_change_nothing(seed: int, scale: float) -> None:
    bars = odd(seed)
    # Powers of two, so that not even the last bit of a price changes.
    other = bars.assign(**{name: bars[name] * scale for name in PRICES})
    assert keys(find(other, NO_SPLITS, "1d")) == keys(find(bars, NO_SPLITS, "1d"))


@settings(max_examples=6, deadline=None)
@given(SEEDS, st.permutations("ABC"), st.randoms(use_true_random=False))
def test_neither_names_of_symbols_nor_the_order_of_rows_matter(seed: int, names: list[str], order: object) -> None:
    bars = odd(seed)
    renamed = dict(zip("ABC", names, strict=True))
    back = {new: old for old, new in renamed.items()}
    places = list(range(len(bars)))
    order.shuffle(places)  # type: ignore[attr-defined]
    there = find(bars.assign(symbol=bars["symbol"].map(renamed)).iloc[places], NO_SPLITS, "1d")
    assert keys(there.assign(symbol=there["symbol"].map(back))) == keys(find(bars, NO_SPLITS, "1d"))


@settings(max_examples=6, deadline=None)
@given(SEEDS, st.integers(20, 130))
def test_what_was_found_stays_found_when_bars_are_added(seed: int, n_later: int) -> None:
    # All but stale runs, whose chance is measured over all bars there are, and what the last eleven bars can still change.
    bars = walks(seed, "A", 300)
    bars.loc[100, "close"] = bars.loc[100, "high"] = bars["high"][100] * 2
    prefix = bars[: 100 + n_later].reset_index(drop=True)
    settled = prefix["timestamp"].iloc[-12]

    def until(rows: pd.DataFrame) -> list[tuple[object, ...]]:
        return keys(rows[(rows["timestamp"] <= settled) & (rows["rule"] != "stale_run")])

    assert until(find(prefix, NO_SPLITS, "1d")) == until(find(bars, NO_SPLITS, "1d"))


def test_clean_walks_have_less_than_one_finding_in_ten_thousand_bars() -> None:
    n_bars, n_found = 0, 0
    for seed in range(8):
        bars = walks(seed, "ABCDEFGHIJ", 250)
        n_bars += len(bars)
        n_found += len(find(bars, NO_SPLITS, "1d"))
    assert n_bars == 20_000
    assert n_found <= n_bars / 10_000


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_the_median_of_others_is_that_of_the_list_without_oneself(values: list[int]) -> None:
    moments = pd.Series([pd.Timestamp("2012-01-03", tz="UTC")] * len(values))
    expected = [
        float(np.median(values[:place] + values[place + 1 :])) if len(values) > 2 else 0.0
        for place in range(len(values))
    ]
    assert median_of_others(moments, np.array(values, np.float64)).tolist() == expected


def test_no_bars_have_no_findings() -> None:
    timeframes: tuple[Timeframe, ...] = ("1d", "1m")
    for timeframe in timeframes:
        assert find(zigzag()[:0], NO_SPLITS, timeframe).empty


def test_the_rules_are_these() -> None:
    assert set(RULES) == {"price_spike", "stale_run", "volume_outlier", "zero_volume", "unrecorded_split"}
