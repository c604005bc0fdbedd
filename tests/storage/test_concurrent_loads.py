"""Loads of the same bars at the same time, and a load whose server dies: whole windows or nothing of them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
from sqlalchemy import Engine, make_url, text

from tests.storage.servers import postmaster_pid, wait_until
from tests.storage.test_bulk import bars
from tickstock_assets.storage import embedded, migrate
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.database import open_engine

N_LOADS = 200

LOADER = """
import json, random, sys
import pandas as pd
from sqlalchemy import make_url
from tickstock_assets.storage.bulk import MergeCounts, merge
from tickstock_assets.storage.database import open_engine

address, seed, n_loads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
draw, engine, total = random.Random(seed), open_engine(make_url(address)), MergeCounts()
days = pd.bdate_range("2024-01-02", periods=40).as_unit("us")
print("ready", flush=True)
sys.stdin.readline()
for _ in range(n_loads):
    # Windows of several symbols in an order of their own: what deadlocks where locks are taken as rows come.
    parts = []
    for symbol in draw.sample(["AAPL", "MSFT", "IBM"], draw.randint(1, 3)):
        start = draw.randrange(30)
        window = days[start : start + draw.randint(1, 10)]
        close = 10.0 + draw.randint(0, 1) + seed / 10
        parts.append(pd.DataFrame({"symbol": symbol, "date": window, "open": close, "high": close + 1,
                                   "low": close - 1, "close": close, "volume": 1.0, "source": "sample"}))
    with engine.begin() as connection:
        total += merge(connection, "ohlcv_daily", pd.concat(parts))
print(json.dumps(vars(total)))
"""


def test_two_processes_that_load_overlapping_windows_lose_no_row_and_never_deadlock(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL'), ('MSFT'), ('IBM')"))
    address = database.url.render_as_string(hide_password=False)
    loaders = [
        subprocess.Popen(
            [sys.executable, "-c", LOADER, address, str(seed), str(N_LOADS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in (1, 2)
    ]  # fmt: skip
    for loader in loaders:
        assert loader.stdout
        assert loader.stdin
        assert loader.stdout.readline() == "ready\n"
    for loader in loaders:
        assert loader.stdin
        loader.stdin.write("go\n")
        loader.stdin.flush()
    counts = []
    for loader in loaders:
        said, complaints = loader.communicate(timeout=300)
        assert (loader.returncode, complaints) == (0, "")
        counts.append(json.loads(said))
    with database.connect() as connection:
        stored, distinct = connection.execute(
            text("SELECT count(*), count(DISTINCT (symbol, date)) FROM ohlcv_daily")
        ).one()
        revisions = connection.execute(text("SELECT count(*) FROM bar_revisions")).scalar_one()
        # Each version ends at the very moment the next begins: none was overwritten by a load that had not seen it.
        broken = connection.execute(
            text("""
                SELECT count(*) FROM (
                    SELECT superseded_at, lead(recorded_at) OVER (PARTITION BY symbol, session ORDER BY recorded_at) AS next
                    FROM (SELECT symbol, session, recorded_at, superseded_at FROM bar_revisions
                          UNION ALL SELECT symbol, date, recorded_at, NULL FROM ohlcv_daily) AS versions) AS chain
                WHERE superseded_at IS DISTINCT FROM next
            """)
        ).scalar_one()
    assert stored == distinct == sum(count["inserted"] for count in counts)
    assert revisions == sum(count["corrected"] for count in counts) > 0
    assert broken == 0


def test_a_server_killed_during_a_load_has_all_of_the_window_or_nothing_of_it(home: Path) -> None:
    engine = open_engine(make_url(embedded.acquire(home).url("postgres")))
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) SELECT 'S' || n FROM generate_series(1, 60) AS n"))
    days = pd.bdate_range("1990-01-01", periods=5_000).as_unit("us")
    one = bars(*((str(day.date()), 10.0) for day in days))
    frame = pd.concat([one.assign(symbol=f"S{number}") for number in range(1, 61)])
    path = home / "frame.parquet"
    frame.to_parquet(path)
    script = (
        "import sys, pandas as pd\nfrom sqlalchemy import make_url\n"
        "from tickstock_assets.storage.bulk import merge\nfrom tickstock_assets.storage.database import open_engine\n"
        "with open_engine(make_url(sys.argv[1])).begin() as connection:\n"
        "    merge(connection, 'ohlcv_daily', pd.read_parquet(sys.argv[2]))\n"
    )
    address = engine.url.render_as_string(hide_password=False)
    loader = subprocess.Popen([sys.executable, "-c", script, address, str(path)], stderr=subprocess.DEVNULL)
    # What is under way is looked at once a transaction.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watch:
        copies = text(
            "SELECT coalesce(max(tuples_processed), 0) FROM pg_stat_progress_copy WHERE command = 'COPY FROM'"
        )
        wait_until(lambda: watch.execute(copies).scalar_one() > 1_000)
    os.kill(postmaster_pid(home), signal.SIGKILL)
    assert loader.wait() != 0
    engine.dispose()
    engine = open_engine(make_url(embedded.acquire(home).url("postgres")))
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM ohlcv_daily")).scalar_one() == 0
        assert merge(connection, "ohlcv_daily", frame).inserted == len(frame)
    engine.dispose()
