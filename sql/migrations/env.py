"""Alembic's entry: runs the revisions on the connection that `storage.migrate` hands over."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table="schema_revision", transaction_per_migration=True)
with context.begin_transaction():
    # Two processes may start on a new database at once: the second waits here and then finds nothing to do.
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('tickstock.migrate'))")
    context.run_migrations()
