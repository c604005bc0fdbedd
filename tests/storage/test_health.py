"""How the database is told to be."""

from pathlib import Path

from sqlalchemy import Engine, create_engine

from tests.storage.tcp_server import running_tcp_server
from tickstock_assets.storage import embedded
from tickstock_assets.storage.capability import tier as tier_of
from tickstock_assets.storage.health import Disk, check_health, disk_of, health, warnings_of
from tickstock_assets.storage.pool import BoundedPool

NOBODY_LISTENS = "postgresql://someone:secret-word@127.0.0.1:1/nowhere"
MUCH = Disk(free_bytes=6_000_000_000, total_bytes=10_000_000_000, is_low=False)
LITTLE = Disk(free_bytes=4_000_000_000, total_bytes=10_000_000_000, is_low=True)


def test_a_server_is_told_with_latency_pool_and_tier_but_nothing_of_its_disk(database: Engine) -> None:
    with database.connect() as connection:
        tier = tier_of(connection)
        found = health(database, None, low_disk_gb=5)
    assert (found.reachable, found.reason, found.tier) == (True, None, tier.value)
    assert found.latency_ms is not None
    assert found.latency_ms > 0
    assert found.pool is not None
    assert (found.pool.in_use, found.pool.size, found.pool.max) == (1, 5, 20)
    assert (found.disk.free_bytes, found.disk.is_low) == (None, None)
    assert found.disk.reason
    assert (found.timescaledb is None) == (tier.value == "plain PostgreSQL")


def test_the_embedded_servers_disk_is_that_of_its_data(shared_home: Path) -> None:
    embedded.acquire(shared_home)
    found = check_health(shared_home, None, low_disk_gb=0)
    assert found.reachable
    assert found.disk.reason is None
    assert found.disk.free_bytes is not None
    assert found.disk.total_bytes is not None
    assert 0 < found.disk.free_bytes <= found.disk.total_bytes
    # No disk has an exabyte free.
    low = check_health(shared_home, None, low_disk_gb=1e9)
    assert (low.status, low.disk.is_low) == ("warning", True)
    assert "expected at least 1e+09 GB free (TICKSTOCK_LOW_DISK_GB)" in low.warnings[-1]


def test_a_home_that_is_not_there_yet_is_on_the_disk_where_it_will_be(tmp_path: Path) -> None:
    assert disk_of(tmp_path / "not" / "yet", 0).free_bytes


def test_past_ten_milliseconds_or_with_little_room_is_a_warning() -> None:
    assert warnings_of(10.0, MUCH, 5) == []
    assert warnings_of(10.1, MUCH, 5) == ["Latency: expected at most 10 ms, found 10.1 ms"]
    [of_disk] = warnings_of(0.1, LITTLE, 5)
    assert of_disk.startswith("Disk: expected at least 5 GB free (TICKSTOCK_LOW_DISK_GB), found 4.0 GB")
    assert warnings_of(0.1, Disk(reason="unknown"), 5) == []


def test_a_server_that_is_not_there_is_unreachable_for_one_reason_without_its_password(tmp_path: Path) -> None:
    found = check_health(tmp_path, NOBODY_LISTENS, low_disk_gb=5)
    assert (found.reachable, found.status, found.latency_ms, found.tier) == (False, "unreachable", None, None)
    assert found.reason is not None
    assert found.reason.startswith("PostgreSQL at 127.0.0.1:1: cannot be reached")
    assert "secret-word" not in str(found.as_dict())


def test_a_server_that_went_away_is_unreachable_though_its_engine_was_good() -> None:
    with running_tcp_server() as server:
        engine = create_engine(
            server.url().replace("postgresql:", "postgresql+psycopg:"), poolclass=BoundedPool, pool_pre_ping=True
        )
        assert health(engine, None, low_disk_gb=5).reachable
    found = health(engine, None, low_disk_gb=5)
    engine.dispose()
    assert (found.reachable, found.status) == (False, "unreachable")
    assert found.reason is not None
    assert "is it running?" in found.reason
