"""The backtest as an asset: what cannot be traded on is left out and named, and the rest is traded."""

from datetime import date

import pytest
from sqlalchemy import text

from tests.defs.conftest import OpenProject
from tests.defs.simulated import Project, store_equal_bars
from tickstock_assets.definitions import defs
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.storage.bulk import merge

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]


@pytest.fixture
def project(open_project: OpenProject) -> Project:
    """AAA and BBB in January 2012, each with a detection on the sessions of the 3rd and the 17th."""
    project = open_project(0, 100)
    with project.engine.begin() as connection:
        merge(connection, "sessions", trading_sessions("XNYS", date(2012, 1, 1), date(2012, 1, 31)))
        connection.execute(text("INSERT INTO symbols (symbol, exchange) VALUES ('AAA', 'XNYS'), ('BBB', 'XNYS')"))
        store_equal_bars(connection)
        connection.execute(
            text("""
                INSERT INTO patterns (id, symbol, timeframe, timestamp, pattern, variant, family, direction, known_at,
                                      entry_price, stop_loss)
                SELECT gen_random_uuid(), i.symbol, '1d', s.open, 'CDLDOJI', '', 'candlestick', 'bullish', s.close, 10, 8
                FROM symbols i JOIN sessions s USING (exchange) WHERE s.session IN ('2012-01-03', '2012-01-17')
            """)
        )
    return project


def backtested(project: Project) -> tuple[dict[str, object], list[tuple[str, str]]]:
    """Run the backtest; return its metadata, and symbol and day of the detections that were traded."""
    result = defs.resolve_job_def("backtest").execute_in_process(instance=project.instance, raise_on_error=False)
    assert result.success
    (made,) = result.asset_materializations_for_node("backtest_metrics")
    traded = """
        SELECT symbol, (detected_at AT TIME ZONE 'America/New_York')::date::text FROM backtest_trades
        WHERE run = CAST(:run AS uuid) ORDER BY 1, 2
    """
    said = {name: value.value for name, value in made.metadata.items()}
    with project.engine.connect() as connection:
        return said, [tuple(row) for row in connection.execute(text(traded), {"run": said["run"]})]


def test_detections_without_a_bar_are_left_out_counted_and_named_with_what_to_materialize(project: Project) -> None:
    said, traded = backtested(project)
    assert (said["detections"], said["detections_left_out"]) == (4, 0)
    assert "left_out_warning" not in said
    assert traded == [(symbol, day) for symbol in ("AAA", "BBB") for day in ("2012-01-03", "2012-01-17")]
    with project.engine.begin() as connection:
        # The exchange opened an hour later on the 3rd, and BBB's bar of the 17th was taken away.
        connection.execute(text("UPDATE sessions SET open = open + interval '1 hour' WHERE session = '2012-01-03'"))
        connection.execute(text("DELETE FROM ohlcv_daily WHERE symbol = 'BBB' AND date = '2012-01-17'"))
    said, traded = backtested(project)
    assert (said["detections"], said["detections_left_out"], said["trades"]) == (1, 3, 1)
    assert said["left_out_warning"] == (
        "expected a bar of its symbol and timestamp (UTC) for each detection, found 3 without, which are left out: "
        "AAA 2012-01-03 14:30 CDLDOJI, BBB 2012-01-03 14:30 CDLDOJI, BBB 2012-01-17 14:30 CDLDOJI; "
        "materialize bar_features and patterns of AAA|2012, BBB|2012"
    )
    assert traded == [("AAA", "2012-01-17")]
