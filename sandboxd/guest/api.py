"""The guest API: the functions that user code finds beside Python's builtins.

`debug`, `inspect_var`, `get_debug_info`, `db_query`, `db_tables`, `db_schema`, the exception
`DatabaseError`, and `datetime` (the class, usable without an import; after `import datetime` the name is
the module, as everywhere).
"""

import datetime
from typing import Any

from sandboxd.guest.database import DatabaseError, DatabaseFunctions
from sandboxd.guest.debug_log import DebugLog
from sandboxd.guest.session import Session


def guest_functions(session: Session, log: DebugLog) -> dict[str, Any]:
    """The names and what they are bound to in one execution."""
    database = DatabaseFunctions(session, log.run_id)
    return {
        "debug": log.debug,
        "inspect_var": log.inspect_var,
        "get_debug_info": log.get_debug_info,
        "db_query": database.db_query,
        "db_tables": database.db_tables,
        "db_schema": database.db_schema,
        "DatabaseError": DatabaseError,
        "datetime": datetime.datetime,
    }
