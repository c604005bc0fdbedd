"""What the conditions of a trade say of it: whether it counts for high and low, open and close, and volume.

The consolidated rules of the CTA and UTP plans, under the numbers that Polygon (Massive) gives to their codes.

Source:
    Polygon, Conditions (`/v3/reference/conditions?asset_class=stocks`), `update_rules.consolidated`; CTS and UTDF Output
    Specifications, sale condition matrices. Correction indicators: NYSE Daily TAQ Client Specification, field CORR.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

type Flags = npt.NDArray[np.bool_]

# A correction indicator stands among the conditions behind this letter, under which Polygon's feed has it.
CORRECTION = "e"


@dataclass(frozen=True)
class Rules:
    """Which conditions keep a trade from counting; one that is in no set keeps it from nothing.

    Attributes:
        not_high_low: its price is no market price of the moment.
        not_open_close: nor of the moment at which it is reported.
        not_volume: it is no trade, or one that was taken back.
        only_outside_hours: says no more than that it was traded outside of regular hours; there its price counts.
    """

    not_high_low: frozenset[str] = frozenset()
    not_open_close: frozenset[str] = frozenset()
    not_volume: frozenset[str] = frozenset()
    only_outside_hours: frozenset[str] = frozenset()


# Average price 2, cash sale 7, sold out of sequence in extended hours 13, next day 20, price variation 21, seller 29,
# odd lot 37, contingent 52, qualified contingent 53.
_NO_PRICE = frozenset({"2", "7", "13", "20", "21", "29", "37", "52", "53"})
# Bunched and sold 5, derivatively priced 10, prior reference price 22, sold out of sequence 32 and that and stopped 33.
_LATE_PRICE = frozenset({"5", "10", "22", "32", "33"})
# A market centre's official close 15 and open 16 repeat a trade's price.
_NO_TRADE = frozenset({"15", "16"})
# Cancelled in error 7 or for good 8, and the records 10, 11 and 12 that say what was cancelled or corrected.
_TAKEN_BACK = frozenset(f"{CORRECTION}{indicator}" for indicator in (7, 8, 10, 11, 12))

# The corrected consolidated close 38 has a price that counts, and no shares that have not been counted.
POLYGON = Rules(
    not_high_low=_NO_PRICE | _NO_TRADE | _TAKEN_BACK,
    not_open_close=_NO_PRICE | _LATE_PRICE | _NO_TRADE | _TAKEN_BACK,
    not_volume=_NO_TRADE | _TAKEN_BACK | {"38"},
    only_outside_hours=frozenset({"12"}),
)
# By provider; the trades of any other count as they are.
RULES = {"polygon": POLYGON}


@dataclass(frozen=True)
class Counts:
    """What each trade counts for; shape (n_trades,) each."""

    high_low: Flags
    open_close: Flags
    volume: Flags


def counts(conditions: "pd.Series[Any]", in_regular_hours: Flags, rules: Rules) -> Counts:
    """Return what trades count for: what every condition of a trade allows.

    Args:
        conditions: a list of codes (text) a trade; None where there are none.
        in_regular_hours: whether it was traded between its session's open and close.
        rules: of the feed that the codes are of.
    """
    lists = pa.array(conditions, pa.list_(pa.string()))
    codes, trade = pc.list_flatten(lists), pc.list_parent_indices(lists).to_numpy()

    def have_one_of(refused: frozenset[str]) -> Flags:
        found = pc.is_in(codes, pa.array(sorted(refused), pa.string())).to_numpy(zero_copy_only=False)
        flags = np.zeros(len(lists), np.bool_)
        flags[trade[found]] = True
        return flags

    no_price_here = have_one_of(rules.only_outside_hours) & in_regular_hours
    return Counts(
        high_low=~have_one_of(rules.not_high_low) & ~no_price_here,
        open_close=~have_one_of(rules.not_open_close) & ~no_price_here,
        volume=~have_one_of(rules.not_volume),
    )
