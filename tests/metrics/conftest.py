"""The project with simulated vendors, as the tests of Dagster's parts have it."""

from tests.defs.conftest import open_project

__all__ = ["open_project"]
