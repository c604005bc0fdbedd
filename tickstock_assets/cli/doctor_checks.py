"""What `tickstock doctor` looks at: each check gives findings, and none keeps the others from being made."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from tickstock_assets.cli import database
from tickstock_assets.cli.doctor_alerts import who_is_told
from tickstock_assets.cli.doctor_findings import TROUBLE, Finding, Patient, sentence
from tickstock_assets.cli.doctor_providers import flat_files, providers
from tickstock_assets.defs import launching
from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, last_closed_session, trading_sessions
from tickstock_assets.loading.registry import REGISTRY, names
from tickstock_assets.providers.sample import SampleProvider
from tickstock_assets.settings import Settings
from tickstock_assets.storage import migrate
from tickstock_assets.storage.database import database_url, open_engine, server_time
from tickstock_assets.storage.health import BYTES_PER_GB, check_health
from tickstock_assets.storage.tier_status import tier_status

# Beyond this, places in a minute and the last closed session would be judged by another time than the vendors'.
CLOCK_TOLERANCE = timedelta(seconds=1)
FEWEST_SESSIONS_A_YEAR = 245


def examine(chosen: Settings, *, offline: bool) -> Iterator[Finding]:
    """Yield the findings of all checks, in the order in which they hang on each other."""
    patient = Patient(chosen, offline)
    looks: Sequence[tuple[str, Callable[[Patient], Iterable[Finding]], str]] = [
        ("settings", _settings, "correct it in the environment or in .env"),
        ("database", _database, "start it, correct TICKSTOCK_DATABASE_URL, or unset that for the embedded server"),
        ("providers", providers, "see docs/providers.md"),
        ("flat files", flat_files, "see docs/providers.md"),
        ("calendar", lambda _: calendar(), "renew the package exchange_calendars"),
        ("sessions", _sessions, "see the database"),
        ("disk", _disk, "set TICKSTOCK_HOME to a folder that can be written"),
        ("dagster", _dagster, "see the database; `tickstock ui` opens the same instance"),
        ("clock", _clock, "see the database"),
        ("alerts", who_is_told, "correct it in the environment or in .env"),
    ]
    for check, look, remedy in looks:
        try:
            yield from look(patient)
        except TROUBLE as error:
            yield Finding(check, "failed", sentence(error), remedy)


def calendar() -> Iterator[Finding]:
    """Look whether the calendar of the exchange covers today and the year that comes."""
    today = datetime.now(UTC).date()
    last = today + timedelta(days=365)
    try:
        n_sessions = len(trading_sessions(DEFAULT_EXCHANGE, today, last))
    except ValueError as error:  # exchange_calendars: beyond what it knows
        yield Finding("calendar", "failed", sentence(error), "renew the package exchange_calendars")
        return
    closed = last_closed_session(DEFAULT_EXCHANGE, datetime.now(UTC))
    said = f"{DEFAULT_EXCHANGE} is known to {last}, {n_sessions} sessions from now; the last closed one is {closed}"
    if n_sessions < FEWEST_SESSIONS_A_YEAR:
        yield Finding("calendar", "warning", said, "a year has more: renew the package exchange_calendars")
    else:
        yield Finding("calendar", "ok", said)


def _settings(patient: Patient) -> Iterator[Finding]:
    chosen = patient.chosen
    wanted = patient.names = names(chosen)
    who = ", ".join(wanted)
    if chosen.providers is not None:
        left_out = [name for name, one in REGISTRY.items() if one.is_configured(chosen) and name not in wanted]
        also = f"; it leaves out {', '.join(left_out)}, which could be asked" if left_out else ""
        yield Finding("settings", "ok", f"on: {who}, as TICKSTOCK_PROVIDERS says{also}")
    elif wanted == [SampleProvider.name]:
        yield Finding(
            "settings",
            "warning",
            "no key: only the sample data is on",
            "for live data set TICKSTOCK_POLYGON_API_KEY or TICKSTOCK_ALPHA_VANTAGE_API_KEY, or TICKSTOCK_CSV_FOLDER",
        )
    else:
        yield Finding("settings", "ok", f"on: {who}, as each has its key or folder")


# --- what is stored


def _database(patient: Patient) -> Iterator[Finding]:
    chosen, server = patient.chosen, database.server_url()
    state = check_health(chosen.home_path, server, chosen.low_disk_gb, database.limits())
    if not state.reachable:
        raise DatabaseError(state.reason or "no answer")
    # As every verb does: the embedded database is brought up to date, a server's is its administrator's.
    engine = database.engine() if server is None else open_engine(database_url(chosen.home_path, server), "doctor")
    with engine.connect() as connection:
        version = connection.execute(text("SHOW server_version")).scalar_one().split()[0]
        revision, latest = migrate.current_revision(connection), migrate.latest_revision()
        made = tier_status(connection, chosen.lifecycles, is_embedded=server is None)
    said = f"PostgreSQL {version}, {'embedded' if server is None else 'a server'}, answers in {state.latency_ms:.1f} ms"
    if state.warnings:
        yield Finding("database", "warning", "; ".join([said, *state.warnings]), "see what it names")
    else:
        yield Finding("database", "ok", said)
    if revision == latest:
        patient.engine = engine
        yield Finding("schema", "ok", f"revision {revision}, the latest")
    else:
        found = f"expected revision {latest}, found {revision or 'none'}"
        yield Finding("schema", "failed", found, "run `tickstock db migrate`")
    off = f"{state.tier} {state.timescaledb or ''}".strip()
    if made.warnings:
        off += f"; off: {', '.join(warning.feature for warning in made.warnings)}"
    # The embedded server comes without the extension, which is not a fault.
    is_fault = bool(made.warnings) and server is not None
    remedy = "`tickstock db status` says what turns each on" if is_fault else ""
    yield Finding("tier", "warning" if is_fault else "ok", off, remedy)


def _sessions(patient: Patient) -> Iterator[Finding]:
    with patient.opened().connect() as connection:
        found = connection.execute(
            text("SELECT session FROM sessions WHERE exchange = :exchange"), {"exchange": DEFAULT_EXCHANGE}
        )
        stored: set[date] = set(found.scalars())
    if not stored:
        remedy = "`tickstock load`, `tickstock demo` or the asset `sessions` fills it"
        yield Finding("sessions", "warning", f"the table has none of {DEFAULT_EXCHANGE} yet", remedy)
        return
    horizon = max((lineup.horizon() for lineup in patient.lineups), default=max(stored))
    # A load enters the years that it needs: those in between may be missing, not parts of one.
    years = {session.year for session in stored} | {horizon.year}
    calendar = trading_sessions(DEFAULT_EXCHANGE, min(stored), max(horizon, min(stored)))["session"].dt.date
    missing = sorted(session for session in set(calendar) - stored if session.year in years)
    said = f"{len(stored):,} of {DEFAULT_EXCHANGE} from {min(stored)} to {max(stored)}"
    if missing:
        lacking = f"; {len(missing):,} are missing up to {horizon}, the first {missing[0]}"
        yield Finding(
            "sessions", "warning", said + lacking, "materialize the asset `sessions`, or run `tickstock load`"
        )
    else:
        yield Finding("sessions", "ok", f"{said}; none is missing up to {horizon}, the last that can have bars")


def _disk(patient: Patient) -> Iterator[Finding]:
    for check, folder in (("home folder", patient.chosen.home_path), ("landing folder", patient.chosen.landing_path)):
        try:
            there = _nearest(folder)
            with tempfile.TemporaryFile(dir=there) as probe:
                probe.write(b"\0")
            free = shutil.disk_usage(there).free
        except OSError as error:
            said = f"{folder}: expected a folder that can be written, found {error.strerror}"
            yield Finding(check, "failed", said, "correct its rights, or set TICKSTOCK_HOME to another")
            continue
        said = f"{folder} can be written, {free / BYTES_PER_GB:,.1f} GB are free"
        if free < patient.chosen.low_disk_gb * BYTES_PER_GB:
            wanted = f"; expected at least {patient.chosen.low_disk_gb:g} GB (TICKSTOCK_LOW_DISK_GB)"
            yield Finding(check, "warning", said + wanted, "make room before loads fail")
        else:
            yield Finding(check, "ok", said)


def _nearest(folder: Path) -> Path:
    """Return a folder, or the nearest above that is there, in which it would be made."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _dagster(patient: Patient) -> Iterator[Finding]:
    with launching.open_instance(patient.chosen.home_path) as instance:
        n_runs = instance.get_runs_count()
    yield Finding("dagster", "ok", f"{patient.chosen.home_path / 'dagster'}: its storage answers, {n_runs:,} runs")


def _clock(patient: Patient) -> Iterator[Finding]:
    with patient.opened().connect() as connection:
        connection.execute(text("SELECT 1"))
        before = datetime.now(UTC)
        theirs = server_time(connection)
        after = datetime.now(UTC)
    # Theirs was read at some moment in between.
    off = max(before - theirs, theirs - after, timedelta(0))
    said = f"UTC here is {before:%Y-%m-%d %H:%M:%S}, {off.total_seconds():.1f} s off the database's"
    if off > CLOCK_TOLERANCE:
        yield Finding("clock", "warning", said, "set both by NTP: budgets and the last closed session hang on it")
    else:
        yield Finding("clock", "ok", said)
