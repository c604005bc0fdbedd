"""What a fill costs, in sums one can do in the head."""

import numpy as np
import pytest

from tickstock_assets.domain.backtest.costs import affordable_shares, commission, fill_price, slippage_cost

BUY, SELL = np.array([1.0]), np.array([-1.0])


def test_slippage_raises_the_price_of_a_buy_and_lowers_that_of_a_sale():
    # 25 basis points of 80 are 0.20.
    assert fill_price(np.array([80.0]), BUY, 0.0025) == pytest.approx([80.2])
    assert fill_price(np.array([80.0]), SELL, 0.0025) == pytest.approx([79.8])


def test_all_equity_is_spent_on_shares_and_their_commission():
    shares = affordable_shares(1010.0, np.array([50.0]), 0.01)
    # 20 shares at 50 are 1000, and 1% of it makes 1010.
    assert shares == pytest.approx([20.0])
    assert commission(shares, np.array([50.0]), 0.01) == pytest.approx([10.0])


def test_shares_trade_in_fractions():
    assert affordable_shares(100.0, np.array([80.0]), 0.0) == pytest.approx([1.25])


@pytest.mark.parametrize("fill", [80.2, 79.8])
def test_slippage_costs_money_on_either_side(fill):
    assert slippage_cost(np.array([10.0]), np.array([80.0]), np.array([fill])) == pytest.approx([2.0])


def test_without_rates_a_fill_is_the_quote_and_free():
    quote = np.array([80.0])
    assert fill_price(quote, BUY, 0.0) == quote
    assert commission(np.array([10.0]), quote, 0.0) == [0.0]
