"""Compressing chunks now instead of when their policy comes to it; TimescaleDB Community only."""

from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from tickstock_assets.domain.errors import ConfigError


@dataclass(frozen=True)
class Compression:
    """A table's chunks that are not compressed, or were not; sizes in bytes with indexes, the second once it is done."""

    table: str
    chunks: int
    before_bytes: int
    after_bytes: int | None = None


def compressible(connection: Connection) -> list[str]:
    """Return the tables that compression is set up for."""
    return list(
        connection.execute(
            text("""
                SELECT hypertable_name FROM timescaledb_information.hypertables
                WHERE hypertable_schema = 'public' AND compression_enabled ORDER BY 1
            """)
        ).scalars()
    )


def plan(connection: Connection, table: str) -> Compression:
    """Return what `compress` would do.

    Raises:
        ConfigError: the table cannot be compressed.
    """
    if table not in (known := compressible(connection)):
        raise ConfigError(f"Table: expected one of {', '.join(known)}, found {table!r}")
    chunks = _uncompressed(connection, table)
    return Compression(table, len(chunks), _size(connection, table, chunks))


def compress(engine: Engine, table: str) -> Compression:
    """Compress every chunk that is not, each in a transaction of its own, and return what came of it."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        planned = plan(connection, table)
        chunks = _uncompressed(connection, table)
        connection.execute(text("SET statement_timeout = 0"))
        try:
            for chunk in chunks:
                connection.execute(
                    text("SELECT compress_chunk(CAST(:chunk AS regclass), if_not_compressed => true)"), {"chunk": chunk}
                )
        finally:
            connection.execute(text("RESET statement_timeout"))
        after = _size(connection, table, chunks)
    return Compression(table, planned.chunks, planned.before_bytes, after)


def _uncompressed(connection: Connection, table: str) -> list[str]:
    return list(
        connection.execute(
            text("""
                SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks
                WHERE hypertable_schema = 'public' AND hypertable_name = :table AND NOT is_compressed ORDER BY range_start
            """),
            {"table": table},
        ).scalars()
    )


def _size(connection: Connection, table: str, chunks: list[str]) -> int:
    return int(
        connection.execute(
            text("""
                SELECT coalesce(sum(total_bytes), 0) FROM chunks_detailed_size(CAST(:table AS regclass))
                WHERE format('%I.%I', chunk_schema, chunk_name) = ANY (:chunks)
            """),
            {"table": table, "chunks": chunks},
        ).scalar_one()
    )
