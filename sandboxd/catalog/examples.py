"""Pieces of code that run in a sandbox as they are; the tests run each of them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One runnable piece of code."""

    name: str
    title: str
    description: str
    code: str
    needs_database: bool = False


EXAMPLES: tuple[Example, ...] = (
    Example(
        name="transform_records",
        title="Transform records",
        description="Derives a field for each record and returns the new records with a total.",
        code="""records = [
    {"id": 1, "email": "ada@example.com"},
    {"id": 2, "email": "grace@example.org"},
]
for record in records:
    record["domain"] = record["email"].rpartition("@")[2]
debug(f"transformed {len(records)} records", "INFO")
__result__ = {"total": len(records), "records": records}
""",
    ),
    Example(
        name="pandas_summary",
        title="Summarize a table with pandas",
        description="Groups a DataFrame and returns it; tables come back typed, column by column.",
        code="""import pandas as pd

sales = pd.DataFrame({"region": ["north", "south", "north"], "amount": [120.0, 80.5, 99.5]})
sales.groupby("region", as_index=False)["amount"].sum()
""",
    ),
    Example(
        name="extract_entities",
        title="Extract e-mail addresses and keywords",
        description="Finds addresses by pattern and counts the most frequent long words.",
        code="""import re
from collections import Counter

text = "Write to ada@example.com about the engine; the engine needs cards, many cards."
words = Counter(word for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 3)
__result__ = {
    "emails": re.findall(r"[\\w.+-]+@[\\w-]+\\.[\\w.-]+\\w", text),
    "keywords": [word for word, _ in words.most_common(3)],
}
""",
    ),
    Example(
        name="concurrent_steps",
        title="Await several steps at once",
        description="Top-level await works; each execution has an event loop of its own.",
        code="""import asyncio

async def step(number):
    await asyncio.sleep(0.01)
    return number * number

await asyncio.gather(*(step(number) for number in range(5)))
""",
    ),
    Example(
        name="inspect_steps",
        title="Follow a computation",
        description="Logs progress and records variables; both come back with the result.",
        code="""values = [1, 2, 3, 4, 5]
total = 0
for value in values:
    total += value
    debug(f"added {value}, total {total}", "DEBUG")
inspect_var("values", values)
__result__ = {"total": total, "log": get_debug_info()}
""",
    ),
    Example(
        name="query_users",
        title="Query a database",
        description="Runs a read-only statement with a named parameter.",
        code="""users = await db_query("SELECT id, name FROM users WHERE id <= :most", {"most": 3})
debug(f"{len(users)} users", "INFO")
__result__ = [user["name"] for user in users]
""",
        needs_database=True,
    ),
)
