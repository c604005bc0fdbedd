"""What a newcomer sees: the web UI on the demo's database, in a real Chromium, read off its pages."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FloatRect, Locator, Page, ViewportSize, expect
from sqlalchemy import Engine, text

from tests.conftest import Demo
from tests.end_to_end.browsing import chromium, new_page, pictures, running_ui
from tests.storage.servers import wait_until
from tickstock_assets.definitions import defs

# Five symbols by the years 2000 to 2013, by the months until March 2013, and by the days since 2012.
BY_YEAR = dict.fromkeys(
    ("raw_daily_bars", "ohlcv_daily", "bar_features", "patterns", "quality_findings", "quality_scores"), 5 * 14
)
BY_MONTH = dict.fromkeys(("raw_minute_bars", "ohlcv_1min"), 5 * (13 * 12 + 3))
# Of single trades the sample has none.
NEVER = dict.fromkeys(("raw_trades", "ticks", "tick_minute_bars"), 5 * (366 + 60))
# How many checks each has; snapshot tests say which.
GRAPH = defs.resolve_asset_graph()
ASSETS = {key.to_user_string(): len(GRAPH.get_check_keys_for_assets({key})) for key in GRAPH.get_all_asset_keys()}
# What the embedded server lacks is warned of, and two bars that look odd; of each by one check.
WARNED = {"database", "quality_findings"}
# Assets whose pages have a row count, and the tables of which it is.
COUNTED = {
    **{
        name: name for name in ("symbols", "sessions", "splits", "dividends", "ohlcv_daily", "bar_features", "patterns")
    },
    "backtest_metrics": "backtest_results",
}
# Inches at 80 dots: 8 by 3.2, and 9 by 1.4 with 0.22 for each of five symbols.
LINES, HEAT_MAP = [640, 256], [720, 200]
# Wide enough that the graph is shown with all that it says of each asset, narrow enough to be read in a README.
SCREEN = ViewportSize(width=3000, height=2100)
NODE = "[class*=AssetNode_assetNodeBox]"
HEADER_PIXELS = 110
SIDE_PIXELS = 70
EMPTY_SPOT = (90, 2040)


@pytest.fixture(scope="module")
def ui(demo: Demo, demo_database: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `tickstock ui` on the demo's home; afterwards nothing of it may be left."""
    with running_ui(demo.home, tmp_path_factory.mktemp("ui") / "ui.log") as address:
        yield address
    # The webserver, the daemon and the code server let go of the database; this test still has it.
    with demo_database.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(ui: str, browser: Browser) -> Iterator[Page]:
    """A page of the UI, for a browser that has never been there."""
    with new_page(browser, ui, SCREEN) as page:
        yield page


def test_the_lineage_page_shows_all_that_the_sample_has_materialized_with_passing_checks(
    page: Page, tmp_path: Path
) -> None:
    open_whole_lineage(page)
    for asset, n_checks in ASSETS.items():
        shown = node(page, asset)
        n_passed = 0 if asset in NEVER else n_checks - (asset in WARNED)
        if n_checks:
            expect(shown.get_by_text(f"{n_passed} / {n_checks} Passed")).to_be_visible()
        expect(shown.get_by_label("warning_outline")).to_have_count(1 if asset in WARNED else 0)
        if asset in BY_YEAR | BY_MONTH | NEVER:
            n_partitions = (BY_YEAR | BY_MONTH | NEVER)[asset]
            filled = 100 if asset in BY_YEAR else 1 if asset in BY_MONTH else 0
            expect(shown.get_by_text(f"{filled}% filled", exact=True)).to_be_visible()
            expect(shown.get_by_text(f"{n_partitions:,} partitions", exact=True)).to_be_visible()
        else:
            expect(shown.get_by_text("Materialized", exact=True)).to_be_visible()
    assert page.locator(NODE).count() == len(ASSETS)
    assert page.locator(NODE, has=page.get_by_text("0% filled", exact=True)).count() == len(NEVER)
    said = page.inner_text("body")
    assert not re.search(r"(?i)failed|missing|error|stale|never materialized|join the dagster community", said)
    page.screenshot(path=pictures(tmp_path) / "lineage.png")


def test_what_the_server_lacks_stands_on_the_database_as_a_warning_with_what_turns_it_on(page: Page) -> None:
    page.goto("/assets/database?view=checks")
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
    assert int(found[1].replace(",", "")) == count(demo_database, COUNTED[asset])


@pytest.mark.parametrize(
    ("asset", "name", "rows"),
    [
        ("quality_scores", "sessions_scored", "(SELECT DISTINCT symbol, timeframe, session FROM quality_scores) AS s"),
        ("quality_findings", "findings_open", "quality_findings WHERE resolved_at IS NULL"),
    ],
)
def test_a_number_in_an_assets_metadata_is_what_sql_counts(
    page: Page, demo_database: Engine, asset: str, name: str, rows: str
) -> None:
    page.goto(f"/assets/{asset}")
    row = page.locator("tr", has=page.get_by_text(name, exact=True))
    expect(row.locator("td").last).to_have_text(str(count(demo_database, rows)))


@pytest.mark.parametrize("asset", sorted(BY_YEAR))
def test_the_partitions_page_says_70_of_70(page: Page, asset: str) -> None:
    page.goto(f"/assets/{asset}?view=partitions")
    expect(page.get_by_text(f"Materialized ({BY_YEAR[asset]})")).to_be_visible()
    expect(page.get_by_text("Missing (0)")).to_be_visible()
    expect(page.get_by_text("Failed (0)")).to_be_visible()


@pytest.mark.parametrize("asset", sorted(BY_MONTH))
def test_the_partitions_page_says_two_months_of_five_symbols(page: Page, asset: str) -> None:
    page.goto(f"/assets/{asset}?view=partitions")
    expect(page.get_by_text("Materialized (10)")).to_be_visible()
    expect(page.get_by_text(f"Missing ({BY_MONTH[asset] - 10})")).to_be_visible()
    expect(page.get_by_text("Failed (0)")).to_be_visible()


@pytest.mark.parametrize(
    ("address", "name", "alternative", "size"),
    [
        ("/assets/backtest_metrics", "equity_curves", "equity curves", LINES),
        (
            "/assets/patterns?view=partitions&partition=AAPL%7C2013",
            "price_with_detections",
            "AAPL|2013 price and detections",
            LINES,
        ),
        (
            "/assets/ohlcv_1min?view=partitions&partition=AAPL%7C2013-03",
            "minutes",
            "AAPL|2013-03 minutes",
            LINES,
        ),
        ("/assets/quality_scores", "heat_map_1d", "scores of 1d bars", HEAT_MAP),
        ("/assets/quality_scores", "heat_map_1m", "scores of 1m bars", HEAT_MAP),
    ],
)
def test_a_plot_opens_from_the_metadata(page: Page, address: str, name: str, alternative: str, size: list[int]) -> None:
    page.goto(address)
    row = page.locator("tr", has=page.get_by_text(name, exact=True))
    row.get_by_text("[Show Markdown]").click()
    picture = page.get_by_alt_text(alternative)
    expect(picture).to_be_visible()
    assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == size


def test_where_no_provider_has_a_hole_the_page_of_gaps_says_so(page: Page) -> None:
    page.goto("/assets/data_gaps")
    row = page.locator("tr", has=page.get_by_text("holes", exact=True))
    expect(row.get_by_text("No holes.", exact=True)).to_be_visible()


def test_every_daemon_runs(page: Page) -> None:
    page.goto("/health")
    for daemon in ("Scheduler", "Sensors", "Backfill", "Run queue", "Monitoring"):
        row = page.locator("tr", has=page.get_by_text(re.compile(f"^{daemon}$", re.IGNORECASE)))
        expect(row.get_by_text("Running", exact=True)).to_be_visible()


def open_whole_lineage(page: Page) -> None:
    """Open the lineage page from top to bottom, with every group unfolded, and without the columns beside the graph."""
    page.goto("/asset-groups")
    page.get_by_text("Hide navigation").click()
    page.locator("button", has=page.get_by_label("panel_show_right")).click()
    expect(page.get_by_label("unfold_more").first).to_be_visible()
    page.keyboard.press("Alt+e")
    expect(page.get_by_label("unfold_less").first).to_be_visible()
    page.locator("button", has=page.get_by_label("settings")).last.click()
    page.get_by_text("Change graph to vertical orientation").click()
    wait_until(lambda: is_fitted(page))
    centre(page)
    for box in boxes(page):
        assert box["x"] > SIDE_PIXELS
        assert box["x"] + box["width"] < SCREEN["width"]
        assert box["y"] > HEADER_PIXELS
        assert box["y"] + box["height"] < SCREEN["height"]


def centre(page: Page) -> None:
    """Drag the graph until there is as much room above it as below, and as much left of it as right."""
    found = boxes(page)
    across = min(box["x"] for box in found) + max(box["x"] + box["width"] for box in found)
    down = min(box["y"] for box in found) + max(box["y"] + box["height"] for box in found)
    x, y = EMPTY_SPOT
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(
        x + (SIDE_PIXELS + SCREEN["width"] - across) / 2, y + (HEADER_PIXELS + SCREEN["height"] - down) / 2, steps=5
    )
    page.mouse.up()
    page.mouse.move(0, 0)


def is_fitted(page: Page) -> bool:
    """Fit the graph, which takes a while to be laid out anew, into the page; return whether it is there, top to bottom."""
    page.mouse.dblclick(*EMPTY_SPOT)
    page.wait_for_timeout(1000)  # it glides there
    # Of what lies beyond the page there is no node.
    if any(node(page, asset).count() == 0 for asset in ASSETS):
        return False
    raw, stored, backtest = (
        node(page, asset).bounding_box() for asset in ("raw_daily_bars", "ohlcv_daily", "backtest_metrics")
    )
    return bool(raw and stored and backtest and raw["y"] < stored["y"] < backtest["y"])


def count(database: Engine, rows: str) -> int:
    with database.connect() as connection:
        found: int = connection.execute(text(f"SELECT count(*) FROM {rows}")).scalar_one()
    return found


def boxes(page: Page) -> list[FloatRect]:
    found = [node(page, asset).bounding_box() for asset in sorted(ASSETS)]
    return [box for box in found if box]


def node(page: Page, asset: str) -> Locator:
    return page.locator(NODE, has=page.locator(f'[data-tooltip="{asset}"]'))
