"""`sandboxd exec`: one file, or standard input, in a sandbox; its output as it appears."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sandboxd.cli.connection import answers, client_for_run, read_code, sandbox_for_run
from sandboxd.cli.output import FAILED, AsJson, explained, plain, print_json, say

if TYPE_CHECKING:
    from sandboxd_client import ExecutionResult, Sandbox
    from sandboxd_client.client import CreateOptions
    from sandboxd_client.options import CallOptions


def command(
    file: Annotated[str, typer.Argument(help="Python file; `-` reads standard input.")] = "-",
    address: Annotated[
        str | None, typer.Option(help="Server, host:port or unix:/path [SANDBOXD_ADDRESS, else local].")
    ] = None,
    sandbox_id: Annotated[
        str | None, typer.Option("--sandbox", help="Sandbox to run in; default: one for this run.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds the code may run.")] = None,
    memory_mb: Annotated[int | None, typer.Option(help="Memory it may use, in MiB.")] = None,
    unrestricted: Annotated[
        bool, typer.Option("--unrestricted", help="Without language rules; the kernel isolates all the same.")
    ] = False,
    debugging: Annotated[bool, typer.Option("--debug", help="Show the variables of failed frames.")] = False,
    embedded: Annotated[bool, typer.Option("--embedded", help="Use a server inside this process.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run code in a sandbox. Its output appears while it runs; exit code 1 when it fails.

    Without a server at the default address one is started inside this process for this run.
    """
    code = read_code(file, as_json=as_json)
    options: CreateOptions = {}
    call: CallOptions = {}
    with explained(as_json=as_json):
        _limits(options, timeout=timeout, memory_mb=memory_mb)
        if timeout is not None:
            call["timeout"] = timeout
        if unrestricted:
            options["language_policy"] = "unrestricted"
        options["enable_debugging"] = True  # else debug() writes nothing
        call["capture_frames"] = debugging
        if not embedded and address is None:
            embedded = sandbox_id is None and not answers(as_json=as_json)
        result = asyncio.run(
            _run(
                code,
                address=address,
                sandbox_id=sandbox_id,
                embedded=embedded,
                options=options,
                call=call,
                as_json=as_json,
            )
        )
    _report(result, as_json=as_json)


def _limits(options: "CreateOptions", *, timeout: float | None, memory_mb: int | None) -> None:
    if timeout is None and memory_mb is None:
        return
    from sandboxd_client import Limits

    options["limits"] = Limits(
        execution_timeout=timeout, memory_bytes=None if memory_mb is None else memory_mb << 20
    )


async def _run(
    code: str,
    *,
    address: str | None,
    sandbox_id: str | None,
    embedded: bool,
    options: "CreateOptions",
    call: "CallOptions",
    as_json: bool,
) -> "ExecutionResult":
    async with (
        client_for_run(address, embedded=embedded) as client,
        sandbox_for_run(client, sandbox_id, options) as box,
    ):
        if as_json:
            return await box.execute(code, **call)
        return await _shown(box, code, call)


async def _shown(sandbox: "Sandbox", code: str, call: "CallOptions") -> "ExecutionResult":
    from sandboxd_client import Dropped, Finished, Logged, Stderr, Stdout

    async for event in sandbox.stream(code, **call):
        match event:
            case Stdout(data=data):
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            case Stderr(data=data):
                sys.stderr.buffer.write(data)
                sys.stderr.buffer.flush()
            case Logged(entry=entry):
                say(str(entry))
            case Dropped(stdout_bytes=out, stderr_bytes=err) if out or err:
                say(f"[{out + err} bytes of output left out]")
            case Finished(result=result):
                return result
            case _:
                pass
    raise AssertionError("a stream ends with Finished or an error")


def _report(result: "ExecutionResult", *, as_json: bool) -> None:
    if as_json:
        print_json(_as_dict(result))
    elif result.completed:
        if result.has_result and result.result is not None:
            typer.echo(_shown_result(result.result))
    else:
        _explain_failure(result)
    if not result.completed:
        raise typer.Exit(FAILED)


def _shown_result(value: Any) -> str:
    from sandboxd_client import Description, Series, Table

    if isinstance(value, Series):
        return "\n".join(f"{label}\t{item}" for label, item in value.to_dict().items())
    return str(value) if isinstance(value, str | Table | Description) else repr(value)


def _explain_failure(result: "ExecutionResult") -> None:
    error = result.error
    if error is not None and error.traceback:
        say(error.traceback.rstrip("\n"))
        if error.hint:
            say(f"hint: {error.hint}")
    else:
        say(f"{result.status}: {error}")
    for frame in error.frames if error is not None else ():
        for variable in frame.variables if frame.in_user_code else ():
            say(f"  {frame.function}:{frame.line}  {variable.name} = {variable.summary}")
    if result.limit_receipt is not None:
        say(f"limit: {result.limit_receipt}")


def _as_dict(result: "ExecutionResult") -> dict[str, Any]:
    found: dict[str, Any] = plain(result)
    del found["raw_stdout"], found["raw_stderr"]
    return found | {"stdout": result.stdout, "stderr": result.stderr}
