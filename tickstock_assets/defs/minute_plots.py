"""Pictures of minute bars for the metadata of a materialization."""

from collections.abc import Sequence

import dagster as dg
import pandas as pd

from tickstock_assets.defs.partitions import window_of
from tickstock_assets.defs.plots import empty_figure, markdown
from tickstock_assets.defs.resources import Database
from tickstock_assets.storage import minutes

SYMBOLS_SHOWN = 3
# More minutes than there are pixels would only look like noise.
DAYS_SHOWN = 5


def plots_of_last_partitions(
    database: Database, partition_keys: Sequence[str]
) -> dict[str, dict[str, dg.MarkdownMetadataValue]]:
    """Return a plot a symbol, of the last days of the last of its partitions, as metadata under that partition's key.

    Of the first few symbols; bars stand one next to another, without the nights between.
    """
    last = {window_of(key).symbol: key for key in sorted(partition_keys)}
    plots = {}
    for partition in list(last.values())[:SYMBOLS_SHOWN]:
        with database.begin() as connection:
            bars = minutes.minute_bars(connection, [window_of(partition)])
        if not bars.empty:
            plots[partition] = {"minutes": _plot(partition, bars)}
    return plots


def _plot(partition: str, month: pd.DataFrame) -> dg.MarkdownMetadataValue:
    days = month["timestamp"].dt.tz_convert("America/New_York").dt.date
    is_shown = days.isin(sorted(days.unique())[-DAYS_SHOWN:])
    bars, days = month[is_shown], days[is_shown]
    figure = empty_figure(8, 3.2)
    price, volume = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    place = range(len(bars))
    price.plot(place, bars["close"], linewidth=0.7, color="#444444")
    sources = ", ".join(month["source"].unique())
    price.set(
        title=f"{partition}: the last {days.nunique()} days of {len(month):,} minutes of {sources}", ylabel="close"
    )
    volume.plot(place, bars["volume"], linewidth=0.5, color="#999999")
    first_of_day = days.ne(days.shift()).to_numpy().nonzero()[0]
    volume.set(ylabel="volume", xticks=first_of_day, xticklabels=[f"{day:%d}" for day in days.iloc[first_of_day]])
    return markdown(figure, f"{partition} minutes")
