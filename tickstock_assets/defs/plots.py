"""Small pictures for the metadata of a materialization: frames in, Markdown with an embedded PNG out."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import dagster as dg
import pandas as pd

from tickstock_assets.defs.partitions import window_of
from tickstock_assets.domain.windows import rows_inside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES_SHOWN = 5
# A picture takes a tenth of a second and 30 kB.
SYMBOLS_SHOWN = 5
STRATEGIES_LISTED = 10
BULLISH, BEARISH = "#1a7f37", "#cf222e"


def empty_figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> "Figure":
    """Return a figure of so many inches, with 80 dots to each."""
    # Most processes draw nothing, and this takes a fifth of the time in which the definitions load.
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure(figsize=(width, height), dpi=80, layout=layout)


def price_with_detections(
    bars: pd.DataFrame, detections: pd.DataFrame, partition_keys: Sequence[str]
) -> dict[str, dict[str, dg.MarkdownMetadataValue]]:
    """Return a plot of the last partition of each of the first few symbols, as metadata under that partition's key."""
    plots = {}
    last = {window_of(key).symbol: key for key in sorted(partition_keys)}
    for partition in list(last.values())[:SYMBOLS_SHOWN]:
        window = [window_of(partition)]
        prices, found = rows_inside(bars, "date", window), rows_inside(detections, "timestamp", window)
        if not prices.empty:
            plots[partition] = {"price_with_detections": _price_plot(partition, prices, found)}
    return plots


def equity_curves(equity: pd.DataFrame, portfolio: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """Return the equity of the portfolio under the best strategies by Sharpe ratio."""
    figure = empty_figure(8, 3.2)
    axes = figure.subplots()
    for best in portfolio.nlargest(CURVES_SHOWN, "sharpe").itertuples():
        curve = equity[(equity["pattern"] == best.pattern) & (equity["variant"] == best.variant)]
        axes.plot(curve["timestamp"], curve["equity"], linewidth=1, label=f"{best.pattern} {best.variant}".strip())
    axes.set(title=f"Equity of the {CURVES_SHOWN} best strategies by Sharpe ratio", ylabel="USD")
    if not portfolio.empty:
        axes.legend(fontsize=7)
    return markdown(figure, "equity curves")


def best_by_sharpe(portfolio: pd.DataFrame) -> dg.TableMetadataValue:
    """Return the best strategies as a table."""
    shown = portfolio.nlargest(STRATEGIES_LISTED, "sharpe")
    columns = ["pattern", "variant", "signals", "win_rate", "roi", "sharpe", "max_drawdown"]
    return dg.MetadataValue.table(
        [dg.TableRecord({name: _plain(row[name]) for name in columns}) for row in shown.to_dict("records")],
        dg.TableSchema([dg.TableColumn(name) for name in columns]),
    )


def rows_as_table(rows: pd.DataFrame, limit: int = 20) -> dg.TableMetadataValue:
    """Return the first rows of a frame as a table."""
    columns = [str(name) for name in rows.columns]
    return dg.MetadataValue.table(
        [dg.TableRecord({name: str(row[name]) for name in columns}) for row in rows.head(limit).to_dict("records")],
        dg.TableSchema([dg.TableColumn(name) for name in columns]),
    )


def _price_plot(partition: str, prices: pd.DataFrame, found: pd.DataFrame) -> dg.MarkdownMetadataValue:
    figure = empty_figure(8, 3.2)
    axes = figure.subplots()
    axes.plot(prices["timestamp"], prices["close"], linewidth=1, color="#444444", label="close, unadjusted")
    for direction, colour, marker in (("bullish", BULLISH, "^"), ("bearish", BEARISH, "v")):
        of_direction = found[found["direction"] == direction]
        axes.scatter(
            of_direction["timestamp"], of_direction["entry_price"], s=12, color=colour, marker=marker, label=direction
        )
    axes.set(title=f"{partition}: {len(found)} detections", ylabel="USD per share")
    axes.legend(fontsize=7)
    return markdown(figure, f"{partition} price and detections")


def markdown(figure: "Figure", label: str) -> dg.MarkdownMetadataValue:
    """Return a figure as an embedded picture."""
    image = io.BytesIO()
    figure.savefig(image, format="png")
    encoded = base64.b64encode(image.getvalue()).decode("ascii")
    return dg.MetadataValue.md(f"![{label}](data:image/png;base64,{encoded})")


def _plain(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | bool):
        return value
    number = float(value)  # type: ignore[arg-type]
    return None if pd.isna(number) else int(number) if number.is_integer() else round(number, 4)
