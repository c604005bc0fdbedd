"""What somebody does who loads history in the web UI: launches a backfill, watches it, and looks into what came of it.

Everything is clicked in a real Chromium; the daemon of `tickstock ui` does the work, and simulated vendors answer.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import exchange_calendars
import pytest
from playwright.sync_api import Locator, Page, ViewportSize, expect
from sqlalchemy import Engine, make_url, text

from tests.defs.simulated import forget_settings, know
from tests.end_to_end.browsing import chromium, new_page, pictures, running_ui
from tickstock_assets.defs import launching
from tickstock_assets.simulator import Fault, Market, Simulator
from tickstock_assets.simulator.bars import Row
from tickstock_assets.storage import embedded, migrate
from tickstock_assets.storage.database import open_engine

SYMBOLS = ["S0001", "S0002", "S0003"]
FIRST, LAST = date(2021, 1, 4), date(2023, 12, 29)
SESSIONS = exchange_calendars.get_calendar("XNYS", start="2021-01-01", end="2023-12-31").sessions
OF_YEAR = {year: int((SESSIONS.year == year).sum()) for year in (2021, 2022, 2023)}
# One bad row of a year's is too much.
THRESHOLD = 0.001
SCREEN = ViewportSize(width=1600, height=1000)
# Three runs, one after the other, on a machine that may be busy besides.
DONE_MILLISECONDS = 400_000
# Inches at 80 dots.
PLOT = [640, 256]


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """Vendors that know three companies; of the year that S0002 is asked for last, a bar has its high below its low."""
    with Simulator(Market(len(SYMBOLS), FIRST, LAST, sample=False)) as running:
        running.script(Fault.HIGH_BELOW_LOW, symbol="S0002", route="aggregates_day", skip=2)
        yield running


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The database of a home that knows the symbols and has no bars."""
    for name in ("TICKSTOCK_HOME", "DAGSTER_HOME"):
        monkeypatch.setenv(name, str(home))
    forget_settings()
    server = embedded.acquire(home)
    embedded.ensure_database(server, "tickstock")
    engine = open_engine(make_url(server.url("tickstock")))
    migrate.upgrade(engine)
    with launching.open_instance(home) as instance:
        know(engine, instance, SYMBOLS, FIRST, LAST)
    with engine.begin() as connection:
        # A nightly update, which could be due as the daemon starts, leaves them alone.
        connection.execute(text("UPDATE symbols SET active = false"))
    yield engine
    engine.dispose()
    forget_settings()


@pytest.fixture
def page(home: Path, engine: Engine, simulator: Simulator, tmp_path: Path) -> Iterator[Page]:  # noqa: ARG001 made first
    """A page of the home's web UI."""
    variables = {
        "TICKSTOCK_PROVIDERS": "polygon",
        "TICKSTOCK_POLYGON_API_KEY": "any-key",
        "TICKSTOCK_POLYGON_URL": simulator.url,
        "TICKSTOCK_POLYGON_CALLS_PER_MINUTE": "0",
        "TICKSTOCK_QUARANTINE_THRESHOLD": str(THRESHOLD),
    }
    with (
        chromium() as browser,
        running_ui(home, tmp_path / "ui.log", **variables) as address,
        new_page(browser, address, SCREEN) as page,
    ):
        yield page


def test_a_backfill_is_launched_watched_and_looked_into_by_clicks(
    page: Page, engine: Engine, simulator: Simulator, tmp_path: Path
) -> None:
    images = pictures(tmp_path)
    # Some of it would make anew what is looked at here, and fetch the bad row once more.
    stop_what_starts_by_itself(page)
    open_job_from_lineage(page)
    launch_backfill(page, images)
    watch_it_succeed(page, images)
    (wrong,) = simulator.record.wrong_rows
    bad_day = datetime.fromtimestamp(wrong.start_ms / 1000, UTC).date()
    assert wrong.symbol == "S0002"
    assert wrong.sent is not None
    assert_stored(engine, bad_day)
    assert_plot_opens(page, count(engine, "patterns", "S0001", 2022), images)
    assert_failed_check_shows(page, bad_day, wrong.sent, images)


def stop_what_starts_by_itself(page: Page) -> None:
    page.goto("/automation")
    page.get_by_text("Select all").click()
    page.get_by_role("button", name="Actions").click()
    stop = re.compile(r"Stop \d+ automations")
    page.get_by_role("menuitem", name=stop).click()
    page.get_by_role("button", name=stop).click()
    # The dialog's own: the page behind can show a button that is called like it, which was met while ticks came in.
    page.get_by_role("dialog").get_by_role("button", name="Done", exact=True).click()


def open_job_from_lineage(page: Page) -> None:
    page.get_by_text("Lineage", exact=True).click()
    expect(page.get_by_text("Global asset lineage")).to_be_visible()
    expect(page.get_by_text("patterns", exact=True).last).to_be_visible()
    page.get_by_text("Jobs", exact=True).click()
    page.get_by_role("link", name="daily_history").click()


def launch_backfill(page: Page, images: Path) -> None:
    """Choose three symbols and three years, launch, and follow the message that says so to the backfill's page."""
    page.get_by_role("button", name="Materialize all").click()
    # Instruments and calendar came by SQL, so Dagster warns that it knows of none.
    page.get_by_role("button", name="Confirm").click()
    page.get_by_role("button", name="All", exact=True).first.click()
    years = page.get_by_placeholder("ex: 2000")
    years.fill(f"[{FIRST.year}...{LAST.year}]")
    years.press("Tab")
    expect(page.get_by_text("9 partitions", exact=True)).to_be_visible()
    for symbol in SYMBOLS:
        expect(page.get_by_text(symbol, exact=True).first).to_be_visible()
    page.screenshot(path=images / "backfill-dialog.png")
    page.get_by_role("button", name="Launch backfill").click()
    expect(page.get_by_text("Created backfill")).to_be_visible()
    page.get_by_role("link", name="View", exact=True).click()


def watch_it_succeed(page: Page, images: Path) -> None:
    status = page.get_by_text("Status", exact=True).locator("xpath=..")
    expect(status.get_by_text("In progress")).to_be_visible()
    expect(status.get_by_text("Succeeded")).to_be_visible(timeout=DONE_MILLISECONDS)
    cells = page.get_by_role("row", name="daily_history").get_by_role("cell")
    # Partitions targeted, in progress, succeeded, failed.
    expect(cells).to_have_text([re.compile("100% completed"), "9", "0", "9", "0"])
    page.screenshot(path=images / "backfill-succeeded.png")
    page.get_by_role("tab", name="Runs").click()
    # One a year.
    expect(page.get_by_text("Success", exact=True)).to_have_count(len(OF_YEAR))


def assert_stored(engine: Engine, bad_day: date) -> None:
    """Count by SQL: a bar for each session but the bad one, and features of all years but that one."""
    for symbol in SYMBOLS:
        for year, n_sessions in OF_YEAR.items():
            is_bad = (symbol, year) == ("S0002", bad_day.year)
            assert count(engine, "ohlcv_daily", symbol, year) == n_sessions - is_bad
            assert count(engine, "bar_features", symbol, year) == (0 if is_bad else n_sessions)
            assert (count(engine, "patterns", symbol, year) == 0) is is_bad
    with engine.connect() as connection:
        set_aside = connection.execute(text("SELECT symbol, date, rule FROM quarantined_bars")).all()
    assert [tuple(row) for row in set_aside] == [("S0002", bad_day, "high_below_low")]


def assert_plot_opens(page: Page, n_detections: int, images: Path) -> None:
    """Choose S0001 and 2022 on the page of partitions, read its metadata, and open its plot."""
    page.goto("/assets/patterns?view=partitions")
    # All but the year with the bad row.
    expect(page.get_by_text("Materialized (8)")).to_be_visible()
    page.get_by_text("S0001", exact=True).first.click()
    page.get_by_text("2022", exact=True).first.click()
    expect(page.get_by_text("S0001|2022", exact=True).first).to_be_visible()
    expect(entry(page, "dagster/partition_row_count")).to_have_text(str(n_detections))
    expect(entry(page, "partition_last_session")).to_have_text("2022-12-30")
    entry(page, "price_with_detections").get_by_text("[Show Markdown]").click()
    picture = page.get_by_alt_text("S0001|2022 price and detections")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == PLOT
    page.screenshot(path=images / "partition-plot.png")


def assert_failed_check_shows(page: Page, bad_day: date, sent: Row, images: Path) -> None:
    """Open the failed one of the checks of daily bars, and read the row in its table."""
    page.goto("/assets/ohlcv_daily")
    page.get_by_role("tab", name="Checks").click()
    page.get_by_text("ohlcv_daily_quarantine", exact=True).first.click()
    result = page.get_by_text("Evaluation result", exact=True).locator("xpath=..")
    expect(result.get_by_text("Failed", exact=True)).to_be_visible()
    expect(first_row(page, "first_kept_back").nth(0)).to_have_text(f"S0002|{bad_day.year}")
    cells = first_row(page, "first_quarantined_rows")
    expect(cells.nth(0)).to_have_text("S0002")
    expect(cells.nth(1)).to_have_text(re.compile(str(bad_day)))
    expect(cells.nth(2)).to_have_text("high_below_low")
    expect(cells.nth(3)).to_contain_text(f"high {sent['high']:g} is below low {sent['low']:g}")
    page.screenshot(path=images / "failed-check.png")


def entry(page: Page, name: str) -> Locator:
    """Return the value of a metadata entry."""
    return page.locator("tr", has=page.get_by_text(name, exact=True)).locator("td").nth(1)


def first_row(page: Page, name: str) -> Locator:
    """Return the cells of a metadata entry that is a table of one row."""
    return page.get_by_role("row", name=name).get_by_role("table").get_by_role("row").last.get_by_role("cell")


def count(engine: Engine, table: str, symbol: str, year: int) -> int:
    day = "date" if table == "ohlcv_daily" else "timestamp"
    query = f"SELECT count(*) FROM {table} WHERE symbol = :symbol AND extract(year FROM {day}) = :year"
    with engine.connect() as connection:
        found: int = connection.execute(text(query), {"symbol": symbol, "year": year}).scalar_one()
    return found
