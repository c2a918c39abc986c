"""Which principal a client certificate stands for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sandboxd.accounts.principals import Principal, Role

_COMMON_NAME = "x509_common_name"
_ALTERNATIVE_NAMES = "x509_subject_alternative_name"
_COMMON_NAME_PREFIX = "CN="


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectMapping:
    """One line of the table: exact names only, no patterns."""

    subject: str
    """A subject alternative name as it is (`spiffe://...`, a DNS name), or `CN=` and a common name."""
    principal: str
    role: Role


class SubjectTable:
    """Maps what TLS has verified. A certificate without a line stands for nobody, whoever signed it."""

    def __init__(self, mappings: Iterable[SubjectMapping] = ()) -> None:
        self._principals: dict[str, Principal] = {}
        for mapping in mappings:
            if mapping.subject in self._principals:
                raise ValueError(f"subject {mapping.subject!r} is mapped twice")
            self._principals[mapping.subject] = Principal(name=mapping.principal, role=mapping.role)

    def find(self, peer: Mapping[str, Sequence[bytes]]) -> Principal | None:
        """The principal of a verified peer, given the property names and values of gRPC's auth context.

        Alternative names come before the common name, which is kept for old certificates. Names of one
        certificate that stand for different principals are a mistake, and stand for nobody.
        """
        names = [_text(value) for value in peer.get(_ALTERNATIVE_NAMES, ())]
        found = {self._principals[name] for name in names if name in self._principals}
        if not found:
            common = [_COMMON_NAME_PREFIX + _text(value) for value in peer.get(_COMMON_NAME, ())]
            found = {self._principals[name] for name in common if name in self._principals}
        return found.pop() if len(found) == 1 else None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
