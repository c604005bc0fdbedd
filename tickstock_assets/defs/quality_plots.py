"""A picture of scores: symbols by months, as Markdown with an embedded PNG."""

import dagster as dg
import numpy as np
import pandas as pd

from tickstock_assets.defs.plots import empty_figure, markdown

# The worst of them; a picture with more rows cannot be read.
SYMBOLS_SHOWN = 40
TICKS_SHOWN = 12


def score_heat_map(scores: pd.DataFrame, timeframe: str) -> dg.MarkdownMetadataValue:
    """Return the mean score of each symbol and month, red where it is low; the symbols with the lowest ones on top.

    Args:
        scores: symbol, session and score, one row a session, at least one.
        timeframe: of the bars that were scored, for the title.
    """
    of_months = scores.assign(month=scores["session"].dt.strftime("%Y-%m"))
    grid = of_months.pivot_table(index="symbol", columns="month", values="score", aggfunc="mean")
    worst = grid.loc[grid.min(axis=1).sort_values(kind="stable").index[:SYMBOLS_SHOWN]]
    figure = empty_figure(9, 1.4 + 0.22 * len(worst), "constrained")
    axes = figure.subplots()
    drawn = axes.pcolormesh(np.ma.masked_invalid(worst.to_numpy()), cmap="RdYlGn", vmin=0, vmax=100)
    axes.invert_yaxis()
    axes.set_facecolor("#dddddd")
    axes.set_yticks(np.arange(len(worst)) + 0.5, worst.index)
    shown = np.unique(np.linspace(0, worst.shape[1] - 1, min(TICKS_SHOWN, worst.shape[1])).round().astype(int))
    axes.set_xticks(shown + 0.5, worst.columns[shown], rotation=30, fontsize=7)
    axes.set_title(f"Quality of {timeframe} bars: mean score by month (grey: none)", fontsize=9)
    figure.colorbar(drawn, ax=axes)
    return markdown(figure, f"scores of {timeframe} bars")
