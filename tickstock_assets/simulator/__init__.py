"""Both vendors as an HTTP and WebSocket server on this machine, for tests and for a look without a key.

It speaks the wire formats of Polygon (now Massive), Alpha Vantage and the flat files' S3 over the vendored sample data and
invented companies, keeps plans and budgets, and misbehaves on request. What a client should have in the end is known
without HTTP: `Market`.
"""

from tickstock_assets.simulator.asks import Vendor
from tickstock_assets.simulator.faults import Fault, Faults
from tickstock_assets.simulator.market import Market
from tickstock_assets.simulator.plans import Plan
from tickstock_assets.simulator.polygon_stream import Pace
from tickstock_assets.simulator.server import Simulator

__all__ = ["Fault", "Faults", "Market", "Pace", "Plan", "Simulator", "Vendor"]
