"""Answers for a whole market, files' ETags, budgets that survive a restart, requests that wait, reused tickers."""

from tickstock_assets.storage.migrate import run_sql_beside, run_view

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_sql_beside(__file__, "up")
    run_view("events")


def downgrade() -> None:
    run_sql_beside(__file__, "down")
