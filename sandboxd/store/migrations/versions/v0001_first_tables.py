"""The first tables: sandboxes, executions, queries, and the store's own meta data."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPLICATION_ID = 0x73627864
"""`sbxd` in the header of the SQLite file: tells a foreign database from one of ours."""


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    op.create_table(
        "executions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sandbox_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("start_time", sa.BigInteger()),
        sa.Column("end_time", sa.BigInteger()),
        sa.Column("queue_us", sa.BigInteger()),
        sa.Column("start_us", sa.BigInteger()),
        sa.Column("run_us", sa.BigInteger()),
        sa.Column("end_us", sa.BigInteger()),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.Text()),
        sa.Column("request_fingerprint", sa.LargeBinary()),
        sa.Column("trace_parent", sa.Text()),
        sa.Column("trace_reference", sa.Text()),
        sa.Column("failure_kind", sa.Text()),
        sa.Column("failure", sa.Text()),
        sa.Column("limit_name", sa.Text()),
        sa.Column("limit_receipt", sa.Text()),
        sa.Column("usage", sa.Text(), nullable=False),
        sa.Column("code", sa.LargeBinary(), nullable=False),
        sa.Column("log", sa.LargeBinary(), nullable=False),
        sa.Column("stdout", sa.LargeBinary(), nullable=False),
        sa.Column("stderr", sa.LargeBinary(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("executions_by_owner", "executions", ["owner", "create_time", "id"])
    op.create_index(
        "executions_by_request",
        "executions",
        ["owner", "request_id"],
        unique=True,
        sqlite_where=sa.text("request_id IS NOT NULL"),
        postgresql_where=sa.text("request_id IS NOT NULL"),
    )
    op.create_index("executions_by_sandbox", "executions", ["sandbox_id", "create_time", "id"])
    op.create_index("executions_by_time", "executions", ["create_time", "id"])
    op.create_index(
        "executions_live",
        "executions",
        ["state"],
        sqlite_where=sa.text("state IN ('QUEUED', 'RUNNING', 'PAUSED')"),
        postgresql_where=sa.text("state IN ('QUEUED', 'RUNNING', 'PAUSED')"),
    )
    op.create_table(
        "journals",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("applied_sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "queries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("database", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("sandbox_id", sa.Text()),
        sa.Column("execution_id", sa.Text()),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("tables", sa.Text(), nullable=False),
        sa.Column("written_columns", sa.Text(), nullable=False),
        sa.Column("functions", sa.Text(), nullable=False),
        sa.Column("layer", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("sqlstate", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("affected", sa.BigInteger(), nullable=False),
        sa.Column("truncated_by", sa.Text(), nullable=False),
        sa.Column("queue_us", sa.BigInteger(), nullable=False),
        sa.Column("check_us", sa.BigInteger(), nullable=False),
        sa.Column("engine_us", sa.BigInteger(), nullable=False),
        sa.Column("worker_pid", sa.BigInteger(), nullable=False),
        sa.Column("sql_truncated", sa.Boolean(), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("sql", sa.LargeBinary(), nullable=False),
        sa.Column("bridged_sql", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("queries_by_execution", "queries", ["execution_id"])
    op.create_index("queries_by_owner", "queries", ["owner", "time", "id"])
    op.create_index("queries_by_time", "queries", ["time", "id"])
    op.create_table(
        "sandboxd_meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "sandboxes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("expire_time", sa.BigInteger()),
        sa.Column("end_time", sa.BigInteger()),
        sa.Column("end_reason", sa.Text()),
        sa.Column("request_id", sa.Text()),
        sa.Column("request_fingerprint", sa.LargeBinary()),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "sandboxes_active",
        "sandboxes",
        ["owner"],
        sqlite_where=sa.text("state = 'ACTIVE'"),
        postgresql_where=sa.text("state = 'ACTIVE'"),
    )
    op.create_index("sandboxes_by_owner", "sandboxes", ["owner", "create_time", "id"])
    op.create_index(
        "sandboxes_by_request",
        "sandboxes",
        ["owner", "request_id"],
        unique=True,
        sqlite_where=sa.text("request_id IS NOT NULL"),
        postgresql_where=sa.text("request_id IS NOT NULL"),
    )
    op.create_index("sandboxes_by_time", "sandboxes", ["create_time", "id"])
