"""What it costs to trade: fills moved against us, and commission on their value.

Elsewhere: which bars are traded (engine.py). Money is float64; shares trade in fractions.
"""

import numpy as np

from tickstock_assets.domain.backtest.inputs import Floats


def fill_price(quote: Floats, direction: Floats, slippage_rate: float) -> Floats:
    """Return the price we get: above the quote when buying, below it when selling.

    Args:
        quote: the price on the tape, per share.
        direction: 1 where we buy, -1 where we sell.
        slippage_rate: fraction of the quote.
    """
    return quote * (1.0 + direction * slippage_rate)


def affordable_shares(equity: float, fill: Floats, commission_rate: float) -> Floats:
    """Return the shares that equity buys, its own commission included; a short sells as many."""
    return equity / (fill * (1.0 + commission_rate))


def commission(shares: Floats, fill: Floats, commission_rate: float) -> Floats:
    """Return the commission of one fill, in currency."""
    return shares * fill * commission_rate


def slippage_cost(shares: Floats, quote: Floats, fill: Floats) -> Floats:
    """Return what being filled away from the quote cost, in currency."""
    return shares * np.abs(fill - quote)
