"""Credentials to principals; bad ones are limited, and lock nobody else out."""

import tracemalloc
from pathlib import Path

import pytest

from sandboxd.accounts.authentication import Authentication, FailureLimit, TooManyAttempts
from sandboxd.accounts.certificates import SubjectMapping, SubjectTable
from sandboxd.accounts.principals import Principal, Role, acting_user
from sandboxd.accounts.tokens import TokenBook, create_token
from sandboxd.errors import Denied, Unauthenticated

SUBJECTS = SubjectTable(
    [
        SubjectMapping(subject="spiffe://example/agents", principal="agents", role=Role.SERVICE),
        SubjectMapping(subject="CN=ops", principal="ops", role=Role.ADMIN),
    ]
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_a_token_or_a_mapped_certificate_names_its_principal(path: Path) -> None:
    text, _ = create_token(path, principal="ada", role=Role.USER)
    authentication = Authentication(tokens=TokenBook(path), subjects=SUBJECTS)
    spiffe = {"x509_subject_alternative_name": [b"spiffe://example/agents"], "x509_common_name": [b"x"]}
    assert authentication.authenticate(f"Bearer {text}").name == "ada"
    assert authentication.authenticate(f"bearer  {text} ").name == "ada"
    assert authentication.authenticate("", certificate=spiffe).name == "agents"
    assert authentication.authenticate("", certificate={"x509_common_name": [b"ops"]}).role is Role.ADMIN


@pytest.mark.parametrize(
    "certificate",
    [
        {},
        {"x509_common_name": [b"unknown"]},
        {"x509_common_name": [b"OPS"]},
        {"x509_common_name": [b"spiffe://example/agents"]},
        {"x509_subject_alternative_name": [b"CN=ops\xff"]},
        {"transport_security_type": [b"ssl"]},
    ],
)
def test_a_certificate_without_a_line_is_nobody(path: Path, certificate: dict[str, list[bytes]]) -> None:
    with pytest.raises(Unauthenticated):
        Authentication(tokens=TokenBook(path), subjects=SUBJECTS).authenticate("", certificate=certificate)


def test_a_bad_token_does_not_fall_back_to_a_certificate(path: Path) -> None:
    with pytest.raises(Unauthenticated):
        Authentication(tokens=TokenBook(path), subjects=SUBJECTS).authenticate(
            "Bearer nonsense", certificate={"x509_common_name": [b"ops"]}
        )


def test_token_without_its_scheme_is_told_the_form(path: Path) -> None:
    text, _ = create_token(path, principal="ada", role=Role.USER)
    with pytest.raises(Unauthenticated, match="Bearer <token>"):
        Authentication(tokens=TokenBook(path), subjects=SUBJECTS).authenticate(text)


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Basic abc", "Bearer \udcff", "B" * 100_000]
)
def test_anything_but_a_known_token_is_unauthenticated(path: Path, authorization: str) -> None:
    create_token(path, principal="ada", role=Role.USER)
    with pytest.raises(Unauthenticated):
        Authentication(tokens=TokenBook(path)).authenticate(authorization)


def test_ten_thousand_bad_tokens_are_limited_and_lock_nobody_out(path: Path) -> None:
    text, _ = create_token(path, principal="ada", role=Role.USER)
    now = 0.0
    limit = FailureLimit(burst=20, a_second=1.0, clock=lambda: now)
    authentication = Authentication(tokens=TokenBook(path), failures=limit)
    outcomes = []
    tracemalloc.start()
    for number in range(10_000):
        with pytest.raises((Unauthenticated, TooManyAttempts)) as caught:
            authentication.authenticate(f"Bearer {number:043d}", address="10.0.0.1")
        outcomes.append(caught.type)
    for number in range(10_000):
        limit.failed(f"10.1.{number}")
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert outcomes.count(Unauthenticated) == 20
    assert grown < 16 * 1024 * 1024
    assert authentication.authenticate(f"Bearer {text}", address="10.0.0.1").name == "ada"
    with pytest.raises(Unauthenticated):
        authentication.authenticate("Bearer x", address="10.0.0.2")


def test_failures_are_forgiven_with_time() -> None:
    now = 0.0
    limit = FailureLimit(burst=2, a_second=0.5, clock=lambda: now)
    assert [limit.failed("a") is None for _ in range(3)] == [True, True, False]
    now = 2.0
    assert limit.failed("a") is None
    assert limit.failed("a") == pytest.approx(2.0)


def test_who_may_act_for_whom() -> None:
    user = Principal(name="ada", role=Role.USER)
    service = Principal(name="agents", role=Role.SERVICE)
    admin = Principal(name="ops", role=Role.ADMIN)
    assert acting_user(user, "") == acting_user(user, "ada") == "ada"
    assert acting_user(service, "1") == acting_user(admin, "1") == "1"
    assert acting_user(service, "") == "agents"
    with pytest.raises(Denied):
        acting_user(user, "bob")
    assert (user.visible_owner, service.visible_owner, admin.visible_owner) == ("ada", "agents", None)


def test_a_subject_mapped_twice_is_refused() -> None:
    line = SubjectMapping(subject="CN=a", principal="a", role=Role.USER)
    with pytest.raises(ValueError, match="twice"):
        SubjectTable([line, line])


def test_a_certificate_with_names_of_two_principals_is_nobody() -> None:
    table = SubjectTable(
        [
            SubjectMapping(subject="a.example", principal="a", role=Role.USER),
            SubjectMapping(subject="b.example", principal="b", role=Role.USER),
        ]
    )
    assert table.find({"x509_subject_alternative_name": [b"a.example", b"b.example"]}) is None
