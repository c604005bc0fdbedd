"""The load ledger: which windows of a provider are landed, and where."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import Connection, text

from tickstock_assets.domain.marked_windows import MarkedWindows
from tickstock_assets.domain.windows import WHOLE_MARKET, Window, span_of
from tickstock_assets.storage import audit
from tickstock_assets.storage.landing import LandedFile

NAMESPACE = uuid.UUID("7c3f1f2e-5d0b-5b1c-9a55-3c9d0f6c8a10")


@dataclass(frozen=True)
class Source:
    """Whose data: `version` is a checksum or ETag of what the provider has; a new one makes every window due again."""

    provider: str
    dataset: str
    version: str


@dataclass(frozen=True)
class Entry:
    """A landed window; newer entries win where windows overlap.

    Attributes:
        id: the row's.
        window: its symbol is WHOLE_MARKET where one answer has every symbol.
        file: the payload.
        landed_at: UTC.
        route: how it was fetched.
        etag: of the provider's file; None for others.
    """

    id: str
    window: Window
    file: LandedFile
    landed_at: datetime
    route: str = "by_symbol"
    etag: str | None = None


@dataclass(frozen=True)
class Fetched:
    """How a window came: `calls` requests on a route, begun at a moment; with the ETag where it is a file's."""

    started_at: datetime
    route: str = "by_symbol"
    etag: str | None = None
    calls: int = 1


def landed(connection: Connection, source: Source, symbols: Iterable[str]) -> list[Entry]:
    """Return what is landed for these symbols, or for the whole market, at the source's version, oldest entry first."""
    rows = connection.execute(
        text("""
            SELECT id::text, coalesce(symbol, :whole_market) AS symbol, window_start, window_end, path, sha256, rows,
                   finished_at, route, etag FROM load_ledger
            WHERE status = 'landed' AND provider = :provider AND dataset = :dataset
              AND source_version = :version AND (symbol = ANY (:symbols) OR symbol IS NULL)
            ORDER BY finished_at, id
        """),
        {**_parameters(source), "symbols": list(symbols), "whole_market": WHOLE_MARKET},
    )
    return [
        Entry(
            row.id,
            Window(row.symbol, row.window_start, row.window_end),
            LandedFile(row.path, row.sha256, row.rows),
            row.finished_at,
            row.route,
            row.etag,
        )
        for row in rows
    ]


def record_landed(connection: Connection, source: Source, window: Window, file: LandedFile, how: Fetched) -> None:
    """Enter a window whose payload is on disk."""
    _record(
        connection, source, window, how, status="landed", rows=file.rows, sha256=file.sha256, path=file.path,
        error=None,
    )  # fmt: skip
    _audit(connection, source, window, "land", {"rows": file.rows, "sha256": file.sha256})


def record_failed(connection: Connection, source: Source, window: Window, error: str, how: Fetched) -> None:
    """Enter a window that could not be fetched."""
    _record(
        connection, source, window, how, status="failed", rows=None, sha256=None, path=None, error=error
    )  # fmt: skip
    _audit(connection, source, window, "fail", {"error": error})


def stored(
    connection: Connection, source: Source, symbols: Iterable[str], first: date = date.min, last: date = date.max
) -> list[tuple[Window, datetime]]:
    """Return the windows whose landed rows went on to their table, each with the moment up to which they were landed.

    Those without a day from `first` to `last` are left out.
    """
    rows = connection.execute(
        text("""
            SELECT symbol, window_start, window_end, stored_at FROM stored_windows
            WHERE provider = :provider AND dataset = :dataset AND source_version = :version AND symbol = ANY (:symbols)
              AND window_end >= :first AND window_start <= :last
        """),
        {**_parameters(source), "symbols": list(symbols), "first": first, "last": last},
    )
    return [(Window(row.symbol, row.window_start, row.window_end), row.stored_at) for row in rows]


def mark_stored(connection: Connection, source: Source, landed: Mapping[datetime, Iterable[Window]]) -> None:
    """Enter that the rows of windows are in their table, in the transaction that brings them there.

    Args:
        connection: open.
        source: whose rows.
        landed: windows by the moment they were landed at; no day of a symbol is under two of them.
    """
    windows = [window for of_moment in landed.values() for window in of_moment]
    if not windows:
        return
    known = MarkedWindows(stored(connection, source, {window.symbol for window in windows}, *span_of(windows)))
    new = [(window, moment) for moment, of_moment in landed.items() for window in known.older(of_moment, moment)]
    connection.execute(
        text("""
            INSERT INTO stored_windows (provider, dataset, source_version, symbol, window_start, window_end, stored_at)
            SELECT :provider, :dataset, :version, w.symbol, w.first_day, w.last_day, w.landed_at
            FROM unnest(CAST(:symbols AS text[]), CAST(:starts AS date[]), CAST(:ends AS date[]),
                        CAST(:moments AS timestamptz[])) AS w (symbol, first_day, last_day, landed_at)
            ON CONFLICT (provider, dataset, symbol, window_start, window_end) DO UPDATE SET
                stored_at = excluded.stored_at, source_version = excluded.source_version
            WHERE stored_windows.stored_at < excluded.stored_at OR stored_windows.source_version <> excluded.source_version
        """),
        {
            **_parameters(source),
            "symbols": [window.symbol for window, _ in new],
            "starts": [window.start for window, _ in new],
            "ends": [window.end for window, _ in new],
            "moments": [moment for _, moment in new],
        },
    )


def _audit(connection: Connection, source: Source, window: Window, action: str, details: Mapping[str, object]) -> None:
    particulars = {**_parameters(source), "window": str(window), **details}
    audit.record(connection, "load", ("load_ledger", window.symbol), action, particulars)


def _record(connection: Connection, source: Source, window: Window, how: Fetched, **outcome: str | int | None) -> None:
    key = "|".join([source.provider, source.dataset, source.version, str(window)])
    connection.execute(
        text("""
            INSERT INTO load_ledger (id, provider, dataset, symbol, window_start, window_end, source_version, status,
                                     route, etag, calls, rows, sha256, path, error, started_at, finished_at)
            VALUES (:id, :provider, :dataset, :symbol, :start, :end, :version, :status,
                    :route, :etag, :calls, :rows, :sha256, :path, :error, :started_at, :finished_at)
            ON CONFLICT (id) DO UPDATE SET
                status = excluded.status, route = excluded.route, etag = excluded.etag, rows = excluded.rows,
                sha256 = excluded.sha256, path = excluded.path, error = excluded.error,
                started_at = excluded.started_at, finished_at = excluded.finished_at,
                calls = excluded.calls, attempts = load_ledger.attempts + 1
            -- A failure entered late does not undo what another run has landed meanwhile.
            WHERE load_ledger.status <> 'landed' OR excluded.status = 'landed'
        """),
        {
            "id": uuid.uuid5(NAMESPACE, key),
            **_parameters(source),
            "symbol": None if window.symbol == WHOLE_MARKET else window.symbol,
            "start": window.start,
            "end": window.end,
            "route": how.route,
            "etag": how.etag,
            "calls": how.calls,
            "started_at": how.started_at,
            "finished_at": datetime.now(UTC),
            **outcome,
        },
    )


def _parameters(source: Source) -> dict[str, str]:
    return {"provider": source.provider, "dataset": source.dataset, "version": source.version}
