"""The guest API as an agent reads it: what user code finds in its namespace."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionDescription:
    """One function of the guest API."""

    name: str
    signature: str
    description: str
    example: str
    category: str
    awaitable: bool = False
    needs_database: bool = False
    needs_debugging: bool = False


FUNCTIONS: tuple[FunctionDescription, ...] = (
    FunctionDescription(
        name="db_query",
        signature="db_query(sql: str, params: dict | None = None) -> Rows",
        description="Runs one SQL statement with :name parameters. Rows is a sequence of dicts with .df(), "
        ".columns and .truncated. Read-only unless the sandbox has a write grant.",
        example='users = await db_query("SELECT id, name FROM users WHERE id = :id", {"id": 1})',
        category="database",
        awaitable=True,
        needs_database=True,
    ),
    FunctionDescription(
        name="db_tables",
        signature="db_tables() -> list[dict]",
        description="Lists the tables the sandbox may read, with kind and estimated number of rows.",
        example="tables = await db_tables()",
        category="database",
        awaitable=True,
        needs_database=True,
    ),
    FunctionDescription(
        name="db_schema",
        signature="db_schema(table: str) -> dict",
        description="Describes one table: columns, types, keys, indexes, write grants in force.",
        example='schema = await db_schema("users")',
        category="database",
        awaitable=True,
        needs_database=True,
    ),
    FunctionDescription(
        name="debug",
        signature='debug(message: object, level: str = "INFO") -> None',
        description="Writes an entry to the debug log: DEBUG, INFO, WARNING, ERROR or CRITICAL. It comes "
        "back with the result and, in a stream, while the code runs.",
        example='debug(f"processed {count} rows", "INFO")',
        category="debugging",
    ),
    FunctionDescription(
        name="inspect_var",
        signature="inspect_var(name: str, value: object) -> None",
        description="Records a bounded picture of a value under a name.",
        example='inspect_var("rows", rows)',
        category="debugging",
    ),
    FunctionDescription(
        name="get_debug_info",
        signature="get_debug_info() -> dict",
        description="Summary of this execution's debug log and inspected variables so far.",
        example='__result__ = {"debug_summary": get_debug_info()}',
        category="debugging",
    ),
    FunctionDescription(
        name="print",
        signature="print(*values: object) -> None",
        description="Writes to stdout, which comes back with the result and is streamed while it appears.",
        example='print("Hello, World!")',
        category="output",
    ),
    FunctionDescription(
        name="__result__",
        signature="__result__ = value",
        description="The result of the execution; without it, the value of the last expression. Numbers of "
        "any size, text, bytes, dates, decimals, lists, dicts, arrays and DataFrames come back typed.",
        example='__result__ = {"total": 3}',
        category="result",
    ),
)
