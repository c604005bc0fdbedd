"""`tickstock simulate`: both vendors on this machine."""

import sys
from datetime import datetime
from typing import Annotated

import typer

from tickstock_assets.cli.app import app
from tickstock_assets.domain.errors import ConfigError

# Whatever follows `=` will do as a key.
ANY_KEY = "simulated"


@app.command()
def simulate(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free.")] = 8377,
    symbols: Annotated[
        int, typer.Option(min=0, max=9_998, help="How many invented companies, S0001 and so on, besides the sample's.")
    ] = 0,
    start: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], help="First day of the invented companies.")
    ] = datetime(2019, 1, 2),  # noqa: DTZ001 a day
    end: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Their last day.")] = datetime(2023, 12, 29),  # noqa: DTZ001
    calls_per_minute: Annotated[
        int, typer.Option(min=0, help="Requests a minute that Polygon's plan allows; 0 for no limit.")
    ] = 0,
    calls_per_day: Annotated[
        int, typer.Option(min=0, help="Requests a day that Alpha Vantage's plan allows; 0 for no limit.")
    ] = 0,
    extended_hours: Annotated[
        bool, typer.Option("--extended-hours", help="Some minutes trade before and after the sessions.")
    ] = False,
    live_from: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Day on which the live feed begins; else the first there is."),
    ] = None,
    live_speed: Annotated[float, typer.Option(min=0.001, help="Seconds of the live feed in a second of ours.")] = 60.0,
    faults: Annotated[
        str, typer.Option(metavar="NAME=CHANCE,...", help="What goes wrong how often, such as all=0.02,cut=0.1.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of the faults: the same seed, the same faults.")] = 0,
) -> None:
    """Serve simulated vendors over the sample data and invented companies, on loopback. Ctrl-C stops it.

    It prints the settings that point to it; any text works as a key. /simulator/stats counts what was asked.
    """
    if end < start:
        raise ConfigError(f"--end: expected a day on or after --start {start:%Y-%m-%d}, found {end:%Y-%m-%d}")
    from tickstock_assets.simulator import Faults, Market, Pace, Plan, Simulator, Vendor

    market = Market(symbols, start.date(), end.date(), extended_hours=extended_hours)
    plans = {
        Vendor.POLYGON: Plan(per_minute=calls_per_minute or None),
        Vendor.ALPHA_VANTAGE: Plan(per_day=calls_per_day or None),
    }
    pace = Pace(live_from.date() if live_from else None, live_speed)
    simulator = Simulator(market, plans, Faults.parsed(faults, seed), pace=pace)
    try:
        simulator.listen(port)
    except OSError as error:
        raise ConfigError(
            f"http://127.0.0.1:{port}: expected a port that is free, found {error.strerror}; choose another with --port"
        ) from None
    # Plain text, so that it can be pasted or appended to .env as it is.
    sys.stdout.write(
        f"# Simulated vendors at {simulator.url} until Ctrl-C; the settings that point there:\n"
        f"TICKSTOCK_POLYGON_URL={simulator.url}\n"
        f"TICKSTOCK_POLYGON_STREAM_URL={simulator.stream_url}\n"
        f"TICKSTOCK_POLYGON_API_KEY={ANY_KEY}\n"
        f"TICKSTOCK_POLYGON_CALLS_PER_MINUTE={calls_per_minute}\n"
        f"TICKSTOCK_ALPHA_VANTAGE_URL={simulator.url}/query\n"
        f"TICKSTOCK_ALPHA_VANTAGE_API_KEY={ANY_KEY}\n"
        "TICKSTOCK_ALPHA_VANTAGE_CALLS_PER_MINUTE=0\n"
        f"TICKSTOCK_ALPHA_VANTAGE_CALLS_PER_DAY={calls_per_day}\n"
        "TICKSTOCK_ALPHA_VANTAGE_PREMIUM=true\n"
        f"TICKSTOCK_FLAT_FILES_URL={simulator.url}/flatfiles\n"
        f"TICKSTOCK_FLAT_FILES_ACCESS_KEY={ANY_KEY}\n"
        f"TICKSTOCK_FLAT_FILES_SECRET_KEY={ANY_KEY}\n"
    )
    sys.stdout.flush()
    simulator.serve()
