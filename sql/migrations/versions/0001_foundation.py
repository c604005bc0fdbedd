"""Reference data, daily bars, features, patterns, backtests, the load ledger and the quarantine."""

from tickstock_assets.storage.migrate import run_sql_beside

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_sql_beside(__file__, "up")


def downgrade() -> None:
    run_sql_beside(__file__, "down")
