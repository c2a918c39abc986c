"""Branches, checkpoints and rewinds through the client."""

import asyncio

import pytest
from sandboxd_client import (
    CheckpointNotFound,
    Client,
    InvalidArgument,
    NotBranchable,
    Sandbox,
    SandboxNotFound,
    sync,
)

from tests.support.server_process import Server

_CRASH = """
lost = True
import numpy as np
np.lib.stride_tricks.as_strided(np.zeros(1), shape=(1 << 40,), strides=(1 << 20,)).sum()
"""


async def test_branch_shares_the_past_and_not_the_future(sandbox: Sandbox) -> None:
    await sandbox.execute("items = [1]\ndef add(x): items.append(x)\n")
    async with sandbox.branch() as branch:
        assert branch.id != sandbox.id
        assert branch.info.origin_sandbox_id == sandbox.id
        await branch.execute("add(2)")
        await sandbox.execute("add(3)")
        assert (await branch.execute("items")).result == [1, 2]
        assert (await sandbox.execute("items")).result == [1, 3]
    with pytest.raises(SandboxNotFound):
        await branch.execute("1")
    assert (await sandbox.execute("items")).result == [1, 3]


async def test_branch_outlives_its_origin(client: Client) -> None:
    async with client.create_sandbox() as origin:
        await origin.execute("x = 7")
        branch = await origin.branch()
    async with branch:
        assert (await branch.execute("x")).result == 7


async def test_many_branches_are_made_at_once(sandbox: Sandbox) -> None:
    await sandbox.execute("x = 10")
    branches = await sandbox.branches(5)
    results = await asyncio.gather(
        *(branch.execute(f"x + {number}") for number, branch in enumerate(branches))
    )
    assert [result.result for result in results] == [10, 11, 12, 13, 14]
    await asyncio.gather(*(branch.delete() for branch in branches))


async def test_crash_brings_back_the_state_before_it(sandbox: Sandbox) -> None:
    await sandbox.execute("kept = 41")
    result = await sandbox.execute(_CRASH)
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.kind == "crashed"
    assert result.session.state == "restored"
    assert result.session.restored_from_execution_number == 1
    assert (await sandbox.execute("kept + 1")).result == 42
    assert (await sandbox.execute("lost")).error is not None


async def test_failed_code_is_rolled_back_where_it_is_asked_for(sandbox: Sandbox) -> None:
    await sandbox.execute("x = 1")
    result = await sandbox.execute("x = 2\n1 / 0", rollback_on_error=True)
    assert (result.status, result.session.state) == ("failed", "restored")
    assert (await sandbox.execute("x")).result == 1
    await sandbox.execute("x = 3\n1 / 0")
    assert (await sandbox.execute("x")).result == 3


async def test_named_checkpoint_is_kept_rewound_to_and_dropped(sandbox: Sandbox) -> None:
    await sandbox.execute("x = 1")
    kept = await sandbox.checkpoint("one")
    assert kept.name == "one"
    await sandbox.execute("x = 2")
    rewound = await sandbox.rewind("one")
    assert rewound.restored.id == kept.id
    assert (await sandbox.execute("x")).result == 1
    assert "one" in [item.name for item in await sandbox.checkpoints()]
    await sandbox.drop_checkpoint("one")
    with pytest.raises(CheckpointNotFound):
        await sandbox.rewind("one")


async def test_session_goes_back_before_an_execution(sandbox: Sandbox) -> None:
    await sandbox.execute("x = 1")
    second = await sandbox.execute("x = 2")
    await sandbox.execute("x = 3")
    await sandbox.rewind(before=second.number)
    assert (await sandbox.execute("x")).result == 1


async def test_target_of_a_rewind_must_be_one(sandbox: Sandbox) -> None:
    with pytest.raises(InvalidArgument, match="exactly one"):
        await sandbox.rewind()
    with pytest.raises(InvalidArgument, match="exactly one"):
        await sandbox.rewind("one", before=1)


async def test_live_thread_is_the_reason_against_a_branch(sandbox: Sandbox) -> None:
    code = (
        "import threading\nstop = threading.Event()\nthreading.Thread(target=stop.wait, daemon=True).start()"
    )
    result = await sandbox.execute(code)
    assert result.live_thread_count == 1
    with pytest.raises(NotBranchable, match="thread"):
        await sandbox.branch()


async def test_best_candidate_takes_the_sandboxs_place(client: Client) -> None:
    async with client.create_sandbox() as sandbox:
        await sandbox.execute("numbers = [3, 1, 2]")
        first = sandbox.id
        best = await sandbox.best_of(
            ["answer = min(numbers)\nanswer", "numbers[9]", "answer = max(numbers)\nanswer"],
            score=lambda result: result.result,
        )
        assert best.index == 2
        assert best.result is not None
        assert best.result.result == 3
        assert list(best.scores) == [1.0, None, 3.0]
        assert sandbox.id != first
        assert (await sandbox.execute("answer, numbers")).result == (3, [3, 1, 2])
        active = [item.id for item in await client.list_sandboxes()]
        assert first not in active
    assert sandbox.id not in [item.id for item in await client.list_sandboxes()]


async def test_no_candidate_changes_nothing_when_none_completes(sandbox: Sandbox) -> None:
    await sandbox.execute("x = 1")
    before = sandbox.id
    best = await sandbox.best_of(["1 / 0", "x = 5\nraise ValueError"])
    assert (best.index, best.result, sandbox.id) == (None, None, before)
    assert (await sandbox.execute("x")).result == 1


async def test_retried_request_joins_the_first_run(client: Client, sandbox: Sandbox) -> None:
    request_id = "5f1f1d7e-98c5-4b55-9c0e-1f3c6f6f5a10"
    await sandbox.execute("runs = 0")
    first = await sandbox.execute("runs += 1\nruns", request_id=request_id)
    again = await sandbox.execute("runs += 1\nruns", request_id=request_id)
    assert first.execution_id == again.execution_id
    assert (first.result, again.result) == (1, 1)
    assert (await sandbox.execute("runs")).result == 1


def test_blocking_face_branches_and_rewinds(server: Server) -> None:
    with sync.Client.connect(server.tcp, token=server.token) as client, client.create_sandbox() as sandbox:
        sandbox.execute("x = 1")
        sandbox.checkpoint("one")
        with sandbox.branch() as branch:
            branch.execute("x = 2")
            assert branch.execute("x").result == 2
        sandbox.execute("x = 3")
        sandbox.rewind("one")
        assert sandbox.execute("x").result == 1
