"""The load ledger: which windows of a provider are landed, and where."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from tickstock_assets.domain.windows import Window
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
    """A landed window; newer entries win where windows overlap."""

    window: Window
    file: LandedFile


def landed(connection: Connection, source: Source, symbols: Iterable[str]) -> list[Entry]:
    """Return what is landed for these symbols at the source's present version, oldest entry first."""
    rows = connection.execute(
        text("""
            SELECT symbol, window_start, window_end, path, sha256, rows FROM load_ledger
            WHERE status = 'landed' AND provider = :provider AND dataset = :dataset
              AND source_version = :version AND symbol = ANY (:symbols)
            ORDER BY finished_at, id
        """),
        {**_parameters(source), "symbols": list(symbols)},
    )
    return [
        Entry(Window(row.symbol, row.window_start, row.window_end), LandedFile(row.path, row.sha256, row.rows))
        for row in rows
    ]


def record_landed(
    connection: Connection, source: Source, window: Window, file: LandedFile, started_at: datetime
) -> None:
    """Enter a window whose payload is on disk."""
    _record(
        connection, source, window, started_at, status="landed", rows=file.rows, sha256=file.sha256, path=file.path,
        error=None,
    )  # fmt: skip
    _audit(connection, source, window, "land", {"rows": file.rows, "sha256": file.sha256})


def record_failed(connection: Connection, source: Source, window: Window, error: str, started_at: datetime) -> None:
    """Enter a window that could not be fetched."""
    _record(
        connection, source, window, started_at, status="failed", rows=None, sha256=None, path=None, error=error
    )  # fmt: skip
    _audit(connection, source, window, "fail", {"error": error})


def _audit(connection: Connection, source: Source, window: Window, action: str, details: Mapping[str, object]) -> None:
    particulars = {**_parameters(source), "window": str(window), **details}
    audit.record(connection, "load", ("load_ledger", window.symbol), action, particulars)


def _record(
    connection: Connection, source: Source, window: Window, started_at: datetime, **outcome: str | int | None
) -> None:
    key = "|".join([source.provider, source.dataset, source.version, str(window)])
    connection.execute(
        text("""
            INSERT INTO load_ledger (id, provider, dataset, symbol, window_start, window_end, source_version, status,
                                     rows, sha256, path, error, started_at, finished_at)
            VALUES (:id, :provider, :dataset, :symbol, :start, :end, :version, :status,
                    :rows, :sha256, :path, :error, :started_at, :finished_at)
            ON CONFLICT (id) DO UPDATE SET
                status = excluded.status, rows = excluded.rows, sha256 = excluded.sha256, path = excluded.path,
                error = excluded.error, started_at = excluded.started_at, finished_at = excluded.finished_at,
                attempts = load_ledger.attempts + 1
            -- A failure entered late does not undo what another run has landed meanwhile.
            WHERE load_ledger.status <> 'landed' OR excluded.status = 'landed'
        """),
        {
            "id": uuid.uuid5(NAMESPACE, key),
            **_parameters(source),
            "symbol": window.symbol,
            "start": window.start,
            "end": window.end,
            "started_at": started_at,
            "finished_at": datetime.now(UTC),
            **outcome,
        },
    )


def _parameters(source: Source) -> dict[str, str]:
    return {"provider": source.provider, "dataset": source.dataset, "version": source.version}
