"""What a tick must be: each rule by an example on either side of it."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from tests.storage.tick_samples import ticks
from tickstock_assets.domain.trades import TICKS
from tickstock_assets.storage.tick_rules import REASONS, broken_rule

NAN = float("nan")


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("symbol", None, "missing_value"),
        ("symbol", "", "invalid_symbol"),
        ("symbol", "X" * 32, None),
        ("symbol", "X" * 33, "invalid_symbol"),
        ("symbol", "A\0", "invalid_text"),
        ("timestamp", None, "missing_value"),
        ("timestamp", datetime(1899, 12, 31, 23, 59, tzinfo=UTC), "out_of_range"),
        ("timestamp", datetime(1900, 1, 1, tzinfo=UTC), None),
        ("timestamp", datetime(2200, 1, 1, tzinfo=UTC), "out_of_range"),
        ("exchange", "\0", "invalid_text"),
        ("price", None, "missing_value"),
        ("price", NAN, "missing_value"),
        ("price", 0.0, "non_positive_price"),
        ("price", -1.0, "non_positive_price"),
        ("price", 1e-8, None),
        ("price", 1e-9, "non_positive_price"),
        ("price", 1e10, "out_of_range"),
        ("price", float("inf"), "out_of_range"),
        ("quantity", None, "missing_value"),
        ("quantity", 0.0, None),
        ("quantity", -1.0, "negative_quantity"),
        ("quantity", 1e16, "out_of_range"),
        ("conditions", None, None),
        ("conditions", [], None),
        ("conditions", ["1", "\0"], "invalid_text"),
        ("source", None, "missing_value"),
    ],
)
def test_a_value_breaks_the_rule_it_is_to_break(column: str, value: Any, rule: str | None) -> None:
    table = ticks(1, 1).cast(TICKS)
    place = table.column_names.index(column)
    table = table.set_column(place, column, pa.array([value], TICKS.field(column).type))
    assert broken_rule(table).to_pylist() == [rule]
    assert rule is None or rule in REASONS


def test_price_and_quantity_that_fit_may_have_a_product_that_does_not() -> None:
    assert broken_rule(ticks(0, 1, price=9e9, quantity=2e6).cast(TICKS)).to_pylist() == ["out_of_range"]


def test_of_several_broken_rules_the_first_is_named() -> None:
    assert broken_rule(ticks(0, 1, price=0.0, symbol="").cast(TICKS)).to_pylist() == ["invalid_symbol"]
