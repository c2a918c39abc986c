"""The guest API: the names that user code finds beside Python's builtins.

`debug`, `inspect_var`, `get_debug_info`, `db_query`, `db_tables`, `db_schema`, the exception
`DatabaseError`, and `datetime` (the class, usable without an import; after `import datetime` the name is
the module, as everywhere).
"""

import datetime
from collections.abc import Callable
from typing import Any

from sandboxd.guest.database import DatabaseError, DatabaseFunctions
from sandboxd.guest.debug_log import DebugLog
from sandboxd.guest.session import Session


class GuestApi:
    """Bound once for a session: a function that user code defined earlier calls what it called then, and
    it must act on the execution that runs now."""

    def __init__(self, session: Session, current_log: Callable[[], DebugLog]) -> None:
        self._database = DatabaseFunctions(session)
        self._log = current_log

    def names(self) -> dict[str, Any]:
        """The names and what they are bound to."""
        return {
            "debug": self.debug,
            "inspect_var": self.inspect_var,
            "get_debug_info": self.get_debug_info,
            "db_query": self._database.db_query,
            "db_tables": self._database.db_tables,
            "db_schema": self._database.db_schema,
            "DatabaseError": DatabaseError,
            "datetime": datetime.datetime,
        }

    def debug(self, message: Any, level: str = "INFO") -> None:
        """Adds an entry to the debug log; `level` is DEBUG, INFO, WARNING, ERROR or CRITICAL."""
        self._log().debug(message, level)

    def inspect_var(self, name: str, value: Any) -> None:
        """Records a variable as it is now."""
        self._log().inspect_var(name, value)

    def get_debug_info(self) -> dict[str, Any]:
        """What was logged in this execution so far."""
        return self._log().get_debug_info()
