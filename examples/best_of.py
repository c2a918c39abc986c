"""Several answers to one question, each tried in a branch of the live session; the best one's state stays."""

import asyncio

from sandboxd_client import Client

CANDIDATES = [
    "fit = {'kind': 'mean', 'at': sum(ys) / len(ys)}\nabs(ys[-1] - fit['at'])",
    "fit = {'kind': 'broken'}\nys[99]",
    "step = ys[-2] - ys[-3]\nfit = {'kind': 'line', 'at': ys[-2] + step}\nabs(ys[-1] - fit['at'])",
]


async def main() -> None:
    async with Client.connect() as client, client.create_sandbox() as sandbox:
        await sandbox.execute("ys = [2, 4, 6, 8, 10]")
        best = await sandbox.best_of(CANDIDATES, score=lambda result: -result.result)
        for number, result in enumerate(best.results):
            print(f"candidate {number}:", result.result if result.completed else result.error)
        print(f"candidate {best.index} wins")
        print("the session goes on with", (await sandbox.execute("fit")).result)


asyncio.run(main())
