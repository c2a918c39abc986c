"""Tokens: shown once, kept as hashes, effective and revoked without a restart."""

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sandboxd.accounts.principals import Principal, Role
from sandboxd.accounts.tokens import (
    TokenBook,
    TokenFileError,
    add_token,
    create_token,
    ensure_first_token,
    forget_revoked_file,
    list_tokens,
    revoke_token,
)
from sandboxd.errors import InvalidArgument


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokens.json"


def test_a_new_token_works_and_its_text_is_not_kept(path: Path) -> None:
    book = TokenBook(path)
    text, record = create_token(path, principal="ada", role=Role.USER, label="laptop")
    assert book.find(text) == Principal(name="ada", role=Role.USER)
    assert book.find(text[:-1]) is None
    assert book.find("") is None
    assert text not in path.read_text()
    assert len(text.removeprefix("sbt_")) * 6 >= 256
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [(t.id, t.label) for t in list_tokens(path)] == [(record.id, "laptop")]


def test_a_token_made_or_revoked_later_counts_at_once(path: Path) -> None:
    book = TokenBook(path)
    assert book.find("anything") is None
    text, record = create_token(path, principal="ada", role=Role.SERVICE)
    assert book.find(text) is not None
    assert revoke_token(path, record.id)
    assert book.find(text) is None
    assert not revoke_token(path, record.id)


def test_rotation_leaves_the_new_token_only(path: Path) -> None:
    book = TokenBook(path)
    old, old_record = create_token(path, principal="ada", role=Role.USER)
    new, _ = create_token(path, principal="ada", role=Role.USER)
    assert book.find(old) == book.find(new)
    revoke_token(path, old_record.id)
    assert book.find(old) is None
    assert book.find(new) is not None


def test_an_expired_token_is_refused(path: Path) -> None:
    text, record = create_token(path, principal="ada", role=Role.USER, lifetime=timedelta(hours=1))
    book = TokenBook(path)
    assert book.find(text) is not None
    content = json.loads(path.read_text())
    content["tokens"][0]["expire_time"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    path.write_text(json.dumps(content))
    assert book.find(text) is None
    assert record.expire_time is not None


@pytest.mark.parametrize(
    ("name", "lifetime"), [("", None), ("a b", None), ("x" * 129, None), ("a", timedelta(0))]
)
def test_a_bad_principal_or_lifetime_is_refused(path: Path, name: str, lifetime: timedelta | None) -> None:
    with pytest.raises(InvalidArgument):
        create_token(path, principal=name, role=Role.USER, lifetime=lifetime)


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"format": 9, "tokens": []}', '{"format": 1, "tokens": [{"id": 1}]}']
)
def test_a_damaged_or_newer_file_admits_nobody(path: Path, damage: str) -> None:
    text, _ = create_token(path, principal="ada", role=Role.USER)
    path.write_text(damage)
    with pytest.raises(TokenFileError):
        TokenBook(path).find(text)


def test_a_file_that_others_can_read_is_refused(path: Path) -> None:
    create_token(path, principal="ada", role=Role.USER)
    path.chmod(0o644)
    with pytest.raises(TokenFileError, match="chmod 600"):
        TokenBook(path).find("x")


def test_the_first_start_leaves_a_token_for_the_client(path: Path, tmp_path: Path) -> None:
    token_file = tmp_path / "state" / "token"
    assert ensure_first_token(path, token_file)
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    text = token_file.read_text().strip()
    assert TokenBook(path).find(text) == Principal(name="local", role=Role.SERVICE)
    assert not ensure_first_token(path, token_file)
    assert token_file.read_text().strip() == text


def test_a_token_given_by_the_operator_is_taken(path: Path, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.touch(mode=0o600)
    with pytest.raises(TokenFileError, match="holds no token"):
        ensure_first_token(path, token_file)
    token_file.write_text("g" * 43 + "\n")
    ensure_first_token(path, token_file)
    assert TokenBook(path).find("g" * 43) is not None
    token_file.chmod(0o604)
    with pytest.raises(TokenFileError, match="chmod 600"):
        ensure_first_token(path, token_file)


def test_a_lost_book_does_not_cut_off_the_token_file(path: Path, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    ensure_first_token(path, token_file)
    path.unlink()
    ensure_first_token(path, token_file)
    assert TokenBook(path).find(token_file.read_text().strip()) is not None


def test_editors_at_the_same_time_lose_no_token(path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from sandboxd.accounts.tokens import *; "
        "from sandboxd.accounts.principals import Role\n"
        "for _ in range(10): create_token(Path(sys.argv[1]), principal='p', role=Role.USER)"
    )
    editors = [subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=os.getcwd()) for _ in range(4)]
    assert [editor.wait(60) for editor in editors] == [0] * 4
    assert len(list_tokens(path)) == 40


def test_a_known_text_is_added_once_by_its_hash(path: Path) -> None:
    first = add_token(path, "t" * 43, principal="a", role=Role.ADMIN)
    again = add_token(path, "t" * 43, principal="b", role=Role.USER)
    assert first.id == again.id
    assert [t.principal for t in list_tokens(path)] == ["b"]


def test_a_revoked_token_does_not_come_back_from_the_token_file(path: Path, tmp_path: Path) -> None:
    # The next start used to take it from the file and make it known again.
    token_file = tmp_path / "token"
    assert ensure_first_token(path, token_file)
    text = token_file.read_text().strip()
    (record,) = list_tokens(path)
    assert not forget_revoked_file(path, token_file)  # it is known
    revoke_token(path, record.id)
    assert forget_revoked_file(path, token_file)
    assert ensure_first_token(path, token_file)
    assert TokenBook(path).find(text) is None
    assert TokenBook(path).find(token_file.read_text().strip()) is not None
