"""Who may call, in which role, and for whom."""

import re
from dataclasses import dataclass
from enum import StrEnum

from sandboxd.errors import Denied

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/-]{0,127}")


class Role(StrEnum):
    """What a principal may do beside working in its own sandboxes."""

    ADMIN = "admin"
    """Sees and ends what is anyone's; statistics of all."""
    SERVICE = "service"
    """Acts for any user: an agent runtime with users of its own."""
    USER = "user"
    """Acts for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The holder of a credential. Everything it makes is owned by its `name`."""

    name: str
    role: Role

    @property
    def visible_owner(self) -> str | None:
        """The owner that look-ups are restricted to; None, no restriction, for admins only."""
        return None if self.role is Role.ADMIN else self.name


def acting_user(principal: Principal, requested_user_id: str) -> str:
    """The user a call is counted for: the principal itself, unless it may act for others and says so.

    A user id gives no access: a service sees all that it made, for whichever user. Raises Denied.
    """
    if not requested_user_id or requested_user_id == principal.name:
        return principal.name
    if principal.role is Role.USER:
        raise Denied(problem="only a service or an admin may act for another user_id")
    return requested_user_id


def is_valid_name(name: str) -> bool:
    """Letters, digits and `._@:/-`, 1 to 128 of them: safe in logs, lists and file names of none."""
    return _NAME.fullmatch(name) is not None
