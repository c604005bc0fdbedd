"""What a load says of itself in the web UI: what it planned, what came, from whom."""

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from tickstock_assets.defs.plots import rows_as_table
from tickstock_assets.loading.fetching import Landing
from tickstock_assets.loading.lineup import Lineup


def landing_metadata(landing: Landing, lineup: Lineup, folder: Path) -> dict[str, Any]:
    """Return windows, rows and calls, the plan, and who stood in for whom."""
    metadata: dict[str, Any] = {
        "windows_fetched": len(landing.fetched),
        "windows_already_landed": landing.already_landed,
        "rows_in": landing.rows,
        "bytes_landed": landing.bytes,
        "calls": sum(landing.calls.values()),
        "provider": ", ".join(provider.name for provider in lineup),
        "horizon": lineup.horizon().isoformat(),
        "landing_folder": dg.MetadataValue.path(str(folder)),
    }
    if landing.doubts:
        metadata["doubts"] = "; ".join(landing.doubts)
    if landing.fallbacks:
        rows = [{"window": str(window), "served_by": name} for window, name in landing.fallbacks.items()]
        metadata |= {"windows_by_fallback": len(rows), "fallbacks": rows_as_table(pd.DataFrame(rows))}
    if landing.plans:
        planned = [{"provider": name, **row} for name, plan in landing.plans for row in plan.rows()]
        metadata["plan"] = rows_as_table(pd.DataFrame(planned))
    return metadata
