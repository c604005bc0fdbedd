"""The project with simulated vendors, for verbs that are run in this process."""

from tests.defs.conftest import open_project

__all__ = ["open_project"]
