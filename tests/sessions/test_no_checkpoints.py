"""Where the host gives no way to keep a state it is said beforehand, and a crash costs the session."""

from collections.abc import Iterator

import grpc
import pytest

from tests.support.serving import Serving, serving
from tests.support.sessions import CRASHES, refusal, sandbox, skip_reason


@pytest.fixture(scope="module")
def without_namespaces() -> Iterator[Serving]:
    missing = ["namespaces", "cgroups"]
    with serving(without_layers=missing, minimum_grade="NO_NAMESPACES", readable=True) as server:
        yield server


def test_a_missing_layer_is_named_before_anything_can_be_lost(without_namespaces: Serving) -> None:
    with sandbox(without_namespaces) as one:
        answer = one.run("x = 1")
        assert skip_reason(answer) == "UNSUPPORTED"
        assert "namespaces" in answer.result.session.checkpoint.message


def test_a_crash_ends_as_lost_and_the_session_answers_anew(without_namespaces: Serving) -> None:
    with sandbox(without_namespaces) as one:
        one.run("x = 1")
        crashed = one.run(CRASHES["segfault"])
        assert crashed.session == "LOST"
        assert crashed.result.session.reason
        assert one.value("'x' in globals()") is False


def test_a_branch_is_refused_with_the_reason(without_namespaces: Serving) -> None:
    with sandbox(without_namespaces) as one:
        one.run("x = 1")
        with pytest.raises(grpc.RpcError) as refused:
            one.branches()
        code, problem = refusal(refused.value)
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "namespaces" in problem
