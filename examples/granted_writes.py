"""Asks the sample database from outside and from user code, writes with a grant, and shows the audit.

Start a server first (`./run sandboxd serve`), then: `python examples/granted_writes.py`.
"""

import asyncio
import sys

from sandboxd_client import DatabaseGrant, QueryDenied, SandboxService, WriteGrant

MARK = "UPDATE documents SET processed = true WHERE id = :id"
ANALYSIS = """
activities = await db_query('''
    SELECT u.plan, a.action, count(*) AS n
    FROM user_activities a JOIN users u ON u.id = a.user_id
    WHERE a.timestamp > NOW() - INTERVAL '7 days'
    GROUP BY u.plan, a.action
''')
table = activities.df().pivot(index="action", columns="plan", values="n").fillna(0).astype(int)
print(table)
__result__ = {plan: int(table[plan].sum()) for plan in table.columns}
"""


async def main(address: str | None = None, token: str | None = None) -> None:
    """Runs the example against the server at `address`, found by itself when None."""
    async with await SandboxService.connect(address, token=token) as service:
        reader = await service.create_agent_sandbox(user_id=1, config={"databases": ["sample"]})
        found = await service.query_database(
            reader,
            "SELECT COUNT(*) AS user_count FROM users WHERE created_at > :date",
            {"date": "2024-01-01"},
        )
        print("users since 2024:", found[0]["user_count"])

        result = await service.execute_code(reader, ANALYSIS)
        print(result.stdout)
        print("activities of the last week by plan:", result.result)

        try:
            await service.query_database(reader, MARK, {"id": 1})
        except QueryDenied as error:
            print("refused:", error)

        grant = DatabaseGrant(
            database="sample",
            write_grants=[WriteGrant(table="documents", operation="update", columns=["processed"])],
        )
        writer = await service.create_agent_sandbox(user_id=1, config={"databases": [grant]})
        changed = await service.query_database(writer, MARK, {"id": 1})
        print("granted:", changed.affected_row_count, "row changed")

        for sandbox_id in (reader, writer):
            await service.cleanup_sandbox(sandbox_id)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
