"""`tickstock doctor` as people type it: what it finds well, what ill, what it spends, and that it goes on to the end."""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.conftest import tickstock
from tests.loading.simulated import FILES_KEY, FILES_SECRET, KEYS_KNOWN, both_vendors
from tests.storage import tiers
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.simulator import Market, Plan, Simulator, Vendor
from tickstock_assets.storage.bulk import merge

CHECKS = [
    "settings", "database", "schema", "tier", "polygon", "polygon quota", "alpha_vantage", "alpha_vantage quota",
    "flat files", "calendar", "sessions", "home folder", "landing folder", "dagster", "clock", "alerts",
]  # fmt: skip


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(1, date(2023, 1, 3), date(2023, 3, 31))


@pytest.fixture
def simulator(market: Market) -> Iterator[Simulator]:
    with Simulator(market, KEYS_KNOWN) as running:
        yield running


def variables(simulator: Simulator) -> dict[str, str]:
    return {
        **both_vendors(simulator),
        "TICKSTOCK_FLAT_FILES_URL": f"{simulator.url}/flatfiles",
        "TICKSTOCK_FLAT_FILES_ACCESS_KEY": FILES_KEY,
        "TICKSTOCK_FLAT_FILES_SECRET_KEY": FILES_SECRET,
    }


def doctor(home: Path, *arguments: str, code: int = 0, **more: str) -> dict[str, Any]:
    """Return what is found, by check; keys must not be in it."""
    result = tickstock("doctor", "--json", *arguments, home=home, **more)
    assert (result.returncode, result.stderr) == (code, ""), result.stderr
    keys = {value for name, value in more.items() if name.endswith("_KEY")}
    assert not any(key in result.stdout for key in keys)
    answer = json.loads(result.stdout)
    found = {check["check"]: check for check in answer["checks"]}
    assert len(found) == len(answer["checks"])
    statuses = [check["status"] for check in answer["checks"]]
    assert answer["status"] == next(status for status in ("failed", "warning", "ok") if status in statuses)
    assert (code == 2) == ("failed" in statuses)
    assert all(check["remedy"] for check in answer["checks"] if check["status"] != "ok")
    return found


def address(engine: Engine) -> str:
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def asked(simulator: Simulator) -> list[str]:
    return [call.vendor.value for call in simulator.record.calls]


def test_every_check_is_made_and_each_vendor_is_asked_once(simulator: Simulator, home: Path) -> None:
    found = doctor(home, **variables(simulator))
    assert list(found) == CHECKS
    assert {name for name, check in found.items() if check["status"] == "ok"} == set(CHECKS) - {
        "flat files",
        "sessions",
    }
    assert sorted(asked(simulator)) == ["alpha_vantage", "flat_files", "polygon"]
    assert found["settings"]["found"] == "on: polygon, alpha_vantage, as each has its key or folder"
    assert "the key is valid" in found["polygon"]["found"]
    assert found["polygon quota"]["found"] == "4 of 5 calls left this minute"
    assert found["alpha_vantage quota"]["found"] == (
        "4 of 5 calls left this minute; 24 of 25 calls left today (the vendor's, America/New_York)"
    )
    # The simulated market ended long ago, and no session has been entered in this home.
    assert "they can be listed; there is none of " in found["flat files"]["found"]
    assert found["sessions"]["found"] == "the table has none of XNYS yet"
    assert found["tier"]["found"].startswith("plain PostgreSQL; off: hypertables")

    before = len(simulator.record.calls)
    offline = doctor(home, "--offline", **variables(simulator))
    assert len(simulator.record.calls) == before
    assert list(offline) == CHECKS
    assert {offline[name]["found"] for name in ("polygon", "alpha_vantage", "flat files")} == {
        "set up; not asked (--offline)"
    }


def test_without_a_key_it_says_that_only_the_sample_is_on(demo_home: Path) -> None:
    found = doctor(demo_home)
    assert found["settings"]["found"] == "no key: only the sample data is on"
    assert "TICKSTOCK_POLYGON_API_KEY" in found["settings"]["remedy"]
    assert found["sample"]["found"] == "stocks.csv.gz: 12,154 daily bars up to 2013-03-01"
    assert found["sessions"]["status"] == "ok"
    assert "none is missing up to 2013-03-01" in found["sessions"]["found"]
    shown = tickstock("doctor", home=demo_home)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "-> for live data set TICKSTOCK_POLYGON_API_KEY" in shown.stdout


@pytest.fixture
def demo_home(demo: Any) -> Path:
    folder: Path = demo.home
    return folder


def test_a_wrong_key_and_a_dead_host_are_told_apart_and_the_rest_goes_on(
    simulator: Simulator, module_home: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        dead = closed_soon.getsockname()[1]
    wrong = {"TICKSTOCK_POLYGON_API_KEY": "a-wrong-key-4711"}
    gone = {"TICKSTOCK_ALPHA_VANTAGE_URL": f"http://127.0.0.1:{dead}/query"}
    found = doctor(module_home, code=2, **{**variables(simulator), **wrong, **gone})
    assert list(found) == CHECKS
    assert {name for name, check in found.items() if check["status"] == "failed"} == {"polygon", "alpha_vantage"}
    assert "the key is refused" in found["polygon"]["found"]
    assert found["polygon"]["remedy"] == "correct TICKSTOCK_POLYGON_API_KEY"
    assert found["alpha_vantage"]["remedy"].startswith("correct TICKSTOCK_ALPHA_VANTAGE_URL")
    # A failure is no reason to spend more than one call.
    assert asked(simulator).count("polygon") == 1
    assert "24 of 25" in found["alpha_vantage quota"]["found"]


@pytest.mark.tiers(tiers.EMBEDDED)
def test_a_plan_is_told_by_what_it_has_and_a_spent_budget_is_not_touched(
    database: Engine, market: Market, tmp_path: Path
) -> None:
    plans = {
        Vendor.POLYGON: Plan(history_start=datetime.now(UTC).date() - timedelta(days=730)),
        Vendor.ALPHA_VANTAGE: Plan(premium=False),
    }
    with Simulator(market, plans) as simulator:
        settings = {
            **variables(simulator),
            "TICKSTOCK_DATABASE_URL": address(database),
            "TICKSTOCK_DAGSTER_DATABASE": f"dagster_{database.url.database}",
            "TICKSTOCK_ALPHA_VANTAGE_CALLS_PER_DAY": "1",
            "TICKSTOCK_POLYGON_CALLS_PER_MINUTE": "1",
        }
        found = doctor(tmp_path, **settings)
        assert "the plan has no bars of" in found["polygon"]["found"]
        assert "free plan" in found["alpha_vantage"]["found"]
        assert found["alpha_vantage quota"]["status"] == "warning"
        spent = doctor(tmp_path, **settings)
    assert spent["polygon"]["found"] == "not asked: no call is left this minute"
    assert spent["alpha_vantage"]["found"] == "not asked: no call is left today"
    assert {spent[name]["status"] for name in ("polygon", "alpha_vantage")} == {"warning"}
    assert [asked(simulator).count(vendor) for vendor in ("polygon", "alpha_vantage")] == [1, 1]


@pytest.mark.tiers(tiers.EMBEDDED)
def test_a_pause_that_the_vendor_asked_for_is_told_and_kept(
    database: Engine, simulator: Simulator, tmp_path: Path
) -> None:
    with database.begin() as connection:
        connection.execute(
            text("INSERT INTO provider_quota (provider, period, period_start, ends_at) "
                 "VALUES ('polygon', 'retry_after', now(), '2300-01-01')")
        )  # fmt: skip
        # A year that is there in part only is not up to date.
        merge(connection, "sessions", trading_sessions("XNYS", date(2020, 1, 1), date(2020, 12, 31)).drop(index=[5]))
    settings = {
        **variables(simulator),
        "TICKSTOCK_DATABASE_URL": address(database),
        "TICKSTOCK_DAGSTER_DATABASE": f"dagster_{database.url.database}",
        "TICKSTOCK_LOW_DISK_GB": "1e9",
    }
    found = doctor(tmp_path, **settings)
    assert found["polygon"]["found"] == "not asked: the vendor wants no call before 2300-01-01 00:00:00 UTC"
    assert "blocked until 2300-01-01 00:00:00 UTC" in found["polygon quota"]["found"]
    assert "polygon" not in [call.vendor.value for call in simulator.record.calls]
    assert found["sessions"]["status"] == "warning"
    # 1 January was a holiday; the sixth session of 2020 was Thursday the 9th.
    assert "the first 2020-01-09" in found["sessions"]["found"]
    assert {found[name]["status"] for name in ("home folder", "landing folder")} == {"warning"}
    assert "TICKSTOCK_LOW_DISK_GB" in found["home folder"]["found"]


def test_without_a_database_no_vendor_is_asked_as_nobody_could_count_it(simulator: Simulator, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        dead = closed_soon.getsockname()[1]
    url = f"postgresql://me:a-secret-word@127.0.0.1:{dead}/market"
    found = doctor(tmp_path, code=2, **variables(simulator), TICKSTOCK_DATABASE_URL=url)
    assert {name for name, check in found.items() if check["status"] == "failed"} == {
        "database", "sessions", "dagster", "clock",
    }  # fmt: skip
    assert found["polygon"] == {
        "check": "polygon",
        "status": "warning",
        "found": "not asked: its calls are counted in the database",
        "remedy": "see the database",
    }
    assert asked(simulator) == ["flat_files"]
    assert "a-secret-word" not in json.dumps(found)
    assert found["calendar"]["status"] == "ok"


@pytest.mark.tiers(tiers.EMBEDDED)
def test_a_server_without_our_schema_is_left_as_it_is(bare_database: Engine, tmp_path: Path) -> None:
    more = {
        "TICKSTOCK_DATABASE_URL": address(bare_database),
        "TICKSTOCK_DAGSTER_DATABASE": f"dagster_{bare_database.url.database}",
    }
    found = doctor(tmp_path, code=2, **more)
    assert (found["schema"]["status"], found["schema"]["remedy"]) == ("failed", "run `tickstock db migrate`")
    assert found["schema"]["found"].endswith("found none")
    assert found["sample"]["status"] == "ok"
    assert (found["tier"]["status"], found["tier"]["remedy"] != "") == ("warning", True)
    with bare_database.connect() as connection:
        tables = connection.execute(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")).scalar_one()
    assert tables == 0


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = doctor(tmp_path / "file" / "home", code=2)
    assert {found[name]["status"] for name in ("database", "home folder", "landing folder", "dagster")} == {"failed"}
    assert "expected a folder that can be written" in found["home folder"]["found"]
    assert {found[name]["status"] for name in ("sample", "calendar")} == {"ok"}


@pytest.mark.parametrize(
    ("variable", "value", "check", "said"),
    [
        ("TICKSTOCK_POLYGON_CALLS_PER_MINUTE", "many", "settings", "TICKSTOCK_POLYGON_CALLS_PER_MINUTE: "),
        ("TICKSTOCK_PROVIDERS", "polygon,bloomberg", "settings", "found bloomberg"),
        ("TICKSTOCK_PROVIDERS", "polygon", "polygon", "TICKSTOCK_POLYGON_API_KEY: expected the key of polygon"),
        ("TICKSTOCK_CSV_FOLDER", "/nowhere-at-all", "csv_folder", "/nowhere-at-all: expected a folder of files"),
        ("TICKSTOCK_SAMPLE_FILE", "/nowhere-at-all", "sample", "TICKSTOCK_SAMPLE_FILE: expected a readable CSV file"),
    ],
)
def test_a_wrong_setting_fails_its_check_and_the_others_are_made(
    module_home: Path, variable: str, value: str, check: str, said: str
) -> None:
    found = doctor(module_home, code=2, **{variable: value})
    assert found[check]["status"] == "failed"
    assert said in found[check]["found"]
    assert found["calendar"]["status"] == "ok"
    if "many" not in value:
        assert {"database", "sessions", "home folder", "dagster", "clock"} <= found.keys()


def test_flat_files_without_polygon_are_warned_of(module_home: Path) -> None:
    found = doctor(module_home, TICKSTOCK_FLAT_FILES_URL=str(module_home))
    assert found["flat files"]["status"] == "warning"
    assert "polygon is not on" in found["flat files"]["found"]
