"""Gaps that are asked for again and given up, kinds of requests, removed minutes, history asked for once; alerts."""

from tickstock_assets.storage.migrate import run_sql_beside

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_sql_beside(__file__, "up")


def downgrade() -> None:
    run_sql_beside(__file__, "down")
