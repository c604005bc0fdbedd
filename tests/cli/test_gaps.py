"""What a person sees of gaps that were given up, and how they are tried anew."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from tests.conftest import new_home, tickstock
from tickstock_assets.storage import embedded, migrate
from tickstock_assets.storage.database import open_engine

GAPS = """
    INSERT INTO data_gaps (id, symbol, timeframe, gap_start, gap_end, missing_bars, class, attempts, attempted_at,
                           given_up_at, given_up_reason)
    VALUES (gen_random_uuid(), 'AAPL', '1d', '2012-07-02 13:30Z', '2012-07-02 13:30Z', 1, 'provider_hole', 5,
            '2024-01-02', '2024-01-03', '5 attempts, the last on 2024-01-02 00:00 UTC: polygon answered without them'),
           (gen_random_uuid(), 'AAPL', '1d', '2012-07-03 13:30Z', '2012-07-03 13:30Z', 1, 'provider_hole', 2,
            '2024-01-02', NULL, NULL)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with new_home() as folder:
        embedded.ensure_database(server := embedded.acquire(folder), "tickstock")
        engine = open_engine(make_url(server.url("tickstock")))
        migrate.upgrade(engine)
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL'), ('MSFT')"))
            connection.execute(text(GAPS))
        engine.dispose()
        yield folder


def given_up(home: Path) -> list[str]:
    found = json.loads(tickstock("gaps", "--given-up", "--json", home=home).stdout)
    return [row["gap_start"][:10] for row in found]


def test_given_up_gaps_are_told_with_the_reason_until_they_are_tried_anew(home: Path) -> None:
    shown = tickstock("gaps", home=home, COLUMNS="200")
    assert shown.returncode == 0
    assert "given up" in shown.stdout
    assert "AAPL 2012-07-02 13:30 was given up after 5 attempts, the last on 2024-01-02 00:00 UTC" in shown.stderr
    assert given_up(home) == ["2012-07-02"]
    # Nobody else's.
    assert "No gap is given up" in tickstock("gaps", "--retry", "--symbols", "MSFT", home=home).stderr
    assert "No gap is given up" in tickstock("gaps", "--retry", "--class", "not_yet_published", home=home).stderr
    assert given_up(home) == ["2012-07-02"]
    assert "1 gaps are tried again" in tickstock("gaps", "--retry", home=home).stderr
    assert given_up(home) == []
