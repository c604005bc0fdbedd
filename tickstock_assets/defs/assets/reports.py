"""Reports that people read."""

import os
from datetime import UTC, datetime, timedelta

import dagster as dg

from tickstock_assets.defs.assets import gaps, quality
from tickstock_assets.defs.assets.reconciliation import provider_reconciliation
from tickstock_assets.defs.materializations import newest_metadata
from tickstock_assets.defs.resources import Database
from tickstock_assets.defs.retries import retried
from tickstock_assets.domain.quality_report import quality_report as written
from tickstock_assets.settings import settings
from tickstock_assets.storage.quality_week import quality_of_week
from tickstock_assets.storage.whole_file import whole_file

WEEK = timedelta(days=7)


@dg.asset(
    group_name="quality",
    kinds={"markdown"},
    deps=[provider_reconciliation, gaps.data_gaps, quality.findings, quality.scores],
    code_version="1",
)
@retried
def quality_report(context: dg.AssetExecutionContext, database: Database) -> dg.MaterializeResult[None]:
    """What the last seven days brought: findings, scores, gaps, rows set aside, requests, and what providers disagree on.

    A Markdown file a week in the folder `reports` of the home; the same text is in the metadata.
    """
    now = datetime.now(UTC)
    tables = database.in_transaction(lambda connection: quality_of_week(connection, now - WEEK))
    report = written((now - WEEK).date(), now.date(), tables, _reconciliation(context.instance))
    folder = settings().home_path / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"quality-{now:%G-W%V}.md"
    with whole_file(file) as descriptor:
        os.write(descriptor, report.encode())
    findings, gap_rows = tables["findings"], tables["gaps"]
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.md(report),
            "file": dg.MetadataValue.path(str(file)),
            "findings_new": int(findings["new"].sum()),
            "findings_open": int(findings["open"].sum()),
            "gaps_open": int(gap_rows["open"].sum()),
            "gaps_given_up": int(gap_rows["given_up"].sum()),
            "rows_set_aside": int(tables["quarantined"]["rows"].sum()),
        }
    )


def _reconciliation(instance: dg.DagsterInstance) -> str:
    """Return what the last comparison of providers found."""
    said = newest_metadata(instance, provider_reconciliation.key).get("report")
    return str(said.value) if said else "Not compared yet."
