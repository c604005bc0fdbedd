"""From a provider to the landing folder, and from there to bars that keep the contract.

The unit of durability is one landed window with its ledger row: after a crash the next call fetches only what is missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pandera.pandas import DataFrameSchema
from sqlalchemy import Connection, Engine

from tickstock_assets.defs.resources import source_of
from tickstock_assets.domain.errors import LandingError, ProviderError
from tickstock_assets.domain.quality import violations
from tickstock_assets.domain.schemas import SYMBOLS, daily_bars
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, trading_sessions
from tickstock_assets.domain.windows import Window, not_covered
from tickstock_assets.providers.base import Provider, empty_daily_bars
from tickstock_assets.storage import audit, landing, ledger, quarantine
from tickstock_assets.storage import bars as stored
from tickstock_assets.storage.bulk import MergeCounts, merge
from tickstock_assets.storage.ledger import Source
from tickstock_assets.storage.retry import in_transaction


@dataclass
class LoadSummary:
    """What a load fetched, in windows and rows; `failed` gives the reason of each window that did not come."""

    fetched: list[Window] = field(default_factory=list)
    already_landed: int = 0
    rows: int = 0
    failed: dict[Window, str] = field(default_factory=dict)

    def raise_for_failures(self) -> None:
        """Raise ProviderError when a window did not come, naming the first; what did come stays landed."""
        if self.failed:
            window, reason = next(iter(self.failed.items()))
            raise ProviderError(
                f"{len(self.failed)} of {len(self.failed) + len(self.fetched)} windows did not come, first {window}: "
                f"{reason}; run it again to fetch only those"
            )


@dataclass(frozen=True)
class Payloads:
    """Landed rows of some windows: parsed in `frame`, and row for row as they came in `raw`."""

    frame: pd.DataFrame
    raw: pa.Table


def land_missing(
    provider: Provider,
    engine: Engine,
    folder: Path,
    windows: Sequence[Window],
    *,
    on_landed: Callable[[Window], None] = lambda _: None,
    run: audit.Run | None = None,
) -> LoadSummary:
    """Fetch the parts of `windows` that are not landed yet, up to the provider's horizon, and land each at once.

    A window that the provider refuses is entered in the ledger with the reason, and the others go on.
    """
    source = source_of(provider)
    wanted = [clipped for window in windows if (clipped := window.clipped_to(provider.horizon()))]
    with engine.begin() as connection:
        entries = ledger.landed(connection, source, {window.symbol for window in wanted})
    covered = [entry.window for entry in entries]
    missing = not_covered(wanted, covered)
    in_use = [window for window in covered if not_covered([window], wanted) != [window]]
    summary = LoadSummary(already_landed=len(in_use))
    for window in missing:
        started_at = datetime.now(UTC)
        try:
            payload = provider.fetch_daily_bars(window)
        except ProviderError as error:
            summary.failed[window] = reason = str(error)
            in_transaction(
                engine,
                partial(ledger.record_failed, source=source, window=window, error=reason, started_at=started_at),
                run,
            )
            continue
        file = landing.land(folder, provider.name, source.dataset, window, payload)
        in_transaction(
            engine, partial(ledger.record_landed, source=source, window=window, file=file, started_at=started_at), run
        )
        summary.fetched.append(window)
        summary.rows += payload.num_rows
        on_landed(window)
    return summary


def read_landed(provider: Provider, engine: Engine, folder: Path, windows: Sequence[Window]) -> Payloads:
    """Return the landed rows of `windows`; where payloads overlap the newest one counts.

    Rows whose date cannot be read, or is one the provider cannot have data for, belong to no window. They are in every
    payload and taken from one, so that each reaches the quarantine once.
    """
    with engine.begin() as connection:
        entries = ledger.landed(connection, source_of(provider), {window.symbol for window in windows})
    frames: list[pd.DataFrame] = []
    raws: list[pa.Table] = []
    remaining = list(windows)
    strays_taken: set[str] = set()
    for entry in reversed(entries):
        still_missing = not_covered(remaining, [entry.window])
        served = not_covered(remaining, still_missing)
        if not served:
            continue
        raw = landing.read(folder, entry.file.path, entry.file.sha256)
        frame = provider.parse_daily_bars(raw)
        first, last = pd.Timestamp(provider.history_start), pd.Timestamp(provider.horizon())
        chosen = ~frame["date"].between(first, last) & (entry.window.symbol not in strays_taken)
        strays_taken.add(entry.window.symbol)
        for window in served:
            chosen |= frame["date"].between(pd.Timestamp(window.start), pd.Timestamp(window.end))
        frames.append(frame[chosen])
        raws.append(raw.filter(pa.array(chosen.to_numpy())))
        remaining = still_missing
    if not frames:
        return Payloads(empty_daily_bars(), pa.table({}))
    return Payloads(pd.concat(frames, ignore_index=True), pa.concat_tables(raws))


def validate(
    provider: Provider, engine: Engine, payloads: Payloads, run: audit.Run | None = None
) -> tuple[pd.DataFrame, int]:
    """Return the rows that keep the contract of daily bars, and how many others were set aside with rule and reason."""

    def check(connection: Connection) -> tuple[pd.DataFrame, int]:
        sessions = stored.sessions(connection, DEFAULT_EXCHANGE, provider.history_start, provider.horizon())["session"]
        return keep_valid(connection, source_of(provider), payloads.frame, daily_bars(sessions), payloads.raw)

    valid, n_rejected = in_transaction(engine, check, run)
    return valid.assign(source=provider.name), n_rejected


def keep_valid(
    connection: Connection,
    source: Source,
    frame: pd.DataFrame,
    contract: DataFrameSchema,
    raw: pa.Table | None = None,
) -> tuple[pd.DataFrame, int]:
    """Return the rows that keep a contract, and how many others were quarantined.

    Args:
        connection: open.
        source: what the rows came as, and from whom.
        frame: with a unique index from 0.
        contract: what to hold the rows against.
        raw: the same rows as the provider sent them, where they differ from `frame`.
    """
    rejects = violations(frame, contract)
    if not rejects.empty:
        as_sent = pa.Table.from_pandas(frame, preserve_index=False) if raw is None else raw
        released = quarantine.set_aside(connection, source, rejects, as_sent.take(pa.array(rejects.index)))
        rejects = rejects.drop(index=released)
    return frame.drop(index=rejects.index), len(rejects)


def keep_valid_symbols(connection: Connection, provider: Provider) -> tuple[pd.DataFrame, int]:
    """Return the instruments that can be stored, and how many rows of others were quarantined.

    A symbol that cannot be has no partition through which its bars would come, so they are set aside here, as sent.
    """
    listed = provider.symbols()
    rejects = violations(listed, SYMBOLS)
    impossible = rejects[rejects["rule"] == "invalid_symbol"]
    sessions = trading_sessions(DEFAULT_EXCHANGE, provider.history_start, provider.horizon())["session"]
    n_rejected = 0
    for symbol in impossible["symbol"]:
        payload = provider.fetch_daily_bars(Window(symbol, provider.history_start, provider.horizon()))
        _, n_bars = keep_valid(
            connection, source_of(provider), provider.parse_daily_bars(payload), daily_bars(sessions), payload
        )
        n_rejected += n_bars
    possible = listed.drop(index=impossible.index).reset_index(drop=True)
    valid, n_symbols = keep_valid(connection, source_of(provider, "symbols"), possible, SYMBOLS)
    return valid, n_rejected + n_symbols


def verify_landed(
    provider: Provider, engine: Engine, folder: Path, windows: Sequence[Window] | None
) -> tuple[list[str], int]:
    """Return what is wrong with what is landed, and how many files were read.

    Wrong are windows that are missing, and files that are not what was written.
    """
    with engine.begin() as connection:
        symbols = stored.symbols(connection)["symbol"].tolist() if windows is None else [w.symbol for w in windows]
        entries = ledger.landed(connection, source_of(provider), symbols)
    wanted = [clipped for window in windows or [] if (clipped := window.clipped_to(provider.horizon()))]
    problems = [f"{window}: not landed" for window in not_covered(wanted, [entry.window for entry in entries])]
    for entry in entries:
        try:
            payload = landing.read(folder, entry.file.path, entry.file.sha256)
        except LandingError as error:
            problems.append(str(error))
            continue
        if payload.num_rows != entry.file.rows:
            problems.append(f"{entry.window}: expected {entry.file.rows} rows, found {payload.num_rows}")
    return problems, len(entries)


def load_directly(provider: Provider, engine: Engine, folder: Path) -> MergeCounts:
    """Load all that a provider has into the database without Dagster, by the same steps that the assets take."""
    symbols = provider.symbols()
    everything = [Window(symbol, provider.history_start, provider.horizon()) for symbol in symbols["symbol"]]
    sessions = trading_sessions(DEFAULT_EXCHANGE, provider.history_start, provider.horizon())

    def load_reference(connection: Connection) -> None:
        known = stored.symbols(connection)["symbol"]
        merge(connection, "symbols", symbols[~symbols["symbol"].isin(known)])
        merge(connection, "sessions", sessions)

    in_transaction(engine, load_reference)
    land_missing(provider, engine, folder, everything).raise_for_failures()
    valid, _ = validate(provider, engine, read_landed(provider, engine, folder, everything))
    return in_transaction(engine, lambda connection: merge(connection, "ohlcv_daily", valid))
