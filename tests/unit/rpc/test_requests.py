"""Requests at the edge: each range at both ends, each refusal names its field and what was sent."""

import contextlib
from datetime import timedelta

import pytest
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from sandboxd_api.v1 import execution_pb2, sandbox_pb2

from sandboxd.errors import Denied, InvalidArgument
from sandboxd.executions.model import ExecutionKind
from sandboxd.limits import DEFAULT_LIMITS, MAXIMUM_LIMITS
from sandboxd.policy import ALLOWED_MODULES
from sandboxd.rpc import paging, requests, sandbox_requests
from sandboxd.rpc.requests import Target
from sandboxd.rpc.sandbox_requests import Defaults

_DEFAULTS = Defaults(limits=DEFAULT_LIMITS, maximum=MAXIMUM_LIMITS, allowed_modules=ALLOWED_MODULES)
_INTEGERS = [name for name in DEFAULT_LIMITS.__dataclass_fields__ if not name.endswith("timeout")]


@pytest.mark.parametrize("name", _INTEGERS)
def test_a_limit_is_taken_up_to_its_ceiling_and_refused_above(name: str) -> None:
    most = getattr(MAXIMUM_LIMITS, name)
    assert getattr(sandbox_requests.limits(sandbox_pb2.Limits(**{name: most}), _DEFAULTS), name) == most
    for value in (most + 1, -1):
        with pytest.raises(InvalidArgument) as refused:
            sandbox_requests.limits(sandbox_pb2.Limits(**{name: value}), _DEFAULTS)
        assert refused.value.field == f"spec.limits.{name}"
        assert f"{value} was sent" in refused.value.problem
        assert str(most) in refused.value.problem


@pytest.mark.parametrize("name", ["execution_timeout", "idle_timeout"])
@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(0, 0), (-1, 0), (0, 400_000), (10**9, 0), (2**62, 0), (0, -5), (1, 2_000_000_000 - 1), (-(2**62), -1)],
)  # fmt: skip
def test_a_duration_out_of_range_is_refused(name: str, seconds: int, nanos: int) -> None:
    message = sandbox_pb2.Limits(**{name: duration_pb2.Duration(seconds=seconds, nanos=nanos)})
    with pytest.raises(InvalidArgument) as refused:
        sandbox_requests.limits(message, _DEFAULTS)
    assert refused.value.field == f"spec.limits.{name}"


@pytest.mark.parametrize("value", [42, -1, 2**31 - 1])
def test_an_unknown_enum_value_is_refused(value: int) -> None:
    with pytest.raises(InvalidArgument) as refused:
        sandbox_requests.language_policy(sandbox_pb2.LanguagePolicy(mode=value), _DEFAULTS)  # type: ignore[arg-type]
    assert str(value) in refused.value.problem


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (sandbox_pb2.LanguagePolicy(allowed_modules=["os; import x"]), "allowed_modules"),
        (sandbox_pb2.LanguagePolicy(allowed_modules=["../etc"]), "allowed_modules"),
        (sandbox_pb2.LanguagePolicy(allowed_modules=["a"] * 501), "allowed_modules"),
        (sandbox_pb2.LanguagePolicy(extra_allowed_modules=[""]), "extra_allowed_modules"),
        (
            sandbox_pb2.LanguagePolicy(allowed_modules=["a"], extra_allowed_modules=["b"]),
            "extra_allowed_modules",
        ),
        (sandbox_pb2.LanguagePolicy(blocked_builtins=["not a name"]), "blocked_builtins"),
    ],
)
def test_language_rules_that_make_no_sense_are_refused(
    policy: sandbox_pb2.LanguagePolicy, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        sandbox_requests.language_policy(policy, _DEFAULTS)
    assert refused.value.field == f"spec.language_policy.{field}"


@pytest.mark.parametrize(
    "text", ["x", "123", "../../etc/passwd", "123E4567-E89B-42D3-A456-42661417400", "{}" * 30]
)
def test_a_request_id_is_a_uuid_or_nothing(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        requests.request_id(text)
    assert refused.value.field == "request_id"
    assert requests.request_id("") == ""
    canonical = "123e4567-e89b-42d3-a456-426614174000"
    assert requests.request_id(canonical.upper()) == canonical


@pytest.mark.parametrize("text", ["a" * 129, "a\nb", "\x1b[31m", "\x00"])
def test_a_user_id_is_short_and_printable(text: str) -> None:
    with pytest.raises(InvalidArgument):
        requests.user_id(text)


def test_page_sizes_have_a_default_and_a_most() -> None:
    assert requests.page_size(0, default=50, most=500) == 50
    assert requests.page_size(500, default=50, most=500) == 500
    for value in (-1, 501, 2**31 - 1):
        with pytest.raises(InvalidArgument):
            requests.page_size(value, default=50, most=500)


def test_source_is_measured_in_bytes_and_must_say_something() -> None:
    limits = DEFAULT_LIMITS
    assert requests.source("x" * limits.source_bytes, limits)
    for code in ("", "  \n", "é" * limits.source_bytes, "x" * (limits.source_bytes + 1)):
        with pytest.raises(InvalidArgument):
            requests.source(code, limits)


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ([execution_pb2.InputVariable(name="1x", json="1")], "options.inputs[0].name"),
        ([execution_pb2.InputVariable(name="__builtins__", json="1")], "options.inputs[0].name"),
        ([execution_pb2.InputVariable(name="x")], "options.inputs[0].content"),
        ([execution_pb2.InputVariable(name="x", csv="y" * (1 << 20) + "z")], "options.inputs[0].csv"),
        ([execution_pb2.InputVariable(name="x", json="1")] * 33, "options.inputs"),
    ],
)
def test_inputs_are_checked_one_by_one(inputs: list[execution_pb2.InputVariable], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        requests.execution(
            code="1",
            request_id_text="",
            options=execution_pb2.ExecutionOptions(inputs=inputs),
            target=Target(limits=DEFAULT_LIMITS, kind=ExecutionKind.EXECUTE),
        )
    assert refused.value.field == field


def test_databases_that_are_not_configured_cannot_be_granted() -> None:
    spec = sandbox_pb2.SandboxSpec(database_grants=[sandbox_pb2.DatabaseGrant(database="secret")])
    with pytest.raises((InvalidArgument, Denied)):
        sandbox_requests.spec(spec, _DEFAULTS)


@given(st.binary(max_size=300))
def test_any_specification_is_read_or_refused(data: bytes) -> None:
    message = sandbox_pb2.SandboxSpec()
    try:
        message.ParseFromString(data)
    except DecodeError:  # what is no message never gets here
        return
    try:
        spec = sandbox_requests.spec(message, _DEFAULTS)
    except (InvalidArgument, Denied):
        return
    assert timedelta(0) < spec.limits.execution_timeout <= MAXIMUM_LIMITS.execution_timeout


@given(st.lists(st.integers().map(str), unique=True, max_size=30), st.integers(1, 10))
def test_pages_put_together_are_the_list(items: list[str], size: int) -> None:
    found, token = [], ""
    while True:
        page, token = paging.page(items, size=size, token=token, key=str)
        found += page
        if not token:
            break
    assert found == items


@given(st.text(max_size=60))
def test_any_page_token_is_a_page_or_a_refusal(token: str) -> None:
    with contextlib.suppress(InvalidArgument):
        assert len(paging.page(["a", "b"], size=1, token=token, key=str)[0]) == 1
