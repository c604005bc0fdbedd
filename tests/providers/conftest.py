"""The inherited tests explain their failures like any others."""

import pytest

pytest.register_assert_rewrite("tests.providers.contract")
