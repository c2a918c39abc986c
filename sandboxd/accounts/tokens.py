"""Bearer tokens: made once, shown once, kept as hashes in a file that is read again when it changes."""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sandboxd.accounts.principals import Principal, Role, is_valid_name
from sandboxd.errors import InvalidArgument

_SECRET_BYTES = 32
_PREFIX = "sbt_"
_ID_LENGTH = 12
_LONGEST_TOKEN = 512
_FORMAT = 1


class TokenFileError(Exception):
    """The file of token hashes can't be used; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A token as it is kept: nobody can call with what is here."""

    id: str
    """The first 12 hexadecimal digits of the hash: what `token list` shows and `token revoke` takes."""
    principal: str
    role: Role
    sha256: str
    """A fast hash will do: 256 random bits can't be guessed, whatever a guess costs."""
    create_time: datetime
    expire_time: datetime | None = None
    """None never expires."""
    label: str = ""

    def expired(self, now: datetime) -> bool:
        return self.expire_time is not None and now >= self.expire_time


def create_token(
    path: Path, *, principal: str, role: Role, lifetime: timedelta | None = None, label: str = ""
) -> tuple[str, TokenRecord]:
    """Add a token to the file and give its text, which can't be had again.

    Raises InvalidArgument for a bad name or lifetime, TokenFileError for a file that can't be used.
    """
    text = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    return text, add_token(path, text, principal=principal, role=role, lifetime=lifetime, label=label)


def add_token(
    path: Path,
    text: str,
    *,
    principal: str,
    role: Role,
    lifetime: timedelta | None = None,
    label: str = "",
) -> TokenRecord:
    """Add a token whose text exists already."""
    if not is_valid_name(principal):
        raise InvalidArgument(field="principal", problem="must be 1 to 128 letters, digits or ._@:/-")
    if lifetime is not None and lifetime <= timedelta(0):
        raise InvalidArgument(field="lifetime", problem="must be longer than nothing")
    now = datetime.now(UTC)
    digest = _digest(text)
    record = TokenRecord(
        id=digest[:_ID_LENGTH],
        principal=principal,
        role=role,
        sha256=digest,
        create_time=now,
        expire_time=now + lifetime if lifetime is not None else None,
        label=label,
    )
    with _editing(path) as records:
        records[record.id] = record
    return record


def list_tokens(path: Path) -> list[TokenRecord]:
    """Every token, oldest first, expired ones included."""
    return sorted(_read(path).values(), key=lambda record: record.create_time)


def revoke_token(path: Path, token_id: str) -> bool:
    """Remove a token; calls with it are refused from the next one on. False when there is none."""
    with _editing(path) as records:
        return records.pop(token_id, None) is not None


def revoke_tokens_of(path: Path, principal: str) -> int:
    """Remove every token of a principal; how many there were."""
    with _editing(path) as records:
        gone = [name for name, record in records.items() if record.principal == principal]
        for name in gone:
            del records[name]
    return len(gone)


def forget_revoked_file(book: Path, token_file: Path) -> bool:
    """Remove a token file whose token the book does not have, or no longer: the next start would make it
    known again. Says whether it was; raises OSError where it can't be removed."""
    try:
        text = token_file.read_text().strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    if _digest(text)[:_ID_LENGTH] in _read(book):
        return False
    token_file.unlink()
    return True


class TokenBook:
    """The tokens of a file; looks at the file again at each call, so that changes need no restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: tuple[int, int, int] | None = None
        self._records: dict[str, TokenRecord] = {}

    def find(self, text: str) -> Principal | None:
        """Whose token this is; None for an unknown, revoked or expired one.

        The look-up is by the hash, of which a caller can't choose the first digits; the rest is compared
        in constant time. Raises TokenFileError when the file has become unusable: fail closed.
        """
        self._refresh()
        if len(text) > _LONGEST_TOKEN:
            return None
        digest = _digest(text)
        record = self._records.get(digest[:_ID_LENGTH])
        known = hmac.compare_digest(digest, record.sha256 if record else "0" * len(digest))
        if record is None or not known or record.expired(datetime.now(UTC)):
            return None
        return Principal(name=record.principal, role=record.role)

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._version, self._records = None, {}
            return
        version = (status.st_mtime_ns, status.st_ino, status.st_size)
        if version != self._version:
            self._records = _read(self._path)
            self._version = version


def ensure_first_token(book: Path, token_file: Path, *, principal: str = "local") -> bool:
    """At the first start, make a service token and leave its text where the client looks; say if it was made.

    A token file that is there already is taken as it is, and made known if it is not: so its text can be
    given by the operator. Raises TokenFileError when others can read it, or it holds no token.
    """
    if token_file.exists():
        text = _read_token_text(token_file)
        if _digest(text)[:_ID_LENGTH] not in _read(book):
            add_token(book, text, principal=principal, role=Role.SERVICE, label=f"of {token_file.name}")
        return False
    text, _ = create_token(book, principal=principal, role=Role.SERVICE, label="made at first start")
    token_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _replace(token_file, text + "\n")
    return True


def _read_token_text(token_file: Path) -> str:
    _require_private(token_file)
    text = token_file.read_text().strip()
    if len(text) < _SECRET_BYTES:
        raise TokenFileError(f"{token_file} holds no token; delete it and one is made at the next start")
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def _editing(path: Path) -> Iterator[dict[str, TokenRecord]]:
    """The records, written back in one step; one editor at a time, a killed one leaves the old file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        records = _read(path)
        yield records
        tokens = [_as_json(record) for record in records.values()]
        _replace(path, json.dumps({"format": _FORMAT, "tokens": tokens}, indent=1) + "\n")
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[str, TokenRecord]:
    if not path.exists():
        return {}
    _require_private(path)
    try:
        content = json.loads(path.read_text())
        if content["format"] != _FORMAT:
            raise TokenFileError(f"{path} has format {content['format']}, which this version does not know")
        records = [_from_json(item) for item in content["tokens"]]
    except (ValueError, KeyError, TypeError) as error:
        raise TokenFileError(
            f"{path} is damaged; restore it, or delete it and make the tokens anew"
        ) from error
    return {record.id: record for record in records}


def _require_private(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise TokenFileError(f"{path} can be read by others; run: chmod 600 {path}")


def _as_json(record: TokenRecord) -> dict[str, Any]:
    values = asdict(record)
    values["create_time"] = record.create_time.isoformat()
    values["expire_time"] = record.expire_time.isoformat() if record.expire_time else None
    return values


def _from_json(item: dict[str, Any]) -> TokenRecord:
    expire_time = item["expire_time"]
    return TokenRecord(
        id=item["id"],
        principal=item["principal"],
        role=Role(item["role"]),
        sha256=item["sha256"],
        create_time=datetime.fromisoformat(item["create_time"]),
        expire_time=datetime.fromisoformat(expire_time) if expire_time else None,
        label=item["label"],
    )
