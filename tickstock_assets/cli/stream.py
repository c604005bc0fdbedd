"""`tickstock stream`: the live feed into the tables."""

import asyncio
import signal
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from tickstock_assets.cli.app import JsonOption, app, console, errors, print_json
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.settings import settings

if TYPE_CHECKING:
    from pydantic import SecretStr
    from rich.table import Table
    from sqlalchemy import Engine

    from tickstock_assets.loading.streaming import Stream

MOST_SYMBOLS_SHOWN = 20


class Channel(StrEnum):
    """What to receive."""

    TRADES = "trades"
    MINUTES = "minutes"
    BOTH = "both"


@app.command()
def stream(
    *,
    symbols: Annotated[str, typer.Option(help="Symbols, such as AAPL,MSFT.")],
    channel: Annotated[Channel, typer.Option(help="What to receive.")] = Channel.BOTH,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, help="Seconds after which it ends; else it goes on until Ctrl-C.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Receive trades and minute bars as they happen, and store them.

    A trade that was received is not lost, also when the database or this command is killed: the next start stores what
    waits in the home folder. What a cut connection missed becomes a request to load it. Ctrl-C and SIGTERM end it cleanly.

    [bold]tickstock stream --symbols AAPL,MSFT --channel trades[/]
    """
    from tickstock_assets.cli import symbol_lists
    from tickstock_assets.cli.database import engine

    wanted = symbol_lists.typed(symbols)
    key = settings().polygon_api_key
    if key is None:
        raise ConfigError("TICKSTOCK_POLYGON_API_KEY: expected a key for the live feed, found it unset; set it")
    opened = engine()
    try:
        begun = _begin(opened, key, wanted, channel)
        left = asyncio.run(_run(begun, seconds, quiet=as_json))
    finally:
        opened.dispose()
    if left:
        errors.print(
            f"The database could not be reached: {left} ticks wait in {settings().tick_spill_path} for the next start."
        )
    if as_json:
        print_json(asdict(begun.counts()))
    else:
        console.print(_in_words(begun), soft_wrap=True)


def _begin(opened: "Engine", key: "SecretStr", symbols: list[str], channel: Channel) -> "Stream":
    from tickstock_assets.loading.stream_minutes import StreamMinutes
    from tickstock_assets.loading.streaming import Stream, require_listed
    from tickstock_assets.providers.polygon_stream import MINUTES, TRADES, PolygonStream
    from tickstock_assets.storage import audit
    from tickstock_assets.storage.ticks import FlushPolicy, TickBuffer

    require_listed(opened, symbols)
    chosen = settings()
    channels = {Channel.TRADES: (TRADES,), Channel.MINUTES: (MINUTES,), Channel.BOTH: (TRADES, MINUTES)}[channel]
    policy = FlushPolicy(
        chosen.tick_flush_seconds, chosen.tick_flush_count, chosen.tick_buffer_most, sync=chosen.tick_sync
    )
    return Stream(
        PolygonStream(key, chosen.polygon_stream_url, symbols, channels),
        TickBuffer(opened, chosen.tick_spill_path, policy),
        StreamMinutes(opened, symbols, audit.Run("tickstock stream", str(uuid4()))),
    )


async def _run(begun: "Stream", seconds: float | None, *, quiet: bool) -> int:
    from rich.live import Live

    stop = asyncio.Event()
    for ending in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(ending, stop.set)
    if quiet or not console.is_terminal:
        return await begun.run(stop, seconds)
    with Live(_table(begun), console=errors, auto_refresh=False) as live:
        return await begun.run(stop, seconds, lambda: live.update(_table(begun), refresh=True))


def _table(begun: "Stream") -> "Table":
    from rich.table import Table

    counts = begun.counts()
    ticks = counts.ticks
    table = Table(title="Live feed" if counts.is_connected else "Live feed: connecting", title_justify="left")
    for name in ("what", "now"):
        table.add_column(name, justify="right" if name == "now" else "left")
    table.add_row("ticks a second", f"{ticks.per_second:,.0f}")
    table.add_row("stored", f"{ticks.stored:,}")
    table.add_row("waiting", f"{ticks.waiting:,}")
    table.add_row("in quarantine", f"{ticks.quarantined + counts.minutes_rejected:,}")
    table.add_row("flushes", f"{ticks.flushes:,}")
    table.add_row(
        "latency, half and 99 in 100",
        f"{_milliseconds(ticks.latency_seconds_p50)}, {_milliseconds(ticks.latency_seconds_p99)}",
    )
    table.add_row("minute bars stored", f"{counts.minutes_stored:,}")
    table.add_row("connections, holes", f"{counts.connections}, {counts.holes}")
    for symbol in sorted(begun.last)[:MOST_SYMBOLS_SHOWN]:
        price, moment = begun.last[symbol]
        table.add_row(f"{symbol} at {moment:%H:%M:%S} UTC", f"{price:,.4f}")
    return table


def _in_words(begun: "Stream") -> str:
    counts = begun.counts()
    ticks = counts.ticks
    return (
        f"{ticks.stored:,} ticks stored, {ticks.repeated:,} there already, {ticks.quarantined:,} in quarantine, "
        f"{ticks.waiting:,} waiting; {counts.minutes_stored:,} minute bars stored, {counts.minutes_rejected:,} in "
        f"quarantine; {counts.connections} connections, {counts.holes} holes to be loaded."
    )


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"
