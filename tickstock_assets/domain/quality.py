"""Quality rules: a frame and its contract in, the offending rows out. Quarantine, checks and reports all call this."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pandera.errors
import pandera.pandas as pa

from tickstock_assets.domain.errors import ContractError

# What a broken rule means, with the row's values. A rule without a sentence here is named as it is.
REASONS = {
    "invalid_symbol": "{symbol!r} is not a symbol",
    "wrong_symbol": "asked for {asked_for}, got {symbol}",
    "unknown_exchange": "exchange {exchange!r} has no calendar; XNYS is one that has, or 24/7",
    "missing_value": "{columns} is missing or cannot be read",
    "non_positive_price": "{columns} is not above 0",
    "negative_volume": "volume {volume:g} is below 0",
    "out_of_range": "{columns} is larger or smaller than the database can hold",
    "high_below_low": "high {high:g} is below low {low:g}",
    "price_above_high": "open {open:g} or close {close:g} is above high {high:g}",
    "price_below_low": "open {open:g} or close {close:g} is below low {low:g}",
    "not_a_session": "{date:%Y-%m-%d} is not a session of the exchange",
    "before_ticker": "{symbol} stands for its instrument since {ticker_since:%Y-%m-%d}; this bar is an earlier one's",
    "not_on_the_minute": "{timestamp} is not the start of a minute",
    "outside_hours": "{timestamp} is outside of the hours of its session",
    "negative_quantity": "quantity {quantity:g} is below 0",
    "negative_value": "{columns} is below 0",
    "duplicate_key": "the key stands more than once",
}
# Where a row breaks several rules, the first of these that it breaks names it.
PRECEDENCE = list(REASONS)


def violations(frame: pd.DataFrame, contract: pa.DataFrameSchema) -> pd.DataFrame:
    """Return the rows of `frame` that break `contract`.

    Returns:
        The offending rows under their index in `frame`, with two columns more: rule (the first broken) and reason
        (every broken one in words). Empty when all is well.

    Raises:
        ContractError: a column is missing or has another type, so that rows cannot be judged.
    """
    frame = frame.reset_index(drop=True) if not frame.index.is_unique else frame
    try:
        contract.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        cases = errors.failure_cases
    else:
        return frame.head(0).assign(rule=pd.Series(dtype=str), reason=pd.Series(dtype=str))
    structural = cases[cases["index"].isna()]
    if not structural.empty:
        first = structural.iloc[0]
        raise ContractError(
            f"{first['column'] or contract.name or 'frame'}: expected {first['check']}, found {first['failure_case']}"
        )
    broken: dict[Any, dict[str, set[str]]] = {}
    for index, check, column in zip(cases["index"], cases["check"], cases["column"], strict=True):
        rule = "missing_value" if check == "not_nullable" else str(check)
        broken.setdefault(index, {}).setdefault(rule, set()).add(str(column))
    offending = frame.loc[sorted(broken)]
    rules = [sorted(broken[index], key=_precedence) for index in offending.index]
    return offending.assign(
        rule=[names[0] for names in rules],
        reason=[
            "; ".join(_in_words(name, row, broken[row["index"]][name]) for name in names)
            for names, row in zip(rules, offending.reset_index(names="index").to_dict("records"), strict=True)
        ],
    )


def _precedence(rule: str) -> tuple[int, str]:
    return (PRECEDENCE.index(rule) if rule in PRECEDENCE else len(PRECEDENCE), rule)


def _in_words(rule: str, row: Mapping[Any, Any], columns: set[str]) -> str:
    sentence = REASONS.get(rule)
    if sentence is None:
        return rule.replace("_", " ")
    return sentence.format(**row, columns=" and ".join(sorted(columns)))
