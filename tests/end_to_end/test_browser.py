"""What a newcomer sees: the web UI on the demo's database, in a real Chromium, read off its pages."""

import os
import re
import shutil
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FloatRect, Locator, Page, ViewportSize, expect, sync_playwright
from sqlalchemy import Engine, text

from tests.conftest import Demo
from tests.end_to_end.commands import free_port, other_holders, start
from tests.storage.servers import wait_until

PROJECT = Path(__file__).parents[2]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
START_SECONDS = 120
WAIT_MILLISECONDS = 60_000
expect.set_options(timeout=WAIT_MILLISECONDS)
PARTITIONED = {"raw_daily_bars", "ohlcv_daily", "bar_features", "patterns"}
# Five symbols by the years 2000 to 2013.
N_PARTITIONS = 70
# How many checks each has.
ASSETS = {
    "symbols": 1, "sessions": 1, "splits": 1, "dividends": 1, "raw_daily_bars": 1, "ohlcv_daily": 4, "bar_features": 2,
    "patterns": 2, "backtest_metrics": 2, "provider_reconciliation": 1,
}  # fmt: skip
# What the embedded server lacks is warned of.
WARNED = "database"
COUNTED = {name: name for name in ASSETS.keys() - {"raw_daily_bars", "backtest_metrics", "provider_reconciliation"}} | {
    "backtest_metrics": "backtest_results"
}
# Wide enough that the graph is shown with all that it says of each asset, narrow enough to be read in a README.
SCREEN = ViewportSize(width=1840, height=1760)
HEADER_PIXELS = 110
EMPTY_SPOT = (90, 1700)


@pytest.fixture(scope="module")
def ui(demo: Demo, demo_database: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `tickstock ui` on the demo's home; afterwards nothing of it may be left."""
    port = free_port()
    log = tmp_path_factory.mktemp("ui") / "ui.log"
    process = start("ui", "--port", str(port), home=demo.home, log=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_served(address, log)
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert address in log.read_text()
    assert "Warning" not in log.read_text()
    # The webserver, the daemon and the code server let go of the database; this test still has it.
    wait_until(lambda: not other_holders(demo.home))
    with demo_database.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        assert "CI" not in os.environ, f"expected one of {', '.join(PROGRAMS)} on the path, found none"
        pytest.skip("no Chromium on the path; the pages of the web UI stay untested")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(ui: str, browser: Browser) -> Iterator[Page]:
    """A page of the UI, for a browser that has never been there."""
    page = browser.new_page(base_url=ui, viewport=SCREEN)
    page.set_default_timeout(WAIT_MILLISECONDS)
    yield page
    page.close()


def test_the_lineage_page_shows_every_asset_materialized_with_passing_checks(page: Page, tmp_path: Path) -> None:
    open_whole_lineage(page)
    for asset, n_checks in ASSETS.items():
        shown = node(page, asset)
        expect(shown.get_by_text(f"{n_checks} / {n_checks} Passed")).to_be_visible()
        if asset in PARTITIONED:
            expect(shown.get_by_text("100% filled")).to_be_visible()
            expect(shown.get_by_text(f"{N_PARTITIONS} partitions", exact=True)).to_be_visible()
        else:
            expect(shown.get_by_text("Materialized", exact=True)).to_be_visible()
    # The database stands by itself, beside the graph and perhaps beyond the edge of the screen.
    assert page.locator("[class*=AssetNode_assetNodeBox]").count() - node(page, WARNED).count() == len(ASSETS)
    said = page.inner_text("body")
    assert not re.search(r"(?i)failed|missing|error|stale|never materialized|join the dagster community", said)
    picture = PROJECT / "docs/images" if os.environ.get("TICKSTOCK_SCREENSHOTS") == "1" else tmp_path
    picture.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=picture / "lineage.png")


def test_what_the_server_lacks_stands_on_the_database_as_a_warning_with_what_turns_it_on(page: Page) -> None:
    page.goto(f"/assets/{WARNED}?view=checks")
    expect(page.get_by_text("database_features_on").first).to_be_visible()
    page.get_by_text("database_features_on").first.click()
    said = page.get_by_text(
        "compression: the embedded server is plain PostgreSQL; set TICKSTOCK_DATABASE_URL to a server"
    )
    expect(said.first).to_be_visible()
    # The sign of a check that only warns; one that failed with an error has another.
    expect(page.get_by_label("warning_outline").first).to_be_visible()


@pytest.mark.parametrize("asset", sorted(COUNTED))
def test_the_row_count_on_an_assets_page_is_what_sql_counts(page: Page, demo_database: Engine, asset: str) -> None:
    page.goto(f"/assets/{asset}")
    label = page.get_by_text("Row count", exact=True)
    expect(label.locator("xpath=../..")).to_contain_text(re.compile(r"\d"))
    found = re.search(r"Row count\s+([\d,]+)", page.inner_text("body"))
    assert found, page.inner_text("body")
    with demo_database.connect() as connection:
        stored = connection.execute(text(f"SELECT count(*) FROM {COUNTED[asset]}")).scalar_one()
    assert int(found[1].replace(",", "")) == stored


@pytest.mark.parametrize("asset", sorted(PARTITIONED))
def test_the_partitions_page_says_70_of_70(page: Page, asset: str) -> None:
    page.goto(f"/assets/{asset}?view=partitions")
    expect(page.get_by_text(f"Materialized ({N_PARTITIONS})")).to_be_visible()
    expect(page.get_by_text("Missing (0)")).to_be_visible()
    expect(page.get_by_text("Failed (0)")).to_be_visible()


@pytest.mark.parametrize(
    ("address", "name", "alternative"),
    [
        ("/assets/backtest_metrics", "equity_curves", "equity curves"),
        (
            "/assets/patterns?view=partitions&partition=AAPL%7C2013",
            "price_with_detections",
            "AAPL|2013 price and detections",
        ),
    ],
)
def test_a_plot_opens_from_the_metadata(page: Page, address: str, name: str, alternative: str) -> None:
    page.goto(address)
    row = page.locator("tr", has=page.get_by_text(name, exact=True))
    row.get_by_text("[Show Markdown]").click()
    picture = page.get_by_alt_text(alternative)
    expect(picture).to_be_visible()
    # 8 by 3.2 inches at 80 dots.
    assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [640, 256]


def test_every_daemon_runs(page: Page) -> None:
    page.goto("/health")
    for daemon in ("Scheduler", "Sensors", "Backfill", "Run queue", "Monitoring"):
        row = page.locator("tr", has=page.get_by_text(re.compile(f"^{daemon}$", re.IGNORECASE)))
        expect(row.get_by_text("Running", exact=True)).to_be_visible()


def open_whole_lineage(page: Page) -> None:
    """Open the lineage page with every group unfolded, and without the columns beside the graph."""
    page.goto("/asset-groups")
    page.get_by_text("Hide navigation").click()
    page.locator("button", has=page.get_by_label("panel_show_right")).click()
    expect(page.get_by_label("unfold_more").first).to_be_visible()
    page.keyboard.press("Alt+e")
    expect(page.get_by_label("unfold_less").first).to_be_visible()
    page.mouse.dblclick(*EMPTY_SPOT)  # fits the graph, which has grown, into the width of the page
    expect(node(page, "backtest_metrics")).to_be_in_viewport(ratio=1)
    page.wait_for_timeout(1000)  # it glides there
    centre_between(page, HEADER_PIXELS, SCREEN["height"])
    for box in boxes(page):
        assert box["y"] > HEADER_PIXELS
        assert box["y"] + box["height"] < SCREEN["height"]


def centre_between(page: Page, top: float, bottom: float) -> None:
    """Drag the graph up or down until there is as much room above it as below."""
    highest = min(box["y"] for box in boxes(page))
    lowest = max(box["y"] + box["height"] for box in boxes(page))
    x, y = EMPTY_SPOT
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + (top + bottom - highest - lowest) / 2, steps=5)
    page.mouse.up()
    page.mouse.move(0, 0)


def boxes(page: Page) -> list[FloatRect]:
    found = [node(page, asset).bounding_box() for asset in sorted(ASSETS)]
    return [box for box in found if box]


def node(page: Page, asset: str) -> Locator:
    return page.locator("[class*=AssetNode_assetNodeBox]", has=page.locator(f'[data-tooltip="{asset}"]'))


def wait_until_served(address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{address}/server_info", timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
