"""The weekly report on the quality of the stored bars, as Markdown. Pure: tables in, text out."""

from collections.abc import Mapping
from datetime import date

import pandas as pd

TITLES: Mapping[str, str] = {
    "findings": "Findings by rule",
    "new_findings": "New findings that still hold",
    "scores": "Scores of the last seven days",
    "gaps": "Gaps",
    "quarantined": "Rows set aside this week",
    "requests": "Requests of this week",
}


def quality_report(first: date, last: date, tables: Mapping[str, pd.DataFrame], reconciliation: str) -> str:
    """Return the report on a week.

    Args:
        first: its first day, UTC.
        last: its last.
        tables: as `quality_of_week` of storage gives them.
        reconciliation: what the comparison of providers found, in Markdown.
    """
    parts = [f"# Quality of the stored bars, {first} to {last} (UTC)", _in_short(tables)]
    for name, title in TITLES.items():
        table = tables[name]
        parts += [f"## {title}", as_markdown(table) if len(table) else "None."]
    return "\n\n".join([*parts, "## Providers held against each other", reconciliation]) + "\n"


def as_markdown(table: pd.DataFrame) -> str:
    """Return a table; numbers stand right, and a bar within a cell ends no cell."""
    rule = ["--:" if pd.api.types.is_numeric_dtype(table[name]) else "---" for name in table]
    rows = [[str(name).replace("_", " ") for name in table], rule]
    rows += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _in_short(tables: Mapping[str, pd.DataFrame]) -> str:
    findings, gaps = tables["findings"], tables["gaps"]
    said = [
        f"{findings['new'].sum():,} new findings, {findings['resolved'].sum():,} resolved, {findings['open'].sum():,} open",
        f"{gaps['new'].sum():,} new gaps, {gaps['healed'].sum():,} filled, {gaps['given_up'].sum():,} given up",
        f"{tables['quarantined']['rows'].sum():,} rows set aside",
    ]
    return "; ".join(said) + "."


def _cell(value: object) -> str:
    if value is None or value is pd.NaT or (isinstance(value, float) and pd.isna(value)):
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    return str(value).replace("|", "\\|").replace("\n", " ")
