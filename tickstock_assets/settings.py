"""Every setting of the project, read from the environment and `.env`; the only module that does so."""

import errno
import functools
import re
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tickstock_assets.domain import alerts, lifecycle
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.lifecycle import Lifecycle, Lifecycles

ENV_PREFIX = "TICKSTOCK_"
HTTP_URL = r"^https?://[^\s/]+"
WEBSOCKET_URL = r"^wss?://[^\s/]+"
REDIS_URL = r"^rediss?://[^\s/]+"


def _interval(text: str) -> str:
    lifecycle.length(text)
    return text


def _or_never(text: object) -> object:
    return None if isinstance(text, str) and text.strip().lower() == lifecycle.NEVER else text


Interval = Annotated[str, AfterValidator(_interval)]
IntervalOrNever = Annotated[Annotated[str, AfterValidator(_interval)] | None, BeforeValidator(_or_never)]


class Settings(BaseSettings):
    """One field a setting; the variable is the field's name in capitals behind `TICKSTOCK_`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", allow_inf_nan=False
    )

    home: Annotated[Path, Field(description="Folder of the embedded database and the landing files")] = Path(
        ".tickstock"
    )
    database_url: Annotated[
        SecretStr | None,
        Field(description="A PostgreSQL server to use instead of the embedded one: postgresql://user:password@host/db"),
    ] = None
    dagster_database: Annotated[
        str, Field(pattern=r"^[a-z_][a-z0-9_]*$", description="Database of Dagster's own storage, on the same server")
    ] = "dagster"
    broker_url: Annotated[
        SecretStr | None,
        Field(description="Redis that hands runs to Celery workers: redis://:password@host:6379/0; unset, no workers"),
    ] = None
    max_concurrent_runs: Annotated[
        int, Field(ge=1, le=1000, description="Runs of Dagster at work at once; the others wait in its queue")
    ] = 4
    pool_size: Annotated[int, Field(ge=1, le=1000, description="Connections that a process keeps open when idle")] = 5
    pool_max: Annotated[
        int, Field(ge=1, le=1000, description="Connections that a process has open at once, at most")
    ] = 20
    statement_timeout_seconds: Annotated[
        int, Field(ge=0, le=2_000_000, description="Seconds after which the server gives up a statement; 0 for never")
    ] = 600
    owner_password: Annotated[
        SecretStr | None, Field(description="Password that `tickstock db roles` gives to the role tickstock_owner")
    ] = None
    app_password: Annotated[
        SecretStr | None, Field(description="Password that `tickstock db roles` gives to the role tickstock_app")
    ] = None
    reader_password: Annotated[
        SecretStr | None, Field(description="Password that `tickstock db roles` gives to the role tickstock_reader")
    ] = None
    low_disk_gb: Annotated[
        float, Field(ge=0, description="Free space of the home folder, in GB, below which it is warned of")
    ] = 5
    update_delay_minutes: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="Minutes from a session's close to its update; providers may need longer than that",
        ),
    ] = 30
    runs_kept_days: Annotated[
        int,
        Field(ge=1, le=36_500, description="Days for which Dagster's record of a run is kept; its last results stay"),
    ] = 90
    providers: Annotated[
        str | None,
        Field(
            pattern=r"^[a-z_]+(\s*,\s*[a-z_]+)*$",
            description="Providers in the order in which they are asked, such as polygon,alpha_vantage; unset, those that "
            "have a key, and without any key the sample data",
        ),
    ] = None
    on_quota: Annotated[
        Literal["wait", "next"],
        Field(
            description="When a provider's day budget is used up: `wait` until it is not, or ask the `next` provider"
        ),
    ] = "wait"
    polygon_api_key: Annotated[
        SecretStr | None,
        Field(
            validation_alias=AliasChoices("tickstock_polygon_api_key", "polygon_api_key", "massive_api_key"),
            description="Key of Polygon (Massive); POLYGON_API_KEY and MASSIVE_API_KEY are read as well",
        ),
    ] = None
    polygon_url: Annotated[str, Field(pattern=HTTP_URL, description="Address of Polygon's REST API")] = (
        "https://api.massive.com"
    )
    polygon_stream_url: Annotated[
        str,
        Field(
            pattern=WEBSOCKET_URL,
            description="Address of Polygon's live feed; wss://delayed.massive.com for plans fifteen minutes behind",
        ),
    ] = "wss://socket.massive.com"
    polygon_calls_per_minute: Annotated[
        int, Field(ge=0, le=100_000, description="Requests a minute that the Polygon plan allows; 0 for no limit")
    ] = 5
    polygon_history_years: Annotated[
        float, Field(ge=0, le=100, description="How many years back the Polygon plan reaches; 0 for all there is")
    ] = 0
    flat_files_url: Annotated[
        str | None,
        Field(
            description="Polygon's flat files: an S3 bucket such as https://files.massive.com/flatfiles, or a folder"
        ),
    ] = None
    flat_files_access_key: Annotated[SecretStr | None, Field(description="Access key of the flat files")] = None
    flat_files_secret_key: Annotated[SecretStr | None, Field(description="Secret key of the flat files")] = None
    alpha_vantage_api_key: Annotated[
        SecretStr | None,
        Field(
            validation_alias=AliasChoices("tickstock_alpha_vantage_api_key", "alphavantage_api_key"),
            description="Key of Alpha Vantage; ALPHAVANTAGE_API_KEY is read as well",
        ),
    ] = None
    alpha_vantage_url: Annotated[str, Field(pattern=HTTP_URL, description="Address of Alpha Vantage's API")] = (
        "https://www.alphavantage.co/query"
    )
    alpha_vantage_calls_per_minute: Annotated[
        int, Field(ge=0, le=100_000, description="Requests a minute that the Alpha Vantage plan allows; 0 for no limit")
    ] = 5
    alpha_vantage_calls_per_day: Annotated[
        int, Field(ge=0, le=10_000_000, description="Requests a day that the Alpha Vantage plan allows; 0 for no limit")
    ] = 25
    alpha_vantage_premium: Annotated[
        bool, Field(description="Whether the Alpha Vantage plan has full history and minute bars")
    ] = False
    csv_folder: Annotated[Path | None, Field(description="Folder of SYMBOL.csv files for the csv_folder provider")] = (
        None
    )
    sample_file: Annotated[
        Path | None, Field(description="A CSV file (plain or .gz) for the sample provider instead of the vendored one")
    ] = None
    quarantine_threshold: Annotated[
        float, Field(ge=0, le=1, description="Share of rejected rows above which downstream assets are blocked")
    ] = 0.05
    gap_attempts: Annotated[
        int,
        Field(
            ge=0, le=100, description="How often missing bars are fetched again before they are given up; 0 for never"
        ),
    ] = 5
    watch_folder: Annotated[
        Path | None,
        Field(description="Folder of CSV lists of symbols whose history is to be loaded; unset, none is read"),
    ] = None
    tick_flush_seconds: Annotated[
        float, Field(gt=0, le=3600, description="Seconds after which streamed ticks are stored, at the latest")
    ] = 5.0
    tick_flush_count: Annotated[
        int, Field(ge=1, le=1_000_000, description="Number of streamed ticks at which all there are get stored")
    ] = 100
    tick_buffer_most: Annotated[
        int,
        Field(
            ge=1, le=1_000_000_000, description="Streamed ticks that wait for the database; then the feed is held back"
        ),
    ] = 1_000_000
    tick_sync: Annotated[
        bool, Field(description="Have streamed ticks on the disk at each flush, for machines whose power may fail")
    ] = False
    backtest_capital: Annotated[float, Field(gt=0, description="Starting capital of a backtest, in USD")] = 100_000.0
    backtest_holding_bars: Annotated[
        int, Field(ge=1, le=1000, description="Bars a position is held unless it is stopped out")
    ] = 5
    backtest_commission_bps: Annotated[
        float, Field(ge=0, lt=10_000, description="Commission per fill, in basis points of its value")
    ] = 1.0
    backtest_slippage_bps: Annotated[
        float, Field(ge=0, lt=10_000, description="Slippage per fill, in basis points of the price")
    ] = 2.0
    risk_free_rate: Annotated[
        float, Field(gt=-1, lt=1, description="Risk-free rate a year, as a fraction; for Sharpe and Sortino")
    ] = 0.02

    alert_webhooks: Annotated[
        SecretStr | None,
        Field(description="Addresses that alerts are posted to, Slack-compatible, with commas between them; secrets"),
    ] = None
    alert_mail_to: Annotated[
        str | None, Field(description="Addresses that alerts are mailed to, with commas between them")
    ] = None
    alert_mail_from: Annotated[str, Field(description="Address that alerts are mailed from")] = "tickstock@localhost"
    smtp_host: Annotated[str | None, Field(description="Server that mail is sent over")] = None
    smtp_port: Annotated[
        int | None, Field(ge=1, le=65535, description="Its port; unset 587 for starttls, 465 for ssl, 25 for none")
    ] = None
    smtp_security: Annotated[
        Literal["starttls", "ssl", "none"],
        Field(description="How the connection to it is encrypted: after its greeting, from the start, or not at all"),
    ] = "starttls"
    smtp_user: Annotated[str | None, Field(description="User to log in to it as; unset there is no login")] = None
    smtp_password: Annotated[SecretStr | None, Field(description="Password of that user")] = None
    alert_warnings: Annotated[
        bool, Field(description="Whether checks that only warn are alerted too, not just those that are errors")
    ] = False
    alert_quiet_minutes: Annotated[
        str | None,
        Field(
            description="Minutes in which nobody is told of the same alert again: 30 for all, or by kind, such as "
            "lag=2880,run_failed=5; unset each kind has its own"
        ),
    ] = None
    alert_lag_sessions: Annotated[
        int,
        Field(
            ge=0, le=10_000, description="Sessions that bars may be behind the providers before it is alerted; 0 never"
        ),
    ] = 3
    ui_url: Annotated[
        str | None,
        Field(pattern=HTTP_URL, description="Address of the web UI as people reach it, for links in alerts"),
    ] = None

    @field_validator("alert_quiet_minutes")
    @classmethod
    def _says_quiet_periods(cls, text: str | None) -> str | None:
        alerts.quiet_periods(text)
        return text

    @field_validator("home")
    @classmethod
    def _can_be_a_folder(cls, home: Path) -> Path:
        try:
            home = home.expanduser()
        except RuntimeError:
            raise ValueError(f"expected a folder, found {str(home)!r} of a user that is not known") from None
        try:
            home.lstat()
        except OSError as error:
            # It need not be there yet; what else is wrong shows when it is used.
            if error.errno == errno.ENAMETOOLONG:
                raise ValueError(f"expected a folder, found a name that is too long, {str(home)!r}") from None
        return home

    @field_validator("broker_url")
    @classmethod
    def _is_redis(cls, address: SecretStr | None) -> SecretStr | None:
        if address is not None and not re.match(REDIS_URL, address.get_secret_value()):
            # It may have a password in it, so what was found is not repeated.
            raise ValueError("expected redis://:password@host:port/0, found something else")
        return address

    @pydantic.field_validator("pool_max")
    @classmethod
    def _at_least_what_is_kept(cls, value: int, info: pydantic.ValidationInfo) -> int:
        kept = info.data.get("pool_size", value)
        if value < kept:
            raise ValueError(f"expected at least TICKSTOCK_POOL_SIZE, {kept}, found {value}")
        return value

    minute_chunk: Annotated[Interval, Field(description="Length of a chunk of minute bars, on TimescaleDB")] = "7 days"
    minute_compress_after: Annotated[
        IntervalOrNever, Field(description="Age at which chunks of minute bars are compressed, or `never`")
    ] = "90 days"
    minute_retention: Annotated[
        IntervalOrNever, Field(description="Age at which minute bars are dropped; unset they are kept")
    ] = None
    daily_chunk: Annotated[
        Interval, Field(description="Length of a chunk of daily bars, features, patterns and equity, on TimescaleDB")
    ] = "1 year"
    daily_compress_after: Annotated[
        IntervalOrNever, Field(description="Age at which chunks of daily bars and features are compressed, or `never`")
    ] = "1 year"
    daily_retention: Annotated[
        IntervalOrNever, Field(description="Age at which daily bars are dropped; unset they are kept")
    ] = None
    tick_chunk: Annotated[Interval, Field(description="Length of a chunk of ticks, on TimescaleDB")] = "1 day"
    tick_compress_after: Annotated[
        IntervalOrNever, Field(description="Age at which chunks of ticks are compressed, or `never`")
    ] = "30 days"
    tick_retention: Annotated[IntervalOrNever, Field(description="Age at which ticks are dropped, or `never`")] = (
        "1 year"
    )
    tick_partitions: Annotated[
        int, Field(ge=1, le=1024, description="Hash partitions of ticks by symbol, on TimescaleDB")
    ] = 16

    @field_validator("minute_retention", "daily_retention", "tick_retention")
    @classmethod
    def _retention_leaves_time_to_compress(cls, retention: str | None, others: ValidationInfo) -> str | None:
        compress_after = others.data.get(f"{str(others.field_name).partition('_')[0]}_compress_after")
        if problem := lifecycle.retention_problem(retention, compress_after):
            raise ValueError(problem)
        if others.field_name == "minute_retention" and (problem := lifecycle.minute_retention_problem(retention)):
            raise ValueError(problem)
        return retention

    @field_validator("minute_chunk")
    @classmethod
    def _minutes_are_cut_at_the_hour(cls, chunk: str) -> str:
        if problem := lifecycle.minute_chunk_problem(chunk):
            raise ValueError(problem)
        return chunk

    @property
    def lifecycles(self) -> Lifecycles:
        """The intervals of chunks, compression and retention."""
        return Lifecycles(
            minute=Lifecycle(self.minute_chunk, self.minute_compress_after, self.minute_retention),
            daily=Lifecycle(self.daily_chunk, self.daily_compress_after, self.daily_retention),
            tick=Lifecycle(self.tick_chunk, self.tick_compress_after, self.tick_retention),
            tick_partitions=self.tick_partitions,
        )

    @property
    def home_path(self) -> Path:
        """The home folder as an absolute path."""
        return self.home.resolve()

    @property
    def tick_spill_path(self) -> Path:
        """Folder of streamed ticks that are not stored yet."""
        return self.home_path / "ticks"

    @property
    def landing_path(self) -> Path:
        """Folder of the immutable raw payloads."""
        return self.home_path / "landing"


@functools.cache
def settings() -> Settings:
    """Return the settings of this process, read once.

    Raises:
        ConfigError: a variable has a value that its setting does not accept.
    """
    try:
        return Settings()
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        # A field that has other names too is reported under the one that was found.
        field_name = ".".join(str(part) for part in first["loc"][:1])
        name = (ENV_PREFIX * (field_name in Settings.model_fields) + field_name).upper()
        # Messages of our own validators say what was found.
        own = first["type"] == "value_error"
        said = first["msg"].removeprefix("Value error, ") if own else f"{first['msg']}, found {first['input']!r}"
        raise ConfigError(f"{name}: {said}; correct it in the environment or in .env") from None
