"""Intervals: what is one, and which of them make sense together."""

from datetime import timedelta

import pytest

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.lifecycle import Lifecycle, Lifecycles, length
from tickstock_assets.settings import Settings, settings


@pytest.mark.parametrize(
    ("interval", "days"),
    [
        ("7 days", 7),
        ("1 year", 360),
        ("1 year 6 months", 540),
        ("2weeks", 14),
        ("36 hours", 1.5),
        ("90 Minutes", 0.0625),
    ],
)
def test_an_interval_is_as_long_as_postgresql_compares_it(interval: str, days: float) -> None:
    assert length(interval) == timedelta(days=days)


@pytest.mark.parametrize(
    "interval", ["", "soon", "7", "-7 days", "0 days", "7 dys", "1e9 days", "101 years", "7 days;"]
)
def test_what_is_no_interval_is_refused(interval: str) -> None:
    with pytest.raises(ValueError, match="expected an interval"):
        length(interval)


def test_the_defaults_of_the_settings_are_those_of_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TICKSTOCK_{name.upper()}", raising=False)
    assert Settings(_env_file=None).lifecycles == Lifecycles()


def setting(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Lifecycles:
    for name, value in variables.items():
        monkeypatch.setenv(f"TICKSTOCK_{name.upper()}", value)
    settings.cache_clear()
    try:
        return settings().lifecycles
    finally:
        settings.cache_clear()


def test_daily_chunks_7_day_compression_and_30_day_retention_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = setting(monkeypatch, minute_chunk="1 day", minute_compress_after="7 days", minute_retention="30 days")
    assert chosen.minute == Lifecycle("1 day", "7 days", "30 days")


def test_never_turns_compression_and_retention_off(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = setting(monkeypatch, tick_compress_after="never", tick_retention="NEVER ", minute_retention="")
    assert (chosen.tick, chosen.minute.retention) == (Lifecycle("1 day", None, None), None)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"minute_chunk": "banana"},
            "TICKSTOCK_MINUTE_CHUNK: expected an interval such as '7 days', '12 hours' or '1 year', found 'banana'; correct",
        ),
        ({"minute_chunk": "90 minutes"}, "TICKSTOCK_MINUTE_CHUNK: expected whole hours, .*, found '90 minutes'"),
        (
            {"minute_retention": "30 days"},
            r"TICKSTOCK_MINUTE_RETENTION: expected at least the interval after which rows are compressed \(90 days\).*'30 days'",
        ),
        (
            {"minute_compress_after": "never", "minute_retention": "1 day"},
            "TICKSTOCK_MINUTE_RETENTION: expected at least 2 days, over which rollups are refreshed .* found '1 day'",
        ),
        ({"daily_retention": "6 months"}, r"TICKSTOCK_DAILY_RETENTION: expected at least .* \(1 year\)"),
        ({"tick_partitions": "0"}, "TICKSTOCK_TICK_PARTITIONS: .*, found '0'"),
        ({"backtest_capital": "inf"}, "TICKSTOCK_BACKTEST_CAPITAL: .*finite number, found 'inf'"),
        ({"low_disk_gb": "inf"}, "TICKSTOCK_LOW_DISK_GB: .*finite number, found 'inf'"),
        ({"pool_size": "9", "pool_max": "8"}, "TICKSTOCK_POOL_MAX: expected at least TICKSTOCK_POOL_SIZE, 9, found 8;"),
        ({"home": "~nouser/x"}, "TICKSTOCK_HOME: expected a folder, found '~nouser/x' of a user that is not known"),
        ({"home": "a" * 300}, "TICKSTOCK_HOME: expected a folder, found a name that is too long, 'aaa"),
    ],
)
def test_nonsense_is_one_sentence_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        setting(monkeypatch, **variables)


def test_intervals_are_checked_however_they_are_made() -> None:
    with pytest.raises(ValueError, match="found '6 days'"):
        Lifecycle("1 day", "7 days", "6 days")
    with pytest.raises(ValueError, match="whole hours"):
        Lifecycles(minute=Lifecycle("30 minutes"))
