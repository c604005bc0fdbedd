"""Minute bars and their rollups, ticks, what corrections replaced, and one view over all bars."""

from tickstock_assets.storage.migrate import run_sql_beside, run_view

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_sql_beside(__file__, "up")
    run_view("ohlcv_bars")


def downgrade() -> None:
    run_sql_beside(__file__, "down")
