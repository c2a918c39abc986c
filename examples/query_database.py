"""SQL from the sandbox and from outside, read-only, with parameters, and the audit of both."""

import asyncio

from sandboxd_client import Client, QueryError

CODE = """
rows = await db_query(
    "SELECT plan, COUNT(*) AS users FROM users WHERE created_at > :since GROUP BY plan ORDER BY plan",
    {"since": "2024-01-01"},
)
{row["plan"]: row["users"] for row in rows}
"""


async def main() -> None:
    async with Client.connect() as client, client.create_sandbox() as sandbox:
        schema = await sandbox.schema()
        print(f"{schema.database} ({schema.dialect}):", ", ".join(schema.tables))

        result = (await sandbox.execute(CODE)).raise_for_status()
        print("from the sandbox:", result.result)

        rows = await sandbox.query("SELECT id, name FROM users ORDER BY id LIMIT :n", {"n": 2})
        print("from outside:", len(rows), "rows, columns", [column.name for column in rows.columns])

        try:
            await sandbox.query("DELETE FROM users")
        except QueryError as error:
            print("refused:", error.reason)

        for record in await sandbox.audit():
            print(f"audit: {record.verdict:<9} {record.statement_kind or '?':<6} {record.reason}".rstrip())


asyncio.run(main())
