"""What a tick must be to be stored; whole tables at a time.

Elsewhere: what the table says itself (sql/), where the offending ones go (tick_store.py).
"""

import pyarrow as pa
import pyarrow.compute as pc

LONGEST_SYMBOL = 32
# Of NUMERIC(18, 8) and NUMERIC(24, 8).
PRICE_BELOW, AMOUNT_BELOW = 1e10, 1e16
FIRST_MOMENT, AFTER_MOMENT = "1900-01-01", "2200-01-01"
# By which a tick is found again.
KEY = ("symbol", "timestamp", "exchange", "trade_id")
REASONS = {
    "missing_value": "a symbol, moment, price, quantity or source is missing",
    "invalid_symbol": f"the symbol is not a text of 1 to {LONGEST_SYMBOL} characters",
    "invalid_text": "a text contains a NUL character",
    "out_of_range": "price, quantity or their product has too many digits, or the moment is not of this age: "
    f"expected {FIRST_MOMENT} to {AFTER_MOMENT}",
    "non_positive_price": "the price is not above 0",
    "negative_quantity": "the quantity is below 0",
}
UNKNOWN_SYMBOL = "unknown_symbol"


def broken_rule(ticks: pa.Table) -> pa.ChunkedArray:
    """Return the first rule of `REASONS` that each tick breaks, null for those that break none.

    Args:
        ticks: with the columns symbol, timestamp, exchange, trade_id, price, quantity, conditions, source.
    """
    price, quantity = ticks["price"], ticks["quantity"]
    texts = [ticks[name] for name in ("symbol", "exchange", "trade_id", "source")]
    length = pc.utf8_length(ticks["symbol"])
    first, after = (
        pa.scalar(moment, pa.string()).cast(ticks["timestamp"].type)
        for moment in (_utc(FIRST_MOMENT), _utc(AFTER_MOMENT))
    )
    missing = [pc.is_null(ticks[name]) for name in ("symbol", "timestamp", "source")]
    missing += [pc.is_null(number, nan_is_null=True) for number in (price, quantity)]
    # Rounded to the eight decimals of the columns, a price must still be above 0.
    broken = {
        "missing_value": _any(missing),
        "invalid_symbol": pc.or_(pc.less(length, 1), pc.greater(length, LONGEST_SYMBOL)),
        "invalid_text": _any([pc.match_substring(text, "\0") for text in texts] + [_nul_inside(ticks["conditions"])]),
        "non_positive_price": pc.less(price, 0.5e-8),
        "negative_quantity": pc.less(quantity, 0),
        "out_of_range": _any(
            [
                pc.less(ticks["timestamp"], first),
                pc.greater_equal(ticks["timestamp"], after),
                pc.greater_equal(price, PRICE_BELOW),
                pc.greater_equal(quantity, AMOUNT_BELOW),
                pc.greater_equal(pc.multiply(price, quantity), AMOUNT_BELOW),
            ]
        ),
    }
    struct = pc.make_struct(*(pc.fill_null(value, False) for value in broken.values()), field_names=list(broken))
    return pc.case_when(struct, *(pa.scalar(name) for name in broken))


def allowed(ticks: pa.Table) -> pa.Table:
    """Return the ticks that break no rule."""
    return ticks.filter(pc.is_null(broken_rule(ticks))) if ticks.num_rows else ticks


def _utc(day: str) -> str:
    return f"{day}T00:00:00Z"


def _any(conditions: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    result = pc.fill_null(conditions[0], False)
    for condition in conditions[1:]:
        result = pc.or_(result, pc.fill_null(condition, False))
    return result


def _nul_inside(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.match_substring(pc.binary_join(lists, ","), "\0")
