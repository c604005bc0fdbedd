"""Bars of another source than the preferred one, as stretches."""

import pandas as pd

from tickstock_assets.domain.source_stretches import served_by_others


def bars(*rows: tuple[str, str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["symbol", "date", "source"])
    return frame.assign(date=pd.to_datetime(frame["date"]))


def test_stretches_end_where_the_source_or_the_symbol_changes() -> None:
    found = served_by_others(
        bars(
            ("B", "2024-01-02", "second"),
            ("A", "2024-01-05", "second"),
            ("A", "2024-01-02", "second"),
            ("A", "2024-01-03", "second"),
            ("A", "2024-01-04", "first"),
            ("A", "2024-01-08", "third"),
        ),
        "first",
    )
    days = [(f"{row.first:%m-%d}", f"{row.last:%m-%d}") for row in found.itertuples()]
    assert list(zip(found["symbol"], found["source"], days, found["bars"], strict=True)) == [
        ("A", "second", ("01-02", "01-03"), 2),
        ("A", "second", ("01-05", "01-05"), 1),
        ("A", "third", ("01-08", "01-08"), 1),
        ("B", "second", ("01-02", "01-02"), 1),
    ]


def test_bars_of_the_preferred_source_alone_are_no_stretch() -> None:
    assert served_by_others(bars(("A", "2024-01-02", "first")), "first").empty
    assert served_by_others(bars(), "first").empty
