"""The shortest useful program: a session that keeps its variables and survives what code does to it.

Needs a server on this machine: `sandboxd serve`.
"""

import asyncio

from sandboxd_client import Client


async def main() -> None:
    async with Client.connect() as client, client.create_sandbox() as sandbox:
        await sandbox.execute("prices = [3, 5, 8]")
        print((await sandbox.execute("sum(prices)")).result)

        result = await sandbox.execute("prices[7]")
        print(result.status, "|", result.error)

        result = await sandbox.execute("while True: pass", timeout=0.5)
        print(result.status, "|", result.limit_receipt)

        print((await sandbox.execute("len(prices)")).result, "prices are still there")


asyncio.run(main())
