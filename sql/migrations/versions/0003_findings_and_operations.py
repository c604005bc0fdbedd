"""Trading ranges, campaigns, signals, the audit trail, gaps, quality, requests, and what 0001's tables lacked."""

from tickstock_assets.storage.migrate import run_sql_beside, run_view

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_sql_beside(__file__, "up")
    run_view("events")


def downgrade() -> None:
    run_sql_beside(__file__, "down")
