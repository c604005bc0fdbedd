"""`tickstock simulate` as people type it: a process that serves until Ctrl-C."""

import os
import signal
import socket
from pathlib import Path

import pytest
import urllib3

from tests.conftest import tickstock
from tests.end_to_end.commands import free_port, start
from tests.storage.servers import wait_until
from tickstock_assets.settings import ENV_PREFIX, Settings


def settings_in(log: Path) -> dict[str, str]:
    lines = [line for line in log.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_it_serves_both_vendors_and_prints_the_settings_that_point_there(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    process = start("simulate", "--port", str(port), "--symbols", "2", home=tmp_path, log=log)
    try:
        wait_until(lambda: "FLAT_FILES_SECRET_KEY" in log.read_text())
        found = settings_in(log)
        assert found.keys() <= {ENV_PREFIX + name.upper() for name in Settings.model_fields}
        assert found["TICKSTOCK_POLYGON_URL"] == f"http://127.0.0.1:{port}"
        with urllib3.PoolManager() as pool:
            polygon = pool.request(
                "GET",
                f"{found['TICKSTOCK_POLYGON_URL']}/v2/aggs/ticker/S0002/range/1/day/2023-12-01/2023-12-31",
                fields={"apiKey": found["TICKSTOCK_POLYGON_API_KEY"]},
            )
            # December 2023 had 20 sessions.
            assert polygon.json()["resultsCount"] == 20
            alpha_vantage = pool.request(
                "GET",
                found["TICKSTOCK_ALPHA_VANTAGE_URL"],
                fields={"function": "SPLITS", "symbol": "IBM", "apikey": found["TICKSTOCK_ALPHA_VANTAGE_API_KEY"]},
            )
            assert alpha_vantage.json() == {"symbol": "IBM", "data": []}
            files = pool.request("GET", f"{found['TICKSTOCK_FLAT_FILES_URL']}?list-type=2&max-keys=1")
            assert b"us_stocks_sip/day_aggs_v1/2000/03/2000-03-01.csv.gz" in files.data
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=20)
    assert process.returncode in (0, 130)
    assert "Traceback" not in log.read_text()


def test_a_port_in_use_is_one_sentence(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = tickstock("simulate", "--port", str(port), home=home)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"tickstock: http://127.0.0.1:{port}: expected a port that is free, found Address already in use; choose another "
        "with --port\n"
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--faults", "cut"), "faults: expected NAME=CHANCE"),
        (("--start", "2024-01-02", "--end", "2024-01-01"), "--end: expected a day on or after --start 2024-01-02"),
    ],
)
def test_a_mistake_is_one_sentence(home: Path, arguments: tuple[str, ...], complaint: str) -> None:
    result = tickstock("simulate", *arguments, home=home)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1
