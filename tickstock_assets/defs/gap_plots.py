"""A calendar of holes: symbols by months, coloured by how much is missing."""

import dagster as dg
import numpy as np
import pandas as pd

from tickstock_assets.defs.plots import empty_figure, markdown

SYMBOLS_SHOWN = 40
# A missing session counts as the minutes of one.
MINUTES_A_SESSION = 390


def holes_by_month(holes: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """Return the months and the symbols with the most holes of providers as a heat map.

    Args:
        holes: symbol, day (datetime64), timeframe, missing_bars.
    """
    if holes.empty:
        return dg.MetadataValue.md("No holes.")
    minutes = holes["missing_bars"] * holes["timeframe"].map({"1d": MINUTES_A_SESSION}).fillna(1)
    months = holes["day"].dt.to_period("M")
    of_months = pd.DataFrame({"symbol": holes["symbol"], "month": months, "minutes": minutes})
    grid = of_months.pivot_table(index="symbol", columns="month", values="minutes", aggfunc="sum", fill_value=0)
    grid = grid.reindex(columns=pd.period_range(months.min(), months.max(), freq="M"), fill_value=0)
    grid = grid.loc[grid.sum(axis=1).nlargest(SYMBOLS_SHOWN).index.sort_values()]
    figure = empty_figure(8, 1.2 + 0.2 * len(grid), "constrained")
    axes = figure.subplots()
    image = axes.imshow(
        np.log10(grid.to_numpy(np.float64) + 1), aspect="auto", cmap="Reds", vmin=0, interpolation="nearest"
    )
    axes.set_yticks(range(len(grid)), list(grid.index), fontsize=7)
    step = max(len(grid.columns) // 12, 1)
    axes.set_xticks(
        range(0, len(grid.columns), step), [str(month) for month in grid.columns[::step]], fontsize=7, rotation=45
    )
    axes.set_title("Holes of providers: minutes missing a month, a missing session counted as 390", fontsize=8)
    figure.colorbar(image, label="log10 of minutes")
    return markdown(figure, "holes by symbol and month")
