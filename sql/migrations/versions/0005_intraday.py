"""Hours that a write made stale, extended hours, classes of gaps, ranks of bars made from finer ones."""

from tickstock_assets.storage.migrate import run_sql_beside

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_sql_beside(__file__, "up")


def downgrade() -> None:
    run_sql_beside(__file__, "down")
