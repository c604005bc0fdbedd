"""What the web UI says of each asset besides its docstring: who answers for it, where in the flow it stands, how often it
comes, which table it is and what that table's columns mean.

It is written here and not at the assets because it is read across them, and a new asset is one line in one table.
Groups and kinds stand at the assets; the columns are the schema's own (columns.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from tickstock_assets.defs.columns import column_schema
from tickstock_assets.defs.freshness import Cadence, freshness_policy

Domain = Literal["reference", "prices", "trades", "quality", "research", "operations"]
# As sent by a vendor; held against its contract; computed from what was.
Tier = Literal["raw", "validated", "derived"]

OWNERS: Mapping[Domain, str] = {
    "reference": "team:market-data",
    "prices": "team:market-data",
    "trades": "team:market-data",
    "quality": "team:data-quality",
    "research": "team:quant-research",
    "operations": "team:platform",
}


@dataclass(frozen=True)
class Entry:
    """What is said of an asset.

    Attributes:
        domain: what it is about, which also says who answers for it.
        tier: how far from the vendor it is.
        cadence: how often it comes by itself.
        table: in the market database; None for one that writes none.
        unit: of what its rows measure; what each column means and its unit is in the column schema.
    """

    domain: Domain
    tier: Tier
    cadence: Cadence
    table: str | None
    unit: str


PER_SHARE = "quote currency per share, volume in shares; unadjusted; times in UTC"
CATALOG: Mapping[str, Entry] = {
    "symbols": Entry("reference", "validated", "session", "symbols", "one row an instrument"),
    "sessions": Entry("reference", "validated", "session", "sessions", "one row a session of an exchange; times in UTC"),
    "splits": Entry("reference", "validated", "session", "splits", "new shares for old shares, on the execution date"),
    "dividends": Entry(
        "reference", "validated", "session", "dividends", "currency units per share as counted on the ex-dividend date"
    ),
    "raw_daily_bars": Entry("prices", "raw", "session", None, "as the vendor sent them, one file a window"),
    "raw_minute_bars": Entry("prices", "raw", "on demand", None, "as the vendor sent them, one file a month at most"),
    "raw_trades": Entry("trades", "raw", "on demand", None, "as the vendor sent them, one file a session"),
    "ohlcv_daily": Entry("prices", "validated", "session", "ohlcv_daily", PER_SHARE),
    "ohlcv_1min": Entry("prices", "validated", "on demand", "ohlcv_1min", PER_SHARE),
    "ticks": Entry("trades", "validated", "on demand", "ticks", "quote currency per share, quantity in shares; times in UTC"),
    "tick_minute_bars": Entry("trades", "derived", "on demand", "ohlcv_1min", PER_SHARE),
    "ohlcv_5min": Entry("prices", "derived", "hourly", "ohlcv_5min", PER_SHARE),
    "ohlcv_15min": Entry("prices", "derived", "hourly", "ohlcv_15min", PER_SHARE),
    "ohlcv_1h": Entry("prices", "derived", "hourly", "ohlcv_1h", PER_SHARE),
    "daily_rollups": Entry("prices", "derived", "hourly", "ohlcv_daily", PER_SHARE),
    "bar_features": Entry(
        "research", "derived", "session", "bar_features", "quote currency per share, ratios without unit; split-adjusted"
    ),
    "patterns": Entry(
        "research", "derived", "session", "patterns", "one row a detection; prices in quote currency per share"
    ),
    "backtest_metrics": Entry(
        "research", "derived", "on demand", "backtest_results", "fractions of the capital, ratios a year"
    ),
    "provider_reconciliation": Entry(
        "quality", "derived", "weekly", "quality_findings", "one row a disagreement of two providers"
    ),
    "quality_findings": Entry("quality", "derived", "session", "quality_findings", "one row a bar that looks wrong"),
    "quality_scores": Entry("quality", "derived", "session", "quality_scores", "scores from 0 to 100, a session of a symbol"),
    "quality_report": Entry("quality", "derived", "weekly", None, "one Markdown file a week"),
    "data_gaps": Entry("quality", "derived", "session", "data_gaps", "one row a run of missing bars; times in UTC"),
    "database": Entry("operations", "derived", "hourly", None, "latency in milliseconds, size in megabytes"),
}  # fmt: skip


def catalogued(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Return the spec of an asset with what the catalog says of it; one that is not in it stays as it is."""
    entry = CATALOG.get(spec.key.path[-1])
    if entry is None:
        return spec
    metadata: dict[str, Any] = {"unit": entry.unit}
    if entry.table:
        metadata |= {"dagster/table_name": entry.table, "dagster/column_schema": column_schema(entry.table)}
    return spec.replace_attributes(freshness_policy=freshness_policy(entry.cadence)).merge_attributes(
        owners=[OWNERS[entry.domain]],
        tags={"domain": entry.domain, "tier": entry.tier, "cadence": entry.cadence.replace(" ", "_")},
        metadata=metadata,
    )
