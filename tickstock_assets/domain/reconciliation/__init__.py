"""Reconciliation: two providers' bars of one symbol, how far they are apart, and why.

`reconcile` is all there is to call; it returns the report of report.py. Differences are explained from what is recorded
(splits, dividends, sessions) and from minute bars where there are some, never assumed:

    basis.py, levels.py     adjustment basis; constant ratios that nothing recorded accounts for
    minutes.py              extended hours in a bar, minutes missing from it
    rounding.py             prices and volumes on a grid
    prices.py, volume.py    which of these together leave the fewest bars apart
    evidence.py             each cause put to its own test

Elsewhere: fetching both sides (loading), showing the report (cli/reconcile.py).
"""

from tickstock_assets.domain.reconciliation.reconcile import reconcile
from tickstock_assets.domain.reconciliation.report import (
    Explanation,
    Reconciliation,
    Residual,
    Side,
    UnexplainedBar,
)

__all__ = ["Explanation", "Reconciliation", "Residual", "Side", "UnexplainedBar", "reconcile"]
