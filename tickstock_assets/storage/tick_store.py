"""Ticks into their table, and those that cannot be stored into quarantine, in one transaction.

The common case, new ticks of known symbols, is a plain COPY: it costs 0.6 times what a staging table does, and half of what
`merge` does. Only when the table refuses some of them is the batch looked through.

Elsewhere: what a tick must be (tick_rules.py), where they wait (tick_spill.py, ticks.py).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql
from sqlalchemy import Connection, Engine, text

from tickstock_assets.storage import quarantine
from tickstock_assets.storage.bulk import lock_symbols
from tickstock_assets.storage.copying import copy_in
from tickstock_assets.storage.database import driver
from tickstock_assets.storage.ledger import Source
from tickstock_assets.storage.streamed_twins import has_exact_trades, remove_streamed_twins
from tickstock_assets.storage.tick_rules import KEY, REASONS, UNKNOWN_SYMBOL, broken_rule

TABLE, STAGING, DATASET, VERSION = "ticks", "incoming_ticks", "trades", "stream"


@dataclass(frozen=True)
class StoreCounts:
    """What became of ticks: stored, there already, or in quarantine."""

    stored: int = 0
    repeated: int = 0
    quarantined: int = 0

    def __add__(self, other: "StoreCounts") -> "StoreCounts":
        return StoreCounts(
            self.stored + other.stored, self.repeated + other.repeated, self.quarantined + other.quarantined
        )


def store(engine: Engine, ticks: pa.Table) -> StoreCounts:
    """Store ticks of `tick_spill.TICKS` and commit; doing it again changes nothing.

    A tick that is stored already, by symbol, timestamp, exchange and trade_id, stays as it is; so does one that is stored
    with its exact moment, of which a streamed one tells the milliseconds.

    Raises:
        psycopg.Error, sqlalchemy.exc.DBAPIError: nothing of it was stored.
    """
    broken = broken_rule(ticks)
    if broken.null_count == len(broken):
        try:
            with engine.begin() as connection:
                _lock(connection, ticks)
                has_exact = _has_exact(connection, ticks)
                _copy(connection, TABLE, ticks)
                repeated = _remove_twins(connection, ticks) if has_exact else 0
            return StoreCounts(ticks.num_rows - repeated, repeated)
        except (psycopg.errors.UniqueViolation, psycopg.errors.ForeignKeyViolation):
            pass
    with engine.begin() as connection:
        return _store_what_can_be(connection, ticks, broken)


def _store_what_can_be(connection: Connection, ticks: pa.Table, broken: pa.ChunkedArray) -> StoreCounts:
    good = ticks.filter(pc.is_null(broken))
    is_unknown = pc.and_(pc.is_null(broken), pc.invert(pc.is_in(ticks["symbol"], _known(connection, good))))
    broken = pc.if_else(is_unknown, UNKNOWN_SYMBOL, broken)
    good, bad = ticks.filter(pc.is_null(broken)), ticks.filter(pc.is_valid(broken))
    if bad.num_rows:
        _set_aside(connection, bad, broken.drop_null())
    if not good.num_rows:
        return StoreCounts(quarantined=bad.num_rows)
    _lock(connection, good)
    has_exact = _has_exact(connection, good)
    inserted = _insert_new(connection, good)
    inserted -= _remove_twins(connection, good) if has_exact else 0
    return StoreCounts(inserted, good.num_rows - inserted, bad.num_rows)


def _has_exact(connection: Connection, ticks: pa.Table) -> bool:
    """Whether exact trades are stored where these belong; asked before them, as there is hardly anything there then."""
    return has_exact_trades(connection, *_span(ticks))


def _remove_twins(connection: Connection, ticks: pa.Table) -> int:
    return remove_streamed_twins(connection, *_span(ticks))


def _span(ticks: pa.Table) -> tuple[list[str], datetime, datetime]:
    """Return symbols, the first moment and one after the last, with the rest of its millisecond."""
    moments = pc.min_max(ticks["timestamp"]).as_py()
    return ticks["symbol"].unique().to_pylist(), moments["min"], moments["max"] + timedelta(milliseconds=1)


def _known(connection: Connection, ticks: pa.Table) -> pa.Array:
    """Return those of the symbols that are listed, and let none of them be removed before the end."""
    names = [name for name in ticks["symbol"].unique().to_pylist() if name and "\0" not in name]
    found = connection.execute(
        text("SELECT symbol FROM symbols WHERE symbol = ANY (:names) ORDER BY symbol FOR KEY SHARE"), {"names": names}
    )
    return pa.array(found.scalars().all(), pa.string())


def _lock(connection: Connection, ticks: pa.Table) -> None:
    """Keep out whoever merges ticks of these symbols: he inserts what he has not found."""
    with driver(connection).cursor() as cursor:
        lock_symbols(cursor, [TABLE], ticks["symbol"].unique().to_pylist())


def _insert_new(connection: Connection, ticks: pa.Table) -> int:
    """Insert those that are not there; of two with one key the first. Return how many that were."""
    cursor = driver(connection).cursor()
    cursor.execute(
        sql.SQL("CREATE TEMP TABLE IF NOT EXISTS {} (LIKE {} INCLUDING DEFAULTS) ON COMMIT DELETE ROWS").format(
            sql.Identifier(STAGING), sql.Identifier(TABLE)
        )
    )
    _copy(connection, STAGING, ticks)
    columns = sql.SQL(", ").join(map(sql.Identifier, ticks.column_names))
    # In the order of the key, so that two who store the same do not wait for each other in a circle.
    key = sql.SQL(", ").join(map(sql.Identifier, KEY))
    cursor.execute(
        sql.SQL(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM {staging} ORDER BY {key}, ctid ON CONFLICT DO NOTHING"
        ).format(table=sql.Identifier(TABLE), staging=sql.Identifier(STAGING), columns=columns, key=key)
    )
    return cursor.rowcount


def _copy(connection: Connection, table: str, ticks: pa.Table) -> None:
    place = ticks.column_names.index("conditions")
    with driver(connection).cursor() as cursor:
        copy_in(cursor, table, ticks.set_column(place, "conditions", array_literals(ticks["conditions"])))


def array_literals(lists: pa.ChunkedArray) -> pa.Array:
    """Return lists of texts as PostgreSQL writes arrays, missing ones as missing."""
    array = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], lists.type)
    texts = pc.replace_substring(pc.replace_substring(array.flatten(), "\\", "\\\\"), '"', '\\"')
    quoted = pc.if_else(pc.is_null(texts), "NULL", pc.binary_join_element_wise('"', texts, '"', ""))
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array([0, *lengths.cumsum().tolist()], pa.int32())
    joined = pc.binary_join_element_wise("{", pc.binary_join(pa.ListArray.from_arrays(offsets, quoted), ","), "}", "")
    return pc.if_else(pc.is_null(array), pa.scalar(None, pa.string()), joined)


def _set_aside(connection: Connection, ticks: pa.Table, rules: pa.ChunkedArray) -> None:
    frame = ticks.to_pandas()
    frame["rule"] = rules.to_pandas()
    moment = quarantine.of_python_years(frame["timestamp"])
    reasons = REASONS | {UNKNOWN_SYMBOL: "no symbol of that name is listed; `tickstock load` lists it"}
    is_listed = frame["symbol"].isin(_known(connection, ticks).to_pylist())
    rejects = pd.DataFrame(
        {
            "symbol": frame["symbol"].where(is_listed, None),
            "date": moment.dt.tz_localize(None).dt.normalize(),
            "timestamp": moment,
            "rule": frame["rule"],
            "reason": frame["rule"].map(reasons),
        }
    )
    for source, part in frame.groupby(frame["source"].fillna("")):
        rows = part.drop(columns="rule").to_dict("records")
        quarantine.set_aside(connection, Source(str(source), DATASET, VERSION), rejects.loc[part.index], rows)
