"""Every setting of the project, read from the environment and `.env`; the only module that does so."""

import functools
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from tickstock_assets.domain.errors import ConfigError

ENV_PREFIX = "TICKSTOCK_"


class Settings(BaseSettings):
    """One field a setting; the variable is the field's name in capitals behind `TICKSTOCK_`."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore")

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
    sample_file: Annotated[
        Path | None, Field(description="A CSV file (plain or .gz) for the sample provider instead of the vendored one")
    ] = None
    quarantine_threshold: Annotated[
        float, Field(ge=0, le=1, description="Share of rejected rows above which downstream assets are blocked")
    ] = 0.05
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

    @property
    def home_path(self) -> Path:
        """The home folder as an absolute path."""
        return self.home.expanduser().resolve()

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
        name = ENV_PREFIX + ".".join(str(part) for part in first["loc"]).upper()
        raise ConfigError(
            f"{name}: {first['msg']}, found {first['input']!r}; correct it in the environment or in .env"
        ) from None
