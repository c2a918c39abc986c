"""How alembic reaches the store: over the connection that `sandboxd.store.migrate` opened."""

from alembic import context

from sandboxd.store.tables import metadata

# The caller holds the transaction around all revisions, so a kill in the middle leaves the old schema.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
