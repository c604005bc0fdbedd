"""`tickstock db status`, `migrate`, `compress`, `refresh` and `drop-chunks`, as a person runs them on each tier."""

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from sqlalchemy import Engine

from tests.conftest import tickstock
from tests.storage import tiers as servers
from tests.storage.test_tiers import add_minutes, add_symbols, rows


def on(engine: Engine, *arguments: str, home: Path, **variables: str) -> CompletedProcess[str]:
    address = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    own = {"TICKSTOCK_DATABASE_URL": address, "TICKSTOCK_DAGSTER_DATABASE": f"dagster_{engine.url.database}"}
    return tickstock(*arguments, home=home, COLUMNS="200", **own, **variables)


def said(result: CompletedProcess[str]) -> str:
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def refused(result: CompletedProcess[str]) -> str:
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_status_says_what_is_made_and_what_is_off(database: Engine, tier: str, tmp_path: Path) -> None:
    found = json.loads(said(on(database, "db", "status", "--json", home=tmp_path)))
    text = said(on(database, "db", "status", home=tmp_path))
    assert len(found["hypertables"]) == (7 if tier in servers.TIMESCALEDB else 0)
    assert len(found["policies"]) == (9 if tier == servers.COMMUNITY else 0)
    assert {rollup["continuous"] for rollup in found["rollups"]} == {tier == servers.COMMUNITY}
    assert len(found["warnings"]) == {servers.EMBEDDED: 4, servers.APACHE: 3, servers.COMMUNITY: 0}[tier]
    assert [warning["says"] in text for warning in found["warnings"]] == [True] * len(found["warnings"])
    assert ("Hypertables" in text) == bool(found["hypertables"])
    assert ("Policies" in text) == bool(found["policies"])


def test_drop_chunks_tells_first_and_drops_when_told_to(database: Engine, tier: str, tmp_path: Path) -> None:
    add_symbols(database)
    add_minutes(database, "2024-01-01 00:00", "2024-01-31 23:59", "{AAPL}")
    verb = ("db", "drop-chunks", "ohlcv_1min", "--older-than", "2024-01-20")
    planned = said(on(database, *verb, home=tmp_path)).splitlines()
    what = "27,360 rows" if tier == servers.EMBEDDED else "3 chunks"
    assert planned[0].startswith(f"To drop: ohlcv_1min: {what}")
    assert planned[1] == "Nothing was done: add --yes to do it."
    assert rows(database, "SELECT count(*) FROM ohlcv_1min") == [(31 * 1440,)]
    assert said(on(database, *verb, "--yes", home=tmp_path)).startswith(f"Dropped: ohlcv_1min: {what}")
    ((left,),) = rows(database, "SELECT count(*) FROM ohlcv_1min")
    assert left == (12 if tier == servers.EMBEDDED else 14) * 1440


def test_compress_and_refresh_tell_first_or_say_why_not(database: Engine, tier: str, tmp_path: Path) -> None:
    add_symbols(database)
    add_minutes(database, "2024-01-01 00:00", "2024-01-31 23:59", "{AAPL}")
    compress, refresh = ("db", "compress", "ohlcv_1min"), ("db", "refresh")
    if tier != servers.COMMUNITY:
        for verb in (compress, refresh):
            sentence = refused(on(database, *verb, "--yes", home=tmp_path))
            assert "on TimescaleDB Community only, found" in sentence
            assert ("Community edition" if tier == servers.APACHE else "TICKSTOCK_DATABASE_URL") in sentence
        return
    assert "5 chunks to compress" in said(on(database, *compress, home=tmp_path))
    assert "5 chunks compressed" in said(on(database, *compress, "--yes", home=tmp_path))
    assert "ohlcv_1min: 0 chunks" in said(on(database, "db", "compress", "--all", home=tmp_path))
    assert "ohlcv_1h: to refresh from 2023-12-28 00:00" in said(on(database, *refresh, home=tmp_path))
    assert "ohlcv_1h: refreshed from 2023-12-28 00:00" in said(on(database, *refresh, "--yes", home=tmp_path))
    assert "computed until 2024-02-01 00:00 UTC" in said(on(database, "db", "status", home=tmp_path))


@pytest.mark.tiers(servers.COMMUNITY)
def test_settings_become_policies_when_the_schema_is_migrated(database: Engine, tmp_path: Path) -> None:
    chosen = {"TICKSTOCK_MINUTE_COMPRESS_AFTER": "7 days", "TICKSTOCK_MINUTE_RETENTION": "30 days"}
    found = json.loads(said(on(database, "db", "status", "--json", home=tmp_path, **chosen)))
    assert [warning["remedy"] for warning in found["warnings"]] == ["run `tickstock db migrate`"] * 2
    said(on(database, "db", "migrate", home=tmp_path, **chosen))
    found = json.loads(said(on(database, "db", "status", "--json", home=tmp_path, **chosen)))
    assert found["warnings"] == []
    of_minutes = {one["kind"]: one["interval"] for one in found["policies"] if one["table"] == "ohlcv_1min"}
    assert of_minutes == {"compression": "7 days", "retention": "30 days"}


@pytest.mark.tiers(*servers.TIMESCALEDB)
def test_migrate_offers_the_extension_and_creates_it_when_told_to(bare_database: Engine, tmp_path: Path) -> None:
    offered = said(on(bare_database, "db", "migrate", home=tmp_path))
    assert "Tier: plain PostgreSQL" in offered
    assert "is on this server but not in this database: `tickstock db migrate --with-timescaledb` creates it" in offered
    assert "Tier: TimescaleDB" in said(on(bare_database, "db", "migrate", "--with-timescaledb", home=tmp_path))


def test_what_cannot_be_meant_is_one_sentence(database: Engine, tmp_path: Path) -> None:
    assert "found 'patterns'" in refused(
        on(database, "db", "drop-chunks", "patterns", "--older-than", "1 day", home=tmp_path)
    )
    empty = said(on(database, "db", "drop-chunks", "ohlcv_1min", "--older-than", "30 days", home=tmp_path))
    assert empty == "ohlcv_1min is empty: there is nothing to drop.\n"
    assert "found 'soon'" in refused(on(database, "db", "drop-chunks", "ticks", "--older-than", "soon", home=tmp_path))
    assert "found neither" in refused(on(database, "db", "compress", home=tmp_path))
    wrong = on(database, "db", "status", home=tmp_path, TICKSTOCK_MINUTE_CHUNK="banana")
    assert "TICKSTOCK_MINUTE_CHUNK: expected an interval" in refused(wrong)
