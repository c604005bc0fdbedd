"""The weekly report as text, by hand."""

from datetime import date

import pandas as pd

from tickstock_assets.domain.quality_report import as_markdown, quality_report

TABLES = {
    "findings": pd.DataFrame(
        {
            "rule": ["price_spike", "stale_run"],
            "severity": ["error", "info"],
            "new": [1200, 1],
            "resolved": [0, 2],
            "open": [3, 4],
        }
    ),
    "new_findings": pd.DataFrame(columns=["symbol", "rule"]),
    "scores": pd.DataFrame({"timeframe": ["1d"], "mean_score": [99.25]}),
    "gaps": pd.DataFrame(
        {"class": ["halt"], "timeframe": ["1m"], "new": [5], "healed": [6], "open": [7], "given_up": [8]}
    ),
    "quarantined": pd.DataFrame({"source": ["polygon"], "dataset": ["daily_bars"], "rule": ["a|b"], "rows": [9]}),
    "requests": pd.DataFrame({"status": ["failed"], "requests": [1], "one_reason": [None]}),
}


def test_the_report_begins_with_the_numbers_that_matter() -> None:
    report = quality_report(date(2024, 7, 1), date(2024, 7, 8), TABLES, "Nothing is landed from two providers.")
    title, in_short = report.split("\n\n")[:2]
    assert title == "# Quality of the stored bars, 2024-07-01 to 2024-07-08 (UTC)"
    assert in_short == "1,201 new findings, 2 resolved, 7 open; 5 new gaps, 6 filled, 8 given up; 9 rows set aside."
    assert report.endswith("## Providers held against each other\n\nNothing is landed from two providers.\n")


def test_a_table_without_rows_says_so_and_a_bar_in_a_cell_ends_none() -> None:
    report = quality_report(date(2024, 7, 1), date(2024, 7, 8), TABLES, "")
    assert "## New findings that still hold\n\nNone.\n" in report
    assert "| polygon | daily_bars | a\\|b | 9 |" in report
    assert "| failed | 1 |  |" in report


def test_numbers_stand_right_and_text_left() -> None:
    assert as_markdown(TABLES["scores"]) == "| timeframe | mean score |\n| --- | --: |\n| 1d | 99.25 |"
