"""The weekly report of a home in which the week brought something of each kind."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.defs.conftest import OpenProject
from tickstock_assets.definitions import defs

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

# Of this week one finding that holds, of the last one a resolved one; a hole given up; a failed request.
ROWS = """
    INSERT INTO quality_findings (id, symbol, timeframe, timestamp, rule, severity, reason, evidence, created_at, resolved_at)
    VALUES (gen_random_uuid(), 'S0001', '1d', '2012-07-03 13:30Z', 'price_spike', 'warning', 'up 80%', '{}', now(), NULL),
           (gen_random_uuid(), 'S0001', '1d', '2012-07-02 13:30Z', 'price_spike', 'warning', 'up 90%', '{}',
            now() - interval '9 days', now() - interval '8 days');
    INSERT INTO quality_scores (symbol, timeframe, session, scored_at, score, components)
    VALUES ('S0001', '1d', '2012-07-03', now(), 80, '{}'), ('S0001', '1d', '2012-07-02', now(), 100, '{}'),
           ('S0001', '1d', '2012-07-03', now() - interval '1 day', 10, '{}');
    INSERT INTO data_gaps (id, symbol, timeframe, gap_start, gap_end, missing_bars, class, evidence, created_at, given_up_at,
                           given_up_reason)
    VALUES (gen_random_uuid(), 'S0001', '1d', '2012-07-05 13:30Z', '2012-07-05 20:00Z', 1, 'provider_hole', '{}', now(), now(),
            'asked 5 times');
    INSERT INTO backfill_requests (symbols, timeframe, start_date, end_date, status, error)
    VALUES ('{S0001}', '1d', '2012-01-02', '2012-02-01', 'failed', 'no such symbol');
"""


def test_the_weekly_job_writes_a_report_that_people_can_read(open_project: OpenProject, tmp_path: Path) -> None:
    project = open_project(companies=1, calls_per_day=1)
    with project.engine.begin() as connection:
        for statement in ROWS.split(";\n"):
            connection.execute(text(statement)) if statement.strip() else None
    result = defs.resolve_job_def("weekly_report").execute_in_process(instance=project.instance)
    assert result.success
    (made,) = result.asset_materializations_for_node("quality_report")
    assert {name: made.metadata[name].value for name in ("findings_new", "findings_open", "gaps_open", "gaps_given_up")} == {
        "findings_new": 1, "findings_open": 1, "gaps_open": 0, "gaps_given_up": 1,
    }  # fmt: skip
    file = tmp_path / "reports" / f"quality-{datetime.now(UTC):%G-W%V}.md"
    assert made.metadata["file"].value == str(file)
    report = file.read_text()
    assert report == made.metadata["report"].value
    assert "| price_spike | warning | 1 | 0 | 1 |" in report
    # Of a session that was scored twice the newest score counts.
    assert "| 1d | 2 | 90.0 | 1 | 80.0 |" in report
    assert "| provider_hole | 1d | 1 | 0 | 0 | 1 |" in report
    assert "| failed | 1 | no such symbol |" in report
    assert report.endswith("Nothing is landed from two providers.\n")
