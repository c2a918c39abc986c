"""An audit that counts what passes."""

from collections.abc import Callable, Sequence

from sandboxd.database.audit import AuditFilter, AuditLog, QueryRecord, Verdict


class CountedAudit:
    """Another audit, whose records are counted by verdict once they are kept."""

    def __init__(self, audit: AuditLog, *, on_recorded: Callable[[Verdict], None]) -> None:
        self._audit = audit
        self._on_recorded = on_recorded

    async def record(self, entry: QueryRecord) -> None:
        """See `AuditSink`."""
        await self._audit.record(entry)
        self._on_recorded(entry.verdict)

    async def list(
        self, wanted: AuditFilter, *, page_size: int, page_token: str
    ) -> tuple[Sequence[QueryRecord], str]:
        """See `AuditLog`."""
        return await self._audit.list(wanted, page_size=page_size, page_token=page_token)
